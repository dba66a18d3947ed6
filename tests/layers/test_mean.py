from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import DataError, NetError
from moka.schema import write_binary
from moka.schema.blobproto import from_array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def test_values_of_channels(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(2, 4, 3, 2)
    layer = make_layer(
        'type: "Mean" mean_param { operation: SUBTRACT value: 1 value: 3 mean_scale: 2'
        " input_scale: 5 output_scale: 0.5 }",
        x.shape,
    )
    (y,) = run(layer, x)
    for c in range(4):
        np.testing.assert_allclose(
            y[:, c], 0.5 * (5 * x[:, c] - 2 * (1, 3)[c % 2]), rtol=1e-5, atol=1e-5
        )
    check_gradient(layer, x)


def test_an_image_for_several_bottoms(
    make_layer: LayerMaker, run: Runner, spread: Spread, tmp_path: Path
) -> None:
    mean = spread(1, 2, 3, 2)
    write_binary(tmp_path / "mean", from_array(mean))
    text = f'type: "Mean" mean_param {{ file: "{tmp_path}/mean" }} top: "y" top: "z"'
    x, z = spread(2, 4, 3, 2), spread(1, 2, 3, 2)
    tops = run(make_layer(text, x.shape, z.shape), x, z)
    np.testing.assert_allclose(tops[0], x + np.concatenate([mean, mean], 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tops[1], z + mean, rtol=1e-5, atol=1e-5)
    with pytest.raises(NetError, match=r"does not fit a bottom of shape \(2, 4, 2, 3\)"):
        make_layer(text.replace('top: "z"', ""), (2, 4, 2, 3))
    write_binary(tmp_path / "mean", from_array(mean[0]))
    with pytest.raises(DataError, match="a mean file holds one image"):
        make_layer(text.replace('top: "z"', ""), (2, 4, 3, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a value for each channel, or a file"),
        ("mean_param { value: 1 value: 2 }", r"\(2,\) does not fit a bottom of shape \(2, 3\)"),
        ('mean_param { value: 1 } top: "y" top: "z"', "as many tops as bottoms, 1, got 2"),
    ],
)
def test_bad_options(make_layer: LayerMaker, text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Mean" {text}', (2, 3))
