from __future__ import annotations

import pytest

from moka.varint import read_varint, varint


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_a_number_comes_back(value: int) -> None:
    data = b"before" + varint(value) + b"after"
    assert read_varint(data, 6) == (value, len(data) - 5)
    assert read_varint(memoryview(data), 6) == (value, len(data) - 5)


def test_bytes_of_the_format() -> None:
    assert varint(1) == b"\x01"
    assert varint(300) == b"\xac\x02"


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 1000])
def test_a_number_without_end(data: bytes) -> None:
    with pytest.raises(ValueError, match="without end"):
        read_varint(data, 0)
