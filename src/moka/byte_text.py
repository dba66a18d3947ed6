"""Any bytes as text and back. To Caffe a string is bytes; to protobuf in Python it is UTF-8.

A name or path in a Caffe file may be in any encoding. Each byte that is not part of UTF-8 becomes
one private character (U+10FE80 to U+10FEFF), which Python, protobuf and terminals accept like any
other character. So every string of bytes has a text of its own, and UTF-8 reads as usual.
"""

from __future__ import annotations

import codecs
import re

_OFFSET = 0x10FE00  # the private character of byte b is chr(_OFFSET + b)
_SURROGATES = 0xDC00  # Python's own escape of byte b is chr(_SURROGATES + b)
_PRIVATE = re.compile("[\U0010fe80-\U0010feff]")
_OTHER = re.compile("[\U0010fe80-\U0010feff\udc80-\udcff]")  # those, and Python's escapes
_PRIVATE_AS_UTF8 = re.compile(rb"(\xf4\x8f[\xba\xbb][\x80-\xbf])")


def to_text(data: bytes) -> str:
    """The text of any bytes; `to_bytes` gives the same bytes back."""
    text = data.decode("utf-8", "moka.private")
    if len(text) == len(data) or not _PRIVATE_AS_UTF8.search(data):
        return text
    # The bytes hold such a character themselves: its four bytes become four private characters.
    pieces = _PRIVATE_AS_UTF8.split(data)
    pieces[1::2] = [_private(piece).encode() for piece in pieces[1::2]]
    return "".join(piece.decode("utf-8", "moka.private") for piece in pieces)


def to_bytes(text: str) -> bytes:
    """The bytes of a text made by `to_text`, or of a file name that Python gave."""
    escaped = _PRIVATE.sub(lambda found: chr(ord(found[0]) - _OFFSET + _SURROGATES), text)
    return escaped.encode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    r"""A text made by `to_text`, or a file name that Python gave, for people: each byte that is not
    part of UTF-8 as an escape such as \xe9."""
    return _OTHER.sub(lambda found: rf"\x{ord(found[0]) & 0xFF:02x}", text)


def has_other_bytes(text: str) -> bool:
    """Whether a text made by `to_text` stands for bytes that are not UTF-8."""
    return _PRIVATE.search(text) is not None


def _private(data: bytes) -> str:
    return "".join(chr(_OFFSET + byte) for byte in data)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _private(error.object[error.start : error.end]), error.end


codecs.register_error("moka.private", _escape)
