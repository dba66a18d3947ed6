"""How well encodings lie near the mean of those of their label."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.types import Shape


@layer("AccuracyEncoding", bottoms=2, tops=1, differentiable=False, fork="MyCaffe")
class AccuracyEncoding(Layer):
    """The share of encodings whose nearest centroid is that of their label.

    The centroid of a label is a running mean of its encodings over all passes so far: number k of
    them, from 2, counts 1 / k, and 1 / (N cache_size) at least; the first one, as in MyCaffe, is
    multiplied by 1 / (N cache_size). An encoding is taken in before it is judged; labels without
    any have a centroid of zeros. A label above all before it starts the centroids anew.

    Bottoms: encodings (N, D) or (N, D, 1, 1); labels, one or a pair for each encoding, of which the
    first counts. Top: a scalar. Message: decode_param, of which `cache_size` counts. No gradient.

    Errors: another number of labels; a label below 0.
    """

    cache_size: int = option(positive, of="decode_param")

    def setup(self, x: Shape, labels: Shape) -> None:
        self.centroids = torch.zeros(0, prod(x[1:]))
        self.counts = torch.zeros(0)

    def top_shapes(self, x: Shape, labels: Shape) -> list[Shape]:
        if not x or prod(labels) not in (x[0], 2 * x[0]):
            raise NetError(
                f"takes encodings (N, D) and N labels or pairs, got shapes {x} and {labels}."
            )
        return [()]

    def run_state(self) -> list[Tensor]:
        return [self.centroids, self.counts]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self.centroids, self.counts = tensors

    def again(self, x: Tensor, labels: Tensor) -> Tensor:
        kept = [tensor.clone() for tensor in self.run_state()]
        result = self(x, labels)
        self.load_run_state(kept)
        return result

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(())
        items = x.detach().reshape(len(x), -1)
        of_items = labels.reshape(len(x), -1)[:, 0].long().tolist()
        if min(of_items) < 0:
            raise DataError(f"a label must be 0 or more, got {min(of_items)}.")
        if max(of_items) >= len(self.centroids):
            self.centroids = items.new_zeros(max(of_items) + 1, items.shape[1])
            self.counts = items.new_zeros(max(of_items) + 1)
        self.centroids, self.counts = self.centroids.to(items), self.counts.to(items)
        least = 1 / (len(items) * self.cache_size)
        hits = sum(self._is_near(item, k, least) for item, k in zip(items, of_items, strict=True))
        return x.new_tensor(hits / len(items))

    def _is_near(self, item: Tensor, label: int, least: float) -> bool:
        """Take an encoding in; returns whether it lies nearest to the centroid of its label."""
        before = float(self.counts[label])
        share = max(1 / (before + 1), least)
        mean = self.centroids[label]
        self.centroids[label] = (1 - share) * mean + share * item if before else least * item
        self.counts[label] += 1
        distances = (self.centroids - item).square().sum(1)
        return int(distances.argmin()) == label
