"""Weights in files: copy them into a net by layer name, write them layer by layer.

Two kinds of file hold the same: BVLC Caffe's `.caffemodel`, a binary NetParameter (`binary.py`),
and its HDF5 form (`hdf5.py`). A file is recognized by what it begins with, not by its name.
"""

from moka.weights.binary import parse_model, read_model, save_weights, to_message
from moka.weights.hdf5 import save_hdf5
from moka.weights.load import copy_weights, load_weights, mismatch, named_files
from moka.weights.sharing import share_weights

__all__ = [
    "copy_weights",
    "load_weights",
    "mismatch",
    "named_files",
    "parse_model",
    "read_model",
    "save_hdf5",
    "save_weights",
    "share_weights",
    "to_message",
]
