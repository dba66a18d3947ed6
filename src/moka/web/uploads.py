"""Images that somebody else sends: looked at before they are decoded, and bounded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from moka.data.decode import Decoder, Image
from moka.errors import DataError

MOST_PIXELS = 1 << 26  # of one image: 8192 x 8192
KINDS = "JPEG, PNG, BMP, GIF or WebP"
Size = tuple[int, int]  # (height, width)


def read_upload(data: bytes, name: str = "the upload", *, color: bool | None = True) -> Image:
    """Decode an image, (C, H, W) uint8, channels in BGR order.

    Args:
        color: see `Decoder`.

    Raises:
        DataError: it is no image of the known KINDS, has more than MOST_PIXELS, or is damaged.
    """
    size = image_size(data)
    if size is None:
        raise DataError(f"{name} is no image: it has to be a {KINDS} file.")
    height, width = size
    if not 0 < height * width <= MOST_PIXELS:
        raise DataError(f"{name} has {height} x {width} pixels; at most {MOST_PIXELS} are read.")
    try:
        return Decoder(color=color)(data, name)
    except DataError as error:
        error.message = f"{name}: {error.message}"
        raise


def image_size(data: bytes) -> Size | None:
    """The size that an image's header states, without decoding it; None: no image of KINDS."""
    for mark, read in _READERS.items():
        if data.startswith(mark):
            try:
                return read(data)
            except struct.error:
                return None
    return None


def _png(data: bytes) -> Size | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), abs(width)


def _gif(data: bytes) -> Size:
    """The size of the screen, into which a decoder draws all frames."""
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return None


def _jpeg(data: bytes) -> Size | None:
    """The largest size of all its frame headers; a decoder may take any of them."""
    sizes = list(_jpeg_frames(data))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _jpeg_frames(data: bytes) -> Iterator[Size]:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # filler, or without a length
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):  # the end, or the first scan
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            yield struct.unpack_from(">HH", data, at + 5)
        at += 2 + max(2, length)


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"BM": _bmp,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
    b"RIFF": _webp,
}
