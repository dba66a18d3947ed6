from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from moka.errors import SchemaError
from moka.schema import caffe_pb2, read_text
from moka.schema.beginnings import known_beginning


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\n<!DOCTYPE html>", "this is a web page that was saved in place of the file. Download"),
        (b"\xef\xbb\xbf<html>", "this is a web page"),
        (b'<?xml version="1.0"?><net/>', "this is an XML file."),
        (b"version https://git-lfs.github.com/spec/v1", "this is a Git LFS pointer, not the file"),
        (b"404: Not Found", "this is a server's answer that there is no such file. Look"),
        (gzip.compress(b"name: 'x'", mtime=0), "this is packed with gzip. Unpack it first."),
    ],
)
def test_texts_that_are_something_else(tmp_path: Path, data: bytes, sentence: str) -> None:
    file = tmp_path / "net.prototxt"
    file.write_bytes(data)
    with pytest.raises(SchemaError) as caught:
        read_text(file, caffe_pb2.NetParameter)
    assert str(caught.value).startswith(f"Failed to parse NetParameter file: {file}: {sentence}")


def test_other_beginnings() -> None:
    assert known_beginning(b"") is None
    assert known_beginning(b'name: "x"') is None
