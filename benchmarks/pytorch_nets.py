"""The nets of models/ written in PyTorch: what torch.onnx.export is given in export.py.

training.py adds what training needs: scores instead of probabilities, GoogLeNet's further losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """The sum of two branches."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.one(x) + self.other(x))


class Join(nn.Module):
    """The channels of several branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def conv(a: int, b: int, kernel: int, stride: int = 1, pad: int = 0, group: int = 1) -> list[Any]:
    return [nn.Conv2d(a, b, kernel, stride, pad, groups=group), nn.ReLU()]


def conv_norm(a: int, b: int, kernel: int, stride: int = 1, group: int = 1) -> list[Any]:
    layer = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=group, bias=False)
    return [layer, nn.BatchNorm2d(b)]


def max_pool(kernel: int = 3, stride: int = 2) -> nn.Module:
    return nn.MaxPool2d(kernel, stride, ceil_mode=True)


def classes(*widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout()]
    return [*layers[:-2], nn.Softmax(1)]


def caffenet(outputs: int = 1000, *, norm_first: bool = False, softmax: bool = True) -> nn.Module:
    """AlexNet normalizes before it pools (norm_first), CaffeNet after."""

    def end() -> list[nn.Module]:
        both = [max_pool(), nn.LocalResponseNorm(5)]
        return both[::-1] if norm_first else both

    layers = [
        *conv(3, 96, 11, 4), *end(), *conv(96, 256, 5, 1, 2, 2), *end(),
        *conv(256, 384, 3, 1, 1), *conv(384, 384, 3, 1, 1, 2), *conv(384, 256, 3, 1, 1, 2),
        max_pool(), *classes(9216, 4096, 4096, outputs),
    ]  # fmt: skip
    return nn.Sequential(*(layers if softmax else layers[:-1]))


def vgg(*counts: int) -> nn.Module:
    layers: list[nn.Module] = []
    a = 3
    for b, count in zip((64, 128, 256, 512, 512), counts, strict=True):
        for _ in range(count):
            layers += conv(a, b, 3, 1, 1)
            a = b
        layers.append(max_pool(2))
    return nn.Sequential(*layers, *classes(25088, 4096, 4096, 1000))


def squeezenet() -> nn.Module:
    def fire(a: int, squeezed: int, b: int) -> nn.Module:
        wide = Join(
            nn.Sequential(*conv(squeezed, b, 1)), nn.Sequential(*conv(squeezed, b, 3, 1, 1))
        )
        return nn.Sequential(*conv(a, squeezed, 1), wide)

    return nn.Sequential(
        *conv(3, 64, 3, 2), max_pool(), fire(64, 16, 64), fire(128, 16, 64), max_pool(),
        fire(128, 32, 128), fire(256, 32, 128), max_pool(), fire(256, 48, 192), fire(384, 48, 192),
        fire(384, 64, 256), fire(512, 64, 256), nn.Dropout(), *conv(512, 1000, 1),
        nn.AdaptiveAvgPool2d(1), nn.Softmax(1),
    )  # fmt: skip


def nin() -> nn.Module:
    def stack(a: int, b: int, kernel: int, stride: int, pad: int, last: int = 0) -> list[Any]:
        return [*conv(a, b, kernel, stride, pad), *conv(b, b, 1), *conv(b, last or b, 1)]

    return nn.Sequential(
        *stack(3, 96, 11, 4, 0), max_pool(), *stack(96, 256, 5, 1, 2), max_pool(),
        *stack(256, 384, 3, 1, 1), max_pool(), nn.Dropout(), *stack(384, 1024, 3, 1, 1, 1000),
        nn.AvgPool2d(6, 1), nn.Softmax(1),
    )  # fmt: skip


def inception(
    a: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int
) -> nn.Module:
    return Join(
        nn.Sequential(*conv(a, one, 1)),
        nn.Sequential(*conv(a, three[0], 1), *conv(*three, 3, 1, 1)),
        nn.Sequential(*conv(a, five[0], 1), *conv(*five, 5, 1, 2)),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), *conv(a, pool, 1)),
    )


def googlenet() -> nn.Module:
    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5)

    return nn.Sequential(
        *conv(3, 64, 7, 2, 3), max_pool(), norm(), *conv(64, 64, 1), *conv(64, 192, 3, 1, 1),
        norm(), max_pool(), inception(192, 64, (96, 128), (16, 32), 32),
        inception(256, 128, (128, 192), (32, 96), 64), max_pool(),
        inception(480, 192, (96, 208), (16, 48), 64),
        inception(512, 160, (112, 224), (24, 64), 64),
        inception(512, 128, (128, 256), (24, 64), 64),
        inception(512, 112, (144, 288), (32, 64), 64),
        inception(528, 256, (160, 320), (32, 128), 128), max_pool(),
        inception(832, 256, (160, 320), (32, 128), 128),
        inception(832, 384, (192, 384), (48, 128), 128), nn.AvgPool2d(7, 1), nn.Flatten(),
        nn.Dropout(0.4), nn.Linear(1024, 1000), nn.Softmax(1),
    )  # fmt: skip


def resnet(depths: Sequence[int], *, bottleneck: bool) -> nn.Module:
    layers = [*conv_norm(3, 64, 7, 2), nn.ReLU(), max_pool()]
    a = 64
    for stage, depth in enumerate(depths):
        inner = 64 * 2**stage
        b = inner * (4 if bottleneck else 1)
        for k in range(depth):
            stride = 2 if stage and not k else 1
            if bottleneck:
                both = [*conv_norm(a, inner, 1, stride), nn.ReLU(), *conv_norm(inner, inner, 3),
                        nn.ReLU(), *conv_norm(inner, b, 1)]  # fmt: skip
            else:
                both = [*conv_norm(a, b, 3, stride), nn.ReLU(), *conv_norm(b, b, 3)]
            fits = a == b and stride == 1
            skip = nn.Identity() if fits else nn.Sequential(*conv_norm(a, b, 1, stride))
            layers.append(Add(nn.Sequential(*both), skip))
            a = b
    return nn.Sequential(*layers, nn.AvgPool2d(7), *classes(a, 1000))


def mobilenet_v1() -> nn.Module:
    layers = [*conv_norm(3, 32, 3, 2), nn.ReLU()]
    a = 32
    for b, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
                      (1024, 2), (1024, 1)):  # fmt: skip
        layers += [*conv_norm(a, a, 3, stride, a), nn.ReLU(), *conv_norm(a, b, 1), nn.ReLU()]
        a = b
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *classes(1024, 1000))


class Inverted(nn.Module):
    """MobileNet v2's block: wide in the middle, and linear at its end."""

    def __init__(self, a: int, b: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = a * expansion
        self.layers = nn.Sequential(
            *conv_norm(a, inner, 1), nn.ReLU(), *conv_norm(inner, inner, 3, stride, inner),
            nn.ReLU(), *conv_norm(inner, b, 1),
        )  # fmt: skip
        self.adds = a == b and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [*conv_norm(3, 32, 3, 2), nn.ReLU()]
    a = 32
    for expansion, b, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for k in range(count):
            layers.append(Inverted(a, b, expansion, 1 if k else stride))
            a = b
    layers += [*conv_norm(a, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(1280, 1000, 1)]
    return nn.Sequential(*layers, nn.Softmax(1))


class GoogLeNetWithLosses(nn.Module):
    """GoogLeNet as it is trained: two classifiers more, on blobs inside of the net."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(googlenet().children())[:-1]
        joins = [i for i, layer in enumerate(layers) if isinstance(layer, Join)]
        cuts = [0, joins[2] + 1, joins[5] + 1, len(layers)]
        self.parts = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in pairwise(cuts))
        self.classifiers = nn.ModuleList(
            nn.Sequential(
                nn.AvgPool2d(5, 3), *conv(a, 128, 1), nn.Flatten(), nn.Linear(2048, 1024),
                nn.ReLU(), nn.Dropout(0.7), nn.Linear(1024, 1000),
            )
            for a in (512, 528)
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = self.parts[0](x)
        b = self.parts[1](a)
        return self.parts[2](b), self.classifiers[0](a), self.classifiers[1](b)


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), max_pool(2), nn.Conv2d(20, 50, 5), max_pool(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def cifar_quick() -> nn.Module:
    def mean_pool() -> nn.Module:
        return nn.AvgPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 32, 5, 1, 2), max_pool(), nn.ReLU(), *conv(32, 32, 5, 1, 2), mean_pool(),
        *conv(32, 64, 5, 1, 2), mean_pool(), nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10),
    )  # fmt: skip


def for_training(net: nn.Module) -> nn.Module:
    """A net of this file, to give scores (N, classes), its ReLUs in-place as people write them."""
    for layer in net.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = True
    if isinstance(net, nn.Sequential) and isinstance(net[-1], nn.Softmax):
        net = nn.Sequential(*list(net.children())[:-1], nn.Flatten())
    return net.train()


IN_PYTORCH: Mapping[str, Callable[[], nn.Module]] = {
    "bvlc_alexnet": partial(caffenet, norm_first=True),
    "bvlc_googlenet": googlenet,
    "bvlc_reference_caffenet": caffenet,
    "bvlc_reference_rcnn_ilsvrc13": partial(caffenet, 200, softmax=False),
    "finetune_flickr_style": partial(caffenet, 20),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "nin": nin,
    "resnet18": partial(resnet, (2, 2, 2, 2), bottleneck=False),
    "resnet50": partial(resnet, (3, 4, 6, 3), bottleneck=True),
    "resnet101": partial(resnet, (3, 4, 23, 3), bottleneck=True),
    "resnet152": partial(resnet, (3, 8, 36, 3), bottleneck=True),
    "squeezenet_v1.1": squeezenet,
    "vgg16": partial(vgg, 2, 2, 3, 3, 3),
    "vgg19": partial(vgg, 2, 2, 4, 4, 4),
}
