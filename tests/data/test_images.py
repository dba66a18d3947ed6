from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.data.decode import Decoder, resize
from moka.data.images import (
    ImageList,
    Labeled,
    parse_line,
    read_image,
    read_image_list,
)
from moka.errors import DataError
from moka.types import Array

IN_COLOR = Decoder(color=True)
BGR = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), BGR)
    return tmp_path / "a.png"


def test_an_image_in_color(image: Path) -> None:
    np.testing.assert_array_equal(read_image(image, color=True), BGR.transpose(2, 0, 1))


def test_an_image_in_gray(image: Path) -> None:
    gray = read_image(image, color=False)
    wanted = BGR @ [0.114, 0.587, 0.299]  # ITU-R BT.601, blue first
    assert gray.shape == (1, 5, 7)
    np.testing.assert_allclose(gray[0], wanted, atol=1)


def test_a_gray_file_in_color(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "g.png"), BGR[:, :, 0])
    np.testing.assert_array_equal(read_image(tmp_path / "g.png", color=True), [BGR[:, :, 0]] * 3)


def slow_resize(image: Array, height: int, width: int) -> Array:
    """Bilinear, half-pixel centers, one pixel after the other."""
    _, rows, columns = image.shape
    out = np.zeros((image.shape[0], height, width))
    for c, i, j in np.ndindex(*out.shape):
        y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
        x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
        for k, m in np.ndindex(rows, columns):
            near = max(0, 1 - abs(y - k)) * max(0, 1 - abs(x - m))
            out[c, i, j] += near * image[c, k, m]
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(5, 7), (10, 14), (4, 9), (2, 3), (1, 1)])
def test_resize(channels: int, height: int, width: int) -> None:
    image = BGR.transpose(2, 0, 1)[:channels]
    got = resize(image, height, width)
    assert got.shape == (channels, height, width)
    assert got.dtype == np.uint8
    np.testing.assert_allclose(got, slow_resize(image, height, width), atol=1)


def test_an_image_is_resized(image: Path) -> None:
    assert read_image(image, color=True, size=(3, 4)).shape == (3, 3, 4)
    assert read_image(image, color=False, size=(3, 4)).shape == (1, 3, 4)
    assert read_image(image).shape == (3, 5, 7)


