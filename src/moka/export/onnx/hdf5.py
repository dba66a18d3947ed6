"""Layers that write files, which exported nets leave out."""

from __future__ import annotations

from moka.export.onnx.table import leave_out
from moka.layers.hdf5 import HDF5Output

leave_out(HDF5Output)
