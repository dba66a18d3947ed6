"""Classification by angle: the angle to the true class is multiplied before it counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import cos, pi, prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec
from moka.layers.gradient import with_gradient_of
from moka.layers.labels import class_labels
from moka.layers.options import not_negative, option, positive
from moka.layers.passes import PassCounter
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis, shape_text
from moka.schema import caffe_pb2
from moka.types import Shape

MARGINS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}


def psi(cosine: Tensor, margin: int) -> Tensor:
    """(-1)^k cos(m theta) - 2 k with k = floor(m theta / pi): falls from 1 to 1 - 2 m as theta
    grows from 0 to pi.

    Args:
        cosine: cos(theta), any shape.
        margin: m, from 1 on.
    """
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):  # cos((n + 1) t) = 2 cos(t) cos(n t) - cos((n - 1) t)
        before, multiple = multiple, 2 * cosine * multiple - before
    k = _turns(cosine.detach(), margin)
    return (1 - 2 * (k % 2)) * multiple - 2 * k


def psi_slope(cosine: Tensor, margin: int) -> Tensor:
    """The derivative of `psi` by the cosine: (-1)^k m sin(m theta) / sin(theta)."""
    before, multiple = torch.zeros_like(cosine), torch.ones_like(cosine)
    for _ in range(margin - 1):  # of sin((n + 1) t) / sin(t), as in `psi`
        before, multiple = multiple, 2 * cosine * multiple - before
    return (1 - 2 * (_turns(cosine, margin) % 2)) * margin * multiple


def _turns(cosine: Tensor, margin: int) -> Tensor:
    """floor(m theta / pi)."""
    each = ((cosine <= cos(j * pi / margin)).to(cosine) for j in range(1, margin))
    return sum(each, torch.zeros_like(cosine))


def margin_scores(x: Tensor, weight: Tensor, label: Tensor, margin: int, blend: float) -> Tensor:
    """x weight^T (M, N), but for the true class (blend |x||w| cos + |x||w| psi(cos)) / (1 + blend).

    Args:
        x: features (M, K).
        weight: (N, K), one row for each class.
        label: (M,), int64.
        margin: see `psi`.
        blend: how much the plain cosine counts.
    """
    scores = x @ weight.t()
    if margin == 1 or not len(x):
        return scores
    own = label[:, None]
    plain = scores.gather(1, own)
    size = (length(x) * length(weight)[label])[:, None]
    hard = size * psi(plain / size, margin)
    return scores.scatter(1, own, (blend * plain + hard) / (1 + blend))


def with_gradient_of_sphereface(
    scores: Tensor, x: Tensor, weight: Tensor, label: Tensor, margin: int, blend: float
) -> Tensor:
    """The scores of rows x (M, K) by `margin_scores`, with SphereFace's gradient.

    weight (N, K), of length 1, gets that of x weight^T. So does x, but for its own class: there the
    gradient of |x| psi, psi' w + (psi - psi' cos) x / |x|, has both factors divided by the root of
    the sum of their squares before it counts beside the plain one.
    """
    traced = x @ weight.t()
    if margin > 1 and len(x):
        fixed_x, own_weight = x.detach(), weight.detach()[label]
        own, size = label[:, None], length(fixed_x)[:, None]
        cosine = traced.detach().gather(1, own) / size
        slope = psi_slope(cosine, margin)
        of_x = (psi(cosine, margin) - slope * cosine) / size
        norm = torch.hypot(slope, of_x)
        pull = (blend + slope / norm) * own_weight + of_x / norm * fixed_x
        beyond_plain = pull / (1 + blend) - own_weight
        traced = traced.scatter_add(1, own, (x * beyond_plain).sum(1, keepdim=True))
    return with_gradient_of(scores, traced)


def length(rows: Tensor) -> Tensor:
    """Euclidean lengths (M,) of rows (M, K), never 0."""
    return rows.square().sum(1).clamp_min(torch.finfo(rows.dtype).tiny).sqrt()


class _Margin(PassCounter):
    """Base of both layers."""

    num_output: int | None = option(positive)
    type: str = option()  # type: ignore[assignment]  # of Module
    weight_filler: caffe_pb2.FillerParameter = option()
    axis: int = option()
    base: float = option()
    gamma: float = option(not_negative)
    power: float = option(not_negative)
    iteration: int = option(not_negative)
    lambda_min: float = option()

    def setup(self, x: Shape, label: Shape, *weight: Shape) -> None:
        self.margin = MARGINS[self.type]

    def top_shapes(self, x: Shape, label: Shape, *weight: Shape) -> list[Shape]:
        leading = x[: canonical_axis(self.axis, x)]
        if prod(label) != prod(leading):
            raise NetError(
                f"Number of labels must match number of items: {prod(leading)} items, labels of"
                f" shape {shape_text(label)}."
            )
        return [(*leading, self.classes(*weight)), (1,)][: self.top_count]

    def classes(self, *weight: Shape) -> int:
        """The number of classes; if the weights are a bottom, from their shape."""
        if weight:
            return weight[0][0]
        if self.num_output is None:
            raise NetError("num_output is missing.")
        return self.num_output

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * prod(bottoms[0][canonical_axis(self.axis, bottoms[0]) :])

    def blend(self) -> float:
        """lambda of the current pass or, between passes, of the last one."""
        step = self.iteration + max(1, self.passes)
        return max(self.base * (1 + self.gamma * step) ** -self.power, self.lambda_min)

    def again(self, x: Tensor, label: Tensor, *weight: Tensor) -> list[Tensor]:
        w = weight[0].flatten(1) if weight else self.class_weights()
        rows = x.reshape(-1, w.shape[1])
        index, _ = class_labels(label.reshape(-1), len(w), None)
        blend = self.blend()
        scores = self.scores(rows, w, index, blend)
        leading = x.shape[: canonical_axis(self.axis, tuple(x.shape))]
        return [scores.view(*leading, len(w)), x.new_full((1,), blend)][: self.top_count]

    def class_weights(self) -> Tensor:
        """The layer's own weights (N, K), ready for use."""
        return self.blobs[0]

    def scores(self, x: Tensor, weight: Tensor, label: Tensor, blend: float) -> Tensor:
        return margin_scores(x, weight, label, self.margin, blend)


