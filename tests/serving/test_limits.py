"""What a request may cost."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from moka.serving.errors import QueueFullError, TooLargeError
from moka.serving.limits import Budget, Limits

SMALL = Limits(image_bytes=5000, request_bytes=9000, pixels=1000, passes=4, images=3,
               held_bytes=100, requests=2)  # fmt: skip


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises these sizes."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def test_pixels_are_counted_before_anything_is_decoded() -> None:
    assert SMALL.check(png_of(40, 25)).width == 40
    with pytest.raises(TooLargeError, match=r"the PNG is 65000 x 65000, 4,225\.0 million pixels"):
        SMALL.check(png_of(65000, 65000))


def test_bytes_of_an_image() -> None:
    with pytest.raises(TooLargeError, match=r"has 5,001 bytes, at most 5,000 bytes are taken"):
        SMALL.check(png_of(4, 4).ljust(5001))


def test_scans_of_a_jpeg() -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 8, 3)), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    with pytest.raises(TooLargeError, match=r"the JPEG has \d+ scans, at most 4 are taken"):
        SMALL.check(bytes(data))


def test_bodies_and_counts() -> None:
    SMALL.check_body(9000)
    SMALL.check_count(3)
    with pytest.raises(TooLargeError, match="the body has 9,001 bytes or more"):
        SMALL.check_body(9001)
    with pytest.raises(TooLargeError, match="has 4 images, at most 3 are taken"):
        SMALL.check_count(4)


def test_the_budget_counts_requests() -> None:
    budget = Budget(SMALL)
    with budget.request(), budget.request():
        with pytest.raises(QueueFullError, match="2 requests are in work already") as refused:
            budget.request().__enter__()
        assert refused.value.retry_after_s == 1
    with budget.request():
        assert budget.requests == 1


def test_the_budget_counts_bytes_and_gives_them_back() -> None:
    budget = Budget(SMALL)
    with budget.request() as one:
        one.add(60)
        with budget.request() as other:
            other.add(40)
            with pytest.raises(QueueFullError, match="hold 100 bytes already"):
                other.add(1)
        assert budget.held_bytes == 60
    assert (budget.requests, budget.held_bytes) == (0, 0)
