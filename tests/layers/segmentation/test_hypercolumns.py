from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

RNG = np.random.default_rng(5)
FIRST, SECOND = RNG.normal(size=(2, 2, 4, 6)), RNG.normal(size=(2, 3, 2, 3))
TARGETS = RNG.normal(size=(2, 3, 4, 6))
VALID = np.zeros((2, 1, 4, 6))
VALID[:, :, 1:3, 1:5] = 1  # all but one pixel on each side
SHAPES = (FIRST.shape, SECOND.shape, VALID.shape, TARGETS.shape)
FACTORS = "pooling_factor: 1 pooling_factor: 2"


def text(fields: str) -> str:
    return f'type: "RandCatConv" top: "x" top: "y" rand_cat_conv_param {{ {fields} }}'


def column(n: int, i: int, j: int) -> list[float]:
    """The features of one pixel."""
    found = list(FIRST[n, :, i, j])
    row, across = max(0, (i - 0.5) / 2), max(0, (j - 0.5) / 2)
    down, right = row - floor(row), across - floor(across)
    for plane in SECOND[n]:
        found.append(
            (1 - down) * (1 - right) * plane[floor(row), floor(across)]
            + (1 - down) * right * plane[floor(row), ceil(across)]
            + down * (1 - right) * plane[ceil(row), floor(across)]
            + down * right * plane[ceil(row), ceil(across)]
        )
    return found


@pytest.mark.parametrize("valid", [VALID, VALID[:1]])
def test_all_valid_pixels(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, valid: np.ndarray
) -> None:
    layer = make_layer(
        text(f"{FACTORS} rand_selection: false pad_factor: 1"),
        *(*SHAPES[:2], valid.shape, TARGETS.shape),
    )
    features, targets = run(layer, FIRST, SECOND, valid, TARGETS)
    pixels = [(n, i, j) for n in range(2) for i in (1, 2) for j in range(1, 5)]
    np.testing.assert_allclose(features, [column(*pixel) for pixel in pixels])
    np.testing.assert_array_equal(targets, [TARGETS[n, :, i, j] for n, i, j in pixels])
    check_gradient(layer, FIRST, SECOND, valid, TARGETS)


def test_pixels_are_drawn(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(text(f"{FACTORS} rand_selection: true num_output: 3"), *SHAPES)
    assert not layer.is_pure
    places = np.arange(48.0).reshape(2, 1, 4, 6).repeat(3, 1)
    seen = set()
    for _ in range(40):
        features, targets = run(layer, FIRST, SECOND, VALID, places)
        assert len(set(targets[:, 0])) == 6
        for k, place in enumerate(targets[:, 0].astype(int)):
            n, i, j = place // 24, place % 24 // 6, place % 6
            assert n == k // 3
            np.testing.assert_allclose(features[k], column(n, i, j))
            seen.add((n, i, j))
    assert seen == {(n, i, j) for n in range(2) for i in (1, 2) for j in range(1, 5)}


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    taken = f"{FACTORS} rand_selection: false pad_factor: 1"
    with pytest.raises(NetError, match="rand_selection is missing"):
        make_layer(text(FACTORS), *SHAPES)
    with pytest.raises(NetError, match="num_output is missing"):
        make_layer(text(f"{FACTORS} rand_selection: true"), *SHAPES)
    with pytest.raises(NetError, match="a pooling_factor for each of 2 maps, got 1"):
        make_layer(text("pooling_factor: 1 rand_selection: false"), *SHAPES)
    with pytest.raises(NetError, match="option of a fork that this layer does not have"):
        make_layer(text(f"{taken} balanced: true"), *SHAPES)
    with pytest.raises(NetError, match="maps must be of 2 images"):
        make_layer(text(taken), SHAPES[0], (1, 3, 2, 3), *SHAPES[2:])
    with pytest.raises(NetError, match=r"valid pixels must be \(2, 1, 4, 6\)"):
        make_layer(text(taken), *SHAPES[:2], (2, 2, 4, 6), SHAPES[3])
    with pytest.raises(NetError, match=r"targets must be \(2, 'T', 4, 6\)"):
        make_layer(text(taken), *SHAPES[:3], (2, 3, 4, 5))
    layer = make_layer(text(taken), *SHAPES)
    with pytest.raises(DataError, match="image 0 has 24 valid pixels, and 8 are to be taken"):
        run(layer, FIRST, SECOND, np.ones_like(VALID), TARGETS)
    layer = make_layer(text(f"{FACTORS} rand_selection: true num_output: 9"), *SHAPES)
    more = np.ones_like(VALID)
    more[1] = VALID[1]
    more[1, 0, 1, 1] = 0
    with pytest.raises(DataError, match="image 1 has 7 valid pixels, and 9 are to be taken"):
        run(layer, FIRST, SECOND, more, TARGETS)


def test_the_draw_follows_the_seed(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(text(f"{FACTORS} rand_selection: true num_output: 3"), *SHAPES)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(run(layer, FIRST, SECOND, VALID, TARGETS)[1])
    np.testing.assert_array_equal(draws[0], draws[1])


def test_a_pixel_beyond_a_map(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(text(f"{FACTORS} rand_selection: false"), *SHAPES)
    with pytest.raises(DataError, match=r"lies at 1\.25 of a map's axis of 2, which needs 3"):
        run(layer, FIRST, SECOND, np.ones_like(VALID), TARGETS)
