"""Find a field in the bytes of a protobuf message, to read it without a copy.

The encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from moka.varint import read_varint

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
            key, at = read_varint(message, at)
            kind = key & 7
            if kind == _VARINT:
                _, at = read_varint(message, at)
            elif kind == _BYTES:
                length, at = read_varint(message, at)
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
    except ValueError:
        return None
    return found if at == len(message) else None
