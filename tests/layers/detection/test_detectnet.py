from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.detection.detectnet import group_rectangles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.layers.conftest import LayerMaker, Runner

    from moka.types import Array

IN = 'module: "caffe.layers.detectnet.%s" layer: "%s"'


def python(module: str, name: str, params: str = "", tops: int = 1) -> str:
    named = " ".join(f'top: "t{k}"' for k in range(tops))
    return f"""type: "Python" {named}
        python_param {{ {IN % (module, name)} param_str: "{params}" }}"""


def grids(boxes: Sequence[tuple[float, ...]], cells: list[tuple[int, int]]) -> tuple[Array, Array]:
    """Coverage (1, 1, 4, 6) and boxes (1, 4, 4, 6), with a box in each of some cells."""
    coverage, corners = np.zeros((1, 1, 4, 6)), np.zeros((1, 4, 4, 6))
    for box, (row, column) in zip(boxes, cells, strict=True):
        coverage[0, 0, row, column] = 1
        corners[0, :, row, column] = np.subtract(box, [column * 16, row * 16] * 2)
    return coverage, corners


def test_true_boxes(make_layer: LayerMaker, run: Runner) -> None:
    big, small = (4, 8, 40, 44), (60, 10, 70, 22)
    coverage, corners = grids([big, small, big, big], [(0, 1), (0, 4), (1, 1), (1, 2)])
    layer = make_layer(
        python("clustering", "ClusterGroundtruth", "96, 64, 16, 1"), coverage.shape, corners.shape
    )
    (top,) = run(layer, coverage, corners)
    assert top.shape == (1, 50, 5)
    np.testing.assert_array_equal(top[0, :2], [[*big, 0], [*small, 0]])
    assert not top[0, 2:].any()


def test_detections(make_layer: LayerMaker, run: Runner) -> None:
    alike = [(4, 8, 50, 44), (5, 8, 51, 44), (3, 8, 49, 44), (60, 10, 70, 32)]
    coverage, corners = grids(alike, [(0, 1), (1, 1), (1, 2), (0, 4)])
    coverage[0, 0, 3, 3] = 0.59  # below the threshold
    layer = make_layer(
        python("clustering", "ClusterDetections", "96,64,16,0.6,2,0.2,22"),
        coverage.shape,
        corners.shape,
    )
    (top,) = run(layer, coverage, corners)
    np.testing.assert_allclose(top[0, 0], [4, 8, 50, 44, log(3)], atol=1e-3)  # rounded to half
    assert not top[0, 1:].any()  # the box that stands alone makes no group
    tall = make_layer(
        python("clustering", "ClusterDetections", "96,64,16,0.6,2,0.2,37"),
        coverage.shape,
        corners.shape,
    )
    assert not run(tall, coverage, corners)[0].any()  # 36 pixels high only
    assert not run(layer, coverage * 0, corners)[0].any()


def test_a_top_for_each_class(make_layer: LayerMaker, run: Runner) -> None:
    coverage, corners = grids([(4, 8, 40, 44)], [(0, 1)])
    coverage = np.concatenate([coverage * 0, coverage], 1)
    text = python("clustering", "ClusterGroundtruth", "96,64,16,2", tops=2)
    none, one = run(make_layer(text, coverage.shape, corners.shape), coverage, corners)
    assert not none.any()
    np.testing.assert_array_equal(one[0, 0], [4, 8, 40, 44, 0])


def boxes(*rows: tuple[float, ...]) -> Array:
    found = np.zeros((1, 50, 5))
    found[0, : len(rows)] = rows
    return found


def test_scores(make_layer: LayerMaker, run: Runner) -> None:
    truth = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 0), (0, 20, 10, 30, 0))
    found = boxes((50, 0, 60, 10, 1), (0, 0, 10, 9, 1), (0, 0, 10, 10, 1), (20, 0, 30, 8, 1))
    score = make_layer(python("mean_ap", "ScoreDetections"), truth.shape, found.shape)
    (marked,) = run(score, truth, found)
    wanted = [
        (0, 0, 10, 9, 1), (20, 0, 30, 8, 1), (50, 0, 60, 10, 2), (0, 0, 10, 10, 2),
        (0, 20, 10, 30, 3),
    ]  # fmt: skip
    np.testing.assert_array_equal(marked[0, :5], wanted)
    assert not marked[0, 5:].any()
    mean = make_layer(python("mean_ap", "mAP", "96, 64, 16", tops=3), marked.shape)
    np.testing.assert_allclose(
        np.concatenate(run(mean, marked)), [50 * 200 / 3 / 100, 50, 200 / 3], rtol=1e-6
    )
    np.testing.assert_array_equal(np.concatenate(run(mean, marked * 0)), [0, 0, 0])


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (python("clustering", "ClusterDetections", "96,64,16"), ((1, 1, 4, 6), (1, 4, 4, 6)),
         "param_str must list image width, image height, stride, coverage threshold"),
        (python("clustering", "ClusterGroundtruth", "96,64,16,2"), ((1, 1, 4, 6), (1, 4, 4, 6)),
         "param_str says 2 classes"),
        (python("clustering", "ClusterGroundtruth", "96,64,x"), ((1, 1, 4, 6), (1, 4, 4, 6)),
         'got "96,64,x"'),
        (python("clustering", "ClusterGroundtruth", "96,64,16"), ((1, 1, 4, 6), (1, 4, 4, 5)),
         "takes coverage"),
        (python("mean_ap", "ScoreDetections"), ((1, 50, 5), (2, 50, 5)), "of as many images"),
    ],
)  # fmt: skip
def test_refusals(make_layer: LayerMaker, text: str, shapes: Any, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def groups(
    rows: Sequence[tuple[int, ...]], threshold: int = 1, eps: float = 0.2
) -> list[tuple[tuple[float, ...], int]]:
    return group_rectangles(torch.tensor(rows, dtype=torch.float64), threshold, eps)


def test_groups_are_connected_boxes() -> None:
    chain = [(0, 0, 10, 10), (2, 0, 10, 10), (4, 0, 10, 10)]  # the first and the last are not alike
    assert groups([*chain, (40, 40, 50, 50)]) == [((2, 0, 10, 10), 3)]
    assert groups([chain[0], chain[2]]) == []
    assert groups([(0, 0, 10, 10), (1, 1, 10, 10), (1, 0, 10, 11)]) == [((1, 0, 10, 10), 3)]


def test_without_a_threshold_all_boxes_stay() -> None:
    rows = [(0, 0, 10, 10), (0, 0, 10, 10)]
    assert groups(rows, threshold=0) == [((0, 0, 10, 10), 1)] * 2


def test_a_small_group_inside_a_large_one_goes() -> None:
    large, small = [(0, 0, 40, 40)] * 4, (8, 8, 12, 12)
    assert groups([*large, *[small] * 3]) == [((0, 0, 40, 40), 4)]
    assert groups([*large, *[small] * 4]) == [((0, 0, 40, 40), 4), ((8, 8, 12, 12), 4)]
    assert groups([*large[:3], *[small] * 2]) == [((0, 0, 40, 40), 3)]
    assert groups([*large[:3], *[small] * 3]) == [((0, 0, 40, 40), 3), ((8, 8, 12, 12), 3)]