def test_an_image_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^Could not load .*/no\.png: No such file or directory"):
        read_image(tmp_path / "no.png", color=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "the file is empty"), (b"no image", "the image cannot be decoded")],
)
def test_a_file_that_is_no_image(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "no.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"^Could not load .*/no\.png: {says}\.$"):
        read_image(tmp_path / "no.png", color=True)


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a.png 3", "a.png", 3),
        ("my dog.png 12", "my dog.png", 12),
        ("a.png -1", "a.png", -1),
        ("a.png +1", "a.png", 1),
        ("a.png 7th", "a.png", 7),
        ("a.png \t7", "a.png", 7),
        ("a.png cat", "a.png", 0),
        ("a.png - 1", "a.png -", 1),
        ("a.png 3 ", "a.png", 3),
        ("a.png 3\t", "a.png", 3),
        ("a.png 3 \r", "a.png", 3),
        ("my dog.png 12  ", "my dog.png", 12),
        ("a.png", "a.png", 0),
        ("12.png", "12.png", 12),
        ("a.png\t3", "a.png\t3", 0),
        ("a.png 3.9", "a.png", 3),
    ],
)
def test_lines_are_split_at_the_last_blank(line: str, path: str, label: int) -> None:
    assert parse_line(line) == (path, label)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_read_list(tmp_path: Path, ending: str) -> None:
    (tmp_path / "list.txt").write_bytes(ending.join(["a 1", "", "b\x0b\xe9 2", "c"]).encode())
    assert read_image_list(tmp_path / "list.txt") == [("a", 1, 1), ("b\x0b\xe9", 2, 3), ("c", 0, 4)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_list_from_windows(tmp_path: Path, encoding: str) -> None:
    text = "é 1\r\n\r\nb c 2 \r\n"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert read_image_list(tmp_path / "list.txt") == [("é", 1, 1), ("b c", 2, 3)]


def test_paths_with_backslashes(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    cv2.imwrite(str(tmp_path / "img/a.png"), BGR)
    (tmp_path / "list.txt").write_text("img\\a.png 1\n")
    images = ImageList(tmp_path / "list.txt", IN_COLOR, root_folder=f"{tmp_path}/")
    np.testing.assert_array_equal(images.load(images.files).images[0], BGR.transpose(2, 0, 1))


def test_a_null_character_in_a_path(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0.png 1\n")
    images = ImageList(tmp_path / "list.txt", IN_COLOR)
    with pytest.raises(DataError, match=r"line 1: Could not load .*null character\."):
        images.load(images.files)


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = b"caf\xe9.png"
    (tmp_path / "list.txt").write_bytes(name + b" 1\n")
    encoded = cv2.imencode(".png", BGR)[1].tobytes()
    (tmp_path / name.decode(errors="surrogateescape")).write_bytes(encoded)
    images = ImageList(tmp_path / "list.txt", IN_COLOR, root_folder=f"{tmp_path}/")
    loaded = images.load([images.files[0]])
    np.testing.assert_array_equal(loaded.images[0], BGR.transpose(2, 0, 1))


@pytest.mark.parametrize(("content", "says"), [("", "File is empty"), ("\n\n", "File is empty")])
def test_an_empty_list(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(DataError, match=rf"list\.txt: {says}"):
        read_image_list(tmp_path / "list.txt")


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt: No such file .*a folder with a subfolder"):
        read_image_list(tmp_path / "list.txt")


def test_a_list_without_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "list.txt"
    source.write_text("a.png 1\nb.png\n\nc d.png x\n")
    with caplog.at_level("WARNING", "moka"):
        assert read_image_list(source) == [("a.png", 1, 1), ("b.png", 0, 2), ("c d.png", 0, 4)]
    assert caplog.messages == [
        f'{source}: line 2, "b.png", does not end with a blank and an integer label, so its label'
        " is 0; there are 2 such lines."
    ]


COUNT = 6


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {10 * i}\n" for i in range(COUNT)))
    for i in range(COUNT):
        cv2.imwrite(str(tmp_path / f"{i}.png"), BGR + i)
    return tmp_path / "list.txt"


@pytest.mark.parametrize("start", [0, 2, 5, 6, 13])
@pytest.mark.parametrize("step", [1, 4, 8])
def test_images_come_in_order_and_start_over(list_file: Path, start: int, step: int) -> None:
    got = islice(ImageList(list_file, IN_COLOR).records(start, None, step), 10)
    assert [line.label // 10 for line in got] == [(start + step * i) % COUNT for i in range(10)]


@pytest.mark.parametrize("start", [0, 4, 6, 13])
def test_shuffled_images_do_too(list_file: Path, start: int) -> None:
    images = ImageList(list_file, IN_COLOR, shuffle=True)
    straight = list(islice(images.records(0, 5), 10 * COUNT))
    assert list(islice(images.records(start, 5), 10 * COUNT - start)) == straight[start:]
    assert list(islice(images.records(start, 5, 2), 10)) == straight[start : start + 20 : 2]
    epochs = [tuple(straight[k : k + COUNT]) for k in range(0, 10 * COUNT, COUNT)]
    assert all(Counter(epoch) == Counter(images.files) for epoch in epochs)
    assert len(set(epochs)) > 5
    assert list(islice(images.records(0, 6), COUNT)) != straight[:COUNT]


def test_groups_stay_together(list_file: Path) -> None:
    """Those that fill no group are left out, as long as the list is shuffled."""
    images = ImageList(list_file, IN_COLOR, shuffle=True, group=4)
    assert [x.label // 10 for x in islice(images.records(0, 5), 8)] == [0, 1, 2, 3] * 2
    assert len(ImageList(list_file, IN_COLOR, group=4)) == COUNT
    with pytest.raises(DataError, match=f"its {COUNT} images are less than one group of 7"):
        ImageList(list_file, IN_COLOR, shuffle=True, group=7)


def test_load(list_file: Path) -> None:
    images = ImageList(list_file, IN_COLOR, root_folder=f"{list_file.parent}/")
    loaded = images.load([images.files[4], images.files[1]])
    assert loaded.labels == [40, 10]
    np.testing.assert_array_equal(
        np.stack(list(loaded.images)), [(BGR + i).transpose(2, 0, 1) for i in (4, 1)]
    )


def test_load_gray_and_resized(list_file: Path) -> None:
    decode = Decoder(color=False, size=(2, 3))
    images = ImageList(list_file, decode, root_folder=f"{list_file.parent}/")
    (image,) = images.load(images.files[:1]).images
    assert image.shape == (1, 2, 3)


def test_an_image_of_the_list_that_is_missing(list_file: Path) -> None:
    images = ImageList(list_file, IN_COLOR, root_folder="nowhere/")
    with pytest.raises(
        DataError, match=rf"^{list_file}: line 3: Could not load nowhere/2\.png: No such"
    ):
        images.load(images.files[2:3])


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty"), (b"x", "cannot be decoded")])
def test_an_image_of_the_list_that_is_none(list_file: Path, content: bytes, says: str) -> None:
    list_file.write_text(f"\n{list_file.read_text()}")  # lines are counted in the file
    (list_file.parent / "2.png").write_bytes(content)
    images = ImageList(list_file, IN_COLOR, root_folder=f"{list_file.parent}/")
    with pytest.raises(DataError, match=rf"txt: line 4: Could not load .*/2\.png: .*{says}\.$"):
        images.load(images.files)


def test_the_root_folder_is_put_before_the_path_as_it_is(list_file: Path) -> None:
    prefix = str(list_file.parent) + "/"
    images = ImageList(list_file, IN_COLOR, root_folder=prefix)
    assert images.name(Labeled("2.png", 0)) == prefix + "2.png"
    assert ImageList(list_file, IN_COLOR, root_folder="a").name(Labeled("2.png", 0)) == "a2.png"


@pytest.mark.parametrize("line", ["0.png 1 0 1", "0.png,1", "0.png\t1", '"0.png" 1', "a b.png 1 3"])
def test_a_line_that_is_divided_otherwise(list_file: Path, line: str) -> None:
    (list_file.parent / "a b.png").write_bytes((list_file.parent / "0.png").read_bytes())
    list_file.write_text(line)
    images = ImageList(list_file, IN_COLOR, root_folder=f"{list_file.parent}/")
    there = "a b.png" if line[0] == "a" else "0.png"
    with pytest.raises(DataError, match=rf"/{there} is there: a line is a name.*one blank"):
        images.load([next(images.records(0, None))])


def test_a_missing_file_gets_no_advice_about_lines(list_file: Path) -> None:
    list_file.write_text("none here.png 1")
    images = ImageList(list_file, IN_COLOR, root_folder=f"{list_file.parent}/")
    with pytest.raises(DataError) as caught:
        images.load([next(images.records(0, None))])
    assert caught.value.advice is None


def test_a_label_of_thousands_of_digits() -> None:
    path, label = parse_line("a.jpg " + "9" * 5000)
    assert path == "a.jpg"
    assert label == 10**18 - 1
