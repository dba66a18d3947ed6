from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from moka.cli.main import main as caffe
from moka.data import datum
from moka.data.annotated import rows_of
from moka.data.store import make_store, open_store
from moka.draw.contact_sheet import contact_sheet
from moka.schema import caffe_pb2
from moka.tools.db import broken_records, survey

IMAGES = np.random.default_rng(7).integers(0, 256, (6, 3, 5, 4), np.uint8)
LABELS = [2, 0, 2, 2, 1, 0]


class Run(NamedTuple):
    code: int
    lines: list[str]
    log: str


@pytest.fixture
def db(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """db("info", "db"): `caffe db` in this process."""

    def run(*argv: str) -> Run:
        code = caffe(["db", *argv])
        out, err = capsys.readouterr()
        return Run(code, out.splitlines(), re.sub(r"^([IWEF])\d{4} .*?\] ", r"\1 ", err).strip())

    return run


def write(records: Sequence[caffe_pb2.Datum | bytes], backend: str = "lmdb") -> None:
    with make_store("db", backend) as writer:
        for i, record in enumerate(records):
            value = record if isinstance(record, bytes) else record.SerializeToString()
            writer.put(b"%08d" % i, value)


def raw() -> list[caffe_pb2.Datum]:
    return [datum.encode(i, label) for i, label in zip(IMAGES, LABELS, strict=True)]


def encoded(label: int = 4) -> caffe_pb2.Datum:
    data = cv2.imencode(".png", np.zeros((7, 8, 3), np.uint8))[1].tobytes()
    return caffe_pb2.Datum(data=data, encoded=True, label=label)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_survey(backend: str) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    floats = datum.encode(np.zeros((2, 1, 1), np.float32))
    write([*raw(), encoded(), encoded(), floats], backend)
    found = survey(open_store("db"))
    assert found.backend == backend
    assert found.entries == 9
    assert found.kinds == {"raw": 6, "encoded": 2, "float": 1}
    assert found.shapes == {(3, 5, 4): 6, (3, 7, 8): 2, (2, 1, 1): 1}
    assert found.labels == {2: 3, 0: 2, 1: 1, 4: 2}
    assert 0 < found.disk_bytes < 100_000_000


def test_the_size_of_encoded_images_is_taken_from_the_first(
    monkeypatch: pytest.MonkeyPatch, db: Callable[..., Run]
) -> None:
    monkeypatch.setattr("moka.tools.db.SAMPLE", 3)
    write([encoded()] * 5)
    found = survey(open_store("db"))
    assert found.shapes == {(3, 7, 8): 3}
    assert found.kinds == {"encoded": 5}
    assert "shapes   (C, H, W), of the first 3 encoded ones" in db("info", "db").lines


def test_the_size_of_raw_images_is_taken_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moka.tools.db.SAMPLE", 3)
    write(raw())
    assert survey(open_store("db")).shapes == {(3, 5, 4): 6}


def test_info(db: Callable[..., Run]) -> None:
    write(raw())
    code, lines, log = db("info", "db")
    assert (code, log) == (0, "")
    assert re.fullmatch(r"db: lmdb, [\d.]+ [KM]iB on disk", lines[0])
    assert lines[1:] == [
        "entries  6 (6 raw)",
        "shapes   (C, H, W)",
        "         6  3 x 5 x 4",
        "labels   3 different",
        "         2  0      " + "#" * 27,
        "         1  1      " + "#" * 13,
        "         3  2      " + "#" * 40,
    ]


def test_info_on_many_labels_and_none(
    db: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moka.tools.db.LISTED", 2)
    write([*raw(), datum.encode(IMAGES[0])])
    lines = db("info", "db").lines
    assert lines[4] == "labels   3 different, 1 without"
    assert lines[7:] == [
        "       ...  and 1 more",
        "         3  2      most",
        "         1  1      fewest",
    ]


def test_head(db: Callable[..., Run]) -> None:
    write([*raw(), encoded(), datum.encode(np.zeros((2, 1, 1), np.float32))])
    code, lines, log = db("head", "db")
    assert (code, log) == (0, "")
    words = [line.split() for line in lines]
    assert words[:2] == [
        ["00000000", "2", "3", "x", "5", "x", "4", "raw"],
        ["00000001", "0", "3", "x", "5", "x", "4", "raw"],
    ]
    assert words[6:] == [
        ["00000006", "4", "3", "x", "7", "x", "8", "encoded"],
        ["00000007", "no", "label", "2", "x", "1", "x", "1", "float"],
    ]
    assert db("head", "-n", "3", "db").lines == lines[:3]


def test_head_shows_all_labels(db: Callable[..., Run]) -> None:
    record = raw()[0]
    record.labels.extend([2, 0.5])
    write([record])
    assert db("head", "db").lines[0].split()[1:3] == ["2,", "0.5"]
    assert "labels   1 different; of 2 a record the first is counted" in db("info", "db").lines


def test_head_on_a_sheet(db: Callable[..., Run]) -> None:
    write(raw())
    code, lines, _ = db("head", "-n=4", "db", "-o", "sheet.png")
    assert code == 0
    assert lines[4:] == ["drawn on sheet.png"]
    np.testing.assert_array_equal(
        cv2.imread("sheet.png"), contact_sheet(list(IMAGES[:4]), ["2", "0", "2", "2"])
    )


def test_head_draws_boxes(db: Callable[..., Run]) -> None:
    record = caffe_pb2.AnnotatedDatum(datum=datum.encode(IMAGES[0]))
    for label in (3, 5):
        box = record.annotation_group.add(group_label=label).annotation.add().bbox
        box.xmin, box.ymin, box.xmax, box.ymax = 0.25, 0.2, 0.75, label / 6
    write([record.SerializeToString(), raw()[0]])
    assert db("head", "db", "-o", "sheet.png").code == 0
    rows = [rows_of(record), np.empty((0, 7), np.float32)]
    plain, boxed = (contact_sheet([IMAGES[0]] * 2, ["2 boxes", "2"], r) for r in (None, rows))
    np.testing.assert_array_equal(cv2.imread("sheet.png"), boxed)
    assert (plain != boxed).any()


def broken() -> list[caffe_pb2.Datum | bytes]:
    short = raw()[1]
    short.data = short.data[:-1]
    cut = encoded()
    cut.data = cut.data[:20]
    return [raw()[0], short, b"\xff\xff", encoded(), cut, caffe_pb2.Datum(label=1)]


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_verify_names_broken_records(db: Callable[..., Run], backend: str) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    write(broken(), backend)
    assert [key for key, _ in broken_records(open_store("db"))] == [
        "00000001",
        "00000002",
        "00000004",
        "00000005",
    ]
    code, lines, log = db("verify", "db")
    assert code == 1
    shape = "for channels, height, width"
    assert lines == [
        f"00000001: the record is not a Datum: 59 values {shape} (3, 5, 4).",
        "00000002: the record is not a Datum.",
        "00000004: the image cannot be decoded.",
        f"00000005: the record is not a Datum: 0 values {shape} (0, 0, 0).",
    ]
    assert log == "F db: 4 of 6 records are broken."


def test_broken_records_do_not_hide_the_others(db: Callable[..., Run]) -> None:
    write(broken())
    _, lines, _ = db("info", "db")
    assert "entries  6 (4 broken, 1 raw, 1 encoded)" in lines
    assert "labels   2 different" in lines
    _, lines, _ = db("head", "-o", "sheet.png", "db")
    assert [line.split()[0] for line in lines[:6]] == [f"{i:08d}" for i in range(6)]
    assert "is not a Datum" in lines[2]
    assert lines[6] == "drawn on sheet.png"


def test_verify_what_is_whole(db: Callable[..., Run]) -> None:
    write(raw())
    assert db("verify", "db") == (0, ["db: all 6 records can be read."], "")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["info", "gone"], "gone: No such file or directory."),
        (["info", "db"], "db: 4 of 6 records are broken. `caffe db verify db` names them."),
        (["head", "-n", "3", "db"], "db: 2 of 3 records are broken."),
        (["head", "-n", "0", "db"], "-n has to be > 0, got 0."),
        (["head", "-n", "1", "-o", "sheet.xyz", "db"], "sheet.xyz cannot be drawn. Its name has"),
        (["head", "-n", "1", "-o", "gone/x.png", "db"], "gone/x.png: No such file or directory."),
        (["hed", "db"], 'Unknown action: hed. Did you mean "head"?'),
        (["remove", "db"], "Unknown action: remove. Known are info, head, verify."),
        (["info"], "2 arguments are needed, 1 was given."),
    ],
)
def test_bad_input(db: Callable[..., Run], argv: list[str], says: str) -> None:
    write(broken())
    code, _, log = db(*argv)
    assert code == 1
    assert f"F {says}" in re.sub(r"\n[F]\d{4} .*?\] ", "\nF ", log)


