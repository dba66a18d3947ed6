"""The exception of this package: an error of Moka that `except cv2.error` catches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import cv2

from moka.errors import MokaError

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type[Any])

UNSPECIFIED = -2  # cv2.Error.StsError


class OpenCVError(MokaError, cv2.error):  # type: ignore[misc]  # cv2 has no types
    """A `cv2.error` whose text is one clear sentence.

    Attributes:
        msg, err: the sentence, as in `cv2.error`.
        code: always -2, OpenCV's number of an unspecified error.
        func, line: empty; OpenCV names a place in its own source here.
    """

    code = UNSPECIFIED
    func = ""
    line = 0

    @property
    def msg(self) -> str:  # type: ignore[override]
        return str(self)

    @property
    def err(self) -> str:  # type: ignore[override]
        return str(self)


def raises_cv2_error(function: Callable[P, R]) -> Callable[P, R]:
    """The same function; an error of Moka leaves it as an OpenCVError."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OpenCVError:
            raise
        except MokaError as error:
            raise OpenCVError(
                error.message,
                file=error.file,
                layer=error.layer,
                layer_type=error.layer_type,
                advice=error.advice,
            ) from error

    return wrapped


def methods_raise_cv2_error(cls: C) -> C:
    """A class decorator: `raises_cv2_error` for every public method of the class itself."""
    for name, member in list(vars(cls).items()):
        if callable(member) and (name == "__init__" or not name.startswith("_")):
            setattr(cls, name, raises_cv2_error(member))
    return cls
