"""Three `param` entries on a BatchNorm layer get lr_mult 0 and decay_mult 0.

Nets written before the layer did so by itself give them by hand, to keep solvers from its
statistics.
"""

from __future__ import annotations

from moka.schema import caffe_pb2
from moka.schema.upgrade.step import Step


def needed(net: caffe_pb2.NetParameter) -> bool:
    """Whether any BatchNorm layer has three `param` entries."""
    return any(_is_old(layer) for layer in net.layer)


def upgrade(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy with lr_mult 0 for the statistics, so no solver changes them; other fields stay."""
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    for layer in filter(_is_old, new.layer):
        for spec in layer.param:
            spec.lr_mult = spec.decay_mult = 0
    return new


STEP = Step(
    attempt="Attempting to upgrade batch norm layers using deprecated params",
    success="Successfully upgraded batch norm layers using deprecated params.",
    needed=needed,
    upgrade=upgrade,
)


def _is_old(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.type == "BatchNorm" and len(layer.param) == 3
