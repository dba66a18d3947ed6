"""Find a field in the bytes of a protobuf message, to read it without a copy.

The encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def find_bytes(message: bytes, number: int) -> tuple[int, int, int] | None:
    """Positions of a field of bytes: where its key begins, where its content begins, where it ends.

    Returns:
        None: it is not there, or there more than once, or the message is none.
    """
    found = None
    at = 0
    try:
        while at < len(message):
            begin = at
            key, at = _varint(message, at)
            kind = key & 7
            if kind == _VARINT:
                _, at = _varint(message, at)
            elif kind == _BYTES:
                length, at = _varint(message, at)
                if key >> 3 == number:
                    if found:
                        return None
                    found = begin, at, at + length
                at += length
            elif kind == _FIXED64:
                at += 8
            elif kind == _FIXED32:
                at += 4
            else:
                return None
    except IndexError:
        return None
    return found if at == len(message) else None


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, seven bits a byte from the lowest on, and where it ends."""
    value = shift = 0
    while (byte := message[at]) >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1
