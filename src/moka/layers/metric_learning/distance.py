"""Losses of distances: to the center of the own class, or to a positive and a negative example."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.labels import check_one_label_an_item, class_labels
from moka.layers.limits import limited
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis
from moka.schema import caffe_pb2
from moka.types import Shape

CENTER_EPS = 1e-6  # under the root of a center's length


class _CenterLoss(Function):
    """The sum of distances to the own centers, with the centers' update as their gradient.

    A center moves towards the mean of its items: its gradient is the sum of center - x over them,
    divided by 1 + their number, whatever the loss weighs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, centers: Tensor, label: Tensor, squared: bool) -> Tensor:
        apart = x - centers[label]
        ctx.save_for_backward(apart if squared else apart.sign(), label)
        ctx.classes = len(centers)
        ctx.scale = 1 / max(1, len(x))
        total = apart.square().sum() / 2 if squared else apart.abs().sum()
        return total * ctx.scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        apart, label = ctx.saved_tensors
        total = apart.new_zeros(ctx.classes, apart.shape[1]).index_add_(0, label, apart)
        ones = apart.new_ones(len(label))
        count = apart.new_zeros(ctx.classes).index_add_(0, label, ones)
        return grad * ctx.scale * apart, -total / (1 + count)[:, None], None, None


@layer("CenterLoss", bottoms=2, tops=1, fork="caffe-face", is_loss=True, fixed_bottoms=(1,))
class CenterLoss(Layer):
    """How far features are from the center of their class: sum |x - c[label]|^2 / (2 M).

    Bottoms: features x (M, K...), labels (M). Top: a scalar. Blob: the centers (num_output, K),
    filled by center_filler. distance_type L1 (caffe-windows): sum |x - c[label]| / M, with the
    absolute values of the coordinates. Message: center_loss_param; K counts from `axis` on.

    The gradient of x is that of the loss. A center's is sum (c - x) / (1 + n) over the n items of
    its class (with L1 their signs), whatever the loss weight is: with a rate of 1 it moves the
    center towards the mean of its items. Labels take none. Wen et al., 2016.

    Errors: no num_output; not one label for each item; a label outside [0, num_output); another
    distance_type.
    """

    num_output: int = option(positive, required=True)
    center_filler: caffe_pb2.FillerParameter = option()
    axis: int = option()
    distance_type: str = option()

    def setup(self, x: Shape, label: Shape) -> None:
        if self.distance_type not in ("L1", "L2"):
            raise NetError(f'distance_type must be L1 or L2, got "{self.distance_type}".')

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        axis = canonical_axis(self.axis, x)
        check_one_label_an_item((prod(x[:axis]),), label)
        return [()]

    def blob_specs(self, x: Shape, label: Shape) -> Iterable[BlobSpec]:
        inputs = prod(x[canonical_axis(self.axis, x) :])
        yield BlobSpec((self.num_output, inputs), self.center_filler, "centers")

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        centers = self.blobs[0]
        index, _ = class_labels(label.reshape(-1), len(centers), None)
        rows = x.reshape(len(index), centers.shape[1])
        return _CenterLoss.apply(  # type: ignore[no-untyped-call]
            rows, centers, index, self.distance_type == "L2"
        )


@layer("InnerDistance", bottoms=(1, 3), tops=1, fork="caffe-windows")
class InnerDistance(Layer):
    """The distance of each item to the center of each class: sum (x - w)^2, or with distance_type
    L1 sum |x - w|.

    Bottoms: features x (outer..., K...), flattened from `axis` on; optionally the centers w (N,
    K...), in place of the layer's own; with update_center_only, last, labels of the items. Top:
    (outer..., N). Blob: the centers (num_output, K), or (K, num_output) with transpose; none if
    they are a bottom. Message: inner_distance_param. normalize scales the layer's own centers to
    length 1, w / sqrt(sum w^2 + 1e-6); the stored ones stay. With update_center_only an item gives
    a gradient to the center of its class only. bias_term and bias_filler have no effect: the fork
    has no bias any more.

    Errors: shapes that do not fit together; no num_output without centers; a label outside [0, N);
    another distance_type.
    """

    num_output: int | None = option(positive)
    bias_term: bool = option()
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    axis: int = option()
    transpose: bool = option()
    distance_type: str = option()
    normalize: bool = option()
    update_center_only: bool = option()

    def setup(self, x: Shape, *others: Shape) -> None:
        if self.distance_type not in ("L1", "L2"):
            raise NetError(f'distance_type must be L1 or L2, got "{self.distance_type}".')
        self.has_centers = len(others) > self.update_center_only
        if len(others) < self.update_center_only or len(others) > 1 + self.update_center_only:
            wanted = "labels, and perhaps centers" if self.update_center_only else "perhaps centers"
            raise NetError(f"takes features and {wanted}, got {1 + len(others)} bottoms.")
        self.inputs = prod(x[canonical_axis(self.axis, x) :])

    def top_shapes(self, x: Shape, *others: Shape) -> list[Shape]:
        axis = canonical_axis(self.axis, x)
        for shape in (x[axis:], *(centers[1:] for centers in others[: self.has_centers])):
            if prod(shape) != self.inputs:
                raise NetError(f"items and centers need {self.inputs} values, got shape {shape}.")
        for labels in others[self.has_centers :]:
            check_one_label_an_item((prod(x[:axis]),), labels)
        return [(*x[:axis], others[0][0] if self.has_centers else self._own())]

    def _own(self) -> int:
        """The number of centers that the layer keeps as parameters."""
        if self.num_output is None:
            raise NetError("num_output is missing.")
        return self.num_output

    def blob_specs(self, x: Shape, *others: Shape) -> Iterable[BlobSpec]:
        if not self.has_centers:
            n, k = self._own(), self.inputs
            yield BlobSpec((k, n) if self.transpose else (n, k), self.weight_filler)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if self.has_centers:
            centers = others[0].reshape(-1, self.inputs)
        else:
            centers = self.blobs[0].t() if self.transpose else self.blobs[0]
            if self.normalize:
                centers = centers * torch.rsqrt(centers.square().sum(1, keepdim=True) + CENTER_EPS)
        leading = x.shape[: canonical_axis(self.axis, tuple(x.shape))]
        rows = x.reshape(prod(leading), self.inputs)
        if not self.update_center_only:
            return self._distances(rows, centers).view(*leading, len(centers))
        own = class_labels(others[-1].reshape(-1), len(centers), None)[0]
        apart = rows.detach() - centers[own]
        mine = apart.square().sum(1) if self.distance_type == "L2" else apart.abs().sum(1)
        y = self._distances(rows, centers.detach())
        y = y.scatter_add(1, own[:, None], (mine - mine.detach())[:, None])
        return y.view(*leading, len(centers))

    def _distances(self, rows: Tensor, centers: Tensor) -> Tensor:
        if self.distance_type == "L1":
            return torch.cdist(rows, centers, p=1.0)
        squares = rows.square().sum(1)[:, None] + centers.square().sum(1)
        return limited(squares - 2 * rows @ centers.t(), 0)
