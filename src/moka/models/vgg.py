"""VGG nets (Simonyan and Zisserman, "Very deep convolutional networks", ICLR 2015): D and E."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from moka.models.model import WEIGHT_AND_BIAS, ReferenceModel, ilsvrc12, softmax_loss_and_top_5
from moka.net.spec import NetSpec, Top, layers, params

CHANNELS = (64, 128, 256, 512, 512)  # of each block
FILLED: dict[str, Any] = dict(
    param=WEIGHT_AND_BIAS,
    weight_filler=dict(type="xavier"),
    bias_filler=dict(type="constant", value=0),
)


def vgg(depths: Sequence[int]) -> Callable[[NetSpec, bool], Top]:
    """The net of five blocks of so many convolutions, and three fully connected layers."""

    def net(n: NetSpec, deploy: bool) -> Top:
        x = n.data
        for block, (depth, channels) in enumerate(zip(depths, CHANNELS, strict=True), 1):
            for i in range(1, depth + 1):
                name = f"{block}_{i}"
                n[f"conv{name}"] = layers.Convolution(
                    x, num_output=channels, pad=1, kernel_size=3, **FILLED
                )
                n[f"relu{name}"] = x = layers.ReLU(n[f"conv{name}"], in_place=True)
            x = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=2, stride=2)
            n[f"pool{block}"] = x
        for i in (6, 7):
            n[f"fc{i}"] = layers.InnerProduct(x, num_output=4096, **FILLED)
            n[f"relu{i}"] = layers.ReLU(n[f"fc{i}"], in_place=True)
            n[f"drop{i}"] = x = layers.Dropout(n[f"relu{i}"], dropout_ratio=0.5, in_place=True)
        n.fc8 = layers.InnerProduct(x, num_output=1000, **FILLED)
        return n.fc8

    return net


def _model(layers_count: int, depths: Sequence[int]) -> ReferenceModel:
    return ReferenceModel(
        f"vgg{layers_count}",
        f"VGG_ILSVRC_{layers_count}_layers",
        "vgg",
        vgg(depths),
        224,
        ilsvrc12((64, 50), 224, mean_value=[103.939, 116.779, 123.68]),
        dict(
            test_iter=1000,
            test_interval=5000,
            test_initialization=False,
            display=20,
            average_loss=20,
            iter_size=4,  # 256 images, as in the paper
            base_lr=0.01,
            lr_policy="step",
            gamma=0.1,
            stepsize=100000,
            max_iter=370000,
            momentum=0.9,
            weight_decay=0.0005,
            snapshot=10000,
            snapshot_prefix=f"models/vgg{layers_count}/vgg{layers_count}",
        ),
        ending=softmax_loss_and_top_5,
    )


MODELS = (_model(16, (2, 2, 3, 3, 3)), _model(19, (2, 2, 4, 4, 4)))