@layer(
    "MarginInnerProduct",
    bottoms=2,
    tops=(1, 2),
    fork="SphereFace",
    fixed_bottoms=(1,),
)
class MarginInnerProduct(_Margin):
    """SphereFace's scores of classes (A-Softmax): |x| cos(theta), theta the angle to the class; of
    the true class less, unless the angle is small.

    For the true class (lambda |x| cos(theta) + |x| psi) / (1 + lambda), with psi = (-1)^k
    cos(m theta) - 2 k, k = floor(m theta / pi). type says m: SINGLE 1 (no margin) to QUADRUPLE 4.
    lambda = max(lambda_min, base (1 + gamma t)^-power) in pass t, counted from iteration + 1.

    Bottoms: features x (outer..., K...), flattened from `axis` on; labels, one for each of the
    outer items (no gradient). Tops: scores (outer..., num_output); optionally lambda, (1,). Blob:
    weights (num_output, K); each pass first scales every row to length 1. The number of passes is
    kept in a solver's snapshots. Message: margin_inner_product_param. Liu et al., 2017.

    Errors: no num_output; not one label for each item; a label outside [0, num_output).

    The gradient is SphereFace's. Weights get that of x w, without the margin and as if their length
    did not change. x gets that of the scores, but for |x| psi: of its gradient, psi' w + (psi -
    psi' cos) x / |x|, both factors are divided by the root of the sum of their squares.
    """

    num_output: int = option(positive, required=True)

    def blob_specs(self, x: Shape, label: Shape) -> Iterable[BlobSpec]:
        inputs = prod(x[canonical_axis(self.axis, x) :])
        yield BlobSpec((self.num_output, inputs), self.weight_filler)

    def class_weights(self) -> Tensor:
        weight = self.blobs[0]
        with torch.no_grad():
            weight.div_(length(weight)[:, None])
        return weight

    def scores(self, x: Tensor, weight: Tensor, label: Tensor, blend: float) -> Tensor:
        value = margin_scores(x.detach(), weight.detach(), label, self.margin, blend)
        return with_gradient_of_sphereface(value, x, weight, label, self.margin, blend)


@layer(
    "LargeMarginInnerProduct",
    bottoms=(2, 3),
    tops=(1, 2),
    message="largemargin_inner_product_param",
    fork="caffe-windows",
    fixed_bottoms=(1,),
)
class LargeMarginInnerProduct(_Margin):
    """Scores of classes with L-Softmax: x w; of the true class less, unless the angle is small.

    As MarginInnerProduct, with weights of any length: for the true class (lambda x w + |x| |w| psi)
    / (1 + lambda).

    Bottoms: features x (outer..., K...), flattened from `axis` on; labels, one for each of the
    outer items (no gradient); optionally weights (N, K...), in place of the layer's own. Tops:
    scores (outer..., N), N = num_output; optionally lambda, (1,). Blob: weights (num_output, K),
    none with three bottoms. The number of passes is kept in a solver's snapshots. Message:
    largemargin_inner_product_param. Liu et al., 2016.

    Errors: no num_output with two bottoms; not one label for each item; a label outside [0, N).
    """

    def setup(self, x: Shape, label: Shape, *weight: Shape) -> None:
        super().setup(x, label, *weight)
        inputs = prod(x[canonical_axis(self.axis, x) :])
        if weight and (len(weight[0]) < 1 or prod(weight[0][1:]) != inputs):
            raise NetError(f"weights must have {inputs} values a class, got shape"
                           f" {shape_text(weight[0])}.")  # fmt: skip

    def blob_specs(self, x: Shape, label: Shape, *weight: Shape) -> Iterable[BlobSpec]:
        if not weight:
            inputs = prod(x[canonical_axis(self.axis, x) :])
            yield BlobSpec((self.classes(), inputs), self.weight_filler)
