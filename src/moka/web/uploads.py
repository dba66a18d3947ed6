"""Images that somebody else sends: looked at before they are decoded, and bounded."""

from __future__ import annotations

from moka.data.decode import Decoder, Image
from moka.errors import DataError
from moka.serving.errors import RequestError
from moka.serving.image_header import FORMS, read_header
from moka.types import HeightWidth

MOST_PIXELS = 1 << 26  # of one image: 8192 x 8192


def read_upload(data: bytes, name: str = "the upload", *, color: bool | None = True) -> Image:
    """Decode an image, (C, H, W) uint8, channels in BGR order.

    Args:
        color: see `Decoder`.

    Raises:
        DataError: it is no image of the FORMS, has more than MOST_PIXELS, or is damaged.
    """
    size = image_size(data)
    if size is None:
        raise DataError(f"{name} is no image: it has to be a {FORMS} file.")
    height, width = size
    if height * width > MOST_PIXELS:
        raise DataError(f"{name} has {height} x {width} pixels; at most {MOST_PIXELS} are read.")
    try:
        return Decoder(color=color)(data, name)
    except DataError as error:
        error.message = f"{name}: {error.message}"
        raise


def image_size(data: bytes) -> HeightWidth | None:
    """The size that an image's header states, without decoding it; None: no image of FORMS."""
    try:
        header = read_header(data)
    except RequestError:
        return None
    return header.height, header.width
