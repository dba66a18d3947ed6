from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def test_grouping(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x = spread(2, 3, 3, 4)
    regions = np.random.default_rng(1).integers(-2, 3, (2, 2, 3, 4))
    layer = make_layer('type: "Grouping"', x.shape, regions.shape)
    want = np.zeros_like(x)
    for n, c, g in np.ndindex(2, 3, 2):
        for i, j in np.ndindex(3, 4):
            same = regions[n, g] == regions[n, g, i, j]
            want[n, c, i, j] += x[n, c][same].mean() / 2
    np.testing.assert_allclose(run(layer, x, regions)[0], want)
    check_gradient(layer, x, regions)


def test_parse_output(make_layer: LayerMaker, run: Runner) -> None:
    x = np.random.default_rng(1).integers(0, 4, (2, 5, 3, 2)).astype(float)
    layer = make_layer('type: "ParseOutput" top: "a" top: "b"', x.shape)
    classes, scores = run(layer, x)
    for n, i, j in np.ndindex(2, 3, 2):
        line = x[n, :, i, j].tolist()
        assert classes[n, 0, i, j] == line.index(max(line))
        assert scores[n, 0, i, j] == max(line)


def test_parse_evaluate(make_layer: LayerMaker, run: Runner) -> None:
    rng = np.random.default_rng(1)
    found, true = rng.integers(0, 4, (2, 2, 1, 3, 4))
    true[0, 0, 0] = 255
    layer = make_layer(
        'type: "ParseEvaluate" parse_evaluate_param { num_labels: 5 ignore_label: 255 }',
        found.shape,
        true.shape,
    )
    want = np.zeros((5, 3))
    for f, t in zip(found.ravel(), true.ravel(), strict=True):
        if t != 255:
            want[t, 0] += f == t
            want[t, 1] += 1
            want[f, 2] += 1
    np.testing.assert_array_equal(run(layer, found, true)[0], want.reshape(1, 5, 1, 3))
    with pytest.raises(DataError, match="label 5 is outside of the 5 labels"):
        run(layer, found + 2, true)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="takes x"):
        make_layer('type: "Grouping"', (2, 3, 3, 4), (2, 1, 4, 3))
    with pytest.raises(NetError, match="takes scores"):
        make_layer('type: "ParseOutput"', (2, 3))
    with pytest.raises(NetError, match="num_labels is missing"):
        make_layer('type: "ParseEvaluate"', (1, 1, 2, 2), (1, 1, 2, 2))
    with pytest.raises(NetError, match="takes found and true labels"):
        make_layer(
            'type: "ParseEvaluate" parse_evaluate_param { num_labels: 2 }', (1, 1, 2, 2), (1, 2, 2)
        )
