"""Layers that say how wrong a prediction is: the scalar a net is trained to make small."""

from __future__ import annotations

from math import log, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.labels import class_labels
from moka.layers.options import Check, not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, canonical_axis, require_axes, shape_text, sizes_around
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import Shape

SMALLEST = torch.finfo(torch.float32).tiny
fraction = Check(lambda v: 0 <= v < 1, "in [0, 1)")
LOG_FLOOR = 1e-20  # probabilities of some losses are at least this in the logarithm


def divisor(mode: str, outer: int, inner: int, counted: Tensor | None) -> int | Tensor:
    """What a loss is divided by, at least 1.

    Args:
        mode: FULL (every position), VALID (those that count), BATCH_SIZE (outer) or NONE (1).
        outer, inner: positions before and after the class axis.
        counted: mask of the positions that count; None: all.
    """
    if mode == "VALID" and counted is not None:
        return counted.sum().clamp_min(1)
    return max(1, {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer}.get(mode, 1))


def normalization_of(loss: Any, *, otherwise: str) -> str:
    """The `normalization` given, or what the older `normalize` stands for, or the layer's own."""
    if loss.normalization is not None:
        return str(loss.normalization)
    if loss.normalize is None:
        return otherwise
    return "VALID" if loss.normalize else "BATCH_SIZE"


def floored(x: Tensor, least: float) -> Tensor:
    """max(x, least), with the gradient of x itself: that of Caffe's losses knows no floor."""
    value = x.detach()
    return x + (value.clamp_min(least) - value)


class _SoftmaxNLL(Function):
    """Sum of -log softmax(x)[label]. By hand because of the floor: Caffe takes the logarithm of
    at least the smallest float, while its gradient, p - onehot, knows no floor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, counted: Tensor | None) -> Tensor:
        p = torch.softmax(x, 1)
        nll = -p.gather(1, index).clamp_min(SMALLEST).log()
        if counted is not None:
            nll = nll.where(counted, 0)
        ctx.save_for_backward(p, index, counted)
        return nll.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        p, index, counted = ctx.saved_tensors
        dx = p.scatter_add(1, index, p.new_full((), -1.0).expand_as(index))
        return grad * (dx if counted is None else dx.where(counted, 0)), None, None


def softmax_nll(x: Tensor, index: Tensor, counted: Tensor | None = None) -> Tensor:
    """Sum over positions of -log of the softmax probability of the label.

    x (outer, classes, inner) scores; index (outer, 1, inner) int64 labels; counted the same shape,
    False where a position is to be left out. Probabilities are floored at the smallest normal
    float. Returns a scalar.
    """
    return _SoftmaxNLL.apply(x, index, counted)  # type: ignore[no-untyped-call]


def weighted_softmax_nll(
    x: Tensor, index: Tensor, counted: Tensor | None, weights: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Sum over positions of -sum_c q[c] log p[c], p the softmax of x, floored as in `softmax_nll`.

    q[c] = weights[c] (smoothing / classes + (1 - smoothing) [c is the label]).

    Args:
        x, index, counted: as in `softmax_nll`.
        weights: one for each class.
        smoothing: from 0 to less than 1.

    Returns:
        the sum; the sum of the weights of the labels that count.
    """
    nll = -floored(torch.log_softmax(x, 1), log(SMALLEST))
    of_labels = weights[index]
    loss = (1 - smoothing) * of_labels * nll.gather(1, index)
    if smoothing:
        loss = loss + smoothing * (nll * weights[:, None]).mean(1, keepdim=True)
    if counted is not None:
        loss, of_labels = loss * counted, of_labels * counted
    return loss.sum(), of_labels.sum()


