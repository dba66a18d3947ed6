"""Layers of forks that have no exporter yet, and scores of forks that exported nets leave out."""

from __future__ import annotations

from moka.export.onnx.table import leave_out, refuse
from moka.layers import REGISTRY

leave_out(
    *(
        REGISTRY[name].make
        for name in (
            "EvalDetection",
            "LabelsequenceAccuracy",
            "ParseEvaluate",
            "SegAccuracy",
            "SegmentationEvaluate",
        )
    )
)
refuse(
    "this layer type has no form in ONNX yet.",
    *(
        REGISTRY[name].make
        for name in (
            "Accum",
            "AdaptiveBiasChannel",
            "Arccos",
            "BatchReduction",
            "BiasChannel",
            "CTCGreedyDecoder",
            "ChannelNorm",
            "ChannelScale",
            "ColinearConvolution",
            "ContinuationIndicator",
            "Convolution3D",
            "ConvolutionRistretto",
            "Correlation",
            "Correlation1D",
            "Cosine",
            "DataAugmentation",
            "Deconvolution3D",
            "DeconvolutionRistretto",
            "DenseBlock",
            "DenseCRF",
            "DomainTransform",
            "DomainTransformForwardOnly",
            "Downsample",
            "FcRistretto",
            "FlowWarp",
            "GRN",
            "Gather",
            "Gram",
            "Grouping",
            "Hotspot",
            "InnerDistance",
            "Insanity",
            "L2Normalize",
            "LRNRistretto",
            "LabelSpecificAdd",
            "LargeMarginInnerProduct",
            "Local",
            "Lstm",
            "MarginInnerProduct",
            "MatWrite",
            "Mean",
            "MergeCrop",
            "MovingNormalize",
            "NdConvolution",
            "NdPooling",
            "Noise",
            "Pairwise",
            "ParseOutput",
            "Pooling3D",
            "Scatter",
            "Slope",
            "SoftTruncation",
            "SpatialProduct",
            "SpatialTransformer",
            "SubRegion",
            "Transformer",
            "Truncation",
            "UnPooling",
            "UniqueLabel",
            "Upsample",
            "YoloDetectionOutput",
            "Yolov3DetectionOutput",
        )
    ),
)
