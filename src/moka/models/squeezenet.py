"""SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360; 1.1 is the authors' faster revision)."""

from __future__ import annotations

from typing import Any

from moka.models.model import ReferenceModel, ilsvrc12, softmax_loss_and_top_5
from moka.net.spec import NetSpec, Top, layers, params

# Channels of squeeze1x1, and of both expand1x1 and expand3x3; whether pooling follows
FIRES = {
    2: (16, 64, False),
    3: (16, 64, True),
    4: (32, 128, False),
    5: (32, 128, True),
    6: (48, 192, False),
    7: (48, 192, False),
    8: (64, 256, False),
    9: (64, 256, False),
}


def _convolution(n: NetSpec, x: Top, prefix: str, name: str, **fields: Any) -> Top:
    """<prefix><name> and <prefix>relu_<name>."""
    fields = dict(weight_filler=dict(type="xavier")) | fields
    n[prefix + name] = layers.Convolution(x, **fields)
    n[f"{prefix}relu_{name}"] = layers.ReLU(n[prefix + name], in_place=True)
    return n[prefix + name]


def _pooled(n: NetSpec, x: Top, i: int) -> Top:
    n[f"pool{i}"] = layers.Pooling(x, pool=params.Pooling.MAX, kernel_size=3, stride=2)
    return n[f"pool{i}"]


def fire(n: NetSpec, x: Top, i: int, squeeze: int, expand: int) -> Top:
    """Few channels, then many from them: half by 1x1, half by 3x3 convolutions."""
    name = f"fire{i}/"
    x = _convolution(n, x, name, "squeeze1x1", num_output=squeeze, kernel_size=1)
    one = _convolution(n, x, name, "expand1x1", num_output=expand, kernel_size=1)
    three = _convolution(n, x, name, "expand3x3", num_output=expand, pad=1, kernel_size=3)
    n[f"{name}concat"] = layers.Concat(one, three)
    return n[f"{name}concat"]


def squeezenet(n: NetSpec, deploy: bool) -> Top:
    x = _convolution(n, n.data, "", "conv1", num_output=64, kernel_size=3, stride=2)
    x = _pooled(n, x, 1)
    for i, (squeeze, expand, then_pool) in FIRES.items():
        x = fire(n, x, i, squeeze, expand)
        x = _pooled(n, x, i) if then_pool else x
    n.drop9 = layers.Dropout(x, dropout_ratio=0.5, in_place=True)
    x = _convolution(
        n,
        n.drop9,
        "",
        "conv10",
        num_output=1000,
        kernel_size=1,
        weight_filler=dict(type="gaussian", std=0.01),
    )
    n.pool10 = layers.Pooling(x, pool=params.Pooling.AVE, global_pooling=True)
    return n.pool10


MODELS = (
    ReferenceModel(
        "squeezenet_v1.1",
        "SqueezeNet_v1.1",
        "squeezenet",
        squeezenet,
        227,
        ilsvrc12((32, 25), 227, mean_value=[104, 117, 123]),
        dict(
            test_iter=2000,
            test_interval=1000,
            test_initialization=False,
            display=40,
            average_loss=40,
            iter_size=16,  # 512 images, as the authors had
            base_lr=0.04,
            lr_policy="poly",
            power=1,
            max_iter=170000,
            momentum=0.9,
            weight_decay=0.0002,
            snapshot=1000,
            snapshot_prefix="models/squeezenet_v1.1/squeezenet_v1.1",
            random_seed=42,
        ),
        ending=softmax_loss_and_top_5,
    ),
)
