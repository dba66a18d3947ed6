"""`from caffe.proto import caffe_pb2`, as in pycaffe."""

import sys

from moka.schema import caffe_pb2

sys.modules[f"{__name__}.caffe_pb2"] = caffe_pb2

__all__ = ["caffe_pb2"]
