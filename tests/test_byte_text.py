"""Every string of bytes has a text of its own; UTF-8 reads as usual."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from moka.byte_text import has_other_bytes, readable, to_bytes, to_text

GBK = "卷积".encode("gbk")


@pytest.mark.parametrize("text", ["", "conv1", "été", "卷积", "\U0001f600"])
def test_utf8_reads_as_usual(text: str) -> None:
    assert to_text(text.encode()) == text
    assert to_bytes(text) == text.encode()
    assert not has_other_bytes(text)


@pytest.mark.parametrize(
    "data",
    [
        GBK,
        b"caf\xe9",
        b"\xff\xfe\x80",
        b"\xc3\xa9 \xc3",
        bytes(range(256)),
        b"\xed\xb2\x80",  # a surrogate's three bytes
        "\U0010fe80 \U0010feff".encode(),  # the private characters themselves
        b"\xf4\x8f\xba\x80\xe9\xc3\xa9",
    ],
)
def test_bytes_come_back(data: bytes) -> None:
    text = to_text(data)
    assert to_bytes(text) == data
    assert has_other_bytes(text)
    text.encode()  # protobuf takes it


def test_different_bytes_are_different_texts() -> None:
    own = to_text(b"\x80")
    assert len({own, to_text(own.encode()), to_text(b"\x81"), to_text("\x80".encode())}) == 4


def test_a_file_name_that_python_gave() -> None:
    assert to_bytes(os.fsdecode(GBK)) == GBK


@pytest.mark.parametrize("to_str", [to_text, os.fsdecode])
def test_a_name_for_people(to_str: Callable[[bytes], str]) -> None:
    assert readable(to_str(b"caf\xe9 \xff")) == r"caf\xe9 \xff"
    assert readable(to_str("café".encode())) == "café"
