from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from moka.data.decode import decode_image
from moka.data.folder import ClassFolder
from moka.data.shards import TarShards
from moka.data.sources import open_images
from moka.errors import DataError


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data/train/cat/a.png, data/list.txt, data/db/data.mdb, data/level/CURRENT, data/a.tar."""
    monkeypatch.chdir(tmp_path)
    names = ("train/cat/a.png", "list.txt", "db/data.mdb", "level/CURRENT", "db/cat/a.png")
    for name in names:
        path = Path("data", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with tarfile.open("data/a.tar", "w") as tar:
        for name in ("1.png", "1.cls"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())


@pytest.mark.parametrize(
    ("source", "root", "kind"),
    [
        ("data/train", "", ClassFolder),
        ("train", "data/", ClassFolder),
        ("in", "data/tra", ClassFolder),
        ("data/a.tar", "", TarShards),
        ("data/{a,a}.tar", "", TarShards),
        ("*.tar", "data/", TarShards),
        ("data/db", "", type(None)),
        ("data/level", "", type(None)),
        ("data/list.txt", "", type(None)),
        ("data/list.txt", "data/", type(None)),
        ("nowhere", "", type(None)),
    ],
)
def test_what_a_source_is(source: str, root: str, kind: type) -> None:
    assert type(open_images(source, decode_image, root_folder=root)) is kind


def test_a_list_beside_a_folder_of_its_name() -> None:
    Path("train").touch()
    assert open_images("train", decode_image, root_folder="data/") is None


def test_the_root_folder_counts_for_a_folder_too() -> None:
    with pytest.raises(DataError, match=r"^data/data/train: the folder cannot be read: No such"):
        open_images("data/train", decode_image, root_folder="data/")


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("source", ["data/train", "data/a.tar"])
def test_shuffle_and_decode_are_handed_on(source: str, shuffle: bool) -> None:
    made = open_images(source, decode_image, shuffle=shuffle)
    assert isinstance(made, ClassFolder | TarShards)
    assert (made.shuffle, made.decode) == (shuffle, decode_image)
