"""Blobs that a net of NVCaffe keeps in half precision (`forward_type`, `backward_type`).

All arithmetic is float32, on any device. Where a layer's type is FLOAT16 its tops are rounded to
the values that float16 has, and so are the gradients that reach them. `global_grad_scale` S keeps
small gradients from becoming 0: NVCaffe multiplies the loss by S and divides the updates by it, so
a stored gradient is S g; rounding S g and dividing by S gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from moka.graph import Node
from moka.layers.base import Layer
from moka.layers.registry import REGISTRY
from moka.schema import caffe_pb2

_exact: ContextVar[bool] = ContextVar("exact", default=False)


@contextmanager
def in_float32() -> Iterator[None]:
    """Inside of it nets round nothing: what they are compared with computes in float32."""
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


class Half(NamedTuple):
    """What is rounded of the tops of a layer.

    Attributes:
        data: the tops.
        diffs: their gradients.
        scale: of gradients while they are rounded.
    """

    data: bool
    diffs: bool
    scale: float

    def rounded(self, tops: Sequence[Tensor]) -> Sequence[Tensor]:
        """The tops, rounded unless inside of `in_float32`."""
        if _exact.get():
            return tops
        return [_Round.apply(top, self) for top in tops]  # type: ignore[no-untyped-call]


def half_of(node: Node, layer: Layer, net: caffe_pb2.NetParameter) -> Half | None:
    """What is rounded of a layer's tops; None: nothing.

    Data, losses, what takes no gradient (labels, detections), and other views of a blob are left as
    they are.
    """
    data = node.layer.forward_type == caffe_pb2.FLOAT16
    diffs = node.layer.backward_type == caffe_pb2.FLOAT16
    entry = REGISTRY[node.type]
    if not (data or diffs) or not node.bottoms or not entry.differentiable:
        return None
    if entry.is_loss or layer.makes_views or any(node.loss_weights):
        return None
    return Half(data, diffs, net.global_grad_scale)


class _Round(Function):
    """Round a tensor and its gradient to float16's values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, half: Half) -> Tensor:
        ctx.half = half
        return _to_half(x) if half.data else x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        scale = ctx.half.scale
        return (_to_half(grad * scale) / scale if ctx.half.diffs else grad), None


def _to_half(x: Tensor) -> Tensor:
    return x.to(torch.float16).to(x.dtype)