@layer(
    "SoftmaxWithLoss",
    bottoms=2,
    tops=(1, 2),
    message="softmax_param",
    is_loss=True,
    fixed_bottoms=(1,),
)
class SoftmaxWithLoss(Layer):
    """Multinomial logistic loss of a softmax: -log p[label], summed and divided.

    Bottoms: scores (outer..., C, inner...) with C classes along `axis`, any real numbers; labels,
    outer * inner whole numbers in [0, C). Tops: the loss, a scalar; optionally the probabilities,
    shaped like the scores, without a gradient. The labels take no gradient.
    Messages: softmax_param (`engine` changes nothing here), loss_param. The divisor is, by
    normalization: VALID (default) the labels that are not ignore_label, FULL all, BATCH_SIZE the
    product of the axes before `axis`, NONE 1; `normalize: false` means BATCH_SIZE unless
    normalization is given.

    Beyond Caffe, both as in PyTorch's cross_entropy: `class_weight`, one factor >= 0 for each
    class; VALID then divides by the sum of the factors of the labels that count.
    `label_smoothing` s in [0, 1): the target is 1 - s for the label plus s / C for every class.

    Errors: as many labels as scores / C are wanted; a label outside of [0, C); not C weights.
    """

    weights_of_classes: Tensor

    axis: int = option()
    engine: str = option()
    ignore_label: int | None = option(of="loss_param")
    normalization: str | None = option(of="loss_param", unset_is_none=True)
    normalize: bool | None = option(of="loss_param")
    class_weight: tuple[float, ...] = option(not_negative, of="loss_param")
    label_smoothing: float = option(fraction, of="loss_param")

    def setup(self, x: Shape, label: Shape) -> None:
        self.divide_by = normalization_of(self, otherwise="VALID")
        self.is_plain = not self.class_weight and not self.label_smoothing
        weights = torch.tensor(self.class_weight or [1.0] * x[canonical_axis(self.axis, x)])
        self.register_buffer("weights_of_classes", weights, persistent=False)

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_label_count(x, label, self.axis)
        classes = x[canonical_axis(self.axis, x)]
        if self.class_weight and len(self.class_weight) != classes:
            raise NetError(
                f"class_weight must be given once for each of {classes} classes, got"
                f" {len(self.class_weight)}."
            )
        return [(), x][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | list[Tensor]:
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        index, counted = class_labels(label.reshape(outer, 1, inner), classes, self.ignore_label)
        divide_by = divisor(self.divide_by, outer, inner, counted)
        scores = x.reshape(outer, classes, inner)
        if self.is_plain:
            loss = softmax_nll(scores, index, counted)
        else:
            loss, weight = weighted_softmax_nll(
                scores, index, counted, self.weights_of_classes, self.label_smoothing
            )
            if self.divide_by == "VALID":
                divide_by = weight.where(weight > 0, 1.0)
        loss = loss / divide_by
        if self.top_count < 2:
            return loss
        return [loss, torch.softmax(x.detach(), self.axis)]


def check_label_count(scores: Shape, labels: Shape, axis: int) -> None:
    """Raises NetError unless there is one label for each position of the scores."""
    outer, _, inner = sizes_around(scores, axis)
    wanted = outer * inner
    if prod(labels) != wanted:
        raise NetError(
            f"Number of labels must match number of predictions: scores of shape"
            f" {shape_text(scores)} with classes along axis {axis} need {wanted} labels, got shape"
            f" {shape_text(labels)}."
        )


@layer(
    "SigmoidCrossEntropyLoss",
    bottoms=2,
    tops=1,
    message="loss_param",
    is_loss=True,
    fixed_bottoms=(1,),
)
class SigmoidCrossEntropyLoss(Layer):
    """Cross-entropy of independent yes/no predictions:
    -(t log s(x) + (1 - t) log(1 - s(x))), s the logistic function, summed and divided.

    Bottoms: scores x, any real numbers; targets t of the same count, in [0, 1] (fractions too).
    Top: a scalar. The targets take no gradient. Message: loss_param; normalization defaults to
    BATCH_SIZE (the first axis). A target whose whole part equals ignore_label does not count, so
    ignore_label: 0 takes out everything in [0, 1).

    Errors: scores and targets that differ in count.
    """

    ignore_label: int | None = option()
    normalization: str | None = option(unset_is_none=True)
    normalize: bool | None = option()

    def setup(self, x: Shape, target: Shape) -> None:
        self.divide_by = normalization_of(self, otherwise="BATCH_SIZE")

    def top_shapes(self, x: Shape, target: Shape) -> list[Shape]:
        require_axes(1, x)
        if prod(x) != prod(target):
            raise NetError(
                "SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count:"
                f" {shape_text(x)} vs. {shape_text(target)}."
            )
        return [()]

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        target, counted = target.reshape(x.shape), None
        if self.ignore_label is not None:
            counted = target.trunc() != self.ignore_label
            x = x.where(counted, 0)
        loss = target * F.softplus(-x) + (1 - target) * F.softplus(x)
        if counted is not None:
            loss = loss.where(counted, 0)
        return loss.sum() / divisor(self.divide_by, x.shape[0], prod(x.shape[1:]), counted)


@layer("EuclideanLoss", bottoms=2, tops=1, message="loss_param", is_loss=True)
class EuclideanLoss(Layer):
    """Half the squared distance of two blobs, for each item: sum (a - b)^2 / (2 N).

    Bottoms: a, b (N, ...) with the same count for each item; both take gradients. Top: a scalar.
    Reads no field: BVLC's layer ignores loss_param too.

    Errors: items that differ in count.
    """

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        require_axes(1, a)
        if a[:1] != b[:1] or prod(a) != prod(b):
            raise NetError(
                f"Inputs must have the same dimension: {shape_text(a)} vs. {shape_text(b)}."
            )
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b.reshape(a.shape)).square().sum() / (2 * max(1, a.shape[0]))


