"""The layers that random nets are made of: a table of types with their options.

In options `<a|b>` is one of several texts, `<1..9>` a number, and `<axis>` and other words are
drawn to fit the first bottom (`random_nets`).
"""

from __future__ import annotations

from dataclasses import dataclass

from moka.layers import REGISTRY


@dataclass(frozen=True)
class Kind:
    """A layer type, as it is drawn.

    Attributes:
        options: what its message holds.
        bottoms: what each is: a blob of "any" shape; an "image", which has four axes; "rows", two
            axes or more; an "other" one, mostly of the first one's shape; or a new input, named as
            in `random_nets`.
        tops: how many.
        in_place: whether its top may be its bottom.
        weight: how often it is drawn.
    """

    type: str
    options: str = ""
    bottoms: tuple[str, ...] = ("any",)
    tops: int = 1
    in_place: bool = False
    weight: int = 1

    @property
    def message(self) -> str:
        """The options in their message, whose field the registry knows."""
        name = "loss_param" if self.type == "SoftmaxWithLoss" else REGISTRY[self.type].message
        return f"{name} {{ {self.options} }}" if self.options else ""


def _pointwise(kind: str, options: str = "", weight: int = 1) -> Kind:
    return Kind(kind, options, in_place=True, weight=weight)


IMAGE = ("image",)
PAIR = ("any", "other")
KERNEL = (
    "<kernel_size: 2 stride: 2|kernel_size: 3 stride: <1|2> pad: 1|kernel_size: 2 stride: 3"
    "|kernel_h: 3 kernel_w: 1 pad_h: 2 pad_w: 0 stride: 2|kernel_size: 5 pad: 2 stride: 4"
    "|kernel_size: 4 pad: 1>"
)
CONV = (
    "<kernel_size: 1 stride: <1|2>|kernel_size: 3 pad: <0|1>|kernel_size: 3 pad: 2 dilation: 2"
    "|kernel_size: 2 stride: 2|kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1|kernel_size: 5 pad: 2"
    "|kernel_size: 3 kernel_size: 2 pad: 1 pad: 0 stride: 2 stride: 1"
    "|kernel_size: 4 stride: 3 pad: 2> bias_term: <bool>"
)
GROUPS = f"num_output: <outputs> group: <group> {CONV}"
KINDS = (
    *map(_pointwise, ("AbsVal", "BNLL", "Sigmoid", "TanH", "Dropout", "ReLU6", "HardSwish")),
    *map(_pointwise, ("Mish", "SignedSqrt", "NegReLU", "GradientReversal", "L2Normalize", "BN")),
    _pointwise("L2Norm", "eps: <0|0.5>"),
    _pointwise("Norm"),
    _pointwise("ReLU", "negative_slope: <0|0|0|0.1|-0.2>", 4),
    _pointwise("PReLU", "channel_shared: <bool>", 2),
    _pointwise("ELU", "alpha: <factor>"),
    _pointwise("Swish", "beta: <factor>"),
    _pointwise("Clip", "min: -0.5 max: 0.7"),
    _pointwise("Threshold", "threshold: 0.1"),
    _pointwise("Power", "power: <1|2|3|0.5|-1> scale: <factor> shift: <0|1|2.5>", 3),
    _pointwise("Exp", "base: <-1|2|0.5> scale: 0.3 shift: <factor>"),
    _pointwise("Log", "scale: 0.1 shift: <2|3>"),
    _pointwise("Softmax", "axis: <axis>", 2),
    _pointwise("Scale", "axis: <axis> num_axes: <1|1|0|2|-1> bias_term: <bool>", 3),
    _pointwise("Bias", "axis: <axis> num_axes: <1|1|0|2|-1>", 2),
    _pointwise("BatchNorm", "eps: 1e-3 <|||use_global_stats: <bool>>", 4),
    _pointwise("BatchNorm", "eps: 1e-3 moving_average_fraction: 0.5"),
    _pointwise("MVN", "normalize_variance: <bool> across_channels: <bool> eps: 0.01"),
    _pointwise("Normalize", "across_spatial: <bool> channel_shared: <bool> eps: 0.001"),
    Kind("LRN", "local_size: <1|3|5> alpha: <1|2> k: <1|2>", IMAGE),
    Kind("LRN", "local_size: <1|3> norm_region: WITHIN_CHANNEL", IMAGE),
    Kind("Pooling", f"pool: <MAX|AVE> {KERNEL} <||round_mode: FLOOR>", IMAGE, weight=5),
    Kind("Pooling", "pool: <MAX|AVE> global_pooling: true", IMAGE),
    Kind("Pooling", f"pool: MAX {KERNEL}", IMAGE, tops=2),
    Kind("SPP", "pyramid_height: <1..3> pool: <MAX|AVE>", IMAGE),
    Kind("Convolution", GROUPS, IMAGE, weight=8),
    Kind("Convolution", "num_output: <1..4> kernel_size: <1..2> axis: <axis>"),
    Kind("Convolution", f"num_output: 3 {CONV}", ("image", "other"), tops=2),
    Kind("Deconvolution", GROUPS, IMAGE, weight=3),
    Kind("DepthwiseConvolution", f"num_output: <channels> {CONV}", IMAGE),
    Kind("BinaryConvolution", GROUPS, IMAGE),
    Kind("CConvolution", GROUPS, IMAGE),
    Kind("Local", "num_output: <outputs> kernel_size: <1..3>", IMAGE),
    Kind("Im2col", CONV, IMAGE),
    Kind("InnerProduct", "num_output: <1..9> axis: <axis> transpose: <bool>", weight=3),
    Kind("InnerProduct", "num_output: <1..9> bias_term: <bool>", weight=3),
    Kind("Reshape", "shape { dim: <-1|0 dim: -1|0 dim: 0 dim: -1|-1 dim: 1 dim: 0> }"),
    Kind("Reshape", "shape { dim: 0 dim: <1|-1 dim: <size>|1 dim: -1> }"),
    Kind("Reshape", "axis: <axis> num_axes: <1|0|2|-1> shape { <|dim: <-1|1|0|1 dim: -1>> }"),
    Kind("Flatten", "axis: <axis> end_axis: <-1|-1|<axis>>", weight=2),
    Kind("Permute", "<order>", weight=2),
    Kind("Reduction", "operation: <SUM|ASUM|SUMSQ|MEAN> axis: <axis> coeff: <factor>"),
    Kind("ArgMax", "top_k: <1..3> out_max_val: <bool> <|axis: <axis>>"),
    Kind("Tile", "axis: <axis> tiles: <1..3>"),
    Kind("Split", tops=2),
    Kind("Silence", tops=0),
    Kind("Slice", "axis: <axis> <|slice_point: <1..3>>", tops=2, weight=2),
    Kind("Slice", "axis: <axis>", tops=3),
    Kind("Concat", "axis: <axis>", PAIR, weight=4),
    Kind("Concat", "axis: <axis>", (*PAIR, "other")),
    Kind("Eltwise", "operation: SUM <|coeff: <1|0.5|2> coeff: <1|-1|0>>", PAIR, weight=4),
    Kind("Eltwise", "operation: <SUM|PROD|MAX>", (*PAIR, "other")),
    Kind("Eltwise", "operation: <SUM|SUM|PROD>", PAIR, in_place=True, weight=2),
    Kind("Eltwise", "operation: PROD stable_prod_grad: false", PAIR),
    Kind("Eltwise", "operation: MAX", PAIR, weight=2),
    Kind("Scale", "axis: <axis> bias_term: <bool>", PAIR, in_place=True, weight=3),
    Kind("Bias", "axis: <axis>", PAIR, in_place=True),
    Kind("Crop", "axis: <axis> <|offset: <0..1>>", PAIR),
    Kind("Interp", "<zoom_factor: <1..3>|shrink_factor: <1..3>>", IMAGE),
    Kind("Interp", "height: <1..9> width: <1..9>", IMAGE),
    Kind("Upsample", "scale: 2", IMAGE),
    Kind("ShuffleChannel", "group: <group>", IMAGE),
    Kind("Reorg", "stride: 2 reverse: <bool>", IMAGE),
    Kind("Reverse", "axis: <axis>"),
    Kind("Tiling", "tile_dim: <1..2>", IMAGE),
    Kind("Padding", "pad_beg: <0..2> pad_end: <-1..1>", IMAGE),
    Kind("Maxout", "chgroup_sz: 2"),
    Kind("LSTM", "num_output: <1..4>", ("rows", "goes on")),
    Kind("RNN", "num_output: <1..4>", ("rows", "goes on")),
    Kind("Embed", "num_output: <1..6> input_dim: 5 bias_term: <bool>", ("words",)),
    Kind("BatchReindex", "", ("rows", "picks")),
    Kind("PriorBox", "min_size: 4 <|max_size: 7|aspect_ratio: 2>", ("image", "picture")),
    Kind("ROIPooling", "pooled_h: <1..3> pooled_w: <1..3>", ("image", "boxes")),
)
LOSSES = (
    Kind("SoftmaxWithLoss", "<normalization: FULL|ignore_label: 0>", ("rows", "labels")),
    Kind("SoftmaxWithLoss", "", ("rows", "labels")),
    Kind("EuclideanLoss", "", ("rows", "targets"), weight=2),
    Kind("SmoothL1Loss", "", ("rows", "targets")),
    Kind("SigmoidCrossEntropyLoss", "", ("rows", "bits")),
    Kind("HingeLoss", "norm: <L1|L2>", ("rows", "row labels")),
    Kind("Reduction", "operation: <SUMSQ|ASUM|MEAN>"),
    Kind("Power", "power: 2 scale: 0.3"),
)
OF_LOSSES = "loss_weight: <0.5|1|1|2>"
IN_TRAINING = "<||||||||param { lr_mult: 0 }|propagate_down: <bool>>"
