"""The loss of a margin between classes."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.layers.base import Layer
from moka.layers.labels import check_one_label_an_item, class_labels
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows
from moka.types import Shape


@layer("HingeLoss", bottoms=2, tops=1, is_loss=True, fixed_bottoms=(1,))
class HingeLoss(Layer):
    """One-versus-all hinge loss: sum of max(0, 1 - s x) / N, s = 1 for the label's class, else -1.

    Bottoms: scores (N, ...), C = the product of the other axes; labels, N whole numbers in [0, C).
    Top: a scalar. The labels take no gradient. Message: hinge_loss_param (`norm` L1, or L2, which
    squares each term).

    Errors: not one label per item; a label outside [0, C).
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
