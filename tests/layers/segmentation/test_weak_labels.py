from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Array

UNIQUE = 'type: "UniqueLabel" unique_label_param { max_labels: 4 %s }'
BIAS = 'type: "BiasChannel" bias_channel_param { bg_bias: 0.5 fg_bias: 2 %s }'
ADAPTIVE = 'type: "AdaptiveBiasChannel" adaptive_bias_channel_param { %s }'


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", [[2, 5, 255, -1], [0, -1, -1, -1]]),
        ("ignore_label: 255", [[2, 5, -1, -1], [0, -1, -1, -1]]),
        ("ignore_label: 255 ignore_label: 2 force_label: 0 force_label: 2",
         [[0, 2, 5, -1], [0, 2, -1, -1]]),
    ],
)  # fmt: skip
def test_the_labels_of_a_map(
    make_layer: LayerMaker, run: Runner, options: str, wanted: list[list[int]]
) -> None:
    maps = np.zeros((2, 1, 2, 3))
    maps[0] = [[255, 5, 2], [2, 5, 5]]
    (top,) = run(make_layer(UNIQUE % options, maps.shape), maps)
    np.testing.assert_array_equal(top[:, :, 0, 0], wanted)


def test_too_many_labels(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(UNIQUE % "", (1, 1, 1, 5))
    with pytest.raises(DataError, match="a label map has 5 labels, but max_labels is 4"):
        run(layer, np.arange(5.0).reshape(1, 1, 1, 5))


def test_unique_label_refuses(make_layer: LayerMaker) -> None:
    forced = " ".join(f"force_label: {k}" for k in range(4))
    with pytest.raises(NetError, match="max_labels must be above the number of force_label, 4"):
        make_layer(UNIQUE % forced, (1, 1, 2, 2))
    with pytest.raises(NetError, match="takes label maps"):
        make_layer(UNIQUE % "", (1, 3, 2, 2))


def test_bias(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    scores, labels = spread(2, 4, 2, 3), np.array([[0, 2, 2, -1], [3, 1, -1, -1.0]])
    layer = make_layer(BIAS % "ignore_label: 1", scores.shape, (2, 4, 1, 1))
    (top,) = run(layer, scores, labels.reshape(2, 4, 1, 1))
    added = np.array([[0.5, 0, 4, 0], [0, 0, 0, 2]])
    np.testing.assert_allclose(top - scores, added[..., None, None] + np.zeros((2, 4, 2, 3)))
    check_gradient(layer, scores, labels.reshape(2, 4, 1, 1))


def test_bias_refuses(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match="label_type must be IMAGE"):
        make_layer(BIAS % "label_type: PIXEL", (2, 4, 2, 3), (2, 1, 1, 1))
    with pytest.raises(NetError, match=r"takes scores \(N, C, H, W\) and lists of labels"):
        make_layer(BIAS % "", (2, 4, 2, 3), (2, 1, 2, 3))
    layer = make_layer(BIAS % "", (1, 4, 2, 3), (1, 1, 1, 1))
    with pytest.raises(DataError, match=r"a label must be in \[0, 4\), got 4"):
        run(layer, np.zeros((1, 4, 2, 3)), np.full((1, 1, 1, 1), 4.0))


def adaptive(scores: Array, labels: list[int], options: dict[str, float], suppress: bool) -> Array:
    """One image (C, P) in plain loops; at most one label beside the background, so no shuffling."""
    top, pixels = scores.copy(), scores.shape[1]
    if suppress:
        for p in range(pixels):
            least = min(top[c, p] for c in labels)
            for c in range(len(top)):
                if c not in labels and top[c, p] > least:
                    top[c, p] = least - options["margin_others"]
    best = [max(top[c, p] for c in labels) for p in range(pixels)]
    mean = sum(best) / pixels
    for _ in range(int(options["num_iter"])):
        for c in labels:
            portion = options["bg_portion" if c == 0 else "fg_portion"]
            gaps = sorted(best[p] - top[c, p] for p in range(pixels))
            top[c] += gaps[min(int(np.float32(portion) * np.float32(pixels)), pixels - 1)]
            best = [max(best[p], top[c, p]) for p in range(pixels)]
    return top + mean - sum(best) / pixels


@pytest.mark.parametrize("suppress", [True, False])
@pytest.mark.parametrize("portions", [(0.4, 0.2), (0.0, 1.0), (0.7, 0.5)])
def test_adaptive_bias(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    suppress: bool,
    portions: tuple[float, float],
) -> None:
    options = dict(zip(("bg_portion", "fg_portion"), portions, strict=True))
    options |= {"num_iter": 3, "margin_others": 0.01}
    text = " ".join(f"{k}: {v}" for k, v in options.items())
    scores = spread(3, 4, 2, 5)
    labels = np.array([[0, 2], [-1, 3], [-1, -1.0]]).reshape(3, 2, 1, 1)
    layer = make_layer(
        ADAPTIVE % f"{text} suppress_others: {str(suppress).lower()}", scores.shape, labels.shape
    )
    (top,) = run(layer, scores, labels)
    for k, found in enumerate(([0, 2], [3])):
        wanted = adaptive(scores[k].reshape(4, 10), found, options, suppress)
        np.testing.assert_allclose(top[k].reshape(4, 10), wanted, atol=1e-6)
    np.testing.assert_array_equal(top[2], scores[2])  # an image without labels


def test_several_foreground_labels_in_random_order(make_layer: LayerMaker, spread: Spread) -> None:
    scores = torch.from_numpy(spread(1, 5, 4, 5))
    labels = torch.tensor([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
    layer = make_layer(ADAPTIVE % "fg_portion: 0.3", scores.shape, labels.shape)
    tops = []
    for seed in range(8):
        torch.manual_seed(seed)
        tops.append(layer(scores, labels))
    assert len({tuple(top.flatten().tolist()) for top in tops}) > 1
    means = [float(top[0, 1:].amax(0).mean()) for top in tops]
    assert means == pytest.approx([float(scores[0, 1:].amax(0).mean())] * 8)


def test_adaptive_refuses(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"bg_portion must be in \[0, 1\], got 1.5"):
        make_layer(ADAPTIVE % "bg_portion: 1.5", (1, 2, 2, 2), (1, 1, 1, 1))
