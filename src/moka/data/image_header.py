"""The form and size of an encoded image, from its first bytes, before anything is decoded."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from moka.errors import DataError

FORMS = "JPEG, PNG, BMP, GIF, WebP, PGM or PPM"
PNG_START = b"\x89PNG\r\n\x1a\n"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 but DHT, JPG, DAC
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length
_SCAN = re.compile(rb"\xff\xda")
_NETPBM = re.compile(rb"P[2356](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
_HEAD = 1 << 16  # bytes in which the size stands, but for a JPEG's


class OtherFormError(DataError):
    """Bytes that begin like no image that is known here."""


class NoPixelsError(DataError):
    """A header that gives no pixels."""


class ImageHeader(NamedTuple):
    """What an image says of itself.

    Attributes:
        form: "JPEG", "PNG" ...
        width, height: in pixels.
        passes: how often a decoder goes over the pixels: the scans of a JPEG, else 1.
    """

    form: str
    width: int
    height: int
    passes: int = 1


def read_header(data: bytes) -> ImageHeader:
    """The header of an encoded image.

    Raises:
        OtherFormError: the bytes begin like none of the FORMS.
        DataError: the header is damaged, or gives no pixels.
    """
    if not data:
        raise DataError("the image is empty: 0 bytes.")
    for start, form, read in _READERS:
        if data.startswith(start) and (form != "WebP" or data[8:12] == b"WEBP"):
            try:
                found = read(data)
            except (struct.error, IndexError, ValueError):
                found = None
            if found is None:
                raise DataError(f"the {form} ends within its header.")
            width, height, passes = found
            if width < 1 or height < 1:
                raise NoPixelsError(f"the {form} says that it is {width} x {height} pixels.")
            return ImageHeader(form, width, height, passes)
    begin = " ".join(f"{byte:02x}" for byte in data[:8])
    raise OtherFormError(f"this is no {FORMS}: it begins with the bytes {begin}.")


_Found = tuple[int, int, int] | None  # width, height, passes


def _png(data: bytes) -> _Found:
    if data[12:16] != b"IHDR":
        return None
    return *struct.unpack_from(">II", data, 16), 1


def _bmp(data: bytes) -> _Found:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # OS/2's
        return *struct.unpack_from("<HH", data, 18), 1
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height), 1  # a negative height: from the top


def _webp(data: bytes) -> _Found:
    kind = data[12:16]
    if kind == b"VP8X":
        return _three_bytes(data, 24) + 1, _three_bytes(data, 27) + 1, 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, 1
    return None


def _three_bytes(data: bytes, at: int) -> int:
    if at + 3 > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + 3], "little")


def _gif(data: bytes) -> _Found:
    return *struct.unpack_from("<HH", data, 6), 1


def _netpbm(data: bytes) -> _Found:
    found = _NETPBM.match(data[:_HEAD])
    return (int(found[1]), int(found[2]), 1) if found else None


def _jpeg(data: bytes) -> _Found:
    """The largest of its frames, whose headers stand before the first scan."""
    sizes: list[tuple[int, int]] = []
    at = 2
    while True:
        at = data.index(0xFF, at)  # after fill bytes, or rubbish between segments
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _ALONE:
            continue
        if marker in (0xD9, 0xDA):  # the end, or pixels
            break
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            return None
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            sizes.append((width, height))
        at += length
    if not sizes:
        return None
    passes = max(1, sum(1 for _ in _SCAN.finditer(data)))
    return *max(sizes, key=lambda size: size[0] * size[1]), passes


_READERS = (
    (b"\xff\xd8\xff", "JPEG", _jpeg),
    (PNG_START, "PNG", _png),
    (b"BM", "BMP", _bmp),
    (b"RIFF", "WebP", _webp),
    (b"GIF87a", "GIF", _gif),
    (b"GIF89a", "GIF", _gif),
    (b"P2", "PGM", _netpbm),
    (b"P3", "PPM", _netpbm),
    (b"P5", "PGM", _netpbm),
    (b"P6", "PPM", _netpbm),
)
