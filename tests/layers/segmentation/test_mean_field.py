from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.segmentation.slow_lattice import slow_filter

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

RNG = np.random.default_rng(5)
SCORES = RNG.normal(size=(2, 3, 4, 5))
FIRST = RNG.normal(size=(2, 3, 4, 5))
IMAGES = RNG.uniform(0, 9, (2, 3, 4, 5))
SHAPES = (SCORES.shape, FIRST.shape, IMAGES.shape)
THETAS = "theta_alpha: 6 theta_beta: 2.5 theta_gamma: 1.5"


def text(fields: str = "", rounds: int = 3, thetas: str = THETAS) -> str:
    return (
        'type: "MultiStageMeanfield" multi_stage_meanfield_param {'
        f" num_iterations: {rounds} {thetas} {fields} }}"
    )


def slow_mean_field(
    unary: np.ndarray, q: np.ndarray, image: np.ndarray, blobs: list[np.ndarray], rounds: int
) -> np.ndarray:
    """The last scores (C, h, w) of one image, pixel by pixel."""
    h, w = unary.shape[1:]
    pixels = [(i, j) for i in range(h) for j in range(w)]
    near = np.array([(j / 1.5, i / 1.5) for i, j in pixels])
    alike = np.array([(j / 6, i / 6, *(image[:, i, j] / 2.5)) for i, j in pixels])
    ones = np.ones((len(pixels), 1))
    q = q.copy()
    for _ in range(rounds):
        p = []
        for i, j in pixels:
            e = np.exp(q[:, i, j])
            p.append(e / e.sum())
        spatial = slow_filter(near, np.array(p)) / slow_filter(near, ones)
        bilateral = slow_filter(alike, np.array(p)) / slow_filter(alike, ones)
        for k, (i, j) in enumerate(pixels):
            message = blobs[0] @ spatial[k] + blobs[1] @ bilateral[k]
            q[:, i, j] = unary[:, i, j] - blobs[2] @ message
    return q


@pytest.mark.parametrize("rounds", [2, 4])
def test_mean_field(make_layer: LayerMaker, run: Runner, rounds: int) -> None:
    layer = make_layer(text(rounds=rounds), *SHAPES)
    blobs = [RNG.normal(size=(3, 3)) for _ in range(3)]
    for weight, values in zip(layer.double().weights, blobs, strict=True):
        weight.data[0, 0] = torch.from_numpy(values)
    have = run(layer, SCORES, FIRST, IMAGES)[0]
    for n in range(2):
        want = slow_mean_field(SCORES[n], FIRST[n], IMAGES[n], blobs, rounds)
        np.testing.assert_allclose(have[n], want, rtol=1e-7, atol=1e-10)


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    small = (slice(1), slice(2), slice(3), slice(3))
    scores, first, image = SCORES[small], FIRST[small], IMAGES[:1, :, :3, :3]
    layer = make_layer(text(rounds=2), scores.shape, first.shape, image.shape)
    check_gradient(layer, scores, first, image)


def test_parameters_begin_as_diagonals(make_layer: LayerMaker) -> None:
    fields = 'spatial_filter_weight: 3 bilateral_filter_weights_str: "5 4 0.5" threshold: 2'
    layer = make_layer(text(f"{fields} compatibility_mode: POTTS"), *SHAPES)
    assert layer.parameter_names == ("spatial", "bilateral", "compatibility")
    spatial, bilateral, compatibility = (b.detach().numpy() for b in layer.blobs)
    np.testing.assert_array_equal(spatial, 3 * np.eye(3)[None, None])
    np.testing.assert_array_equal(bilateral, np.diag([5, 4, 0.5])[None, None])
    np.testing.assert_array_equal(compatibility, -np.eye(3)[None, None])
    assert make_layer(text(), *SHAPES).blobs[0].diagonal(dim1=2, dim2=3).eq(1).all()


