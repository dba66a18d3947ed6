"""From other programs' models to Caffe's nets: ONNX files, and weights by a map of names."""
