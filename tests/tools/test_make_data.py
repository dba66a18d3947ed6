"""Data sets of folders, lists and databases."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.layers.annotated_records import PIXELS, A, B, fill
from tests.layers.annotated_records import record as boxes_record

from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.data.store import open_store
from moka.data.transform import read_mean_image
from moka.errors import DataError, UsageError
from moka.schema import caffe_pb2
from moka.tools.image_records import AS_IT_IS, StoredForm
from moka.tools.make_data import class_names, kind_of_source, main, make_data

CLASSES = {"cat": 10, "dog": 5, "emu": 1}


@pytest.fixture(autouse=True)
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = []
    for label, (name, count) in enumerate(CLASSES.items()):
        Path("photos", name).mkdir(parents=True)
        for i in range(count):
            shade = 40 * label + i
            cv2.imwrite(f"photos/{name}/{i}.png", np.full((6, 8, 3), shade, np.uint8))
            lines.append(f"{name}/{i}.png {label}\n")
    Path("photos/all.txt").write_text("".join(lines))
    with LmdbWriter(Path("db")) as writer:
        for i in range(20):
            image = np.full((1, 4, 4), i, np.uint8)
            writer.put(b"%02d" % i, datum.encode(image, i % 2).SerializeToString())


def images(path: str) -> list[tuple[int, int]]:
    """(label, shade) of each record."""
    records = [datum.parse(value) for _, value in open_store(path).read()]
    return [(r.label, int(datum.decode(r)[0, 0, 0])) for r in records]


@pytest.mark.parametrize("source", ["photos", "photos/all.txt"])
def test_files_are_divided_by_class(source: str) -> None:
    made = make_data(source, "set", test_percent=20)
    train, test = images("set/train_lmdb"), images("set/test_lmdb")
    assert Counter(label for label, _ in test) == {0: 2, 1: 1}  # one emu alone stays to train on
    assert sorted(train + test) == sorted(
        (label, 40 * label + i) for label, n in enumerate(CLASSES.values()) for i in range(n)
    )
    assert [label for label, _ in train] != sorted(label for label, _ in train)
    assert made.records == {"train": 13, "test": 3}
    assert made.classes == (list(CLASSES) if source == "photos" else [])
    assert json.loads(Path("set/data.json").read_text())["counts"]["test"] == {"0": 2, "1": 1}
    assert read_mean_image("set/mean.binaryproto").shape == (3, 6, 8)


def test_the_names_of_the_classes() -> None:
    make_data("photos", "set")
    assert Path("set/labels.txt").read_text().split() == list(CLASSES)
    for place in ("photos", "set/train_lmdb", "set"):
        assert class_names(place) == list(CLASSES), place
    for place in ("db", "photos/cat", "photos/all.txt", "nothing"):
        assert class_names(place) == [], place


def test_every_class_has_one_line() -> None:
    for name in ("two\nlines", " "):
        Path("odd", name).mkdir(parents=True)
        cv2.imwrite(f"odd/{name}/0.png", np.zeros((2, 2, 3), np.uint8))
    assert make_data("odd", "set").classes == [" ", "two\nlines"]
    assert class_names("set") == ["0", "two lines"]


def test_a_database_is_divided() -> None:
    made = make_data("db", "set", test_percent=30, with_mean=False)
    assert made.records == {"train": 14, "test": 6}
    assert sorted(images("set/train_lmdb") + images("set/test_lmdb")) == sorted(
        (i % 2, i) for i in range(20)
    )
    assert not Path("set/mean.binaryproto").exists()


def test_the_records_of_a_database_in_another_form() -> None:
    make_data("db", "set", form=StoredForm(height=3, width=2, encoded=True, encode_type="png"))
    _, value = next(open_store("set/train_lmdb").read())
    record = datum.parse(value)
    assert record.encoded
    assert datum.decode(record).shape == (1, 3, 2)  # gray stays gray


@pytest.mark.parametrize("form", [AS_IT_IS, StoredForm(height=3, width=4)])
def test_boxes_stay_with_their_images(form: StoredForm) -> None:
    fill(Path("boxes"), [boxes_record(pixels, [A, B]) for pixels in np.tile(PIXELS, (4, 1, 1, 1))])
    assert make_data("boxes", "set", form=form, test_percent=25).records == {"train": 6, "test": 2}
    _, value = next(open_store("set/train_lmdb").read())
    record, annotated = datum.parse_any(value)
    assert annotated is not None
    wanted = caffe_pb2.AnnotatedDatum.FromString(boxes_record(PIXELS[0], [A, B]))
    assert annotated.annotation_group == wanted.annotation_group
    assert (record.height, record.width) == ((3, 4) if form.height else (6, 8))


def test_boxes_that_would_move() -> None:
    fill(Path("boxes"), [boxes_record(PIXELS[0], [A])])
    with pytest.raises(DataError, match=r"^boxes: its images have boxes, which stay in place by"):
        make_data("boxes", "set", form=StoredForm(height=3, width=3, resize_mode="crop"))
    assert not Path("set").exists()


def test_the_seed_decides() -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_data("photos", name, seed=seed)
    assert images("a/train_lmdb") == images("b/train_lmdb")
    assert images("a/train_lmdb") != images("c/train_lmdb")


def test_no_tests() -> None:
    assert make_data("photos", "set", test_percent=0).records == {"train": 16}
    assert not Path("set/test_lmdb").exists()


def test_images_of_many_sizes_have_no_mean(caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite("photos/cat/large.png", np.zeros((9, 9, 3), np.uint8))
    assert not make_data("photos", "set", test_percent=0).mean
    assert "There is no mean image" in caplog.text
    assert make_data("photos", "sized", form=StoredForm(height=4, width=4)).mean


def test_broken_images_are_left_out() -> None:
    Path("photos/cat/bad.png").write_text("no image")
    assert make_data("photos", "set").left_out == 1


def test_nothing_is_left_of_a_set_that_fails() -> None:
    Path("list.txt").write_text("nowhere.png 0\n")
    with pytest.raises(DataError, match="none of the 1 images"):
        make_data("list.txt", "set")
    assert not Path("set").exists()


def test_what_cannot_be_made() -> None:
    Path("set").mkdir()
    with pytest.raises(DataError, match="set: is there already"):
        make_data("photos", "set")
    with pytest.raises(DataError, match="nothing: No such file"):
        kind_of_source("nothing")
    with pytest.raises(UsageError, match="has to be from 0 to below 100"):
        make_data("photos", "other", test_percent=100)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--resize_height=4", "--resize_width=4", "--gray", "--resize_mode=fill"]
    assert main(["photos", "set", *flags]) == 0
    _, value = next(open_store("set/train_lmdb").read())
    assert datum.decode(datum.parse(value)).shape == (1, 4, 4)
    assert main(["photos", "other", "--resize_mode=squeeze"]) == 1
    assert "-resize_mode has to be one of squash" in capsys.readouterr().err
    assert main(["photos", "other", "--resize_height=4"]) == 1
