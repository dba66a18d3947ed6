"""The page of `caffe web` and `caffe serve`. It decides nothing: it asks the functions of the
command line, and shows what they answer."""