def check_one_label_an_item(x: Shape, labels: Shape) -> None:
    """Raises NetError unless there is one label for each item of x (N, ...)."""
    require_axes(1, x)
    if prod(labels) != x[0]:
        raise NetError(
            f"The data and label should have the same first dimension: {x[0]} items, labels of"
            f" shape {shape_text(labels)}."
        )


@layer("HingeLoss", bottoms=2, tops=1, is_loss=True, fixed_bottoms=(1,))
class HingeLoss(Layer):
    """One-versus-all hinge loss: sum of max(0, 1 - s x) / N, s = 1 for the label's class, else -1.

    Bottoms: scores (N, ...), C = the product of the other axes; labels, N whole numbers in [0, C).
    Top: a scalar. The labels take no gradient. Message: hinge_loss_param (`norm` L1, or L2, which
    squares each term).

    Errors: not one label an item; a label outside of [0, C).
    """

    norm: str = option()

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(x, label)
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        rows = as_rows(x)
        index, _ = class_labels(label.reshape(-1, 1), rows.shape[1], None)
        sign = torch.full_like(rows, -1.0).scatter_(1, index, 1.0)
        margin = torch.relu(1 - sign * rows)  # no gradient at 0 itself, as in Caffe
        return (margin.square() if self.norm == "L2" else margin).sum() / max(1, len(rows))


@layer(
    "MultinomialLogisticLoss",
    bottoms=2,
    tops=1,
    message="loss_param",
    is_loss=True,
    fixed_bottoms=(1,),
)
class MultinomialLogisticLoss(Layer):
    """-log p[label] / N for probabilities, floored at 1e-20. Reads no field, as in BVLC Caffe.

    Bottoms: probabilities (N, C...); labels, N whole numbers in [0, C). Top: a scalar. For scores
    SoftmaxWithLoss is the stable choice. The labels take no gradient.

    Errors: not one label an item; a label outside of [0, C).
    """

    def top_shapes(self, p: Shape, label: Shape) -> list[Shape]:
        check_one_label_an_item(p, label)
        return [()]

    def forward(self, p: Tensor, label: Tensor) -> Tensor:
        rows = as_rows(p)
        index, _ = class_labels(label.reshape(-1, 1), rows.shape[1], None)
        return -floored(rows.gather(1, index), LOG_FLOOR).log().sum() / max(1, len(rows))


