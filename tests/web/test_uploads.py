"""Uploads are bounded before they are decoded."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from moka.errors import DataError
from moka.web import uploads
from moka.web.uploads import image_size, read_upload


def encoded(suffix: str, height: int = 13, width: int = 21) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def png_bomb(height: int, width: int) -> bytes:
    """A small file whose header promises many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(bytes(10000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif"])
def test_the_header_tells_the_size(suffix: str) -> None:
    data = encoded(suffix)
    assert image_size(data) == (13, 21)
    assert read_upload(data).shape == (3, 13, 21)


def test_gray() -> None:
    assert read_upload(encoded(".png"), color=False).shape == (1, 13, 21)


def test_a_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoder(**_: object) -> object:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(uploads, "Decoder", decoder)
    with pytest.raises(DataError, match=r"photo has 60000 x 60000 pixels; at most"):
        read_upload(png_bomb(60000, 60000), "photo")


def test_the_largest_frame_of_a_jpeg_counts() -> None:
    data = encoded(".jpg")
    second = b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 60000, 60000) + b"\x01\x01\x11\x00"
    assert image_size(data[:2] + second + data[2:]) == (60000, 60000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"BM",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"RIFF\0\0\0\0WAVE",
        b"%PDF-1.4",
        b"PK\x03\x04" + bytes(100),  # an archive
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(DataError, match=r"is no image|cannot be decoded"):
        read_upload(data)


def test_a_thousand_hostile_uploads_are_refused_or_read() -> None:
    """Each is refused by one sentence, or is an image within the bounds."""
    rng = np.random.default_rng(1)
    whole = [encoded(suffix) for suffix in (".png", ".jpg", ".bmp", ".webp", ".gif")]
    for number in range(1000):
        data = bytearray(whole[number % len(whole)])
        for place in rng.integers(0, min(64, len(data)), 1 + number % 5):
            data[place] = rng.integers(256)
        kept = bytes(data[: rng.integers(1, len(data) + 1)])
        try:
            image = read_upload(kept)
        except DataError:
            continue
        assert image.shape[1] * image.shape[2] <= uploads.MOST_PIXELS
