from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from moka.data.decode import decode_image
from moka.data.shards import TarShards, expand_braces, find_shards, is_shards, parse_label
from moka.errors import DataError

Parts = dict[str, bytes]


def png(value: int) -> bytes:
    """An image of 2 x 3 pixels of one value."""
    return cv2.imencode(".png", np.full((2, 3), value, np.uint8))[1].tobytes()


def write(file: Path, parts: Parts, **options: Any) -> str:
    with tarfile.open(file, "w", **options) as tar:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(file)


def examples(*values: int) -> Parts:
    return {f"{v:03}{end}": c for v in values for end, c in ((".png", png(v)), (".cls", b"%d" % v))}


def shards_of(pattern: str | Path, **options: Any) -> TarShards:
    return TarShards(str(pattern), decode_image, **options)


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """a-0.tar with the examples 0 to 2, a-1.tar with 3 to 6; a pattern that names both."""
    write(tmp_path / "a-0.tar", examples(0, 1, 2))
    write(tmp_path / "a-1.tar", examples(3, 4, 5, 6))
    return f"{tmp_path}/a-{{0..1}}.tar"


# --- which files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..10}", ["a-8", "a-9", "a-10"]),
        ("a-{0..2}", ["a-0", "a-1", "a-2"]),
        ("a-{2..0}", ["a-2", "a-1", "a-0"]),
        ("a-{000..000}", ["a-000"]),
        ("{x,y}/{0..1}", ["x/0", "x/1", "y/0", "y/1"]),
        ("{x,{1..2}}", ["x", "1", "2"]),
        ("{x}-{}-{1..}", ["{x}-{}-{1..}"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert list(dict.fromkeys(expand_braces(pattern))) == names


@pytest.mark.parametrize("name", ["a.tar", "A.TAR", "a-{0..3}.tar", "x/*.tar", "a.tar.gz", "a.tgz"])
def test_what_is_called_a_shard(name: str) -> None:
    assert is_shards(name)
    assert not is_shards(f"{name}.txt")


def test_patterns_name_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a-10.tar", "a-9.tar", "b[1].tar", "{x,y}.tar", "x.tar"):
        Path(name).touch()
    assert find_shards("a-*.tar") == ["a-10.tar", "a-9.tar"]
    assert find_shards("a-{9..10}.tar") == ["a-9.tar", "a-10.tar"]
    assert find_shards("{x,a-?}.tar") == ["x.tar", "a-9.tar"]
    assert find_shards("{x,{x,a-9}}.tar") == ["x.tar", "a-9.tar"]
    assert find_shards("b[1].tar") == ["b[1].tar"]
    assert find_shards("{b[1],x}.tar") == ["b[1].tar", "x.tar"]
    assert find_shards("{x,y}.tar") == ["{x,y}.tar"]


@pytest.mark.parametrize("pattern", ["no.tar", "no-*.tar", "{x,no}.tar", "{x,no*}.tar"])
def test_shards_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.tar").touch()
    with pytest.raises(DataError, match=r"^no(-?\*)?\.tar: there is no such tar file\.$"):
        find_shards(pattern)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.TAR.BZ2", "a.tar.xz", "a.tar.zst"])
def test_compressed_shards_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    for pattern in (name, f"{name[:3]}*"):
        with pytest.raises(DataError, match=f"{name}: a compressed tar file cannot .* Decompress"):
            find_shards(f"{tmp_path}/{pattern}")


# --- order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 2, 3, 6, 7, 17])
def test_examples_come_in_order_and_start_over(shards: str, start: int) -> None:
    made = shards_of(shards)
    assert len(made) == 7
    records = list(islice(made.records(start, None), 15))
    wanted = [(start + i) % 7 for i in range(15)]
    folder = os.path.dirname(shards)
    assert [made.name(r) for r in records] == [
        f"{folder}/a-{v // 3 if v < 6 else 1}.tar/{v:03}" for v in wanted
    ]
    images, labels = made.load(records)
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal([image[0, 0, 0] for image in images], wanted)


@pytest.mark.parametrize("start", [0, 2, 7, 17])
def test_shuffled_examples_do_too(shards: str, start: int) -> None:
    made = shards_of(shards, shuffle=True)
    straight = made.load(list(islice(made.records(0, 3), 70))).labels
    epochs = np.reshape(straight, (10, 7)).tolist()
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 5
    later = made.load(list(islice(made.records(start, 3), 70 - start))).labels
    np.testing.assert_array_equal(later, straight[start:])


def test_notes(shards: str) -> None:
    assert shards_of(shards).notes() == ["7 images in 2 tar files."]
    assert shards_of(shards).later_files() == []


# --- what is an example ------------------------------------------------------------------------


def test_parts_are_joined_by_folder_and_name_up_to_the_first_dot(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.tar",
        {
            "x/1.cls": b"1\n",
            "y/1.JPEG": png(2),
            "x/1.seg.png": b"a mask",
            "README.txt": b"words",
            "x/1.png": png(1),
            "y/1.json": b'{"label": 2, "text": "a cat"}',
            "x/1.json": b"{}",
            "x/._1.png": b"a Mac's",
            "y/1.txt": b"words",
        },
    )
    made = shards_of(file)
    records = list(islice(made.records(0, None), 3))
    assert [r.key for r in records] == ["x/1", "y/1", "x/1"]
    assert np.asarray(made.load(records).labels).tolist() == [1, 2, 1]


LONG = "n" * 150  # more than a plain header holds


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_forms_of_tar(tmp_path: Path, form: int) -> None:
    name = f"{LONG[:80]}/{LONG[:80]}" if form == tarfile.USTAR_FORMAT else f"{LONG}/caf\xe9\udce9"
    file = write(tmp_path / "a.tar", {f"{name}.png": png(9), f"{name}.cls": b"4"}, format=form)
    made = shards_of(file)
    records = list(islice(made.records(0, None), 2))
    assert records[0].key == name
    assert np.asarray(made.load(records).labels).tolist() == [4, 4]


@pytest.mark.parametrize(
    "kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_what_is_no_plain_file_is_no_part(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        other = tarfile.TarInfo("b.png")
        other.type = kind
        for member in (other, tarfile.TarInfo("b.cls")):
            tar.addfile(member)
    with pytest.raises(DataError, match=r'example "b" has no image; its parts are: cls\.'):
        shards_of(tmp_path / "a.tar")


# --- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "data", "label"),
    [
        ("cls", b"3", 3.0),
        ("cls", b" -3\r\n", -3.0),
        ("cls", b"0.5", 0.5),
        ("cls", b"1 0 0.5\n", [1.0, 0.0, 0.5]),
        ("json", b'{"label": 3}', 3.0),
        ("json", b'{"cls": 3, "text": "x"}', 3.0),
        ("json", b'{"cls": 3, "label": 4}', 4.0),
        ("json", b'{"label": [1, 2.5]}', [1.0, 2.5]),
        ("json", b'{"label": [1]}', 1.0),
    ],
)
def test_labels(form: str, data: bytes, label: float | list[float]) -> None:
    got = parse_label(data, form)
    assert got.tolist() == label
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    "data", [b"", b"cat", b"1 cat", b"nan", b"inf", b"1e300", b"1,2", b"\xff" * 100]
)
def test_text_that_is_no_label(data: bytes) -> None:
    with pytest.raises(DataError, match=r"its part cls, '.{0,40}', is not a number, or several"):
        parse_label(data, "cls")


@pytest.mark.parametrize(
    "value",
    ["", "3", "{}", "[3]", '{"label": "cat"}', '{"label": "3"}', '{"label": true}', "\\"]
    + ['{"label":' * 50_000, '{"label": ' + "9" * 400 + "}"]
    + [
        f'{{"label": {v}}}'
        for v in ("null", "[]", "[[1]]", "[[1], [1, 2]]", "{}", "NaN", "[1, 1e99]")
    ],
)
def test_json_that_is_no_label(value: str) -> None:
    with pytest.raises(DataError, match=r"its part json, '.*', is not an object with a number as"):
        parse_label(value.encode(), "json")


def test_several_labels(tmp_path: Path) -> None:
    parts = {"a.png": png(0), "a.cls": b"1 2", "b.png": png(0), "b.json": b'{"label": [3, 0.5]}'}
    made = shards_of(write(tmp_path / "a.tar", parts))
    labels = np.asarray(made.load(list(islice(made.records(0, None), 3))).labels)
    np.testing.assert_array_equal(labels, np.array([[1, 2], [3, 0.5], [1, 2]], np.float32))


@pytest.mark.parametrize(("second", "count"), [(b"1", 1), (b"1 2 3", 3)])
def test_different_numbers_of_labels(tmp_path: Path, second: bytes, count: int) -> None:
    for name, label in (("a", b"1 2"), ("b", second)):  # a shard each
        write(tmp_path / f"{name}.tar", {f"{name}.png": png(0), f"{name}.cls": label})
    made = shards_of(tmp_path / "*.tar")
    says = f'b.tar: example "b" has {count} labels, but example "a" has 2'
    with pytest.raises(DataError, match=says):
        made.load(list(islice(made.records(0, None), 2)))


# --- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"k.cls": b"1"}, 'example "k" has no image; its parts are: cls.'),
        ({"k.cls": b"1", "k.heic": b""}, 'example "k" has no image; its parts are: cls, heic.'),
        ({"k.png": png(1)}, 'example "k" has no label, cls or json; its parts are: png.'),
        (
            {"k.png": png(1), "k.jpg": png(1), "k.cls": b"1"},
            'example "k" has 2 images; its parts are: png, jpg, cls.',
        ),
        ({"README.txt": b"words"}, "it holds no example: an image such as 0001.jpg with its label"),
        ({}, "it holds no example"),
        ({"k.png": png(1), "k.PNG": png(1)}, 'example "k" has two parts png.'),
    ],
)
def test_shards_that_do_not_fit(tmp_path: Path, parts: Parts, says: str) -> None:
    write(tmp_path / "good.tar", examples(1))
    file = write(tmp_path / "z.tar", parts)
    with pytest.raises(DataError, match=f"^{file}: {says}"):
        shards_of(tmp_path / "*.tar")


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data)


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "empty file"),
    "in a header": (lambda data: data[:300], "truncated header"),
    "in the first part": (lambda data: data[:520], "unexpected end of data"),
    "in the next header": (lambda data: data[:1300], "no file header and no end mark at byte 1024"),
    "in the last part": (lambda data: data[:1540], "unexpected end of data"),
    "before the end mark": (
        lambda data: data[:2048],
        "no file header and no end mark at byte 2048",
    ),
    "compressed": (gzipped, "invalid header|truncated header"),
    "words": (lambda _: b"words " * 200, "invalid header"),
    "rubbish within": (lambda data: data[:1024] + b"words " * 200, "no file header .* byte 1024"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_shard(tmp_path: Path, name: str) -> None:
    damage, says = BROKEN[name]
    file = Path(write(tmp_path / "a.tar", {"k.png": png(1)[:400], "k.cls": b"1"}))
    shards_of(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=rf"^{file}: this is not a complete tar file \(({says})"):
        shards_of(file)


def test_a_shard_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    with pytest.raises(DataError, match=r"a\.tar: cannot be read: Is a directory"):
        shards_of(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"k.png": b"x", "k.cls": b"1"}, "the image cannot be decoded"),
        ({"k.png": b"", "k.cls": b"1"}, "the image cannot be decoded"),
        ({"k.png": png(1), "k.cls": b"cat"}, "its part cls, 'cat', is not a number"),
    ],
)
def test_an_example_that_cannot_be_loaded(tmp_path: Path, parts: Parts, says: str) -> None:
    made = shards_of(write(tmp_path / "a.tar", examples(1) | parts))
    records = list(islice(made.records(0, None), 2))
    made.load(records[:1])
    with pytest.raises(DataError, match=f'^{tmp_path}/a.tar: example "k": {says}'):
        made.load(records)


def test_a_shard_that_is_cut_off_later(tmp_path: Path) -> None:
    file = Path(write(tmp_path / "a.tar", examples(1)))
    made = shards_of(file)
    records = list(islice(made.records(0, None), 1))
    file.write_bytes(file.read_bytes()[:520])
    with pytest.raises(DataError, match=r'a\.tar: example "001": the shard ends within it'):
        made.load(records)
    file.unlink()
    with pytest.raises(DataError, match=r"a\.tar: cannot be read: No such file"):
        made.load(records)
