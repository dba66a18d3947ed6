"""A model that does not fit: all layers with their shapes, and what most often lies behind it."""

from __future__ import annotations

import pytest

from moka.types import Shape
from moka.weights.misfit import Misfit, misfit_error


def misfit(
    stored: list[Shape], wanted: list[Shape], type: str = "Convolution", stored_type: str = ""
) -> Misfit:
    both = zip(stored, wanted, strict=False)
    wrong = [k for k, (a, b) in enumerate(both) if a != b] if len(stored) == len(wanted) else []
    return Misfit("a", type, stored_type, dict(enumerate(stored)), dict(enumerate(wanted)), wrong)


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (misfit([(3, 5)], [(5, 3)], "InnerProduct"), "transposed: set transpose"),
        (misfit([(8, 2, 3, 3)], [(8, 4, 3, 3)]), "2 channels in the file, 4 in the net: `group`"),
        (misfit([(9, 2, 3, 3)], [(8, 2, 3, 3)]), "trained for other classes"),
        (misfit([(9, 20)], [(9, 30)], "InnerProduct"), "check the size of the net's input"),
        (misfit([(9, 2, 3, 3)], [(9, 2, 5, 5)]), "check kernel_size"),
        (misfit([(1, 4, 1, 1)], [(4,)], "PReLU"), "in other axes: another fork or a converter"),
        (misfit([(2,), (2,), (1,), (2,), (2,)], [(2,), (2,), (1,)], "BatchNorm"), "scale_bias: t"),
        (misfit([(2,)] * 3, [(2,)] * 5, "BatchNorm"), "leave scale_bias out"),
        (misfit([(2, 3)], [(2, 3), (2,)]), "no bias: set bias_term: false"),
        (misfit([(2, 3), (2,)], [(2, 3)]), "a bias: leave bias_term: false out"),
        (misfit([(2, 3)], [(2,)], "Bias", "Scale"), "is a Scale, in the net a Bias"),
    ],
)
def test_likely_causes(layer: Misfit, cause: str) -> None:
    assert cause in str(misfit_error([layer], "m"))


def test_all_layers_are_listed() -> None:
    layer = misfit([(9, 2)], [(8, 2)], "InnerProduct")
    text = str(misfit_error([layer._replace(name=f"l{k}") for k in range(13)], "m"))
    assert "Cannot copy param 0 weights from layer 'l0'; shape mismatch." in text
    assert "Source param shape is 9 2 (18); target param shape is 8 2 (16)." in text
    assert "12 more layers do not fit: l1 (9, 2) in the file, (8, 2) in the net; l2" in text
    assert text.count("in the file") == 10
    assert "and 2 others." in text
