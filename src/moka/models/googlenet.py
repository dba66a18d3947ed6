"""GoogLeNet (Szegedy et al., "Going deeper with convolutions", CVPR 2015), as BVLC trained it."""

from __future__ import annotations

from typing import Any

from moka.models.model import TEST, WEIGHT_AND_BIAS, ReferenceModel, ilsvrc12, nothing
from moka.net.spec import NetSpec, Top, layers, params

# 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj (Table 1 of the paper)
CHANNELS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOLED = {"3b": "pool3/3x3_s2", "4e": "pool4/3x3_s2"}  # what follows a module
AUXILIARY = {"4a": 1, "4d": 2}  # the losses that stand on modules
AUXILIARY_WEIGHT = 0.3  # of their losses


def _filled(bias: float) -> dict[str, Any]:
    return dict(
        param=WEIGHT_AND_BIAS,
        weight_filler=dict(type="xavier"),
        bias_filler=dict(type="constant", value=bias),
    )


def _convolution(n: NetSpec, x: Top, group: str, name: str, **fields: Any) -> Top:
    """<group>/<name> and <group>/relu_<name>."""
    n[f"{group}/{name}"] = layers.Convolution(x, **fields, **_filled(0.2))
    n[f"{group}/relu_{name.removesuffix('_s2')}"] = layers.ReLU(n[f"{group}/{name}"], in_place=True)
    return n[f"{group}/{name}"]


def _pooled(n: NetSpec, x: Top, name: str) -> Top:
    n[name] = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=2)
    return n[name]


def _normalized(n: NetSpec, x: Top, name: str) -> Top:
    n[name] = layers.LRN(x, local_size=5, alpha=1e-4, beta=0.75)
    return n[name]


def inception(n: NetSpec, x: Top, module: str) -> Top:
    """Four branches side by side: 1x1, 3x3 and 5x5 convolutions and pooling."""
    name = f"inception_{module}"
    c1, c3_reduce, c3, c5_reduce, c5, c_pool = CHANNELS[module]
    one = _convolution(n, x, name, "1x1", num_output=c1, kernel_size=1)
    three = _convolution(n, x, name, "3x3_reduce", num_output=c3_reduce, kernel_size=1)
    three = _convolution(n, three, name, "3x3", num_output=c3, pad=1, kernel_size=3)
    five = _convolution(n, x, name, "5x5_reduce", num_output=c5_reduce, kernel_size=1)
    five = _convolution(n, five, name, "5x5", num_output=c5, pad=2, kernel_size=5)
    n[f"{name}/pool"] = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=1, pad=1)
    pool = _convolution(n, n[f"{name}/pool"], name, "pool_proj", num_output=c_pool, kernel_size=1)
    n[f"{name}/output"] = layers.Concat(one, three, five, pool)
    return n[f"{name}/output"]


def loss(n: NetSpec, scores: Top, group: str, name: str, weight: float) -> None:
    """<group>/<name>, whose top is numbered, and accuracies among the first guess and five."""
    number = group.removeprefix("loss")
    top = f"{group}/loss{number if group == 'loss3' else 1}"
    n[top] = layers.SoftmaxWithLoss(scores, n.label, name=f"{group}/{name}", loss_weight=weight)
    n[f"{group}/top-1"] = layers.Accuracy(scores, n.label, include=dict(phase=TEST))
    n[f"{group}/top-5"] = layers.Accuracy(scores, n.label, top_k=5, include=dict(phase=TEST))


def auxiliary(n: NetSpec, x: Top, group: str) -> None:
    """A classifier on the side, which brings a gradient to the layers below in training."""
    n[f"{group}/ave_pool"] = layers.Pooling(x, pool=params.Pooling.AVE, kernel_size=5, stride=3)
    x = _convolution(n, n[f"{group}/ave_pool"], group, "conv", num_output=128, kernel_size=1)
    n[f"{group}/fc"] = layers.InnerProduct(x, num_output=1024, **_filled(0.2))
    n[f"{group}/relu_fc"] = layers.ReLU(n[f"{group}/fc"], in_place=True)
    n[f"{group}/drop_fc"] = layers.Dropout(n[f"{group}/relu_fc"], dropout_ratio=0.7, in_place=True)
    n[f"{group}/classifier"] = layers.InnerProduct(
        n[f"{group}/drop_fc"], num_output=1000, **_filled(0)
    )
    loss(n, n[f"{group}/classifier"], group, "loss", AUXILIARY_WEIGHT)


def googlenet(n: NetSpec, deploy: bool) -> Top:
    x = _convolution(n, n.data, "conv1", "7x7_s2", num_output=64, pad=3, kernel_size=7, stride=2)
    x = _normalized(n, _pooled(n, x, "pool1/3x3_s2"), "pool1/norm1")
    x = _convolution(n, x, "conv2", "3x3_reduce", num_output=64, kernel_size=1)
    x = _convolution(n, x, "conv2", "3x3", num_output=192, pad=1, kernel_size=3)
    x = _pooled(n, _normalized(n, x, "conv2/norm2"), "pool2/3x3_s2")
    for module in CHANNELS:
        x = inception(n, x, module)
        if module in AUXILIARY and not deploy:
            auxiliary(n, x, f"loss{AUXILIARY[module]}")
        if module in POOLED:
            x = _pooled(n, x, POOLED[module])
    n["pool5/7x7_s1"] = layers.Pooling(x, pool=params.Pooling.AVE, kernel_size=7, stride=1)
    n["pool5/drop_7x7_s1"] = layers.Dropout(n["pool5/7x7_s1"], dropout_ratio=0.4, in_place=True)
    n["loss3/classifier"] = layers.InnerProduct(
        n["pool5/drop_7x7_s1"], num_output=1000, **_filled(0)
    )
    if not deploy:
        loss(n, n["loss3/classifier"], "loss3", "loss3", 1)
    return n["loss3/classifier"]


SOLVER = dict(
    test_iter=1000,
    test_interval=4000,
    test_initialization=False,
    display=40,
    average_loss=40,
    base_lr=0.01,
    momentum=0.9,
    weight_decay=0.0002,
    snapshot=40000,
)
MODELS = (
    ReferenceModel(
        "bvlc_googlenet",
        "GoogleNet",
        "googlenet",
        googlenet,
        224,
        ilsvrc12((32, 50), 224, mean_value=[104, 117, 123]),
        SOLVER
        | dict(
            lr_policy="step",
            stepsize=320000,
            gamma=0.96,
            max_iter=10000000,
            snapshot_prefix="models/bvlc_googlenet/bvlc_googlenet",
        ),
        ending=nothing,  # its layers hold the losses
        more_solvers={
            "quick_solver.prototxt": SOLVER
            | dict(
                lr_policy="poly",
                power=0.5,
                max_iter=2400000,
                snapshot_prefix="models/bvlc_googlenet/bvlc_googlenet_quick",
            )
        },
    ),
)
