"""Layers of forks that have no exporter yet, and scores of forks that exported nets leave out."""

from __future__ import annotations

from moka.export.onnx.table import leave_out, refuse
from moka.layers import REGISTRY

leave_out(
    *(
        REGISTRY[name].make
        for name in (
            "AccuracyEncoding",
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
            "DataAugmentation",
            "Deconvolution3D",
            "DeconvolutionRistretto",
            "DeformableConvolution",
            "DenseBlock",
            "DetectNetTransformation",
            "Downsample",
            "FcRistretto",
            "FlowWarp",
            "GRN",
            "Gather",
            "InnerDistance",
            "L2Normalize",
            "LabelSpecificAdd",
            "LargeMarginInnerProduct",
            "Lstm",
            "MarginInnerProduct",
            "ModulatedDeformableConvolution",
            "NdConvolution",
            "NdPooling",
            "Pooling3D",
            "Scatter",
            "SoftTruncation",
            "SpatialTransformer",
            "Truncation",
            "UnPooling",
            "Upsample",
            "YoloDetectionOutput",
            "Yolov3DetectionOutput",
        )
    ),
)
