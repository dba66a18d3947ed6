"""Nets on which engines have to agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

INPUT = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ {1} }} }} }}\n'

FILLERS = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'


def input_of(name: str, *shape: int) -> str:
    return INPUT.format(name, " ".join(f"dim: {n}" for n in shape))


def ip(name: str, bottom: str, top: str, outputs: int, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {more}'
        f" inner_product_param {{ num_output: {outputs} {FILLERS} }} }}\n"
    )


def conv(name: str, bottom: str, top: str, fields: str) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}"'
        f" convolution_param {{ {fields} {FILLERS} }} }}\n"
    )


def act(kind: str, blob: str, more: str = "") -> str:
    return (
        f'layer {{ name: "{blob}_{kind}" type: "{kind}" bottom: "{blob}" top: "{blob}" {more} }}\n'
    )


def pool(name: str, bottom: str, top: str, fields: str) -> str:
    return (
        f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{top}"'
        f" pooling_param {{ {fields} }} }}\n"
    )


def loss(kind: str, a: str, b: str, top: str = "loss", more: str = "") -> str:
    return (
        f'layer {{ name: "{top}" type: "{kind}" bottom: "{a}" bottom: "{b}" top: "{top}"'
        f" {more} }}\n"
    )


NETS = {
    "lenet": input_of("data", 3, 1, 12, 12)
    + input_of("label", 3)
    + conv("conv1", "data", "conv1", "num_output: 4 kernel_size: 3")
    + pool("pool1", "conv1", "pool1", "kernel_size: 2 stride: 2")
    + conv("conv2", "pool1", "conv2", "num_output: 4 kernel_size: 2 group: 2")
    + act("ReLU", "conv2")
    + pool("pool2", "conv2", "pool2", "pool: AVE kernel_size: 3 stride: 2")
    + ip("ip1", "pool2", "ip1", 6)
    + act("ReLU", "ip1")
    + act("Dropout", "ip1")
    + ip("ip2", "ip1", "ip2", 3)
    + loss("SoftmaxWithLoss", "ip2", "label")
    + 'layer { name: "a" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" }',
    "shared weights": input_of("a", 3, 4)
    + input_of("b", 3, 4)
    + ip("left", "a", "x", 2, 'param { name: "w" } param { name: "b" }')
    + ip("right", "b", "y", 2, 'param { name: "w" } param { name: "b" lr_mult: 2 }')
    + loss("EuclideanLoss", "x", "y"),
    "shared in a row, other shape": input_of("a", 3, 4)
    + input_of("t", 3, 4)
    + ip("up", "a", "x", 2, 'param { name: "w" }')
    + act("TanH", "x")
    + ip("down", "x", "y", 4, 'param { name: "w" share_mode: PERMISSIVE }')
    + loss("EuclideanLoss", "y", "t"),
    "two weighted losses": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 5)
    + act("Sigmoid", "h")
    + ip("x", "h", "x", 2)
    + ip("y", "h", "y", 2)
    + loss("EuclideanLoss", "x", "t", "l1", "loss_weight: 0.5")
    + loss("SigmoidCrossEntropyLoss", "y", "t", "l2", "loss_weight: 3"),
    "in place on the data": input_of("a", 3, 4)
    + act("Scale", "a", "scale_param { filler { value: 3 } }")
    + ip("h", "a", "h", 2)
    + input_of("t", 3, 2)
    + loss("EuclideanLoss", "h", "t"),
    "loss weight on a plain layer": input_of("a", 3, 4) + ip("h", "a", "h", 2, "loss_weight: 0.5"),
    "loss that is consumed": input_of("a", 3, 4)
    + ip("h", "a", "h", 2, "loss_weight: 0.5")
    + input_of("t", 3, 2)
    + loss("EuclideanLoss", "h", "t"),
    "split and joined": input_of("a", 2, 3, 5, 5)
    + input_of("label", 2)
    + conv("c", "a", "c", "num_output: 4 kernel_size: 3 pad: 1 stride: 2")
    + act("ReLU", "c")
    + conv("d", "c", "d", "num_output: 4 kernel_size: 3 pad: 2 dilation: 2")
    + 'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "d" top: "e" }'
    + 'layer { name: "f" type: "Concat" bottom: "c" bottom: "e" bottom: "d" top: "f" }'
    + ip("g", "f", "g", 3)
    + loss("SoftmaxWithLoss", "g", "label"),
    "propagate_down false": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 5)
    + ip("x", "h", "x", 2, "propagate_down: false")
    + loss("EuclideanLoss", "x", "t"),
    "one of two paths cut": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 2)
    + ip("x", "h", "x", 2, "propagate_down: false")
    + 'layer { name: "e" type: "Eltwise" bottom: "h" bottom: "x" top: "e" }'
    + loss("EuclideanLoss", "e", "t"),
    "lr_mult 0": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 5, "param { lr_mult: 0 } param { lr_mult: 0 }")
    + ip("k", "h", "k", 5, "param { lr_mult: 0 } param { lr_mult: 1 }")
    + act("TanH", "k")
    + ip("x", "k", "x", 2, "param { lr_mult: 1 } param { lr_mult: 0 }")
    + loss("EuclideanLoss", "x", "t"),
    "in-place chain": input_of("a", 3, 4)
    + input_of("t", 3, 4)
    + ip("h", "a", "h", 4)
    + act("ReLU", "h", "relu_param { negative_slope: -0.3 }")
    + act("Sigmoid", "h")
    + act("TanH", "h")
    + loss("EuclideanLoss", "h", "t"),
    "in-place, then two readers": input_of("a", 3, 4)
    + input_of("t", 3, 4)
    + ip("h", "a", "h", 4)
    + act("TanH", "h")
    + ip("k", "h", "k", 4)
    + loss("EuclideanLoss", "h", "t", "l1")
    + loss("EuclideanLoss", "k", "t", "l2"),
    "force_backward": "force_backward: true\n"
    + input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 2, "param { lr_mult: 0 }")
    + loss("EuclideanLoss", "h", "t"),
    "a parameter as a blob": 'layer { name: "p" type: "Parameter" top: "p"'
    " parameter_param { shape { dim: 3 dim: 4 } } }"
    + input_of("t", 3, 2)
    + ip("h", "p", "h", 2)
    + loss("EuclideanLoss", "h", "t"),
    "residual": input_of("data", 4, 3, 6, 6)
    + input_of("label", 4)
    + conv("c", "data", "c", "num_output: 4 kernel_size: 3 pad: 1")
    + act("BatchNorm", "c")
    + act("Scale", "c", "scale_param { bias_term: true }")
    + act("PReLU", "c")
    + conv("d", "c", "d", "num_output: 4 kernel_size: 3 pad: 1")
    + act("BatchNorm", "d")
    + 'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "d" top: "e" }'
    + act("ELU", "e")
    + act("LRN", "e")
    + pool("p", "e", "p", "pool: AVE global_pooling: true")
    + ip("g", "p", "g", 3)
    + loss("SoftmaxWithLoss", "g", "label"),
    "up and cropped": input_of("a", 1, 2, 6, 6)
    + input_of("t", 1, 2, 6, 6)
    + conv("c", "a", "c", "num_output: 4 kernel_size: 3 stride: 2")
    + conv("u", "c", "u", "num_output: 2 kernel_size: 6 stride: 2").replace("Conv", "Deconv")
    + 'layer { name: "r" type: "Crop" bottom: "u" bottom: "t" top: "r" crop_param { offset: 1 } }'
    + act("Power", "r", "power_param { power: 2 shift: 1 }")
    + loss("EuclideanLoss", "r", "t"),
    "sliced and turned": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 6)
    + 'layer { name: "s" type: "Slice" bottom: "h" top: "x" top: "y" top: "z" }'
    + act("BNLL", "x")
    + act("Swish", "y")
    + 'layer { name: "m" type: "Scale" bottom: "x" bottom: "y" top: "m" scale_param { axis: 0 } }'
    + 'layer { name: "n" type: "Bias" bottom: "m" bottom: "z" top: "n" bias_param { axis: 0 } }'
    + 'layer { name: "o" type: "Reshape" bottom: "n" top: "o" reshape_param { shape { dim: 6 } } }'
    + 'layer { name: "q" type: "Reshape" bottom: "o" top: "q"'
    " reshape_param { shape { dim: 3 dim: -1 } } }" + loss("EuclideanLoss", "q", "t"),
    "a part that leads to no loss": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 4)
    + 'layer { name: "s" type: "Slice" bottom: "h" top: "x" top: "y" }'
    + loss("EuclideanLoss", "x", "t"),
    "a gradient asked of a layer that does not go backward": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + 'layer { name: "s" type: "Sigmoid" bottom: "a" top: "s" propagate_down: true }'
    + act("TanH", "s")
    + ip("h", "s", "h", 2)
    + loss("EuclideanLoss", "h", "t"),
    "an image by itself, normalized": input_of("a", 1, 8, 4, 2)
    + input_of("t", 1, 16, 4, 2)
    + 'layer { name: "n" type: "BN" bottom: "a" top: "n" }'
    + 'layer { name: "c" type: "Concat" bottom: "a" bottom: "n" top: "c" }'
    + loss("EuclideanLoss", "c", "t"),
    "an image by itself, behind a Reshape": input_of("a", 1, 4)
    + input_of("t", 1, 2, 2, 1)
    + ip("h", "a", "h", 64)
    + 'layer { name: "r" type: "Reshape" bottom: "h" top: "r"'
    " reshape_param { shape { dim: 1 dim: 8 dim: 4 dim: 2 } } }"
    + 'layer { name: "n" type: "BatchNorm" bottom: "r" top: "n" }'
    + conv("c", "n", "c", "num_output: 2 kernel_h: 3 kernel_w: 2")
    + 'layer { name: "s" type: "Silence" bottom: "n" }'
    + loss("EuclideanLoss", "c", "t"),
    "an image by itself, before a Reshape": input_of("a", 1, 8, 4, 2)
    + input_of("t", 1, 2, 2, 1)
    + 'layer { name: "n" type: "BN" bottom: "a" top: "n" }'
    + 'layer { name: "r" type: "Reshape" bottom: "n" top: "r"'
    " reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 } } }"
    + conv("c", "r", "c", "num_output: 2 kernel_h: 3 kernel_w: 2")
    + loss("EuclideanLoss", "c", "t"),
    "constant in between": input_of("a", 3, 4)
    + input_of("t", 3, 2)
    + ip("h", "a", "h", 2)
    + act("Power", "h", "power_param { scale: 0 shift: 2 }")
    + ip("k", "h", "k", 2)
    + loss("EuclideanLoss", "k", "t"),
    "recurrent": input_of("x", 4, 2, 3)
    + input_of("cont", 4, 2)
    + input_of("static", 2, 3)
    + input_of("t", 4, 2, 3)
    + 'layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" bottom: "static" top: "l"'
    f" recurrent_param {{ num_output: 2 {FILLERS} }} }}"
    + 'layer { name: "r" type: "RNN" bottom: "l" bottom: "cont" top: "r"'
    f" recurrent_param {{ num_output: 3 {FILLERS} }} }}" + loss("EuclideanLoss", "r", "t"),
    "no loss": input_of("a", 3, 4) + ip("h", "a", "h", 2),
}
