"""The whole table: importing this module fills it."""

from __future__ import annotations

from moka.export.onnx import (  # noqa: F401
    activation,
    arithmetic,
    batch_norm,
    bilinear,
    binary,
    channels,
    colinear,
    conv,
    dense_block,
    dropout,
    fork_activation,
    gradient,
    hdf5,
    l2_normalize,
    linear,
    mean,
    metric,
    mil,
    normalize,
    padding,
    permute,
    pooling,
    python,
    recurrent,
    reorder,
    resize,
    ristretto,
    sampling,
    shape,
    source,
    unpooling,
    unsupported,
)
from moka.export.onnx.detection import (  # noqa: F401
    fields,
    frcnn_output,
    masks,
    others,
    output,
    prior,
    proposal,
    roi,
    stages,
    yolo_maps,
    yolo_output,
)
from moka.export.onnx.flow import augmentation, correlation, warp  # noqa: F401
from moka.export.onnx.metric_learning import (  # noqa: F401
    additive,
    distance,
    label_specific,
    margin,
)
from moka.export.onnx.sequence import indicator, labels, lstm  # noqa: F401
from moka.export.onnx.table import (
    EXPORTERS,
    REFUSALS,
    check_exportable,
    has_statement,
    is_left_out,
)
from moka.export.onnx.video import segments, windows  # noqa: F401

__all__ = [
    "EXPORTERS",
    "REFUSALS",
    "check_exportable",
    "has_statement",
    "is_left_out",
]
