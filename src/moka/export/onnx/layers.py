"""The whole table: importing this module fills it."""

from __future__ import annotations

from moka.export.onnx import (  # noqa: F401
    activation,
    arithmetic,
    batch_norm,
    channels,
    conv,
    dropout,
    fork_activation,
    hdf5,
    l2_normalize,
    linear,
    metric,
    normalize,
    padding,
    permute,
    pooling,
    python,
    recurrent,
    reorder,
    resize,
    shape,
    source,
    unsupported,
)
from moka.export.onnx.detection import others, output, prior, proposal, roi, yolo_maps  # noqa: F401
from moka.export.onnx.table import (
    EXPORTERS,
    REFUSALS,
    check_exportable,
    has_statement,
    is_left_out,
)

__all__ = [
    "EXPORTERS",
    "REFUSALS",
    "check_exportable",
    "has_statement",
    "is_left_out",
]
