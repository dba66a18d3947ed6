from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.opencv.cases import CHAIN, numbers
from tests.opencv.record import write_nets

from moka.opencv import OpenCVError, readNetFromCaffe, shrinkCaffeModel
from moka.schema import blobproto, caffe_pb2, read_binary


def parameters(file: Path) -> dict[str, list[caffe_pb2.BlobProto]]:
    return {
        layer.type: list(layer.blobs)
        for layer in read_binary(file, caffe_pb2.NetParameter).layer
        if layer.blobs
    }


def test_parameters_become_float16(tmp_path: Path) -> None:
    write_nets(tmp_path)
    whole, half = tmp_path / "chain.caffemodel", tmp_path / "half.caffemodel"
    shrinkCaffeModel(whole, str(half))
    was, now = parameters(whole), parameters(half)
    for kind in ("Convolution", "InnerProduct"):
        for old, new in zip(was[kind], now[kind], strict=True):
            assert new.raw_data_type == caffe_pb2.FLOAT16
            assert not new.data
            expected = blobproto.to_array(old).astype(np.float16)
            np.testing.assert_array_equal(blobproto.to_array(new), expected)
    assert was["BatchNorm"] == now["BatchNorm"]
    x = numbers(1, 3, 9, 9)
    outputs: list[Any] = []
    for model in (whole, half):
        net = readNetFromCaffe(CHAIN.encode(), str(model))
        net.setInput(x)
        outputs.append(net.forward())
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-2)
    assert not np.array_equal(outputs[1], outputs[0])


def test_types_that_are_asked_for(tmp_path: Path) -> None:
    write_nets(tmp_path)
    shrinkCaffeModel(tmp_path / "chain.caffemodel", tmp_path / "half", ["BatchNorm"])
    now = parameters(tmp_path / "half")
    assert all(blob.raw_data for blob in now["BatchNorm"])
    assert not any(blob.raw_data for blob in now["Convolution"])


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(cv2.error) as caught:
        shrinkCaffeModel(tmp_path / "gone", tmp_path / "half")
    assert isinstance(caught.value, OpenCVError)
    assert not (tmp_path / "half").exists()
