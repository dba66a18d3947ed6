"""Images as files that a browser shows."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from starlette.responses import Response

from moka.data.decode import Image
from moka.draw.contact_sheet import picture
from moka.errors import DataError

LARGEST = 1024  # pixels of a side that is shown
KEPT_S = 600  # a browser may keep an image that long; its address names the file's time


def png(image: Image, side: int = LARGEST) -> bytes:
    """A PNG of an image (C, H, W), shrunk to `side` pixels if it is larger, never enlarged.

    Bytes are shown as they are, other numbers stretched from the least to the greatest.
    """
    pixels = picture(image)
    scale = side / max(pixels.shape[:2])
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
        shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(shrunk, np.uint8)
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not done:
        raise DataError("the image cannot be shown.")
    return data.tobytes()


def png_answer(image: Image, side: int = LARGEST) -> Response:
    """The answer to a request for an image."""
    headers = {"Cache-Control": f"private, max-age={KEPT_S}"}
    return Response(png(image, side), media_type="image/png", headers=headers)


def data_url(image: Image, side: int = LARGEST) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(image, side)).decode()