def boxed(labels: Sequence[int], own: int = -1) -> bytes:
    """An AnnotatedDatum: an image with boxes of these labels."""
    record = caffe_pb2.AnnotatedDatum(datum=datum.encode(IMAGES[0], own))
    for label in labels:
        record.annotation_group.add(group_label=label).annotation.add(instance_id=0)
    record.annotation_group.add(group_label=9)
    return record.SerializeToString()


def test_images_with_boxes(db: Callable[..., Run]) -> None:
    write([boxed([3, 3, 1]), boxed([3]), boxed([])])
    code, lines, log = db("info", "db")
    assert (code, log) == (0, "")
    assert lines[1:] == [
        "entries  3 (3 raw)",
        "shapes   (C, H, W)",
        "         3  3 x 5 x 4",
        "boxes    4 in 3 AnnotatedDatum, 2 different labels",
        "         1  1      " + "#" * 13,
        "         3  3      " + "#" * 40,
    ]
    said: list[int | None] = []
    survey(open_store("db"), lambda done, label, kind: said.append(label))
    assert said == [None] * 3
    heads = [line.split()[1:3] for line in db("head", "db").lines]
    assert heads == [["3", "boxes"], ["1", "box"], ["0", "boxes"]]
    assert db("verify", "db").lines == ["db: all 3 records can be read."]


def test_images_with_labels_of_their_own(db: Callable[..., Run]) -> None:
    """As `convert_annoset -anno_type=classification` makes them."""
    write([boxed([], 4), boxed([], 4)])
    assert db("info", "db").lines[4:] == [
        "labels   1 different",
        "         2  4      " + "#" * 40,
        "boxes    0 in 2 AnnotatedDatum, 0 different labels",
    ]
    assert [line.split()[1] for line in db("head", "db").lines] == ["4", "4"]


def test_usage(db: Callable[..., Run]) -> None:
    code, lines, _ = db("--help")
    assert code == 0
    assert "    caffe db [FLAGS] info|head|verify DB" in lines
