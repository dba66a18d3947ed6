from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moka.errors import DataError
from moka.layers.detection.sizes import image_to_pixels, read_name_sizes
from moka.schema import caffe_pb2, parse_text

BOXES = torch.tensor([[0.1, 0.2, 0.5, 0.75], [-0.5, 0, 0.5, 1.5]], dtype=torch.float64)


def resize(text: str) -> caffe_pb2.ResizeParameter:
    return parse_text(text, caffe_pb2.ResizeParameter)


def test_names_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text("one 480 640\ntwo 10 20\n")
    assert read_name_sizes(str(path)) == [("one", 480, 640), ("two", 10, 20)]
    path.write_text("one 480\n")
    with pytest.raises(DataError, match="a name, a height and a width"):
        read_name_sizes(str(path))
    with pytest.raises(DataError, match="failed to open"):
        read_name_sizes(str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    "text", [None, "resize_mode: WARP", "resize_mode: FIT_SMALL_SIZE height: 30 width: 30"]
)
def test_both_sides_by_themselves(text: str | None) -> None:
    have = image_to_pixels(BOXES, 100, 200, resize(text) if text else None)
    want = [[20, 20, 100, 75], [0, 0, 100, 100.0]]
    torch.testing.assert_close(have, torch.tensor(want, dtype=torch.float64))


def test_small_side_fitted() -> None:
    given = resize("resize_mode: FIT_SMALL_SIZE height_scale: 50 width_scale: 80")
    have = image_to_pixels(BOXES, 60, 70, given)
    want = [[8, 10, 40, 37.5], [0, 0, 40, 60.0]]
    torch.testing.assert_close(have, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("wide", [True, False])
def test_border_of_a_fitted_image(wide: bool) -> None:
    """An image twice as wide as high fills the middle half of a square; or the other way."""
    given = resize("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 300 width: 300")
    box = torch.tensor([[0.25, 0.25, 0.75, 0.5]])
    height, width = (100, 200) if wide else (200, 100)
    have = image_to_pixels(box, height, width, given)
    want = [[50, 0, 150, 50.0]] if wide else [[0, 50, 100, 100.0]]
    torch.testing.assert_close(have, torch.tensor(want))


def test_a_box_on_the_border_stays_as_it_is() -> None:
    given = resize("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 300 width: 300")
    have = image_to_pixels(torch.tensor([[0.1, 0, 0.3, 0.2]]), 100, 200, given)
    torch.testing.assert_close(have, torch.tensor([[20, 0, 60, 20.0]]))


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "4294967296"])
def test_sizes_that_no_image_has(tmp_path: Path, size: str) -> None:
    (tmp_path / "list").write_text(f"a 3 {size}\n")
    with pytest.raises(DataError, match="must hold a name, a height and a width on each line"):
        read_name_sizes(str(tmp_path / "list"))


def test_names_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"caf\xe9 3 4\n")
    assert [size for _, *size in read_name_sizes(str(tmp_path / "list"))] == [[3, 4]]
