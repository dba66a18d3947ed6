"""Layers of ParseNet: means over regions, the best class of each pixel, and a score of it."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.segmentation.accuracy import confusion
from moka.layers.shapes import refuse_empty_axes
from moka.types import Shape


@layer("Grouping", bottoms=2, tops=1, coordinates="same", fork="ParseNet", fixed_bottoms=(1,))
class Grouping(Layer):
    """Replace each pixel by the mean of its region.

    Bottoms: x (N, C, H, W); regions (N, G, H, W), whole numbers: pixels with one number in a map
    are one region (no gradient). Of several maps the mean of their results. Top: the shape of x. No
    message.

    Errors: regions of another size.
    """

    def top_shapes(self, x: Shape, regions: Shape) -> list[Shape]:
        if len(x) != 4 or len(regions) != 4 or x[:1] + x[2:] != regions[:1] + regions[2:]:
            raise NetError(
                f"takes x (N, C, H, W) and regions (N, G, H, W), got shapes {x} and {regions}."
            )
        refuse_empty_axes(x, first=1)
        return [x]

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        n, c, height, width = x.shape
        rows, maps = x.reshape(n, c, height * width), regions.shape[1]
        total = torch.zeros_like(rows)
        for k in range(maps):
            means = [self._means(row, ids) for row, ids in zip(rows, regions[:, k], strict=True)]
            total = total + torch.stack(means) if means else total
        return (total / max(1, maps)).reshape(x.shape)

    @staticmethod
    def _means(row: Tensor, ids: Tensor) -> Tensor:
        """(C, P): the mean of each pixel's region."""
        index = torch.unique(ids.detach().long(), return_inverse=True)[1].flatten()
        count = torch.bincount(index)
        sums = row.new_zeros(len(row), len(count)).index_add(1, index, row)
        return (sums / count)[:, index]


@layer("ParseOutput", bottoms=1, tops=(1, 2), fork="ParseNet", differentiable=False)
class ParseOutput(Layer):
    """The class with the highest score at each pixel; of equal ones the first.

    Bottom: scores (N, C, H, W). Tops: the classes (N, 1, H, W); optionally their scores. No
    gradient, no message.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes scores (N, C, H, W), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        return [(x[0], 1, *x[2:])] * self.top_count

    def forward(self, x: Tensor) -> list[Tensor]:
        best = x.detach().amax(1, keepdim=True)
        first = (x.detach() == best).to(torch.uint8).argmax(1, keepdim=True)
        return [first.to(x), best][: self.top_count]


@layer("ParseEvaluate", bottoms=2, tops=1, fork="ParseNet", differentiable=False)
class ParseEvaluate(Layer):
    """For each label: at how many pixels it was found rightly, is true, and was found.

    Bottoms: found labels and true labels, both (N, 1, H, W); pixels whose true label is among
    ignore_label do not count. Top: (1, num_labels, 1, 3). No gradient. Message:
    parse_evaluate_param.

    Errors: no num_labels; bottoms of different shapes; a label outside [0, num_labels).
    """

    num_labels: int = option(positive, required=True)
    ignore_label: tuple[int, ...] = option()

    def top_shapes(self, found: Shape, true: Shape) -> list[Shape]:
        if found != true or len(found) != 4 or found[1] != 1:
            raise NetError(
                f"takes found and true labels, both (N, 1, H, W), got shapes {found} and {true}."
            )
        return [(1, self.num_labels, 1, 3)]

    def forward(self, found: Tensor, true: Tensor) -> Tensor:
        labels, predicted = true.detach().long(), found.detach().long()
        counted = ~torch.isin(labels, labels.new_tensor(self.ignore_label))
        labels, predicted = labels[counted], predicted[counted]
        both = torch.cat([labels, predicted])
        if both.numel():
            low, high = (int(v) for v in both.aminmax())
            if low < 0 or high >= self.num_labels:
                raise DataError(
                    f"label {low if low < 0 else high} is outside of the {self.num_labels} labels.",
                    advice="Raise num_labels, or name it as ignore_label.",
                )
        counts = confusion(predicted, labels, self.num_labels)
        scores = torch.stack([counts.diagonal(), counts.sum(1), counts.sum(0)], 1)
        return scores.to(found).reshape(1, self.num_labels, 1, 3)
