"""Network in Network (Lin, Chen and Yan, ICLR 2014), its net for ImageNet."""

from __future__ import annotations

from typing import Any

from moka.models.model import WEIGHT_AND_BIAS, ReferenceModel, ilsvrc12
from moka.net.spec import NetSpec, Top, layers, params


class Stack:
    """Convolutions, each with a ReLU: in the original, ReLUs are numbered through."""

    def __init__(self, n: NetSpec) -> None:
        self.n = n

    def __call__(
        self, x: Top, name: str, relu: int, std: float, layer: str | None = None, **fields: Any
    ) -> Top:
        """Blob <name>, made by the layer of this name or `layer`, and relu<relu>."""
        self.n[name] = layers.Convolution(
            x,
            name=layer or name,
            param=WEIGHT_AND_BIAS,
            weight_filler=dict(type="gaussian", std=std),
            bias_filler=dict(type="constant", value=0),
            **fields,
        )
        self.n[f"relu{relu}"] = layers.ReLU(self.n[name], in_place=True)
        return self.n[name]


def _pooled(n: NetSpec, x: Top, name: str) -> Top:
    n[name] = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=2)
    return n[name]


def nin(n: NetSpec, deploy: bool) -> Top:
    convolution = Stack(n)
    x = convolution(n.data, "conv1", 0, 0.01, num_output=96, kernel_size=11, stride=4)
    x = convolution(x, "cccp1", 1, 0.05, num_output=96, kernel_size=1)
    x = convolution(x, "cccp2", 2, 0.05, num_output=96, kernel_size=1)
    x = _pooled(n, x, "pool0")
    x = convolution(x, "conv2", 3, 0.05, num_output=256, pad=2, kernel_size=5)
    x = convolution(x, "cccp3", 5, 0.05, num_output=256, kernel_size=1)
    x = convolution(x, "cccp4", 6, 0.05, num_output=256, kernel_size=1)
    x = _pooled(n, x, "pool2")
    x = convolution(x, "conv3", 7, 0.01, num_output=384, pad=1, kernel_size=3)
    x = convolution(x, "cccp5", 8, 0.05, num_output=384, kernel_size=1)
    x = convolution(x, "cccp6", 9, 0.05, num_output=384, kernel_size=1)
    x = _pooled(n, x, "pool3")
    n.drop = layers.Dropout(x, dropout_ratio=0.5, in_place=True)
    x = convolution(n.drop, "conv4", 10, 0.05, "conv4-1024", num_output=1024, pad=1, kernel_size=3)
    x = convolution(x, "cccp7", 11, 0.05, "cccp7-1024", num_output=1024, kernel_size=1)
    x = convolution(x, "cccp8", 12, 0.01, "cccp8-1024", num_output=1000, kernel_size=1)
    n.pool4 = layers.Pooling(x, pool=params.Pooling.AVE, kernel_size=6, stride=1)
    return n.pool4


MODELS = (
    ReferenceModel(
        "nin",
        "nin_imagenet",
        "nin",
        nin,
        224,
        ilsvrc12((64, 89), 224, mean_file="data/ilsvrc12/imagenet_mean.binaryproto"),
        dict(
            test_iter=1000,
            test_interval=1000,
            test_initialization=False,
            display=20,
            base_lr=0.01,
            lr_policy="step",
            gamma=0.1,
            stepsize=200000,
            max_iter=450000,
            momentum=0.9,
            weight_decay=0.0005,
            snapshot=10000,
            snapshot_prefix="models/nin/nin_train",
        ),
    ),
)
