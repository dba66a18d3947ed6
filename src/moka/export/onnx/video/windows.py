"""Convolution and pooling whose windows also span time."""

from __future__ import annotations

from moka.export.onnx.conv import export_convolution, export_deconvolution
from moka.export.onnx.pooling import export_pooling
from moka.export.onnx.table import exports
from moka.layers.video.windows import (
    Convolution3D,
    Deconvolution3D,
    NdConvolution,
    NdPooling,
    Pooling3D,
)

exports(NdConvolution, Convolution3D)(export_convolution)
exports(Deconvolution3D)(export_deconvolution)
exports(NdPooling, Pooling3D, fixed_from=1)(export_pooling)
