from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.layers.segmentation.slow_lattice import slow_filter

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

RNG = np.random.default_rng(5)
SCORES = RNG.normal(size=(2, 3, 5, 6))
IMAGES = RNG.uniform(0, 9, (2, 3, 5, 6))
SIZES = np.array([[9, 9], [4, 5]])
KIND = 'type: "DenseCRF" dense_crf_param'
GAUSSIAN = "pos_w: 2 pos_xy_std: 1.5 pos_w: 0.5 pos_xy_std: 4"
BILATERAL = "bi_w: 3 bi_xy_std: 6 bi_rgb_std: 2.5"


def softmax(rows: np.ndarray) -> np.ndarray:
    e = np.exp(rows - rows.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def slow_crf(scores: np.ndarray, image: np.ndarray | None, rounds: int) -> np.ndarray:
    """The probabilities (C, h, w) of one image."""
    classes, h, w = scores.shape
    pixels = [(i, j) for i in range(h) for j in range(w)]
    unary = np.array([scores[:, i, j] for i, j in pixels])
    kernels = [(2, [(j / 1.5, i / 1.5) for i, j in pixels]),
               (0.5, [(j / 4, i / 4) for i, j in pixels])]  # fmt: skip
    if image is not None:
        kernels.append((3, [(j / 6, i / 6, *(image[:, i, j] / 2.5)) for i, j in pixels]))
    q = softmax(unary)
    for _ in range(rounds):
        total = unary.copy()
        for weight, features in kernels:
            points = np.array(features)
            norm = slow_filter(points, np.ones((len(points), 1)))
            total += weight * slow_filter(points, q) / norm
        q = softmax(total)
    return q.T.reshape(classes, h, w)


@pytest.mark.parametrize("with_image", [False, True])
@pytest.mark.parametrize("rounds", [0, 3])
@pytest.mark.parametrize("logarithm", [False, True])
def test_mean_field(
    make_layer: LayerMaker, run: Runner, rounds: int, *, with_image: bool, logarithm: bool
) -> None:
    more = [IMAGES] if with_image else []
    options = f"max_iter: {rounds} {GAUSSIAN} {BILATERAL if with_image else ''}"
    layer = make_layer(
        f"{KIND} {{ {options} output_probability: {str(not logarithm).lower()} }}",
        SCORES.shape,
        SIZES.shape,
        *(m.shape for m in more),
    )
    have = run(layer, SCORES, SIZES, *more)[0]
    want = np.zeros_like(have)
    for n, (h, w) in enumerate([(5, 6), (4, 5)]):
        image = IMAGES[n, :, :h, :w] if with_image else None
        q = slow_crf(SCORES[n, :, :h, :w], image, rounds)
        want[n, :, :h, :w] = np.log(q) if logarithm else q
    np.testing.assert_allclose(have, want, rtol=1e-7, atol=1e-12)


def test_edges_attract_labels(make_layer: LayerMaker, run: Runner) -> None:
    """A region that is uncertain takes the label of its color."""
    image = np.zeros((1, 3, 6, 8))
    image[..., 4:] = 100
    scores = np.zeros((1, 2, 6, 8))
    scores[0, 0, :, :2], scores[0, 1, :, 6:] = 2, 2
    options = "bi_w: 5 bi_xy_std: 10 bi_rgb_std: 5 max_iter: 5"
    layer = make_layer(f"{KIND} {{ {options} }}", scores.shape, (1, 2, 1, 1), image.shape)
    q = run(layer, scores, np.array([[6, 8]])[..., None, None], image)[0]
    assert (q[0, 0, :, :4] > 0.9).all()
    assert (q[0, 1, :, 4:] > 0.9).all()


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    shapes = (SCORES.shape, SIZES.shape)
    with pytest.raises(NetError, match="pos_w and pos_xy_std should have the same size"):
        make_layer(f"{KIND} {{ pos_w: 1 }}", *shapes)
    with pytest.raises(NetError, match="bi_w, bi_xy_std and bi_rgb_std"):
        make_layer(f"{KIND} {{ bi_w: 1 bi_xy_std: 1 }}", *shapes)
    with pytest.raises(NetError, match="no bilateral kernel"):
        make_layer(f"{KIND} {{ }}", *shapes, IMAGES.shape)
    with pytest.raises(NetError, match=r"height and width of 2 images"):
        make_layer(f"{KIND} {{ }}", SCORES.shape, (2, 1))
    with pytest.raises(NetError, match=r"images must be \(2, 3, 5, 6\)"):
        make_layer(f"{KIND} {{ {BILATERAL} }}", *shapes, (2, 1, 5, 6))
    layer = make_layer(f"{KIND} {{ }}", *shapes)
    with pytest.raises(DataError, match="image 1 is 6 x 3 pixels"):
        run(layer, SCORES, np.array([[5, 6], [6, 3]]))
