from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moka.data import datum
from moka.data.batches import CursorState, RecordBatches
from moka.data.lmdb import LmdbWriter
from moka.data.store import open_store
from moka.data.transform import Transform
from moka.errors import DataError
from moka.schema import caffe_pb2, parse_text

Array = NDArray[Any]
BatchMaker = Callable[..., RecordBatches]
COUNT = 7
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, 1, 6, 6), np.uint8)


def record(i: int) -> bytes:
    return datum.encode(IMAGES[i], 10 * i).SerializeToString()


@pytest.fixture
def make_batches(tmp_path: Path) -> BatchMaker:
    """make_batches("crop_size: 4", batch_size=3, records={5: b"..."}): seven records."""

    def make(
        text: str = "",
        *,
        training: bool = True,
        records: dict[int, bytes] | None = None,
        **options: Any,
    ) -> RecordBatches:
        with LmdbWriter(tmp_path / "db") as writer:
            for i in range(COUNT):
                writer.put(b"key%d" % i, (records or {}).get(i, record(i)))
        transform = Transform(
            parse_text(text, caffe_pb2.TransformationParameter), training=training
        )
        return RecordBatches(open_store(tmp_path / "db"), transform, **options)

    return make


def take(
    batches: RecordBatches, count: int, after: CursorState | None = None
) -> list[tuple[list[Array], CursorState]]:
    return list(islice(batches.stream(after or CursorState())(), count))


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_records_come_in_order_and_start_over(make_batches: BatchMaker, size: int) -> None:
    got = take(make_batches(batch_size=size), 5)
    for k, ((data, labels), state) in enumerate(got):
        picked = [(k * size + i) % COUNT for i in range(size)]
        np.testing.assert_array_equal(data, IMAGES[picked])
        np.testing.assert_array_equal(labels, [10 * i for i in picked])
        assert data.dtype == labels.dtype == np.float32
        assert state == CursorState(records_read=(k + 1) * size)


def test_without_labels(make_batches: BatchMaker) -> None:
    ((arrays, _),) = take(make_batches(batch_size=2, with_labels=False), 1)
    assert [a.shape for a in arrays] == [(2, 1, 6, 6)]


@pytest.mark.parametrize(
    "text", ["", "crop_size: 3", "mirror: true", "crop_size: 3 mirror: true mean_value: 7"]
)
@pytest.mark.parametrize("resume_at", [0, 1, 4])
def test_a_stream_goes_on_exactly_where_it_was(
    make_batches: BatchMaker, text: str, resume_at: int
) -> None:
    batches = make_batches(text, batch_size=3)
    straight = take(batches, 12)
    _, state = straight[resume_at]
    torch.manual_seed(99)  # so that what is drawn comes from the state
    resumed = take(batches, 12 - resume_at - 1, state)
    for (wanted, wanted_state), (got, got_state) in zip(
        straight[resume_at + 1 :], resumed, strict=True
    ):
        for a, b in zip(wanted, got, strict=True):
            np.testing.assert_array_equal(a, b)
        assert got_state == wanted_state


def test_random_streams_follow_the_seed(make_batches: BatchMaker) -> None:
    batches = make_batches("crop_size: 3 mirror: true", batch_size=7)

    def drawn(seed: int) -> Array:
        torch.manual_seed(seed)
        return take(batches, 1)[0][0][0]

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))


def test_crops_and_mirrors_are_of_their_images(make_batches: BatchMaker) -> None:
    ((data, _), _), *_ = take(make_batches("crop_size: 3 mirror: true", batch_size=7), 1)
    for i in range(7):
        windows = [IMAGES[i, 0, y : y + 3, x : x + 3] for y in range(4) for x in range(4)]
        found = [np.array_equal(data[i, 0], w[:, ::s]) for w in windows for s in (1, -1)]
        assert any(found)


def test_rand_skip(make_batches: BatchMaker) -> None:
    torch.manual_seed(0)
    batches = make_batches(batch_size=3, rand_skip=5)
    skipped = batches.start.records_read
    assert skipped == 4  # so the seed has it
    got = take(batches, 2, batches.start)
    assert [labels.tolist() for (_, labels), _ in got] == [[40, 50, 60], [0, 10, 20]]
    assert [state.records_read for _, state in got] == [skipped + 3, skipped + 6]


def test_image_shape(make_batches: BatchMaker) -> None:
    assert make_batches("crop_size: 4", batch_size=1).image_shape == (1, 4, 4)


def test_encoded_and_raw_records_in_one_batch(make_batches: BatchMaker) -> None:
    encoded = cv2.imencode(".png", IMAGES[2, 0])[1].tobytes()
    png = caffe_pb2.Datum(encoded=True, data=encoded, label=20).SerializeToString()
    ((data, labels), _), *_ = take(make_batches(batch_size=4, records={2: png}), 1)
    np.testing.assert_array_equal(data, IMAGES[:4])
    assert labels.tolist() == [0, 10, 20, 30]


BAD: dict[str, tuple[bytes, str]] = {
    "no datum": (b"\xff\xff", "is not a Datum"),
    "short": (
        caffe_pb2.Datum(channels=1, height=6, width=6, data=b"x").SerializeToString(),
        "1 values",
    ),
    "no image": (caffe_pb2.Datum(encoded=True, data=b"x").SerializeToString(), "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named(make_batches: BatchMaker, name: str) -> None:
    value, says = BAD[name]
    batches = make_batches(batch_size=3, records={4: value})
    stream = batches.stream(CursorState())()
    next(stream)
    with pytest.raises(DataError, match=f'db: record "key4": .*{says}'):
        next(stream)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_first_record_is_named_at_once(make_batches: BatchMaker, name: str) -> None:
    value, says = BAD[name]
    with pytest.raises(DataError, match=f'db: record "key0": .*{says}'):
        make_batches(batch_size=3, records={0: value})


def test_images_of_other_sizes_are_named(make_batches: BatchMaker) -> None:
    large = datum.encode(np.zeros((1, 9, 9), np.uint8)).SerializeToString()
    batches = make_batches(batch_size=3, records={4: large})
    with pytest.raises(DataError, match=r'db: records "key3" to "key5": .*different sizes'):
        take(batches, 2)


def test_a_record_too_small_for_the_crop_is_named(make_batches: BatchMaker) -> None:
    small = datum.encode(np.zeros((1, 3, 3), np.uint8)).SerializeToString()
    batches = make_batches("crop_size: 4", batch_size=3, records={4: small})
    with pytest.raises(DataError, match=r'db: records "key3" to "key5": crop_size 4'):
        take(batches, 2)
