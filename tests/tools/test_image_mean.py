from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from moka.data import datum
from moka.data.store import make_store, open_store
from moka.errors import DataError
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import is_legacy, shape_of
from moka.tools.image_mean import compute_image_mean, image_mean, main, mean_blob
from moka.types import Array

if TYPE_CHECKING:
    from tests.messages import Messages

IMAGES = np.random.default_rng(4).integers(0, 256, (40, 3, 5, 4), np.uint8)


def write(records: Sequence[caffe_pb2.Datum], path: str = "db", backend: str = "lmdb") -> None:
    with make_store(path, backend) as writer:
        for i, record in enumerate(records):
            writer.put(b"%08d" % i, record.SerializeToString())


def raw(images: Sequence[Array] | Array = IMAGES) -> list[caffe_pb2.Datum]:
    return [datum.encode(image, 1) for image in images]


def encoded(images: Array = IMAGES) -> list[caffe_pb2.Datum]:
    files = [cv2.imencode(".png", image.transpose(1, 2, 0))[1].tobytes() for image in images]
    return [caffe_pb2.Datum(data=file, encoded=True) for file in files]


def slow_mean(images: Array) -> list[float]:
    """Value by value."""
    flat = [[float(v) for v in image.ravel()] for image in images]
    return [sum(image[i] for image in flat) / len(flat) for i in range(len(flat[0]))]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("count", [1, 16, 17, 40])
@pytest.mark.parametrize("make", [raw, encoded])
def test_the_mean(make: Callable[[Array], list[caffe_pb2.Datum]], count: int) -> None:
    write(make(IMAGES[:count]))
    mean = image_mean(open_store("db"))
    assert mean.shape == (3, 5, 4)
    assert mean.ravel().tolist() == pytest.approx(slow_mean(IMAGES[:count]), rel=1e-14)


def test_of_numbers_that_are_no_bytes() -> None:
    images = np.random.default_rng(5).normal(0, 1, (5, 2, 1, 3)).astype(np.float32)
    write(raw(images))
    mean = image_mean(open_store("db"))
    assert mean.ravel().tolist() == pytest.approx(slow_mean(images), rel=1e-12)


@pytest.mark.parametrize("make", [raw, encoded])
def test_of_images_with_boxes(make: Callable[[Array], list[caffe_pb2.Datum]]) -> None:
    with make_store("db") as writer:
        for i, record in enumerate(make(IMAGES)):
            annotated = caffe_pb2.AnnotatedDatum(datum=record)
            annotated.annotation_group.add(group_label=1).annotation.add(instance_id=0)
            writer.put(b"%08d" % i, annotated.SerializeToString())
    mean = image_mean(open_store("db"))
    assert mean.ravel().tolist() == pytest.approx(slow_mean(IMAGES), rel=1e-14)


def test_a_first_record_that_is_none() -> None:
    with make_store("db") as writer:
        writer.put(b"a", b"\xff\xff")
    with pytest.raises(DataError, match=r'^db: record "a": the record is not a Datum\.'):
        image_mean(open_store("db"))


def test_of_raw_and_encoded_records_in_one_database() -> None:
    write([*raw(IMAGES[:20]), *encoded(IMAGES[20:])])
    mean = image_mean(open_store("db"))
    assert mean.ravel().tolist() == pytest.approx(slow_mean(IMAGES), rel=1e-14)


def test_the_file_has_the_form_of_2014() -> None:
    write(raw())
    mean = compute_image_mean("db", "mean")
    blob = read_binary("mean", caffe_pb2.BlobProto)
    assert is_legacy(blob)
    assert shape_of(blob) == (1, 3, 5, 4)
    assert not blob.HasField("shape")
    np.testing.assert_array_equal(np.array(blob.data), mean.astype(np.float32).ravel())
    assert blob == mean_blob(mean)


@pytest.mark.parametrize("output", [[], ["mean"]])
@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_main(messages: Messages, output: list[str], backend: str) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    write(raw(), backend=backend)
    assert main(["-backend", backend, "db", *output]) == 0
    means = [f"{np.mean(IMAGES[:, c], dtype=float):g}" for c in range(3)]
    assert messages() == [
        "I Starting iteration",
        "I Processed 40 files.",
        *(["I Write to mean"] if output else []),
        "I Number of channels: 3",
        *(f"I mean_value channel [{c}]: {mean}" for c, mean in enumerate(means)),
    ]
    assert Path("mean").exists() is bool(output)


@pytest.mark.parametrize(("every", "said"), [(5, 8), (7, 6), (40, 1), (41, 1)])
def test_it_tells_how_far_it_is(
    messages: Messages, monkeypatch: pytest.MonkeyPatch, every: int, said: int
) -> None:
    monkeypatch.setattr("moka.tools.image_mean.SAY_EVERY", every)
    write(raw())
    assert main(["db"]) == 0
    counts = [int(m.split()[2]) for m in messages() if "Processed" in m]
    assert counts == [*range(every, 41, every), *([40] if 40 % every else [])]
    assert len(counts) == said


@pytest.mark.parametrize("make", [raw, encoded])
@pytest.mark.parametrize("other", [np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 5), np.uint8)])
def test_images_of_different_sizes(
    make: Callable[[Any], list[caffe_pb2.Datum]], other: Array
) -> None:
    write([*make(IMAGES), *make([other])])
    shape = re.escape(str(other.shape))
    says = (
        rf'^db: Incorrect data field size {other.size}: record "00000040" has \(channels, height,'
        rf" width\) {shape}, the first record \(3, 5, 4\)"
    )
    with pytest.raises(DataError, match=says):
        compute_image_mean("db", "mean")
    assert not Path("mean").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "1 to 2 arguments are needed, 0 were given."),
        (["db", "a", "b"], "1 to 2 arguments are needed, 3 were given."),
        (["gone"], "gone: No such file or directory."),
        (["bad"], 'bad: record "00000003": the record is not a Datum'),
        (["-backend=sql", "db"], "Unknown db backend sql."),
        (["db", "gone/mean"], "gone/mean: No such file or directory."),
        (["bad", "gone/mean"], "gone/mean: No such file or directory."),  # before the work
    ],
)
def test_bad_input(messages: Messages, argv: list[str], says: str) -> None:
    write(raw())
    records = raw()
    records[3].height = 9
    write(records, "bad")
    assert main(argv) == 1
    assert messages()[-1].startswith(f"F {says}")
    assert sorted(os.listdir()) == ["bad", "db"]