def test_edges_attract_labels(make_layer: LayerMaker, run: Runner) -> None:
    """A region that is uncertain takes the label of its color."""
    image = np.zeros((1, 3, 6, 8))
    image[..., 4:] = 100
    scores = np.zeros((1, 2, 6, 8))
    scores[0, 0, :, :2], scores[0, 1, :, 6:] = 2, 2
    weights = "spatial_filter_weight: 0 bilateral_filter_weight: 5"
    thetas = "theta_alpha: 10 theta_beta: 5 theta_gamma: 3"
    layer = make_layer(text(weights, 5, thetas), scores.shape, scores.shape, image.shape)
    q = run(layer, scores, scores, image)[0]
    assert (q[0, 0, :, :4] > q[0, 1, :, :4] + 2).all()
    assert (q[0, 1, :, 4:] > q[0, 0, :, 4:] + 2).all()


def test_an_empty_batch(make_layer: LayerMaker, run: Runner) -> None:
    none = np.zeros((0, 3, 4, 5))
    layer = make_layer(text(), *[none.shape] * 3)
    assert run(layer, none, none, none)[0].shape == none.shape


def test_a_published_layer_is_read(make_net: NetMaker) -> None:
    """As the README of CRF-RNN writes it."""
    net = make_net(
        """
        layer { name: "in" type: "Input" top: "unary" top: "Q0" top: "data"
                input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } shape { dim: 1 dim: 2 dim: 4
                dim: 4 } shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
        layer { name: "inference1" type: "MultiStageMeanfield" bottom: "unary" bottom: "Q0"
                bottom: "data" top: "pred" param { lr_mult: 10000 } param { lr_mult: 10000 }
                param { lr_mult: 1000 }
                multi_stage_meanfield_param { num_iterations: 10 compatibility_mode: POTTS
                threshold: 2 theta_alpha: 160 theta_beta: 3 theta_gamma: 3
                spatial_filter_weight: 3 bilateral_filter_weight: 5 force_cpu: true } }
        """
    )
    assert net.blobs["pred"].shape == (1, 2, 4, 4)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="num_iterations must be > 1, got 1"):
        make_layer(text(rounds=1), *SHAPES)
    with pytest.raises(NetError, match="theta_beta is missing"):
        make_layer(text(thetas="theta_alpha: 3 theta_gamma: 3"), *SHAPES)
    with pytest.raises(NetError, match="theta_gamma must be > 0, got 0"):
        make_layer(text(thetas="theta_alpha: 3 theta_beta: 3 theta_gamma: 0"), *SHAPES)
    with pytest.raises(NetError, match=r"takes scores \(N, C, H, W\)"):
        make_layer(text(), (2, 3), (2, 3), IMAGES.shape)
    with pytest.raises(NetError, match="both scores must have one shape"):
        make_layer(text(), SCORES.shape, (2, 2, 4, 5), IMAGES.shape)
    with pytest.raises(NetError, match=r"images must be \(2, 3, 4, 5\), got shape \(2, 1, 4, 5\)"):
        make_layer(text(), SCORES.shape, FIRST.shape, (2, 1, 4, 5))
    with pytest.raises(NetError, match="a number for each of 3 classes, got 2"):
        make_layer(text('spatial_filter_weights_str: "3 3"'), *SHAPES)
    with pytest.raises(NetError, match="must be numbers with spaces between, got '3,3,3'"):
        make_layer(text('spatial_filter_weights_str: "3,3,3"'), *SHAPES)
    both = 'bilateral_filter_weight: 3 bilateral_filter_weights_str: "3 3 3"'
    with pytest.raises(NetError, match="either bilateral_filter_weight or bilateral_filter_weig"):
        make_layer(text(both), *SHAPES)
    for field in ("ho_potentials_enabled: true", "spatial_weight: 3"):
        with pytest.raises(NetError, match="option of a fork that this layer does not have"):
            make_layer(text(field), *SHAPES)
    make_layer(text("ho_potentials_enabled: false"), *SHAPES)
