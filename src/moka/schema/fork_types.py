"""Which fork of Caffe a layer type comes from, for types that BVLC Caffe does not have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_TYPES = {
    "SSD": "Permute Normalize PriorBox DetectionOutput MultiBoxLoss DetectionEvaluate AnnotatedData"
    " VideoData SmoothL1Loss",
    "OpenVINO": "PriorBoxClustered GRN CTCGreedyDecoder RegionYolo ReorgYolo Binarization"
    " ConvolutionBinary GlobalInput SimplerNMS",
    "Faster R-CNN": "ROIPooling Proposal",
    "R-FCN": "PSROIPooling BoxAnnotatorOHEM SoftmaxWithLossOHEM SmoothL1LossOHEM",
    "MS-CNN": "ROIAlign BoxOutput ProposalTarget DetectionLoss DetectionAccuracy BboxAccuracy"
    " ImageGtData",
    "Cascade R-CNN": "DecodeBBox BoxGroupOutput DetectionGroupLoss DetectionGroupAccuracy"
    " FrcnnOutput HardMining ScaleRoute DetectionData EvalData",
    "PSPNet and DeepLab": "Interp BN ImageSegData SegAccuracy UniqueLabel BiasChannel"
    " AdaptiveBiasChannel DenseCRF DomainTransform DomainTransformForwardOnly MatRead MatWrite"
    " SpatialProduct",
    "SegNet and ENet": "Upsample DenseImageData",
    "ParseNet": "UnPooling Grouping ParseOutput ParseEvaluate",
    "DeconvNet": "Unpooling EltwiseAccuracy",
    "dilation": "ImageLabelData BinLabelData",
    "Caffe-Jacinto": "ImageLabelListData",
    "MobileNet": "DepthwiseConvolution ConvolutionDepthwise ReLU6",
    "MobileNet v3": "HardSwish HSwish",
    "Deformable ConvNets": "DeformableConvolution ModulatedDeformableConvolution"
    " DeformablePSROIPooling",
    "MNC": "ROIWarping MaskResize MaskPooling",
    "DeepLab v1": "Padding",
    "HED": "ImageLabelmapData",
    "RCF, and the Crop of 2015 (FCN, HED, CRF-RNN)": "AutoCrop",
    "CRF-RNN": "MultiStageMeanfield",
    "Convolutional Pose Machines": "CPMData ImResize Nms",
    "DAN": "MMDLoss",
    "DANN": "GradientScaler GradientReversal",
    "compact bilinear pooling": "Bilinear CompactBilinear SignedSqrt",
    "SENet": "Axpy",
    "ShuffleNet": "ShuffleChannel",
    "DenseBlock": "DenseBlock",
    "YOLO on Caffe": "Reorg RegionLoss EvalDetection YoloDetectionOutput Yolov3 GaussianYolov3"
    " Yolov3DetectionOutput YoloDetectionLoss YoloSeg SegmentationEvaluate AssistedExcitation"
    " LaneData BoxData Region Mish",
    "SphereFace": "MarginInnerProduct",
    "caffe-face": "CenterLoss",
    "lifted structured embedding": "LiftedStructSimilaritySoftmaxLoss",
    "Focal-Loss": "SoftmaxFocalLoss SoftmaxWithFocalLoss",
    "caffe-windows": "Flip ChannelScale LabelSpecificAdd InnerDistance TripletLoss FocalLoss Local"
    " Noise BatchContrastiveLoss PredictBox Cosine Arccos Truncation SoftTruncation Insanity Slope"
    " Gram Pairwise MovingNormalize GlobalLSEMargin LargeMarginInnerProduct GeneralContrastiveLoss"
    " SoftContrastiveLoss GeneralTripletLoss NCALoss ConfidencePenaltyLoss CorrelationLoss"
    " FCNAccuracy Hotspot SubRegion Transformer MultiLabelImageData LabelSpecificMargin"
    " LabelSpecificRescale LabelSpecificHardMargin LabelSpecificAffine LabelSpecificStatistics"
    " EltwiseAffine FeatureDecayLoss FeatureIncayLoss",
    "caffe-lstm and CTPN": "Lstm Reverse Transpose",
    "ChWick's Caffe": "ReverseTime",
    "warpctc-caffe": "CtcLoss CTCLoss WarpCTCLoss ContinuationIndicator LabelsequenceAccuracy",
    "FlowNet2": "Correlation Correlation1D FlowWarp Resample Downsample ChannelNorm L1Loss LpqLoss"
    " Accum Mean DataAugmentation FlowAugmentation GenerateAugmentationParameters"
    " BlackAugmentation CustomData DisparityData ImgReader FloatReader ImgWriter FloatWriter"
    " FLOWriter PFMWriter NegReLU",
    "OpenPose": "OPData OPVideo",
    "video-caffe": "NdConvolution NdPooling",
    "C3D": "Convolution3D Deconvolution3D Pooling3D BlackHole L2Normalize VoxelSoftmaxLoss"
    " VoxelCustomLoss VideoSegmentationData VolumeData",
    "yjxiong's Caffe": "SyncBN Gather Scatter BatchReduction SegData",
    "Ristretto": "ConvolutionRistretto DeconvolutionRistretto FcRistretto LRNRistretto",
    "the OpenCL branch": "MergeCrop Affinity ConnectedComponent MalisLoss MOE Quantizer"
    " LibDNNConvolution LibDNNPooling",
    "Xilinx": "DeephiResize",
    "Vitis-AI": "FixedNeuron ConvolutionFixed DeconvolutionFixed GSTiling DenseboxMapEvaluation",
    "Synopsys Caffe": "BatchToSpaceND SpaceToBatchND DepthToSpace ResizeBilinear"
    " ResizeNearestNeighbor GatherNd ExpandDimsND Squeeze StridedSlice MirrorPad"
    " SqueezeConvolution SqueezeInnerProduct YoloV2Loss YoloV3Loss SeLU Pad",
    "Cambricon": "CReLU",
    "caffe-triplet": "Normalization",
    "caffe-video_triplet": "Norm RankHardLoss",
    "tianchenwang's Caffe": "Tiling",
    "HWGQ": "BinaryConvolution BinaryInnerProduct Quant",
    "Dynamic Network Surgery": "CConvolution CInnerProduct",
    "Fang et al. and R*CNN": "MIL",
    "HashNet and DHN": "PairwiseLoss ScaleTanH SignDiffusion",
    "mitmul's Caffe": "SoftmaxCrossEntropyLoss",
    "many forks": "WeightedSoftmaxWithLoss L2Norm L2Normalization LocalConv",
    "sguada's Caffe": "MultiLabelLoss MultiLabelAccuracy",
    "CF-Caffe": "MatrixMultiplication",
    "caffe-heatmap": "DataHeatmap EuclideanLossHeatmap",
    "deep supervised hashing": "HashingLoss",
    "ConvLSTM-for-Caffe": "ConvLSTM",
    "PixelNet": "RandCatConv",
    "NVCaffe": "TRT DetectNetTransformation",
    "Intel Caffe": "SpatialDropout MKLBatchNorm MnActivation",
    "Spatial Transformer": "SpatialTransformer LocLoss",
    "MyCaffe": "MemoryLoss LstmSimple LstmAttention DataSequence Decode AccuracyDecode"
    " AccuracyEncoding Knn Debug TokenizedData TokenizedDataPairs TransformerBlock LayerNorm"
    " SoftmaxCrossEntropy2Loss DataTemporal",
    "a fork of 2014": "ColinearConvolution",
    "a fork of 2015": "Maxout",
}
FORK_OF: Mapping[str, str] = MappingProxyType(
    {layer_type: fork for fork, types in _TYPES.items() for layer_type in types.split()}
)
# Types that Moka does not have, and whose messages may have any name.
FOREIGN: frozenset[str] = frozenset(
    (
        *("FixedNeuron", "ConvolutionFixed", "DeconvolutionFixed", "DenseboxMapEvaluation"),
        *("DataHeatmap", "ConvLSTM", "ImageLabelListData"),
    )
)
INPUTS = (
    "Put an Input layer in its place, with the shapes of its tops, and fill it before each pass."
)
_BOXES = (
    "Put an AnnotatedData layer in its place, which reads images with boxes from a database, or an"
    " Input layer with the shapes of its tops."
)
_LABEL_IMAGES = (
    "Put an ImageSegData layer in its place, which reads a list of images and label images, or an"
    " Input layer with the shapes of its tops."
)
_WRITER = "Leave it out, and read its bottom from net.blobs after each pass."
# What to write in place of a layer that reads or writes files and that Moka does not have.
INSTEAD_OF: Mapping[str, str] = MappingProxyType(
    {
        "LaneData": _BOXES,
        **dict.fromkeys(
            ("MultiLabelImageData", "DataSequence", "OPData", "OPVideo", "CPMData"), INPUTS
        ),
        "DataHeatmap": INPUTS,
        **dict.fromkeys(("TokenizedData", "VideoSegmentationData", "VolumeData"), INPUTS),
        **dict.fromkeys(("MatRead", "CustomData", "DisparityData", "FloatReader"), INPUTS),
        **dict.fromkeys(("ImgReader", "GlobalInput"), INPUTS),
        **dict.fromkeys(("BinLabelData", "SegData", "ImageLabelListData"), _LABEL_IMAGES),
        **dict.fromkeys(("ImgWriter", "FloatWriter", "FLOWriter", "PFMWriter"), _WRITER),
    }
)
# BVLC Caffe's own types that are younger than V1; some forks had them in V1 layers.
_YOUNGER_THAN_V1 = (
    "BatchNorm BatchReindex Bias Clip Crop ELU Embed Filter Input Log LSTM LSTMUnit Parameter PReLU"
    " Python Reduction Reshape RNN Scale SPP Swish Tile"
)
NOT_IN_V1 = frozenset((*FORK_OF, *_YOUNGER_THAN_V1.split()))
_BY_V1_NAME = {name.upper(): name for name in NOT_IN_V1}
_BY_V1_NAME["CROP"] = "AutoCrop"  # as the forks that had it computed it
_BY_V1_NAME["UNPOOLING"] = "UnPooling"  # or Unpooling: the message decides, see `moka.schema.forms`


def instead_of(layer_type: str) -> str:
    """What to do in place of a layer whose type Moka does not have."""
    if found := INSTEAD_OF.get(layer_type):
        return found
    if layer_type.lower().rstrip("0123456789").endswith("data"):
        return INPUTS  # for a source, which no net can do without
    return "Write it as a Python layer, or leave it out."


def is_v1_name(v1_name: str) -> bool:
    """Whether a fork has a type of this name, in V1's spelling."""
    return v1_name.replace("_", "").upper() in _BY_V1_NAME


def todays_type(v1_name: str) -> str:
    """A fork's type in V1's spelling, as ROI_POOLING, in today's, as ROIPooling."""
    known = _BY_V1_NAME.get(v1_name.replace("_", "").upper())
    return known or "".join(word.capitalize() for word in v1_name.split("_"))


_MODULES = {
    "FCN (shelhamer/fcn.berkeleyvision.org)": "voc_layers nyud_layers siftflow_layers"
    " pascalcontext_layers voc_helper",
    "py-faster-rcnn": "roi_data_layer rpn fast_rcnn",
    "MNC": "pylayer mnc_data_layer",
    "colorization (richzhang/colorization)": "caffe_traininglayers",
    "LRCN (LisaAnne/lisa-caffe-public)": "sequence_input_layer",
    "BVLC Caffe's examples": "pyloss pascal_multilabel_datalayers",
    "DIGITS": "digits_python_layers",
}
_CODE_BASE = {name: base for base, names in _MODULES.items() for name in names.split()}


def code_base_of(module: str) -> str | None:
    """The public code base that Python layers of this module come from, if its name is known."""
    return _CODE_BASE.get(module.partition(".")[0])
