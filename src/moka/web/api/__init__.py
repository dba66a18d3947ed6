"""The JSON API of `caffe serve`: routes, bodies, its description as OpenAPI, logs and metrics."""
