"""Encoded images (JPEG, PNG, ...) as arrays. A JPEG that is cut off is read as far as it goes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.data.image_header import PNG_START, NoPixelsError, read_header
from moka.errors import DataError

log = logging.getLogger("moka")

Image = NDArray[Any]  # (C, H, W), BGR, uint8 or float32
Bytes = bytes | memoryview

# Makes an image of a file's bytes; the name is for warnings. Raises DataError. See `Decoder`.
Decode = Callable[[Bytes, str], Image]

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_SCAN = re.compile(rb"\xff\xda\x00[\x06-\x0e]")  # the header of a scan: marker, length
_HEAD = 1 << 16  # bytes in which the size stands
_MANY = 1 << 26  # pixels
_MOST_OF_A_BYTE = 3000  # pixels; a GIF may have 2,730 for each, WebP any number up to 2^28 in all
_ENDS = _JPEG_END * (1 << 15)  # longer than any segment that may be cut off


class Decoder:
    """Decodes images, and warns once of each that is cut off.

    Args:
        color: three channels in BGR order if True, one gray channel if False; None: as stored.
        size: (height, width) to resize to; None: as stored.
        short_side: the length to resize the shorter side to, the other in proportion; 0: as stored.
    """

    def __init__(
        self,
        *,
        color: bool | None = None,
        size: tuple[int, int] | None = None,
        short_side: int = 0,
    ) -> None:
        self._how = {
            True: cv2.IMREAD_COLOR,
            False: cv2.IMREAD_GRAYSCALE,
            None: cv2.IMREAD_UNCHANGED,
        }[color]
        self._size = size
        self._short_side = short_side
        self._cut_off: set[str] = set()

    def __call__(self, data: Bytes, name: str) -> Image:
        """Decode an image to (C, H, W) uint8, channels in BGR order.

        Args:
            data: the bytes of an image file.
            name: of the file or record, for the warning.

        Raises:
            DataError: the bytes are no image, or a damaged one. It does not say the name.
        """
        _refuse_empty_promise(data)
        whole = _completed(data) if _is_cut_off(data) else data
        try:
            pixels = cv2.imdecode(np.frombuffer(whole, np.uint8), self._how) if data else None
        except cv2.error as error:  # such as a header that promises too many pixels
            raise DataError(f"the image cannot be decoded: {error.err}.") from None
        if pixels is None:
            raise DataError("the image cannot be decoded.")
        if whole is not data and name not in self._cut_off:
            self._cut_off.add(name)
            log.warning("%s: this JPEG is cut off; it is read as far as it goes.", name)
        image = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return self._resized(image)

    def converted(self, image: Image) -> Image:
        """Convert a decoded color image (3, H, W) as this decoder would: to gray, to its size."""
        if self._how == cv2.IMREAD_GRAYSCALE:
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
            image = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[None]
        return self._resized(image)

    def _resized(self, image: Image) -> Image:
        size = self._size
        if self._short_side:
            _, height, width = image.shape
            size = short_side_size(height, width, self._short_side)
        return image if size is None else resize(image, *size)


def decode_image(data: Bytes, name: str = "an image") -> Image:
    """Decode one image, as stored; see `Decoder`."""
    return Decoder()(data, name)


def short_side_size(height: int, width: int, side: int) -> tuple[int, int]:
    """The size whose shorter side is `side` long, in proportion."""
    scale = side / min(height, width)
    return round(height * scale), round(width * scale)


def resize(image: Image, height: int, width: int) -> Image:
    """(C, H, W) to (C, height, width): bilinear, half-pixel centers, no smoothing."""
    resized = cv2.resize(image.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_LINEAR)
    return resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)


def _refuse_empty_promise(data: Bytes) -> None:
    """Raises DataError for an image whose header promises no pixels, or many more than its bytes
    can hold: they would take memory before anything is decoded."""
    try:
        header = read_header(bytes(data[:_HEAD]))
    except NoPixelsError as error:
        raise DataError(f"the image cannot be decoded: {error.message}") from None
    except DataError:
        return  # OpenCV says what is wrong, or knows the form
    if header.form == "PNG" and (length := _longest_chunk(data)) > max(len(data), _MANY):
        raise DataError(f"the image cannot be decoded: a chunk of it has {length:,} bytes.")
    pixels = header.height * header.width
    if pixels > _MANY and pixels > _MOST_OF_A_BYTE * len(data) and header.form != "WebP":
        raise DataError(
            f"the image cannot be decoded: {len(data):,} bytes cannot hold the {header.height} x"
            f" {header.width} pixels that its header promises."
        )


def _longest_chunk(data: Bytes) -> int:
    """The length of a PNG's longest chunk, as the file says it."""
    longest, at = 0, len(PNG_START)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        longest = max(longest, length)
        at += 12 + length  # length, name, checksum
    return longest


def _is_cut_off(data: Bytes) -> bool:
    """Whether this is a JPEG without an end marker after its last scan."""
    if bytes(data[:3]) != _JPEG_START or bytes(data[-2:]) == _JPEG_END:
        return False
    content = bytes(data)
    scans = [found.start() for found in _SCAN.finditer(content)]
    return not scans or content.rfind(_JPEG_END) < scans[-1]


def _completed(data: Bytes) -> bytes:
    """A JPEG that is cut off, with end markers, as libjpeg adds them when a file ends too early.

    OpenCV's `imdecode` refuses it without them; `imread`, which Caffe calls, does not.
    """
    return bytes(data) + _ENDS
