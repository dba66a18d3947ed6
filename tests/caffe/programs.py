"""What the tests of public programs share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import caffe
from caffe.proto import caffe_pb2
from moka.types import Array


def opened(text: str, phase: caffe_pb2.Phase = caffe.TEST) -> caffe.Net:
    """A net from a file that is gone again afterwards."""
    Path("short_lived.prototxt").write_text(text)
    try:
        return caffe.Net("short_lived.prototxt", phase)
    finally:
        os.remove("short_lived.prototxt")


def random(*shape: int) -> Array:
    return np.random.default_rng(5).standard_normal(shape)