@layer("ContrastiveLoss", bottoms=3, tops=1, is_loss=True, fixed_bottoms=(2,))
class ContrastiveLoss(Layer):
    """Draws similar pairs together and pushes others apart:
    sum of s d^2 + (1 - s) max(margin - d, 0)^2, over 2 N, d the distance of a pair.

    Bottoms: a, b (N, C); similarity s (N,), 1 or 0 (no gradient). Top: a scalar.
    Message: contrastive_loss_param (`margin`; `legacy_version` takes max(margin - d^2, 0)).
    In the gradient d + 1e-4 stands for d. Hadsell et al., 2006.

    Errors: bottoms that differ in shape, or have more than one value a channel.
    """

    margin: float = option()
    legacy_version: bool = option()

    def top_shapes(self, a: Shape, b: Shape, similar: Shape) -> list[Shape]:
        require_axes(1, a, b)
        if a[:2] != b[:2] or prod(a[2:]) != 1 or prod(b[2:]) != 1:
            raise NetError(f"takes two blobs (N, C), got shapes {a} and {b}.")
        if prod(similar) != a[0]:
            raise NetError(f"needs one similarity for each of {a[0]} pairs, got shape {similar}.")
        return [()]

    def forward(self, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        s = similar.reshape(-1).long()
        squared = as_rows(a - b).square().sum(1)
        if self.legacy_version:
            apart = torch.relu(self.margin - squared)
        else:
            d = _Distance.apply(squared)  # type: ignore[no-untyped-call]
            apart = torch.relu(self.margin - d).square()
        return torch.where(s != 0, squared, apart).sum() / (2 * max(1, a.shape[0]))


class _Distance(Function):
    """sqrt, with 1 / (2 (d + 1e-4)) for its gradient: Caffe's guard at 0."""

    @staticmethod
    def forward(ctx: Any, squared: Tensor) -> Tensor:
        d = squared.sqrt()
        ctx.save_for_backward(d)
        return d

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (d,) = ctx.saved_tensors
        return grad / (2 * (d + 1e-4))


@layer("InfogainLoss", bottoms=(2, 3), tops=(1, 2), is_loss=True, fixed_bottoms=(1, 2))
class InfogainLoss(Layer):
    """Multinomial logistic loss weighted by a matrix: -sum over classes c of H[label, c] log p[c],
    p the softmax of the scores, floored at 1e-20; summed and divided.

    Bottoms: scores (outer..., C, inner...) with classes along `axis`; labels, outer * inner whole
    numbers in [0, C); optionally H (1, 1, C, C), else it comes from the file `source` (a
    BlobProto). Tops: the loss, a scalar; optionally the probabilities. Labels and H take no
    gradient. Messages: infogain_loss_param, loss_param (as SoftmaxWithLoss).

    Errors: no matrix, or one that is not C x C; a label outside of [0, C).
    """

    matrix: Tensor  # from the file; a bottom takes its place

    source: str | None = option()
    axis: int = option()
    ignore_label: int | None = option(of="loss_param")
    normalization: str | None = option(of="loss_param", unset_is_none=True)
    normalize: bool | None = option(of="loss_param")

    def setup(self, x: Shape, label: Shape, matrix: Shape | None = None) -> None:
        self.divide_by = normalization_of(self, otherwise="VALID")
        if matrix is None:
            if not self.source:
                raise NetError("Infogain matrix source must be specified.")
            stored = to_array(read_binary(self.source, caffe_pb2.BlobProto))
            self.register_buffer("matrix", torch.from_numpy(stored), persistent=False)

    def top_shapes(self, x: Shape, label: Shape, matrix: Shape | None = None) -> list[Shape]:
        check_label_count(x, label, self.axis)
        _, classes, _ = sizes_around(x, self.axis)
        count = prod(tuple(self.matrix.shape) if matrix is None else matrix)
        if count != classes * classes:
            raise NetError(f"the infogain matrix must have {classes} x {classes} values, found"
                           f" {count}.")  # fmt: skip
        return [(), x][: self.top_count]

    def forward(
        self, x: Tensor, label: Tensor, matrix: Tensor | None = None
    ) -> Tensor | list[Tensor]:
        outer, classes, inner = sizes_around(tuple(x.shape), self.axis)
        h = (self.matrix if matrix is None else matrix.detach()).reshape(classes, classes)
        index, counted = class_labels(label.reshape(outer, inner), classes, self.ignore_label)
        rows = h[index].movedim(-1, 1)  # (outer, classes, inner)
        scores = x.reshape(outer, classes, inner)
        if counted is not None:
            rows = rows * counted[:, None]
            scores = scores.where(counted[:, None], 0)
        log_p = torch.log_softmax(scores, 1)
        loss = -(rows * floored(log_p, log(LOG_FLOOR))).sum() / divisor(
            self.divide_by, outer, inner, counted
        )
        if self.top_count < 2:
            return loss
        return [loss, torch.softmax(x.detach(), self.axis)]
