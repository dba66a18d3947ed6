"""MobileNets (Howard et al., arXiv:1704.04861; Sandler et al., CVPR 2018), with the layer names of
the Caffe models that are commonly used (shicai/MobileNet-Caffe)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moka.models.model import ReferenceModel, ilsvrc12, softmax_loss_and_top_5
from moka.models.norm import normalized_by_batch
from moka.net.spec import NetSpec, Top, layers, params

# v1: output channels and stride of each depthwise separable convolution (Table 1)
SEPARABLE = {
    "2_1": (64, 1),
    "2_2": (128, 2),
    "3_1": (128, 1),
    "3_2": (256, 2),
    "4_1": (256, 1),
    "4_2": (512, 2),
    "5_1": (512, 1),
    "5_2": (512, 1),
    "5_3": (512, 1),
    "5_4": (512, 1),
    "5_5": (512, 1),
    "5_6": (1024, 2),
    "6": (1024, 1),
}
# v2: expansion, output channels and stride of each inverted residual (Table 2)
INVERTED = {
    "2_1": (1, 16, 1),
    "2_2": (6, 24, 2),
    "3_1": (6, 24, 1),
    "3_2": (6, 32, 2),
    "4_1": (6, 32, 1),
    "4_2": (6, 32, 1),
    "4_3": (6, 64, 2),
    "4_4": (6, 64, 1),
    "4_5": (6, 64, 1),
    "4_6": (6, 64, 1),
    "4_7": (6, 96, 1),
    "5_1": (6, 96, 1),
    "5_2": (6, 96, 1),
    "5_3": (6, 160, 2),
    "6_1": (6, 160, 1),
    "6_2": (6, 160, 1),
    "6_3": (6, 320, 1),
}
NO_DECAY = dict(lr_mult=1, decay_mult=0)
SCALE = dict(param=[NO_DECAY] * 2, filler=dict(value=1), bias_filler=dict(value=0))


def _convolution(n: NetSpec, x: Top, name: str, deploy: bool, **fields: Any) -> Top:
    """Convolution <name> without biases, <name>/bn and <name>/scale."""
    fields = dict(param=dict(lr_mult=1, decay_mult=1), bias_term=False) | fields
    n[name] = layers.Convolution(x, weight_filler=dict(type="msra"), **fields)
    return normalized_by_batch(
        n, n[name], f"{name}/bn", f"{name}/scale", deploy, eps=1e-5, fields=SCALE
    )


def depthwise(n: NetSpec, x: Top, name: str, deploy: bool, channels: int, stride: int) -> Top:
    """A 3x3 convolution of each channel by itself; its few weights do not decay."""
    size = dict(num_output=channels, group=channels, pad=1, kernel_size=3, stride=stride)
    return _convolution(n, x, name, deploy, param=NO_DECAY, **size)


def _relu(n: NetSpec, x: Top, name: str) -> Top:
    n[f"relu{name}"] = layers.ReLU(x, in_place=True)
    return n[f"relu{name}"]


def _first(n: NetSpec, deploy: bool) -> Top:
    x = _convolution(n, n.data, "conv1", deploy, num_output=32, pad=1, kernel_size=3, stride=2)
    return _relu(n, x, "1")


def classes(n: NetSpec, x: Top) -> Top:
    """The mean over all places and a 1x1 convolution to 1000 classes."""
    n.pool6 = layers.Pooling(x, pool=params.Pooling.AVE, global_pooling=True)
    n.fc7 = layers.Convolution(
        n.pool6,
        param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)],
        num_output=1000,
        kernel_size=1,
        weight_filler=dict(type="msra"),
        bias_filler=dict(type="constant", value=0),
    )
    return n.fc7


def mobilenet_v1(n: NetSpec, deploy: bool) -> Top:
    x, width = _first(n, deploy), 32
    for i, (channels, stride) in SEPARABLE.items():
        x = _relu(n, depthwise(n, x, f"conv{i}/dw", deploy, width, stride), f"{i}/dw")
        x = _convolution(n, x, f"conv{i}/sep", deploy, num_output=channels, kernel_size=1)
        x, width = _relu(n, x, f"{i}/sep"), channels
    return classes(n, x)


def mobilenet_v2(n: NetSpec, deploy: bool) -> Top:
    x, width = _first(n, deploy), 32
    for i, (expansion, channels, stride) in INVERTED.items():
        inner, y = expansion * width, x
        y = _convolution(n, y, f"conv{i}/expand", deploy, num_output=inner, kernel_size=1)
        y = _relu(n, y, f"{i}/expand")
        y = _relu(n, depthwise(n, y, f"conv{i}/dwise", deploy, inner, stride), f"{i}/dwise")
        y = _convolution(n, y, f"conv{i}/linear", deploy, num_output=channels, kernel_size=1)
        if stride == 1 and width == channels:
            n[f"block_{i}"] = y = layers.Eltwise(x, y)
        x, width = y, channels
    x = _convolution(n, x, "conv6_4", deploy, num_output=1280, kernel_size=1)
    return classes(n, _relu(n, x, "6_4"))


def _model(folder: str, name: str, net: Callable[[NetSpec, bool], Top]) -> ReferenceModel:
    return ReferenceModel(
        folder,
        name,
        "mobilenet",
        net,
        224,
        ilsvrc12((64, 50), 224, mean_value=[103.94, 116.78, 123.68], scale=0.017),
        dict(
            test_iter=1000,
            test_interval=5000,
            test_initialization=False,
            display=20,
            average_loss=20,
            iter_size=4,
            base_lr=0.1,
            lr_policy="poly",
            power=1,
            max_iter=500000,
            momentum=0.9,
            weight_decay=4e-5,
            snapshot=10000,
            snapshot_prefix=f"models/{folder}/{folder}",
        ),
        ending=softmax_loss_and_top_5,
        deploy_batch=1,
    )


MODELS = (
    _model("mobilenet_v1", "MOBILENET", mobilenet_v1),
    _model("mobilenet_v2", "MOBILENET_V2", mobilenet_v2),
)
