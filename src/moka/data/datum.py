"""Datum: one image (or vector) and its label, as stored in a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from moka.data.decode import Bytes, Decode, Image, decode_image
from moka.data.wire import find_bytes
from moka.errors import DataError
from moka.schema import caffe_pb2

_DATA = caffe_pb2.Datum.DATA_FIELD_NUMBER
NO_LABEL = -1  # SSD's label of an image whose boxes have labels
_SMALL = 1 << 14  # bytes of an image that are copied faster than Python looks at it


def parse(value: bytes) -> caffe_pb2.Datum:
    """Parse the bytes of a record. Raises DataError if they are no Datum."""
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(value)
    except DecodeError:
        raise DataError("the record is not a Datum.") from None
    return datum


class AnyRecord(NamedTuple):
    """A record with an image: its Datum, and the AnnotatedDatum around it, if there is one."""

    datum: caffe_pb2.Datum
    annotated: caffe_pb2.AnnotatedDatum | None


def parse_any(value: bytes) -> AnyRecord:
    """Parse the bytes of a record, a Datum or SSD's AnnotatedDatum. The Datum of an image whose
    boxes have labels has no label.

    Raises:
        DataError: they are neither.
    """
    found = parse(value)
    annotated = as_annotated(found)
    if annotated is None:
        return AnyRecord(found, None)
    if annotated.datum.label == NO_LABEL:
        annotated.datum.ClearField("label")
    return AnyRecord(annotated.datum, annotated)


def as_annotated(record: caffe_pb2.Datum) -> caffe_pb2.AnnotatedDatum | None:
    """The AnnotatedDatum that was parsed as a Datum, which keeps what it does not know; None: the
    record is something else."""
    if record.channels or record.HasField("data") or record.float_data:
        return None
    annotated = caffe_pb2.AnnotatedDatum()
    try:
        annotated.ParseFromString(record.SerializeToString())
    except DecodeError:
        return None
    return annotated if annotated.HasField("datum") else None


def parse_apart(value: bytes) -> tuple[caffe_pb2.Datum, Bytes]:
    """As `parse`, but return the field `data` beside the Datum instead of in it.

    The data of a large record is not copied; protobuf would copy it once, and again at each access.
    """
    where = find_bytes(value, _DATA) if len(value) > _SMALL else None
    if where is None:
        datum = parse(value)
        return datum, datum.data
    begin, start, end = where
    return parse(value[:begin] + value[end:]), memoryview(value)[start:end]


def decode(
    datum: caffe_pb2.Datum,
    data: Bytes | None = None,
    *,
    decode_encoded: Decode = decode_image,
    name: str = "a Datum",
) -> Image:
    """The datum's image as (C, H, W), channels in BGR order; uint8, or float32 from float_data.

    Args:
        data: the field `data`, if the datum was parsed without it (see `parse_apart`).
        decode_encoded: decodes an encoded image, such as a `Decoder`; raw data stays as it is.
        name: of the record, for warnings.

    Raises:
        DataError: the image cannot be decoded, or its size is not what the datum says.
    """
    data = datum.data if data is None else data
    if datum.encoded:
        return decode_encoded(data, name)
    shape = (datum.channels, datum.height, datum.width)
    if data:
        values: Image = np.frombuffer(data, np.uint8)
    else:
        values = np.array(datum.float_data, np.float32)
    if values.size != shape[0] * shape[1] * shape[2] or not values.size:
        if as_annotated(datum) is not None:
            raise DataError(
                "the record is an AnnotatedDatum, an image with its boxes, and no Datum.",
                advice="A layer of type AnnotatedData reads such a database.",
            )
        raise DataError(
            f"the record is not a Datum: {values.size} values for channels, height, width {shape}.",
            advice=_advice_on_size(len(data), shape[0] * shape[1] * shape[2]),
        )
    return values.reshape(shape)


def _advice_on_size(size: int, wanted: int) -> str | None:
    """What to do about a field `data` that holds the bytes of larger numbers."""
    if wanted <= 0 or size not in (2 * wanted, 4 * wanted, 8 * wanted):
        return None
    return (
        f"Its field data has {size // wanted} bytes a value, and takes one (0 to 255): write other"
        " numbers into float_data."
    )


def decode_raw_batch(datums: Sequence[caffe_pb2.Datum], values: Sequence[Bytes]) -> Image | None:
    """All images at once, (N, C, H, W) uint8, if every datum is raw bytes of one size, and few of
    them; else None.

    Many times faster than image by image; large images are faster without this copy.

    Args:
        values: the data of each datum.
    """
    first = datums[0]
    shape = (first.channels, first.height, first.width)
    size = shape[0] * shape[1] * shape[2]
    if not 0 < size <= _SMALL:
        return None
    if any(d.encoded or (d.channels, d.height, d.width) != shape for d in datums):
        return None
    if any(len(v) != size for v in values):
        return None
    return np.frombuffer(bytearray().join(values), np.uint8).reshape(-1, *shape)


def encode(image: Image, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of a (C, H, W) array: uint8 goes to `data`, everything else to `float_data`."""
    if image.ndim != 3:
        raise DataError(f"a Datum holds (channels, height, width), got shape {image.shape}.")
    c, h, w = image.shape
    datum = caffe_pb2.Datum(channels=c, height=h, width=w)
    if image.dtype == np.uint8:
        datum.data = image.tobytes()
    else:
        datum.float_data.extend(image.astype(np.float32, copy=False).ravel().tolist())
    if label is not None:
        datum.label = label
    return datum
