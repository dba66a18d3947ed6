from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.data.decode import Decoder, decode_image
from moka.errors import DataError
from moka.types import Array

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 64, 3)).astype(np.uint8)


def jpeg(image: Array, *, progressive: bool = False, restart: int = 0) -> bytes:
    how = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    return cv2.imencode(".jpg", image, how)[1].tobytes()


@pytest.fixture(params=[False, True], ids=["color", "gray"])
def image(request: pytest.FixtureRequest) -> Array:
    return IMAGE[:, :, 0] if request.param else IMAGE


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_without_its_end_marker_is_whole(
    image: Array, progressive: bool, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = jpeg(image, progressive=progressive)
    got = decode_image(data[:-cut], "a.jpg")
    np.testing.assert_array_equal(got, decode_image(data))
    assert caplog.messages == ["a.jpg: this JPEG is cut off; it is read as far as it goes."]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [0, 2])
def test_a_jpeg_is_read_as_opencv_reads_files(
    image: Array, progressive: bool, restart: int, tmp_path: Path
) -> None:
    """BVLC Caffe calls `imread`, wherever the file is cut."""
    data = jpeg(image, progressive=progressive, restart=restart)
    read = 0
    for length in range(20, len(data), 131):
        (tmp_path / "cut.jpg").write_bytes(data[:length])
        wanted = cv2.imread(str(tmp_path / "cut.jpg"), cv2.IMREAD_UNCHANGED)
        if wanted is None:
            with pytest.raises(DataError, match="cannot be decoded"):
                decode_image(data[:length])
        else:
            got = decode_image(data[:length]).transpose(1, 2, 0)
            np.testing.assert_array_equal(got, wanted.reshape(got.shape))
            read += 1
    assert read > 10


def test_the_intact_part_of_a_jpeg_is_that_of_the_whole() -> None:
    data = jpeg(IMAGE)
    whole, part = decode_image(data), decode_image(data[: len(data) * 3 // 4])
    np.testing.assert_array_equal(part[:, :48], whole[:, :48])
    assert (part[:, -16:] != whole[:, -16:]).any()


@pytest.mark.parametrize("padding", [b"\0" * 500, b"\r\n"])
def test_what_follows_a_jpeg_does_not_matter(
    padding: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    data = jpeg(IMAGE)
    for content, warns in ((data, False), (data[:-2], True), (memoryview(data), False)):
        caplog.clear()
        got = decode_image(bytes(content) + padding)
        np.testing.assert_array_equal(got, decode_image(data))
        assert bool(caplog.messages) == warns


def test_each_cut_image_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    decode = Decoder(color=True)
    cut = jpeg(IMAGE)[:-2]
    with caplog.at_level(logging.WARNING, "moka"):
        for name in ("a.jpg", "b.jpg", "a.jpg"):
            decode(cut, name)
    assert [message.split(":")[0] for message in caplog.messages] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp", "ppm"])
def test_other_images_that_are_cut_are_refused(kind: str) -> None:
    """As `imread` does, and so BVLC Caffe."""
    data = cv2.imencode(f".{kind}", IMAGE)[1].tobytes()
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("side", "says"),
    [(100_000, "100000 x 100000 pixels that its header"), (9000, "9000 x 9000 pixels"), (50, "$")],
)
def test_an_image_that_claims_too_many_pixels(side: int, says: str) -> None:
    sides = struct.pack(">II", side, side)
    header = b"IHDR" + sides + bytes([8, 2, 0, 0, 0])  # 8 bits a sample, color
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    png += struct.pack(">I", zlib.crc32(header))
    with pytest.raises(DataError, match=rf"^the image cannot be decoded(: 33 bytes|\.).*{says}"):
        decode_image(memoryview(png))


def test_a_chunk_that_claims_too_many_bytes() -> None:
    png = bytearray(cv2.imencode(".png", IMAGE)[1].tobytes())
    at = png.index(b"IDAT") - 4
    png[at : at + 4] = (2**31 - 1).to_bytes(4)
    with pytest.raises(DataError, match="decoded: a chunk of it has 2,147,483,647 bytes"):
        decode_image(bytes(png))


def test_a_large_image_that_is_small_in_bytes() -> None:
    pixels = np.zeros((8500, 8500), np.uint8)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    assert len(data) < 200_000
    assert decode_image(data).shape == (1, 8500, 8500)


@pytest.mark.parametrize(
    ("shape", "size"), [((4, 6), (8, 12)), ((6, 4), (12, 8)), ((10, 13), (8, 10)), ((8, 8), (8, 8))]
)
def test_the_shorter_side_may_be_given(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    image = Decoder(color=True, short_side=8)(data, "a.png")
    np.testing.assert_array_equal(image, Decoder(color=True, size=size)(data, "a.png"))
