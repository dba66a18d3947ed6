"""Recognizes files that are not what somebody wanted to save, by how they begin."""

from __future__ import annotations

import re
from typing import NamedTuple

FETCH_AGAIN = "Compare its size or checksum with the original and fetch it again."
_UNPACK = "Unpack it first."
_BEGINNINGS = (
    (
        rb"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "Fetch it: git lfs pull.",
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*<(?i:!doctype html|html|head)",
        "a web page that was saved in place of the file",
        "Download the file itself, not the page that shows it.",
    ),
    (rb"(?:\xef\xbb\xbf)?\s*<(?i:\?xml|!doctype)", "an XML file", "Give the file that is wanted."),
    (
        rb"404: Not Found",
        "a server's answer that there is no such file",
        "Look for its address and download it again.",
    ),
    (rb"PK\x03\x04", "a zip archive (of files, or of a PyTorch model)", _UNPACK),
    (rb"\x1f\x8b", "packed with gzip", _UNPACK),
    (rb"BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a packed archive", _UNPACK),
    (rb"\x80[\x02-\x05]", "a pickle of Python, as PyTorch's models", "Convert it first."),
    (rb"\x93NUMPY", "an array of NumPy", "Read it with numpy.load (for weights: into net.params)."),
    (rb"\0{64}", "empty space: its download was not finished", FETCH_AGAIN),
)


class Recognized(NamedTuple):
    """What a file is instead of what it should be, and what to do about it."""

    fact: str
    advice: str


def known_beginning(data: bytes) -> Recognized | None:
    """The well-known kind of file that begins with these bytes; None: no such kind."""
    for beginning, kind, advice in _BEGINNINGS:
        if re.match(beginning, data):
            return Recognized(f"this is {kind}", advice)
    return None
