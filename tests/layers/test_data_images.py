"""ImageData: images of lists, in one size or many, in order or shuffled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from tests.layers.data_layers import image_layer, write_list

from moka.errors import DataError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


def test_image_data_reads_a_list(make_layer: LayerMaker, tmp_path: Path) -> None:
    made = image_layer(make_layer, write_list(tmp_path), "transform_param { scale: 0.5 }")
    assert made.top_shapes() == [(2, 3, 4, 6), (2,)]
    for k in range(5):
        images, labels = made()
        assert labels.tolist() == [2 * k % 5, (2 * k + 1) % 5]
        wanted = (10 * labels[:, None] + torch.arange(3)) * 0.5
        assert torch.equal(images, wanted[:, :, None, None].expand(2, 3, 4, 6))
    made.close()


@pytest.mark.parametrize(
    ("param", "more", "shape"),
    [
        ("is_color: false", "", (2, 1, 4, 6)),
        ("new_height: 3 new_width: 8", "", (2, 3, 3, 8)),
        ("short_side: 8", "", (2, 3, 8, 12)),
        ("new_height: 5 new_width: 9", "transform_param { crop_size: 2 }", (2, 3, 2, 2)),
        ("", "transform_param { crop_h: 2 crop_w: 3 }", (2, 3, 2, 3)),
        ("", "transform_param { resize_param { height: 9 width: 7 } }", (2, 3, 9, 7)),
        (
            "",
            "transform_param { crop_size: 5 random_resize_param { min_size: 6 max_size: 9 } }",
            (2, 3, 5, 5),
        ),
        (
            "",
            "transform_param { crop_size: 4 img_rand_resize_lower: 6 img_rand_resize_upper: 9"
            " allow_upscale: true }",
            (2, 3, 4, 4),
        ),
    ],
)
def test_image_data_makes_one_size(
    make_layer: LayerMaker, tmp_path: Path, param: str, more: str, shape: tuple[int, ...]
) -> None:
    made = image_layer(make_layer, write_list(tmp_path), more, param)
    assert made.top_shapes()[0] == made()[0].shape == shape
    made.close()


def test_image_data_takes_its_shape_from_each_batch(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    for k in (2, 3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((5, 5, 3), np.uint8))
    made = image_layer(make_layer, list_file)
    assert [made()[0].shape for _ in range(2)] == [(2, 3, 4, 6), (2, 3, 5, 5)]
    made.close()


def test_image_data_goes_on_from_a_state(make_layer: LayerMaker, tmp_path: Path) -> None:
    options = ("transform_param { crop_size: 2 mirror: true }", "shuffle: true rand_skip: 3")
    write_list(tmp_path)
    rng = np.random.default_rng(2)
    for k in range(5):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 256, (4, 6, 3), np.uint8))
    first, second = (image_layer(make_layer, tmp_path / "list.txt", *options) for _ in range(2))
    for _ in range(4):
        first()
    second()
    second.load_state(first.state())
    for _ in range(6):
        for a, b in zip(first(), second(), strict=True):
            assert torch.equal(a, b)
    for made in (first, second):
        made.close()


def first_labels(
    make_layer: LayerMaker, list_file: Path, param: str, count: int
) -> list[tuple[float, ...]]:
    """The labels of the first two batches of so many layers, one seed after the other."""
    labels = []
    for seed in range(count):
        torch.manual_seed(seed)
        made = image_layer(make_layer, list_file, param=param)
        labels.append((*made()[1].tolist(), *made()[1].tolist()))
        made.close()
    return labels


def test_image_data_shuffles_by_the_seed(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    orders = first_labels(make_layer, list_file, "shuffle: true", 8)
    assert len(set(orders)) > 4
    assert all(len(set(order)) == 4 for order in orders)
    assert orders == first_labels(make_layer, list_file, "shuffle: true", 8)


def test_image_data_skips_by_the_seed(make_layer: LayerMaker, tmp_path: Path) -> None:
    labels = first_labels(make_layer, write_list(tmp_path), "rand_skip: 3", 20)
    assert set(labels) == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 0)}


def test_image_data_says_what_it_opened(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    made = image_layer(make_layer, list_file, param="rand_skip: 5 shuffle: true")
    state = made.state()
    assert made.notes() == [
        f"Opening file {list_file}",
        "Shuffling data",
        "A total of 5 images.",
        f"Skipping first {state.records_read} data points.",
        "output data size: 2,3,4,6",
    ]
    made.close()
    made = image_layer(make_layer, list_file)
    assert made.notes() == [
        f"Opening file {list_file}",
        "A total of 5 images.",
        "output data size: 2,3,4,6",
    ]
    made.close()


def test_image_data_names_an_image_that_is_missing(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    (tmp_path / "3.png").unlink()
    made = image_layer(make_layer, list_file)
    made()
    with pytest.raises(
        DataError, match=r"list\.txt: line 4: Could not load .*/3\.png: No such file"
    ):
        made()
    made.close()
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"Could not load .*/0\.png"):
        image_layer(make_layer, list_file)
