"""Why a request is refused. Each kind has the status that HTTP gives it."""

from __future__ import annotations

from typing import Any

from moka.errors import MokaError


class RequestError(MokaError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        retry_after_s: when to try again, in whole seconds; None: trying again does not help.
    """

    status = 400

    def __init__(self, message: str, *, retry_after_s: int | None = None, **place: Any) -> None:
        super().__init__(message, **place)
        self.retry_after_s = retry_after_s


class BadRequestError(RequestError):
    """It cannot be understood, or holds an image that cannot be read."""


class UnknownModelError(RequestError):
    """There is no model, blob or page of this name."""

    status = 404


class TooSlowError(RequestError):
    """The body did not come in time."""

    status = 408


class TooLargeError(RequestError):
    """More bytes, pixels or images than are allowed."""

    status = 413


class UnknownFormError(RequestError):
    """The bytes are no image of a form that is taken."""

    status = 415


class QueueFullError(RequestError):
    """Too many requests wait already."""

    status = 429


class GoneError(RequestError):
    """The client does not wait for its answer. Nobody gets this status, which the log has."""

    status = 499


class BrokenModelError(RequestError):
    """A model that cannot be loaded, or failed."""

    status = 500


class ClosingError(RequestError):
    """The server, or a model, is about to stop."""

    status = 503


class ExpiredError(RequestError):
    """The answer was not there before the request's deadline."""

    status = 504
