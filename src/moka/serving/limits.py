"""What a request may cost: bytes, pixels, images; checked before anything is decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from moka.serving.errors import QueueFullError, TooLargeError
from moka.serving.image_header import ImageHeader, read_header

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        image_bytes: of one encoded image.
        request_bytes: of a request's body.
        pixels: of one image, width times height.
        passes: scans of a JPEG; each goes over all pixels.
        images: in one request.
        held_bytes: of all bodies that are in work at the same time.
        requests: in work at the same time.
    """

    image_bytes: int = 16 * MEGA
    request_bytes: int = 64 * MEGA
    pixels: int = 24_000_000
    passes: int = 64
    images: int = 64
    held_bytes: int = 256 * MEGA
    requests: int = 256

    def check(self, data: bytes) -> ImageHeader:
        """The header of an encoded image.

        Raises:
            TooLargeError: more bytes or pixels than are allowed.
            UnknownFormError, BadRequestError: it is no image.
        """
        if len(data) > self.image_bytes:
            raise TooLargeError(
                f"an image has {_megabytes(len(data))}, at most {_megabytes(self.image_bytes)} are"
                " taken."
            )
        header = read_header(data)
        pixels = header.width * header.height
        if pixels > self.pixels:
            raise TooLargeError(
                f"the {header.form} is {header.width} x {header.height}, {pixels / 1e6:,.1f}"
                f" million pixels; at most {self.pixels / 1e6:,.1f} million are taken."
            )
        if header.passes > self.passes:
            raise TooLargeError(
                f"the {header.form} has {header.passes} scans, at most {self.passes} are taken."
            )
        return header

    def check_body(self, size: int) -> None:
        """Raise TooLargeError if a body has more bytes than are allowed."""
        if size > self.request_bytes:
            raise TooLargeError(
                f"the body has {_megabytes(size)} or more, at most"
                f" {_megabytes(self.request_bytes)} are taken."
            )

    def check_count(self, images: int) -> None:
        """Raise TooLargeError if a request has more images than are allowed."""
        if images > self.images:
            raise TooLargeError(
                f"the request has {images} images, at most {self.images} are taken."
            )


class Budget:
    """Counts what is in work, and admits no more than the limits allow. Threads may share it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.requests = 0
        self.held_bytes = 0

    @contextmanager
    def request(self) -> Iterator[Held]:
        """A place for one request. Raises QueueFullError if there is none."""
        with self._lock:
            if self.requests >= self._limits.requests:
                raise QueueFullError(
                    f"{self.requests} requests are in work already.", retry_after_s=1
                )
            self.requests += 1
        held = Held(self)
        try:
            yield held
        finally:
            with self._lock:
                self.requests -= 1
                self.held_bytes -= held.bytes

    def take(self, size: int) -> None:
        """Room for more bytes. Raises QueueFullError if there is none."""
        with self._lock:
            if self.held_bytes + size > self._limits.held_bytes:
                raise QueueFullError(
                    f"requests in work hold {_megabytes(self.held_bytes)} already.",
                    retry_after_s=1,
                )
            self.held_bytes += size


class Held:
    """The bytes that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.bytes = 0

    def add(self, size: int) -> None:
        """Hold more bytes. Raises QueueFullError if all requests together hold too many."""
        self._budget.take(size)
        self.bytes += size


def _megabytes(size: int) -> str:
    return f"{size / MEGA:.1f} MB" if size >= MEGA / 10 else f"{size:,} bytes"
