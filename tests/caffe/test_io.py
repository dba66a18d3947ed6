from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from caffe.proto import caffe_pb2
from moka.errors import SchemaError

DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_array_to_blobproto_and_back() -> None:
    proto = caffe.io.array_to_blobproto(DATA)
    assert list(proto.shape.dim) == [2, 3, 4]
    assert not proto.diff
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto), DATA)


def test_diffs() -> None:
    proto = caffe.io.array_to_blobproto(DATA, -DATA)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto), DATA)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto, return_diff=True), -DATA)


def test_the_older_form_has_four_axes() -> None:
    proto = caffe_pb2.BlobProto(num=1, channels=2, height=3, width=4, data=DATA.ravel().tolist())
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto), DATA[None])


def test_a_blobproto_that_does_not_fit() -> None:
    proto = caffe.io.array_to_blobproto(DATA)
    proto.data.append(1)
    with pytest.raises(SchemaError, match=r"\(2, 3, 4\) holds 25"):
        caffe.io.blobproto_to_array(proto)


@pytest.mark.parametrize(
    ("array", "field"),
    [(DATA.astype(np.uint8), "data"), (DATA, "float_data"), (DATA.astype(float), "float_data")],
)
def test_array_to_datum_and_back(array: NDArray[Any], field: str) -> None:
    datum = caffe.io.array_to_datum(array, 3)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 3)
    assert len(getattr(datum, field)) == 24
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), array)


def test_a_datum_without_a_label() -> None:
    assert not caffe.io.array_to_datum(DATA).HasField("label")


def test_a_datum_has_three_axes() -> None:
    with pytest.raises(ValueError, match="Incorrect array shape"):
        caffe.io.array_to_datum(DATA[0])


def test_an_encoded_datum_is_decoded() -> None:
    image = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
    datum = caffe_pb2.Datum(encoded=True, data=cv2.imencode(".png", image)[1].tobytes())
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), image.transpose(2, 0, 1))
