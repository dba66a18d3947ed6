"""Residual nets (He, Zhang, Ren and Sun, "Deep residual learning", CVPR 2016), with the layers and
names of the authors' Caffe models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from string import ascii_lowercase
from typing import Any

from moka.models.model import ReferenceModel, ilsvrc12, softmax_loss_and_top_5
from moka.models.norm import normalized_by_batch
from moka.net.spec import NetSpec, Top, layers, params

# What a block adds to its input: (kernel size, channels as a multiple of the stage's)
BASIC = ((3, 1), (3, 1))
BOTTLENECK = ((1, 1), (3, 1), (1, 4))


class ResNet:
    """The net of four stages of blocks, called as a Model's `layers`.

    Args:
        block: the convolutions of a block.
        depths: how many blocks each stage has.
        numbered: the middle stages name their blocks a, b1, b2, ..., not a, b, c, ...
        conv1_bias: whether the first convolution has biases, as ResNet-50's has.
    """

    def __init__(
        self,
        block: Sequence[tuple[int, int]],
        depths: Sequence[int],
        *,
        numbered: bool = False,
        conv1_bias: bool = False,
    ) -> None:
        self.block = block
        self.depths = depths
        self.numbered = numbered
        self.conv1_bias = conv1_bias

    def __call__(self, n: NetSpec, deploy: bool) -> Top:
        conv1: dict[str, Any] = dict(
            num_output=64, pad=3, kernel_size=7, stride=2, bias_term=self.conv1_bias
        )
        x = _convolution(n, n.data, "conv1", "_conv1", deploy, **conv1)
        x = _relu(n, x, "conv1_relu")
        n.pool1 = x = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=2)
        width = 64
        for stage, depth in enumerate(self.depths, 2):
            channels = 64 * 2 ** (stage - 2)
            for i, name in enumerate(self.block_names(stage, depth)):
                stride = 2 if i == 0 and stage > 2 else 1
                x = self.residual(n, x, name, channels, stride, width, deploy)
                width = channels * self.block[-1][1]
        n.pool5 = layers.Pooling(x, pool=params.Pooling.AVE, kernel_size=7, stride=1)
        n.fc1000 = layers.InnerProduct(n.pool5, num_output=1000, weight_filler=dict(type="msra"))
        return n.fc1000

    def block_names(self, stage: int, depth: int) -> Iterator[str]:
        """2a, 2b, ..., or 3a, 3b1, 3b2, ..."""
        if self.numbered and stage in (3, 4):
            yield f"{stage}a"
            yield from (f"{stage}b{i}" for i in range(1, depth))
        else:
            yield from (f"{stage}{letter}" for letter in ascii_lowercase[:depth])

    def residual(
        self, n: NetSpec, x: Top, name: str, channels: int, stride: int, width: int, deploy: bool
    ) -> Top:
        """res<name>: x (of `width` channels), plus what a block of convolutions makes of it.

        Where sizes differ, x is projected by a 1x1 convolution, branch1 (option B of the paper).
        """
        size: dict[str, Any]
        shortcut = x
        last = channels * self.block[-1][1]
        if stride != 1 or width != last:
            branch = f"{name}_branch1"
            size = dict(num_output=last, pad=0, kernel_size=1, stride=stride)
            shortcut = _convolution(n, x, f"res{branch}", branch, deploy, **size)
        for i, (kernel_size, factor) in enumerate(self.block):
            branch = f"{name}_branch2{ascii_lowercase[i]}"
            size = dict(num_output=channels * factor, pad=kernel_size // 2, kernel_size=kernel_size)
            x = _convolution(
                n, x, f"res{branch}", branch, deploy, stride=stride if i == 0 else 1, **size
            )
            if i + 1 < len(self.block):
                x = _relu(n, x, f"res{branch}_relu")
        n[f"res{name}"] = layers.Eltwise(shortcut, x)
        return _relu(n, n[f"res{name}"], f"res{name}_relu")


def _convolution(
    n: NetSpec, x: Top, name: str, norm: str, deploy: bool, *, bias_term: bool = False, **size: Any
) -> Top:
    """Convolution <name>, bn<norm> and scale<norm>."""
    n[name] = layers.Convolution(x, bias_term=bias_term, weight_filler=dict(type="msra"), **size)
    return normalized_by_batch(n, n[name], f"bn{norm}", f"scale{norm}", deploy)


def _relu(n: NetSpec, x: Top, name: str) -> Top:
    n[name] = layers.ReLU(x, in_place=True)
    return n[name]


def _model(depth: int, net: Callable[[NetSpec, bool], Top]) -> ReferenceModel:
    return ReferenceModel(
        f"resnet{depth}",
        f"ResNet-{depth}",
        "resnet",
        net,
        224,
        ilsvrc12((32, 25), 224, mean_value=[104, 117, 123]),
        dict(
            test_iter=2000,
            test_interval=5000,
            test_initialization=False,
            display=20,
            average_loss=20,
            iter_size=8,  # 256 images, as in the paper
            base_lr=0.1,
            lr_policy="multistep",
            gamma=0.1,
            stepvalue=[150000, 300000, 450000],
            max_iter=600000,
            momentum=0.9,
            weight_decay=0.0001,
            snapshot=10000,
            snapshot_prefix=f"models/resnet{depth}/resnet{depth}",
        ),
        ending=softmax_loss_and_top_5,
        deploy_batch=1,
    )


MODELS = (
    _model(18, ResNet(BASIC, (2, 2, 2, 2))),
    _model(50, ResNet(BOTTLENECK, (3, 4, 6, 3), conv1_bias=True)),
    _model(101, ResNet(BOTTLENECK, (3, 4, 23, 3), numbered=True)),
    _model(152, ResNet(BOTTLENECK, (3, 8, 36, 3), numbered=True)),
)
