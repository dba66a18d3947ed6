"""WindowData: windows of images, and what batches were made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from tests.layers.data_layers import data_layer, image_layer, with_tops, write_images, write_list

from moka.layers.data import WindowData

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


def window_layer(
    make_layer: LayerMaker, folder: Path, param: str = "", more: str = ""
) -> WindowData:
    """Two windows of an image of the value 100, one of them background."""
    cv2.imwrite(str(folder / "a.png"), np.full((8, 8, 3), 100, np.uint8))
    (folder / "w.txt").write_text("# 0\na.png\n3\n8\n8\n2\n2 0.9 0 0 3 7\n7 0.4 4 4 7 7\n")
    own = f'source: "{folder}/w.txt" root_folder: "{folder}/" batch_size: 4 {param}'
    fields = f"window_data_param {{ {own} }} transform_param {{ crop_size: 5 {more} }}"
    made = make_layer(with_tops("WindowData", "a b", fields), training=True)
    assert isinstance(made, WindowData)
    return made


@pytest.mark.parametrize(
    ("param", "labels"),
    [
        ("", [0, 0, 0, 2]),
        ("fg_fraction: 0.5", [0, 0, 2, 2]),
        ("fg_threshold: 0.3 fg_fraction: 1", {2, 7}),
        ("bg_threshold: 0.2 fg_fraction: 1", [2, 2, 2, 2]),
    ],
)
def test_window_data(
    make_layer: LayerMaker, tmp_path: Path, param: str, labels: list[int] | set[int]
) -> None:
    torch.manual_seed(0)
    made = window_layer(make_layer, tmp_path, param)
    assert made.top_shapes() == [(4, 3, 5, 5), (4,)]
    data, got = made()
    assert torch.equal(data, torch.full((4, 3, 5, 5), 100.0))
    assert (set(got.tolist()) if isinstance(labels, set) else got.tolist()) == labels
    made.close()


@pytest.mark.parametrize(
    ("param", "more", "value"),
    [
        ("scale: 0.5", "", 50),
        ("", "scale: 0.5 mean_value: 20", 40),
        ("scale: 0.5", "scale: 0.5 mean_value: 20", 20),
    ],
)
def test_window_data_is_scaled_by_either_message(
    make_layer: LayerMaker, tmp_path: Path, param: str, more: str, value: float
) -> None:
    made = window_layer(make_layer, tmp_path, param, more)
    assert torch.equal(made()[0], torch.full((4, 3, 5, 5), float(value)))
    made.close()


def test_window_data_with_context(make_layer: LayerMaker, tmp_path: Path) -> None:
    """The tall window grows to a square and beyond the image on three sides."""
    param = 'crop_mode: "square" context_pad: 1 fg_fraction: 1 cache_images: true'
    made = window_layer(make_layer, tmp_path, param)
    data, _ = made()
    assert 0 < (data > 0).sum() < data.numel()
    assert not data[:, :, 0].any()
    assert not data[:, :, :, 1].any()
    assert made.notes() == [
        "Number of images: 1",
        "class 0 has 1 samples",
        "class 2 has 1 samples",
        "Amount of context padding: 1",
        "Crop mode: square",
        "output data size: 4,3,5,5",
    ]
    made.close()


def test_window_data_may_keep_its_images(make_layer: LayerMaker, tmp_path: Path) -> None:
    made = window_layer(make_layer, tmp_path, "cache_images: true")
    wanted, _ = made()
    (tmp_path / "a.png").unlink()
    for _ in range(10):  # more than are made ahead
        assert torch.equal(made()[0], wanted)
    made.close()


def test_window_data_goes_on_from_a_state(make_layer: LayerMaker, tmp_path: Path) -> None:
    param = "fg_threshold: 0.3 fg_fraction: 1"
    first, second = (window_layer(make_layer, tmp_path, param) for _ in range(2))
    for _ in range(3):
        first()
    second.load_state(first.state())
    for _ in range(6):
        assert first()[1].tolist() == second()[1].tolist()
    for made in (first, second):
        made.close()


def test_what_the_last_batch_was_made_of(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    made = data_layer(make_layer, tmp_path / "db")
    assert made.batch_names() == []
    for wanted in ((0, 1), (2, 3), (4, 0)):
        made()
        assert made.batch_names() == [f"{k:08}" for k in wanted]
    made.close()


def test_files_that_batches_will_need(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    images = image_layer(make_layer, write_list(tmp_path))
    windows = window_layer(make_layer, tmp_path)
    data = data_layer(make_layer, tmp_path / "db")
    assert images.later_files() == [f"{tmp_path}/{k}.png" for k in range(5)]
    assert windows.later_files() == [f"{tmp_path}/a.png"]
    assert data.later_files() == []
    for made in (images, windows, data):
        made.close()
