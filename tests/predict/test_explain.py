"""Which parts of an image an answer depends on, for nets whose answers are plain to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import moka
from moka.errors import UsageError
from moka.predict.explain import gradient_map, occlusion_map
from moka.types import Floats

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 1 dim: 6 dim: 6 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 2 bias_term: false } }
"""


def corner(images: Floats) -> Floats:
    """Class 1 is the sum of the upper left quarter; class 0 is nothing."""
    sums = images[:, 0, :3, :3].sum((1, 2))
    return np.stack([np.zeros(len(images)), sums], 1).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_hiding_what_counts_lowers_the_score(batch: int) -> None:
    found = occlusion_map(corner, np.ones((1, 6, 6), np.float32), 1, cells=6, batch=batch)
    assert found.shape == (6, 6)
    assert found[0, 0] == 4  # two by two pixels are hidden together
    assert found[0, 0] > found[3, 3] > found[4, 4] == found[5, 5] == 0
    np.testing.assert_array_equal(found, found.T)


def test_one_cell_hides_the_whole_image() -> None:
    found = occlusion_map(corner, np.ones((1, 6, 6), np.float32), 1, cells=1)
    assert found.tolist() == [[9]]


def test_sizes_that_no_cell_divides() -> None:
    found = occlusion_map(corner, np.ones((1, 7, 9), np.float32), 1, cells=4)
    assert found.shape == (4, 4)
    assert found[0, 0] > found[3, 3] == 0


def test_the_gradient_of_each_pixel(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    net = moka.load(tmp_path / "net.prototxt")
    weights = np.random.default_rng(0).normal(size=(2, 36)).astype(np.float32)
    net.layers[1].weights[0].data.numpy()[...] = weights
    found = gradient_map(net, np.ones((1, 6, 6), np.float32), 1)
    np.testing.assert_allclose(found, np.abs(weights[1].reshape(6, 6)), rtol=1e-5)
    with pytest.raises(UsageError, match="no class 2: they are numbered 0 to 1"):
        gradient_map(net, np.ones((1, 6, 6), np.float32), 2)


def test_what_cannot_be() -> None:
    image = np.ones((1, 6, 6), np.float32)
    with pytest.raises(UsageError, match="has 1 to 6 cells"):
        occlusion_map(corner, image, 1, cells=7)
    with pytest.raises(UsageError, match="no class 5"):
        occlusion_map(corner, image, 5, cells=2)
