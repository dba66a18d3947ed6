"""A file that is no model is told what it is."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from moka.schema import caffe_pb2
from moka.weights.recognize import recognize


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def state() -> bytes:
    message = caffe_pb2.SolverState(iter=7, learned_net="lenet_iter_7.caffemodel")
    message.history.add(data=[1, 2])
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("data", "fact", "advice"),
    [
        (b"", "the file is empty", "fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "Git LFS", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page", "Download the file itself"),
        (b"<html lang='en'>", "a web page", "Download the file itself"),
        (b"PK\x03\x04\x14" + bytes(30), "a zip archive", "Unpack"),
        (b"\x1f\x8b\x08\0\0", "gzip", "Unpack"),
        (pickle.dumps({"a": 1}), "a pickle", "Convert"),
        (array(), "an array of NumPy", "net.params"),
        (bytes(200), "download was not finished", "fetch it again"),
        (b'name: "n"\nlayer {\n', "a description in text", ".caffemodel"),
        (b"net: 'a.prototxt'", "a description in text", ".caffemodel"),
        (b"404: Not Found", "a server's answer", "download it again"),
        (state(), "a solver's state of iteration 7", "lenet_iter_7.caffemodel"),
        (caffe_pb2.BlobProto(data=[1]).SerializeToString(), "one blob", "mean"),
        (b"\x13\x37\x00\x01", "another kind of file", "fetch it again"),
    ],
)
def test_other_files(data: bytes, fact: str, advice: str) -> None:
    found = recognize(data, parsed=False)
    assert fact in found.fact
    assert advice in found.advice


@pytest.mark.parametrize(
    ("name", "kept", "shown"),
    [
        ("conv1", 7, ' "conv1"'),
        ("conv1", 6, ""),  # a part of a name is none
        ("conv1", 2, ""),
        ("conv1", 1, ""),
        ("", 2, ""),
        ("c" * 127, 129, f' "{"c" * 127}"'),
        ("c" * 128, 131, ""),  # a length of two bytes
    ],
)
def test_a_model_that_ends_in_a_name(name: str, kept: int, shown: str) -> None:
    layer = caffe_pb2.LayerParameter(name=name)
    layer.blobs.add(data=[0.5] * 500)
    data = caffe_pb2.NetParameter(layer=[layer]).SerializeToString()
    cut = data[: len(data) - layer.ByteSize() + kept]
    assert f"it ends in layer 1{shown}, of which" in recognize(cut, parsed=False).fact


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_model_says_where_it_ends(keep: float) -> None:
    net = caffe_pb2.NetParameter(name="n")
    for name in ("conv1", "ip2"):
        net.layer.add(name=name).blobs.add(data=[0.5] * 500)
    data = net.SerializeToString()
    cut = data[: int(len(data) * keep)]
    layer = '1 "conv1"' if keep < 0.5 else '2 "ip2"'
    found = recognize(cut, parsed=False).fact
    assert found.startswith(f"the file is truncated: it ends in layer {layer}, of which ")
    if keep > 0.5:
        assert f"of which {len(data) - len(cut):,} of " in found
