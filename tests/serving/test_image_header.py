"""HTTP's status for an image whose header is refused."""

from __future__ import annotations

import pytest

from moka.serving.errors import BadRequestError, UnknownFormError
from moka.serving.image_header import read_header


def test_statuses() -> None:
    assert read_header(b"GIF89a" + b"\1\0\2\0").height == 2
    with pytest.raises(BadRequestError, match="the image is empty: 0 bytes"):
        read_header(b"")
    with pytest.raises(BadRequestError, match="the GIF says that it is 0 x 0 pixels"):
        read_header(b"GIF89a" + bytes(4))
    with pytest.raises(UnknownFormError, match="it begins with the bytes 74 65 78 74"):
        read_header(b"text")
