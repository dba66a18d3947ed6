"""What an encoded image says of itself, against what OpenCV writes."""

from __future__ import annotations

import struct
from contextlib import suppress

import cv2
import numpy as np
import pytest

from moka.data.image_header import ImageHeader, OtherFormError, read_header
from moka.errors import DataError

IMAGE = np.arange(7 * 12 * 3, dtype=np.uint8).reshape(7, 12, 3)


def encoded(ending: str, *options: int) -> bytes:
    return bytes(cv2.imencode(ending, IMAGE, options)[1])


@pytest.mark.parametrize(
    ("ending", "form"),
    [(".jpg", "JPEG"), (".png", "PNG"), (".bmp", "BMP"), (".webp", "WebP"), (".ppm", "PPM"),
     (".gif", "GIF")],
)  # fmt: skip
def test_what_opencv_writes(ending: str, form: str) -> None:
    assert read_header(encoded(ending)) == ImageHeader(form, 12, 7)


def test_lossy_and_lossless_webp() -> None:
    lossy = encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 50)
    lossless = encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101)
    assert {lossy[12:16], lossless[12:16]} == {b"VP8 ", b"VP8L"}
    assert read_header(lossy) == read_header(lossless) == ImageHeader("WebP", 12, 7)
    extended = b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + (11).to_bytes(3, "little")
    assert read_header(extended + (6).to_bytes(3, "little")) == ImageHeader("WebP", 12, 7)


def test_a_progressive_jpeg_has_several_scans() -> None:
    header = read_header(encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    assert header[:3] == ("JPEG", 12, 7)
    assert header.passes > 3


def test_a_jpeg_with_segments_before_its_size() -> None:
    plain = encoded(".jpg")
    comment = b"\xff\xfe" + struct.pack(">H", 2000) + b"\xff\xc0" * 999
    assert read_header(plain[:2] + comment + plain[2:]) == ImageHeader("JPEG", 12, 7)


def test_comments_in_a_ppm() -> None:
    assert read_header(b"P6\n# made by hand\n12 7\n255\n") == ImageHeader("PPM", 12, 7)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".ppm", ".gif"])
def test_every_beginning_of_an_image(ending: str) -> None:
    data = encoded(ending)
    for length in range(min(len(data), 200)):
        with suppress(DataError, OtherFormError):
            assert read_header(data[:length])[1:3] == (12, 7)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the image is empty: 0 bytes"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "the PNG ends within its header"),
        (b"BM" + b"\0" * 30, "the BMP says that it is 0 x 0 pixels"),
        (b"\xff\xd8\xff\xd9", "the JPEG ends within its header"),
        (b"\xff\xd8\xff\xe0\0\0", "the JPEG ends within its header"),
    ],
)
def test_damaged_headers(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_header(data)


@pytest.mark.parametrize("data", [b"<svg/>", b"II*\0", b"PK\x03\x04", b"%PDF", b"RIFF\0\0\0\0WAVE"])
def test_other_files(data: bytes) -> None:
    with pytest.raises(OtherFormError, match=r"no JPEG, PNG.* it begins with the bytes [\da-f]"):
        read_header(data)
