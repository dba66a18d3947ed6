"""Spreads of parameters and blobs, and units that are dead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import moka
from moka.net import Net
from moka.predict.activity import BINS, activity, first_filters, parameter_spreads, spread_of

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 1 dim: 4 dim: 4 } } }
layer { name: "small" type: "Convolution" bottom: "data" top: "small"
        convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "conv" type: "Convolution" bottom: "small" top: "conv"
        convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "a" type: "InnerProduct" bottom: "conv" top: "a"
        inner_product_param { num_output: 2 } }
layer { name: "b" type: "InnerProduct" bottom: "conv" top: "b"
        inner_product_param { num_output: 2 } }
"""


@pytest.fixture
def net(tmp_path: Path) -> Net:
    (tmp_path / "net.prototxt").write_text(NET)
    made = moka.load(tmp_path / "net.prototxt")
    by_name = dict(made.named_layers())
    for weight in by_name["small"].weights:
        weight.data.fill_(1)
    by_name["conv"].weights[0].data.fill_(0.5)
    by_name["conv"].weights[1].data.copy_(torch.tensor([0.0, -1000.0, 1.0]))
    return made


def test_dead_channels_are_named(net: Net) -> None:
    found = {each.blob: each for each in activity(net, np.ones((2, 1, 4, 4), np.float32))}
    assert list(found) == ["data", "small", "conv", "a", "b"]  # no splits
    assert found["conv"].layer == "relu"
    assert (found["conv"].dead, found["conv"].channels) == ([1], 3)
    assert found["small"].dead == []
    assert found["conv"].spread.shape == (2, 3, 2, 2)
    assert found["conv"].spread.zeros == pytest.approx(1 / 3)
    planes = found["conv"].planes
    assert planes is not None
    assert planes.shape == (3, 2, 2)
    assert found["a"].planes is None


def test_a_unit_that_speaks_once_is_not_dead(net: Net) -> None:
    images = np.zeros((2, 1, 4, 4), np.float32)
    images[1] = 1e4
    found = {each.blob: each for each in activity(net, images)}
    assert found["conv"].dead == []


def test_spreads(net: Net) -> None:
    told = parameter_spreads(net)
    assert [(layer, name) for layer, _, name, _ in told[:2]] == [
        ("small", "weight"),
        ("small", "bias"),
    ]
    spread = spread_of(np.array([0.0, 0.0, 1.0, 3.0]))
    assert (spread.least, spread.most, spread.mean, spread.zeros) == (0, 3, 1, 0.5)
    assert len(spread.counts) == BINS
    assert (sum(spread.counts), spread.counts[0]) == (4, 2)


def test_numbers_that_are_not_finite() -> None:
    spread = spread_of(np.array([np.nan, np.inf, 2.0]))
    assert (spread.least, spread.most) == (2, 2)
    assert spread_of(np.array([np.nan])).most == 0


def test_the_first_filters_are_larger_than_a_pixel(net: Net) -> None:
    found = first_filters(net)
    assert found is not None
    assert found.shape == (3, 3, 3, 3)
