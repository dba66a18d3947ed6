"""The header of an image that somebody sends, with HTTP's statuses for what is wrong with it."""

from __future__ import annotations

from moka.data import image_header
from moka.data.image_header import FORMS, ImageHeader, OtherFormError
from moka.errors import DataError
from moka.serving.errors import BadRequestError, UnknownFormError

__all__ = ["FORMS", "ImageHeader", "read_header"]


def read_header(data: bytes) -> ImageHeader:
    """The header of an encoded image.

    Raises:
        UnknownFormError: the bytes begin like no image that is taken.
        BadRequestError: the header is damaged, or gives no pixels.
    """
    try:
        return image_header.read_header(data)
    except OtherFormError as error:
        raise UnknownFormError(error.message) from None
    except DataError as error:
        raise BadRequestError(error.message) from None
