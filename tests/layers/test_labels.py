from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moka.errors import DataError
from moka.layers.labels import class_labels, indices

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


def test_labels_are_truncated() -> None:
    index, counted = class_labels(torch.tensor([0.0, 1.9, 2.0]), 3, None)
    assert index.tolist() == [0, 1, 2]
    assert index.dtype == torch.int64
    assert counted is None


@pytest.mark.parametrize("ignored", [-1, 255, 1])
def test_ignored_labels_become_a_class_that_does_not_count(ignored: int) -> None:
    index, counted = class_labels(torch.tensor([[2.0, float(ignored)]]), 3, ignored)
    assert index.tolist() == [[2, 0]]
    assert counted is not None
    assert counted.tolist() == [[True, False]]


@pytest.mark.parametrize(("label", "ignored"), [(3, None), (-1, None), (3, -1), (-1, 3)])
def test_a_label_that_is_no_class_is_named(label: int, ignored: int | None) -> None:
    with pytest.raises(DataError, match=rf"label {label} is outside of the 3 classes \(0 to 2\)"):
        class_labels(torch.tensor([1.0, float(label)]), 3, ignored)


@pytest.mark.parametrize("classes", [3, 0])
def test_no_labels_at_all(classes: int) -> None:
    index, _ = class_labels(torch.empty(0, 1), classes, None)
    assert index.shape == (0, 1)


def test_indices() -> None:
    index = indices(torch.tensor([[0.0, 1.9]]), 2, of="rows", advice="Look.")
    assert index.tolist() == [[0, 1]]
    assert index.dtype == torch.int64
    for wrong in (-1, 2):
        with pytest.raises(DataError, match=rf"index {wrong} is outside of the 2 rows \(0 to 1\)"):
            indices(torch.tensor([0.0, wrong]), 2, of="rows", advice="Look.")


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss"])
def test_a_label_out_of_range_is_an_error_of_the_data(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(f'type: "{kind}"', (2, 3), (2,))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        layer(torch.zeros(2, 3), torch.tensor([0.0, 3.0]))
