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
            "Arccos",
            "BatchReduction",
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
            "Downsample",
            "FcRistretto",
            "FlowWarp",
            "GRN",
            "Gather",
            "Gram",
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
            "MovingNormalize",
            "NdConvolution",
            "NdPooling",
            "Noise",
            "Pairwise",
            "Pooling3D",
            "Scatter",
            "Slope",
            "SoftTruncation",
            "SpatialTransformer",
            "SubRegion",
            "Transformer",
            "Truncation",
            "UnPooling",
            "Upsample",
            "YoloDetectionOutput",
            "Yolov3DetectionOutput",
        )
    ),
)
