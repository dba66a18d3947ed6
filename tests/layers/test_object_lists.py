"""EvalData, and what the layers over lists of objects share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), np.uint8)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for k, pixels in enumerate(PIXELS):
        cv2.imwrite(f"{k}.png", pixels)
    Path("list.txt").write_text(
        "# 0 0.png 3 40 60 2 1 0 0 5 5 24 34 2 1 1 0 0 9 9 0 # 1 1.png 3 40 60 0 0"
    )


def eval_layer(make_layer: LayerMaker, fields: str, more: str = "", tops: int = 3) -> Layer:
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    return make_layer(
        f'type: "EvalData" {names} eval_data_param {{ source: "list.txt" {fields} }} {more}'
    )


def test_images_and_boxes_in_multiples_of_32(make_layer: LayerMaker) -> None:
    layer = eval_layer(make_layer, "batch_size: 1", "transform_param { mean_value: 100 scale: 2 }")
    assert layer.first_top_shapes == [(1, 3, 32, 64), (1, 8, 1, 1), (1, 2, 1, 1)]
    data, boxes, sizes = layer()
    resized = cv2.resize(PIXELS[0], (64, 32), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    np.testing.assert_array_equal(data[0], (resized.transpose(2, 0, 1) - 100) * 2)
    assert sizes.flatten().tolist() == [32, 64]
    x, y = 64 / 60, 32 / 40
    np.testing.assert_allclose(
        boxes.flatten(1),
        [[0, 5 * x, 5 * y, 24 * x, 34 * y, 1, 0, 0], [0, 0, 0, 9 * x, 9 * y, 2, 1, 1]],
        rtol=1e-6,
    )
    assert layer()[1].flatten().tolist() == [-1] * 8
    assert layer()[1].shape == (2, 8, 1, 1)  # the first image again


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("resize_width: 100 resize_height: 60", (64, 96)),
        ("short_size: 80 long_size: 200", (96, 128)),  # 80 x 120
        ("short_size: 80 long_size: 100", (96, 96)),  # 80 x 100
        ("short_size: 10 long_size: 12", (32, 32)),  # never 0
    ],
)
def test_sizes(make_layer: LayerMaker, fields: str, size: tuple[int, int]) -> None:
    layer = eval_layer(make_layer, f"batch_size: 1 {fields}", tops=2)
    assert layer.first_top_shapes == [(1, 3, *size), (1, 8, 1, 1)]


def test_several_images_have_one_size(make_layer: LayerMaker) -> None:
    fields = "batch_size: 2 resize_width: 64 resize_height: 64"
    data, boxes, sizes = eval_layer(make_layer, fields)()
    assert data.shape == (2, 3, 64, 64)
    assert boxes[:, 0].flatten().tolist() == [0, 0]
    assert torch.equal(sizes.flatten(1), torch.full((2, 2), 64.0))
    with pytest.raises(NetError, match="batch_size is 1, got 2"):
        eval_layer(make_layer, "batch_size: 2")
    with pytest.raises(NetError, match="give both short_size and long_size"):
        eval_layer(make_layer, "batch_size: 1 short_size: 9")


def test_it_goes_on_from_a_state(make_layer: LayerMaker) -> None:
    first, second = (eval_layer(make_layer, "batch_size: 1") for _ in range(2))
    first()
    second.load_state(first.state())  # type: ignore[operator]
    for a, b in zip(first(), second(), strict=True):
        assert torch.equal(a, b)
