from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from moka.data import datum
from moka.data.decode import Decoder, Image
from moka.errors import DataError
from moka.schema import caffe_pb2

COLOR = np.random.default_rng(1).integers(0, 256, (3, 4, 5), np.uint8)
GRAY = COLOR[:1]


def png(image: Image) -> caffe_pb2.Datum:
    """An encoded Datum; its sizes are left at 0, as convert_imageset leaves them."""
    done, data = cv2.imencode(".png", image.transpose(1, 2, 0))
    assert done
    return caffe_pb2.Datum(encoded=True, data=data.tobytes(), label=2)


@pytest.mark.parametrize("image", [COLOR, (COLOR / 2).astype(np.float32), COLOR / 2])
def test_encode_and_decode(image: Image) -> None:
    record = datum.encode(image, 7)
    assert (record.channels, record.height, record.width, record.label) == (3, 4, 5, 7)
    raw = image.dtype == np.uint8
    assert bool(record.data) is raw
    again = datum.decode(datum.parse(record.SerializeToString()))
    assert again.dtype == (np.uint8 if raw else np.float32)
    np.testing.assert_array_equal(again, image)


def test_encode_without_a_label() -> None:
    assert not datum.encode(GRAY).HasField("label")
    assert datum.encode(GRAY, 0).HasField("label")


def test_encode_takes_three_axes() -> None:
    with pytest.raises(DataError, match=r"\(4, 5\)"):
        datum.encode(GRAY[0])


@pytest.mark.parametrize("image", [COLOR, GRAY])
def test_png_is_exact_and_bgr(image: Image) -> None:
    np.testing.assert_array_equal(datum.decode(png(image)), image)


def test_force_color() -> None:
    got = datum.decode(png(GRAY), decode_encoded=Decoder(color=True))
    np.testing.assert_array_equal(got, np.repeat(GRAY, 3, axis=0))


def test_force_gray() -> None:
    got = datum.decode(png(COLOR), decode_encoded=Decoder(color=False))
    b, g, r = COLOR.astype(np.float64)
    luminance = 0.114 * b + 0.587 * g + 0.299 * r  # ITU-R BT.601
    assert got.shape == (1, 4, 5)
    np.testing.assert_allclose(got[0], luminance, atol=1)  # whole numbers


def test_raw_data_stays_as_it_is() -> None:
    record = datum.encode(GRAY)
    np.testing.assert_array_equal(datum.decode(record, decode_encoded=Decoder(color=True)), GRAY)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abc"), "3 values for .*(1, 2, 2)"),
        (caffe_pb2.Datum(channels=1, height=2, width=2, float_data=[1.0]), "1 values"),
        (caffe_pb2.Datum(channels=1, height=2, width=2), "0 values"),
        (caffe_pb2.Datum(label=3), "not a Datum"),
        (caffe_pb2.Datum(encoded=True, data=b"GIF89a"), "cannot be decoded"),
        (caffe_pb2.Datum(encoded=True), "cannot be decoded"),
    ],
)
def test_records_that_are_no_image(record: caffe_pb2.Datum, says: str) -> None:
    with pytest.raises(DataError, match=says.replace("(", r"\(").replace(")", r"\)")):
        datum.decode(record)


def test_a_record_that_is_no_datum() -> None:
    with pytest.raises(DataError, match=re.escape("the record is not a Datum.")):
        datum.parse(b"\xff\xff")


@pytest.mark.parametrize("side", [3, 100])
@pytest.mark.parametrize("encoded", [True, False])
def test_parsed_apart(side: int, encoded: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, side, side), np.uint8)
    record = datum.encode(image, 300)
    if encoded:
        record = caffe_pb2.Datum(encoded=True, label=300, data=png(image).data)
    parsed, data = datum.parse_apart(record.SerializeToString())
    assert data == record.data
    assert (parsed.label, parsed.encoded) == (300, encoded)
    np.testing.assert_array_equal(datum.decode(parsed, data), datum.decode(record))


def boxed(label: int = datum.NO_LABEL) -> bytes:
    """An AnnotatedDatum with a box."""
    kind = caffe_pb2.AnnotatedDatum.BBOX
    record = caffe_pb2.AnnotatedDatum(type=kind, datum=datum.encode(GRAY, label))
    record.annotation_group.add(group_label=3).annotation.add(instance_id=0)
    return record.SerializeToString()


def test_a_record_of_either_kind() -> None:
    plain, none = datum.parse_any(datum.encode(GRAY, -1).SerializeToString())
    assert (plain.label, none) == (-1, None)
    found, annotated = datum.parse_any(boxed())
    np.testing.assert_array_equal(datum.decode(found), GRAY)
    assert not found.HasField("label")
    assert annotated is not None
    assert annotated.annotation_group[0].group_label == 3
    assert datum.parse_any(boxed(5)).datum.label == 5
    for value in (b"", caffe_pb2.Datum(label=3).SerializeToString()):
        assert datum.parse_any(value).annotated is None
    with pytest.raises(DataError, match="not a Datum"):
        datum.parse_any(b"\xff\xff")


def test_an_annotated_datum_taken_for_a_datum() -> None:
    with pytest.raises(DataError, match=r"is an AnnotatedDatum.*A layer of type AnnotatedData"):
        datum.decode(*datum.parse_apart(boxed()))


def test_a_large_record_that_is_no_datum() -> None:
    whole = datum.encode(np.zeros((3, 100, 100), np.uint8), 1).SerializeToString()
    for value in (whole[:-3], whole[:20_000], b"\xff" * 20_000):
        with pytest.raises(DataError, match=re.escape("the record is not a Datum.")):
            datum.parse_apart(value)


def test_a_batch_is_what_its_records_are_one_by_one() -> None:
    rng = np.random.default_rng(2)
    records = [datum.encode(rng.integers(0, 256, (2, 3, 4), np.uint8), i) for i in range(5)]
    batch = datum.decode_raw_batch(records, [r.data for r in records])
    assert batch is not None
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, np.stack([datum.decode(r) for r in records]))


@pytest.mark.parametrize(
    "other",
    [
        png(COLOR),
        datum.encode(COLOR.astype(np.float32)),
        datum.encode(COLOR[:, :3]),
        datum.encode(COLOR.transpose(0, 2, 1)),  # as many bytes
        caffe_pb2.Datum(channels=3, height=4, width=5, data=b"short"),
        caffe_pb2.Datum(),
    ],
    ids=["encoded", "float", "smaller", "turned", "short", "empty"],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_mixed_batch_is_left_to_decode(other: caffe_pb2.Datum, first: bool) -> None:
    records = [other, datum.encode(COLOR)] if first else [datum.encode(COLOR), other]
    assert datum.decode_raw_batch(records, [r.data for r in records]) is None


@pytest.mark.parametrize(("kind", "size"), [(np.float64, 8), (np.float32, 4), (np.int16, 2)])
def test_numbers_that_take_more_than_a_byte(kind: type, size: int) -> None:
    record = caffe_pb2.Datum(channels=1, height=2, width=3, data=np.ones((1, 2, 3), kind).tobytes())
    with pytest.raises(DataError, match=f"has {size} bytes a value, .* into float_data"):
        datum.decode(record)
