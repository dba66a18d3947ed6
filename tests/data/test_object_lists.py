from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.data.object_lists import ObjectFiles, read_object_list
from moka.errors import DataError

CASCADE = "# 0\na.png\n3\n10\n20\n2\n1 0 1 2 3 9 8\n3 1 0 0 0 5 5\n1\n4 4 6 6\n# 1 b.png 3 4 5 0 0"
MSCNN = "# 0 a.png 3 10 20 1 2 0 2 3 9 8 0\n# 1 b.png 3 4 5 0 1 0 0 1 1\n"


def test_both_forms(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(CASCADE)
    first, second = read_object_list(tmp_path / "l.txt", with_difficult=True)
    assert (first.path, first.shape) == ("a.png", (3, 10, 20))
    assert first.objects.rows.tolist() == [[1, 0, 1, 2, 3, 9, 8], [3, 1, 0, 0, 0, 5, 5]]
    assert first.objects.regions.tolist() == [[4, 4, 6, 6]]
    assert second.objects.rows.shape == (0, 7)
    assert second.objects.regions.shape == (0, 4)
    (tmp_path / "l.txt").write_text(MSCNN)
    first, second = read_object_list(tmp_path / "l.txt", with_difficult=False)
    assert first.objects.rows.tolist() == [[2, 0, 0, 2, 3, 9, 8]]
    assert second.objects.regions.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Window file is empty"),
        ("a.png", 'image 0 cannot be read: "a.png" where "#" was expected'),
        ("# 0 a.png 3 4", "the file ends within it"),
        (MSCNN + "# 2 c.png 3 4 5 1 0 0 0 0 1 1 0", "image 2 .*labels are above 0"),
        (MSCNN + "# 2 c.png 3 4 5 -1", "a count of -1"),
        (MSCNN + "# 2 c.png 3 4 5 1 1 0 0 nan 1 1 0", "numbers have to be finite"),
        (MSCNN + "# 2 c.png 3 4 5 1 1 0 0 1e39 1 1 0", "numbers have to be finite"),
        (MSCNN + "# 2 c.png 3 four 5 1", "invalid literal"),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_object_list(tmp_path / "l.txt", with_difficult=False)
    assert "l.txt" in str(caught.value)


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_object_list(tmp_path / "gone.txt", with_difficult=True)


def test_images_with_objects_come_more_often(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(MSCNN)
    files = ObjectFiles(tmp_path / "l.txt", with_difficult=False, foreground_times=3)
    assert [image.path for image in files.images] == ["a.png"] * 3 + ["b.png"]
    assert files.notes() == [
        "Number of images: 4", "class 0 has 0 samples", "class 2 has 3 samples"
    ]  # fmt: skip
    assert files.later_files() == ["a.png", "b.png"]


def test_images_are_read_in_color(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((10, 20), 7, np.uint8))
    (tmp_path / "l.txt").write_text(MSCNN)
    files = ObjectFiles(tmp_path / "l.txt", with_difficult=False, root_folder=f"{tmp_path}/")
    (image,), _ = files.load(files.images[:1])
    assert image.shape == (3, 10, 20)
    with pytest.raises(DataError, match=r"Could not load .*b.png"):
        files.load(files.images[1:])
