"""Scores of forks that exported nets leave out, and layers of forks that have no exporter yet."""

from __future__ import annotations

from moka.export.onnx.table import leave_out, refuse
from moka.layers import REGISTRY

LEFT_OUT = (
    "AccuracyEncoding",
    "EvalDetection",
    "ParseEvaluate",
    "SegAccuracy",
    "SegmentationEvaluate",
)
NOT_YET: tuple[str, ...] = (
    "AdaptiveBiasChannel",
    "Arccos",
    "BiasChannel",
    "Cosine",
    "DenseCRF",
    "DomainTransform",
    "DomainTransformForwardOnly",
    "DeformableConvolution",
    "DeformablePSROIPooling",
    "DetectNetTransformation",
    "Gram",
    "Grouping",
    "Hotspot",
    "Insanity",
    "LRNRistretto",
    "Local",
    "MatWrite",
    "MergeCrop",
    "ModulatedDeformableConvolution",
    "MovingNormalize",
    "MultiStageMeanfield",
    "Noise",
    "Pairwise",
    "ParseOutput",
    "ROIWarping",
    "RandCatConv",
    "Slope",
    "SpatialProduct",
    "SubRegion",
    "Transformer",
    "UniqueLabel",
)

leave_out(*(REGISTRY[name].make for name in LEFT_OUT))
refuse("this layer type has no form in ONNX yet.", *(REGISTRY[name].make for name in NOT_YET))
