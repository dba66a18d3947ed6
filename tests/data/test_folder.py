from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.data.decode import decode_image
from moka.data.folder import CLASSES_NAMED, ClassFolder
from moka.errors import DataError


def write(root: Path, *names: str) -> None:
    """Images of 2 x 3 pixels, each of one value: its place among the names."""
    for value, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.full((2, 3), value, np.uint8))[1].tobytes())


def listed(folder: ClassFolder) -> list[tuple[str, int]]:
    return [(file.path, file.label) for file in folder.files]


def test_classes_are_sorted_names_and_images_sorted_in_each(tmp_path: Path) -> None:
    write(tmp_path, "dog/b.png", "cat/2.jpg", "dog/a.PNG", "cat/10.jpeg", "Zebra/x.webp")
    folder = ClassFolder(tmp_path, decode_image)
    assert folder.classes == ["Zebra", "cat", "dog"]
    assert listed(folder) == [
        ("Zebra/x.webp", 0),
        ("cat/10.jpeg", 1),
        ("cat/2.jpg", 1),
        ("dog/a.PNG", 2),
        ("dog/b.png", 2),
    ]
    assert len(folder) == 5
    assert folder.later_files() == []


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff"])
def test_images_are_known_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, f"a/x.{suffix}", "a/png", "a/x.png.txt", "a/Thumbs.db")
    assert listed(ClassFolder(tmp_path, decode_image)) == [(f"a/x.{suffix}", 0)]


def test_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    """Sorted by folder, then name, as torchvision has it: a folder comes before what is below."""
    write(tmp_path, "a/m/1.png", "a/m-n/1.png", "a/z.png", "a/m/deep/1.png", "b/x.png")
    assert listed(ClassFolder(tmp_path, decode_image)) == [
        ("a/z.png", 0),
        ("a/m/1.png", 0),
        ("a/m-n/1.png", 0),
        ("a/m/deep/1.png", 0),
        ("b/x.png", 1),
    ]


def test_hidden_names_and_loose_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a/x.png", "a/._x.png", "a/.cache/y.png", ".git/z.png", "loose.png")
    folder = ClassFolder(tmp_path, decode_image)
    assert (folder.classes, listed(folder)) == (["a"], [("a/x.png", 0)])


def test_linked_folders_count(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/x.png", "elsewhere/more/y.png", "root/b/z.png")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "b" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    folder = ClassFolder(tmp_path / "root", decode_image)
    wanted = [("a/x.png", 0), ("a/more/y.png", 0), ("b/z.png", 1), ("b/linked/y.png", 1)]
    assert listed(folder) == wanted


@pytest.mark.parametrize("slash", ["", "/"])
def test_load(tmp_path: Path, slash: str) -> None:
    write(tmp_path, "a/0.png", "a/1.png", "b/2.png")
    folder = ClassFolder(f"{tmp_path}{slash}", decode_image)
    records = list(islice(folder.records(1, None), 3))
    assert [folder.name(r) for r in records] == [
        f"{tmp_path}/{name}" for name in ("a/1.png", "b/2.png", "a/0.png")
    ]
    images, labels = folder.load(records)
    assert list(labels) == [0, 1, 0]
    np.testing.assert_array_equal([image[0, 0, 0] for image in images], [1, 2, 0])


def test_shuffled_by_the_seed(tmp_path: Path) -> None:
    write(tmp_path, *(f"a/{k}.png" for k in range(10)))
    folder = ClassFolder(tmp_path, decode_image, shuffle=True)
    straight = list(islice(folder.records(0, 1), 30))
    assert straight[:10] != straight[10:20]
    assert sorted(straight[10:20]) == list(folder.files)
    assert list(islice(folder.records(7, 1), 23)) == straight[7:]


def test_notes_say_which_number_is_which_class(tmp_path: Path) -> None:
    write(tmp_path, "dog/b.png", "cat/a.png", "dog/a.png")
    classes = ['class 0 is "cat": 1 images', 'class 1 is "dog": 2 images']
    assert ClassFolder(tmp_path, decode_image).notes() == [
        "3 images of 2 classes, one class after the other.",
        *classes,
    ]
    shuffled = ClassFolder(tmp_path, decode_image, shuffle=True)
    assert shuffled.notes() == ["3 images of 2 classes.", *classes]


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_notes_name_so_many_classes_at_most(tmp_path: Path, extra: int) -> None:
    count = CLASSES_NAMED + extra
    write(tmp_path, *(f"c{k:02}/a.png" for k in range(count)))
    notes = ClassFolder(tmp_path, decode_image).notes()[1:]
    assert [n.split()[1] for n in notes if n.startswith("class ")] == [
        str(k) for k in (*range(CLASSES_NAMED - 1), count - 1)
    ]
    said = [n for n in notes if not n.startswith("class ")]
    assert said == ([f"... {extra} more classes, by name ..."] if extra else [])


@pytest.mark.parametrize("loose", [[], ["a.png"]])
def test_a_folder_without_subfolders(tmp_path: Path, loose: list[str]) -> None:
    write(tmp_path, *loose)
    says = f"^{tmp_path}: the folder holds neither a subfolder of images for each class nor a datab"
    with pytest.raises(DataError, match=says):
        ClassFolder(tmp_path, decode_image)


def test_a_class_without_images(tmp_path: Path) -> None:
    write(tmp_path, "a/x.png", "b/readme.txt")
    says = f"^{tmp_path}/b: this subfolder, which would be a class, holds no image. Images are know"
    with pytest.raises(DataError, match=says):
        ClassFolder(tmp_path, decode_image)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no: the folder cannot be read: No such file"):
        ClassFolder(tmp_path / "no", decode_image)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_class_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, "a/x.png", "a/b/y.png")
    (tmp_path / "a" / "b").chmod(0)
    with pytest.raises(DataError, match="a/b: the folder cannot be read: Permission denied"):
        ClassFolder(tmp_path, decode_image)


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "the file is empty"), (b"x", "the image cannot be decoded")]
)
def test_an_image_that_is_none(tmp_path: Path, content: bytes, says: str) -> None:
    write(tmp_path, "a/x.png")
    (tmp_path / "a" / "x.png").write_bytes(content)
    folder = ClassFolder(tmp_path, decode_image)
    with pytest.raises(DataError, match=f"^{tmp_path}: Could not load {tmp_path}/a/x.png: {says}"):
        folder.load(folder.files)
