from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from moka.data import datum
from moka.data.decode import Decoder
from moka.data.lmdb import LmdbWriter
from moka.data.records import DatumRecords
from moka.data.store import open_store
from moka.errors import DataError
from moka.schema import caffe_pb2

RecordsMaker = Callable[..., DatumRecords]
COUNT = 5
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, 3, 4, 6), np.uint8)


@pytest.fixture
def make_records(tmp_path: Path) -> RecordsMaker:
    """make_records({2: b"..."}, decode=Decoder()): five records, some of them replaced."""

    def make(
        replaced: dict[int, bytes] | None = None, path: str = "db", **options: Any
    ) -> DatumRecords:
        with LmdbWriter(tmp_path / path) as writer:
            for i in range(COUNT):
                value = datum.encode(IMAGES[i], 10 * i).SerializeToString()
                writer.put(b"key%d" % i, (replaced or {}).get(i, value))
        return DatumRecords(open_store(tmp_path / path), **options)

    return make


def png(i: int) -> bytes:
    encoded = cv2.imencode(".png", IMAGES[i].transpose(1, 2, 0))[1].tobytes()
    return caffe_pb2.Datum(encoded=True, data=encoded, label=10 * i).SerializeToString()


@pytest.mark.parametrize("start", [0, 2, 4, 5, 12])
@pytest.mark.parametrize("step", [1, 2, 7])
def test_records_go_on_without_end(make_records: RecordsMaker, start: int, step: int) -> None:
    records = make_records()
    names = [records.name(r) for r in islice(records.records(start, step=step), 12)]
    assert names == [f"key{(start + step * i) % COUNT}" for i in range(12)]


@pytest.mark.parametrize("start", [0, 2, 5, 12])
@pytest.mark.parametrize("step", [1, 2])
def test_each_epoch_has_an_order_of_its_own(
    make_records: RecordsMaker, start: int, step: int
) -> None:
    records = make_records(shuffle=True)
    names = [records.name(r) for r in islice(records.records(0, 7), 4 * COUNT)]
    epochs = [names[k : k + COUNT] for k in range(0, len(names), COUNT)]
    assert all(sorted(epoch) == [f"key{k}" for k in range(COUNT)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    later = [records.name(r) for r in islice(records.records(start, 7, step), 4)]
    assert later == names[start::step][:4]
    others = [records.name(r) for r in islice(records.records(0, 8), 4 * COUNT)]
    assert others != names


def test_starting_over_is_logged(
    make_records: RecordsMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moka.detail")
    records = make_records().records(3)
    list(islice(records, 2))
    assert not caplog.messages
    next(records)
    assert caplog.messages == ["Restarting data prefetching from start."]


@pytest.mark.parametrize("encoded", [[], [2], range(COUNT)])
def test_encoded_and_raw_records(make_records: RecordsMaker, encoded: list[int]) -> None:
    records = make_records({i: png(i) for i in encoded})
    images, labels = records.load(list(islice(records.records(0), COUNT)))
    np.testing.assert_array_equal(np.stack(list(images)), IMAGES)
    assert labels == [0, 10, 20, 30, 40]


def labeled(i: int, labels: list[float]) -> bytes:
    record = datum.encode(IMAGES[i], 10 * i)
    record.labels.extend(labels)
    return record.SerializeToString()


def test_several_labels(make_records: RecordsMaker) -> None:
    records = make_records({i: labeled(i, [i, 0.5]) for i in range(COUNT)})
    labels = np.asarray(records.load(list(islice(records.records(1), 3))).labels)
    np.testing.assert_array_equal(labels, np.array([[1, 0.5], [2, 0.5], [3, 0.5]], np.float32))


def test_several_labels_may_be_one(make_records: RecordsMaker) -> None:
    records = make_records({1: labeled(1, [0.5])})
    labels = np.asarray(records.load(list(islice(records.records(0), 3))).labels)
    assert labels.tolist() == [[0], [0.5], [20]]


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({2: 3}, r'record "key2": it has 3 labels, but record "key0" has 1\.'),
        ({0: 2}, r'record "key1": it has 1 labels, but record "key0" has 2\.'),
        ({0: 2, 1: 2, 2: 1}, r'record "key2": it has 1 labels, but record "key0" has 2\.'),
    ],
)
def test_different_numbers_of_labels(
    make_records: RecordsMaker, counts: dict[int, int], says: str
) -> None:
    records = make_records({i: labeled(i, [1.0] * n) for i, n in counts.items()})
    with pytest.raises(DataError, match=says):
        records.load(list(islice(records.records(0), 4)))


def test_encoded_records_become_gray_if_forced(make_records: RecordsMaker) -> None:
    records = make_records({i: png(i) for i in range(2)}, decode=Decoder(color=False))
    images, _ = records.load(list(islice(records.records(0), 3)))
    assert [image.shape for image in images] == [(1, 4, 6), (1, 4, 6), (3, 4, 6)]


def test_encoded_records_become_colored_if_forced(make_records: RecordsMaker) -> None:
    gray = cv2.imencode(".png", IMAGES[0, 0])[1].tobytes()
    value = caffe_pb2.Datum(encoded=True, data=gray).SerializeToString()
    for color, channels in ((True, 3), (False, 1)):
        records = make_records({0: value}, decode=Decoder(color=color), path=f"db{channels}")
        images, _ = records.load(list(islice(records.records(0), 1)))
        np.testing.assert_array_equal(images[0], [IMAGES[0, 0]] * channels)


def test_a_record_whose_jpeg_is_cut_off(
    make_records: RecordsMaker, caplog: pytest.LogCaptureFixture
) -> None:
    data = cv2.imencode(".jpg", IMAGES[0].transpose(1, 2, 0))[1].tobytes()
    whole, cut = (
        caffe_pb2.Datum(encoded=True, data=content).SerializeToString()
        for content in (data, data[:-2])
    )
    records = make_records({0: whole, 1: cut})
    two = list(islice(records.records(0), 2))
    for _ in range(2):
        images, _ = records.load(two)
        np.testing.assert_array_equal(images[0], images[1])
    assert caplog.messages == [
        f'{records.path}: record "key1": this JPEG is cut off; it is read as far as it goes.'
    ]


BAD: dict[str, tuple[bytes, str]] = {
    "no datum": (b"\xff\xff", "is not a Datum"),
    "short": (
        caffe_pb2.Datum(channels=1, height=6, width=6, data=b"x").SerializeToString(),
        "1 values",
    ),
    "no image": (caffe_pb2.Datum(encoded=True, data=b"x").SerializeToString(), "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named(make_records: RecordsMaker, name: str) -> None:
    value, says = BAD[name]
    records = make_records({3: value})
    four = list(islice(records.records(0), 4))
    records.load(four[:3])
    with pytest.raises(DataError, match=f'db: record "key3": .*{says}'):
        records.load(four)
