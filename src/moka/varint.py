"""Numbers of any length in bytes, as protobuf and LevelDB write them.

Each byte holds seven bits, the lowest first; its highest bit says that another byte follows.
"""

from __future__ import annotations

_MOST_BITS = 70  # ten bytes hold 64 bits


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number that starts at a position, and the position after it.

    Raises:
        ValueError: the data ends within the number, or it has more than ten bytes.
    """
    value = shift = 0
    try:
        while (byte := data[at]) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if shift == _MOST_BITS:
                break
        else:
            return value | byte << shift, at + 1
    except IndexError:
        pass
    raise ValueError("a number without end")


def varint(value: int) -> bytes:
    """The bytes of a number that is not negative."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
