"""Answers of models for requests: admitted, bounded in time, counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from moka.errors import MokaError
from moka.serving.errors import (
    BrokenModelError,
    ClosingError,
    ExpiredError,
    RequestError,
    TooLargeError,
)
from moka.serving.limits import Budget, Limits
from moka.serving.metrics import IMAGES, Labels, Metrics
from moka.serving.model import Computed, Job, ModelFiles, ServedModel
from moka.serving.store import ModelStore
from moka.web.api.process_memory import resident_bytes

TRIES = 3  # to find a model that is not being closed

Result = Computed | MokaError


class Service:
    """What the routes ask. It lives in one event loop.

    Args:
        deadline_s: from a request's first byte to its answer; requests may ask for less.
        find: the models there are now; None: they stay the same.

    Attributes:
        is_draining: the server ends; what is in work is finished.
    """

    def __init__(
        self,
        store: ModelStore,
        *,
        limits: Limits,
        metrics: Metrics,
        deadline_s: float,
        find: Callable[[], Mapping[str, ModelFiles]] | None = None,
    ) -> None:
        self.store, self.limits, self.metrics, self.deadline_s = store, limits, metrics, deadline_s
        self._find = find
        self.budget = Budget(limits)
        self.is_draining = False
        self._looked = False
        self._loads: dict[str, asyncio.Task[ServedModel]] = {}
        metrics.gauge("moka_queue_images", "Images that wait, by model.", self._waiting)
        metrics.gauge(
            "moka_requests_in_work", "Requests in work.", lambda: {(): self.budget.requests}
        )
        metrics.gauge(
            "moka_held_bytes", "Bytes of bodies in work.", lambda: {(): self.budget.held_bytes}
        )
        metrics.gauge("moka_models_loaded", "Models loaded.", lambda: {(): len(store.loaded)})
        metrics.gauge(
            "process_resident_memory_bytes",
            "Memory of the process.",
            lambda: {(): resident_bytes()},
        )

    def _waiting(self) -> dict[Labels, float]:
        return {(("model", model.name),): model.waiting for model in self.store.loaded}

    async def look_again(self) -> None:
        """Take the models that there are now."""
        if self._find is not None:
            self.store.refresh(await asyncio.to_thread(self._find))

    async def model(self, name: str) -> ServedModel:
        """A model, loaded if need be; requests that wait for the same one share the work.

        Raises:
            UnknownModelError, BrokenModelError: there is none, or it cannot be loaded.
        """
        if not self._looked:
            self._looked = True
            await self.look_again()
        name = self.store.checked(name)
        found = self.store.ready(name)
        if found is not None:
            return found
        if name not in self._loads:
            task = asyncio.create_task(asyncio.to_thread(self.store.get, name))
            self._loads[name] = task
            task.add_done_callback(lambda done: self._loaded(name, done))
        return await asyncio.shield(self._loads[name])

    def _loaded(self, name: str, task: asyncio.Task[ServedModel]) -> None:
        del self._loads[name]
        if not task.cancelled():
            task.exception()  # those who wait get it; nobody may wait any more

    async def compute(
        self, name: str, images: Sequence[bytes], blob: str = ""
    ) -> tuple[ServedModel, list[Result]]:
        """What a model computes for images; for one that is refused, why.

        Args:
            blob: of the net; "": its outputs.

        Raises:
            QueueFullError: there is no room for all of them.
            UnknownModelError, BrokenModelError, ClosingError: see `model`.
        """
        checked = [self._checked(data) for data in images]
        good = [Job(data, blob) for data in checked if isinstance(data, bytes)]
        for _ in range(TRIES):
            model = await self.model(name)
            if blob:
                model.check_blob(blob)
            if len(good) > model.capacity:
                raise TooLargeError(
                    f"the request has {len(good)} images, the queue {model.capacity} places."
                )
            try:
                futures = model.submit(good)
            except ClosingError:
                continue  # it made room for another one
            waiting = [asyncio.wrap_future(future) for future in futures]
            computed = iter(await asyncio.gather(*waiting, return_exceptions=True))
            self.metrics.add(IMAGES, len(good), model=model.name)
            return model, [
                data if isinstance(data, MokaError) else _result(next(computed)) for data in checked
            ]
        raise ClosingError("models are loaded and closed in turns.", retry_after_s=1)

    def _checked(self, data: bytes) -> bytes | RequestError:
        try:
            self.limits.check(data)
        except RequestError as refusal:
            return refusal
        return data

    @asynccontextmanager
    async def in_time(self, seconds: float | None) -> AsyncIterator[None]:
        """Raises ExpiredError if the body takes longer; what it waits for is given up."""
        allowed = min(seconds or self.deadline_s, self.deadline_s)
        try:
            async with asyncio.timeout(allowed):
                yield
        except TimeoutError:
            raise ExpiredError(
                f"the answer was not there after {1000 * allowed:,.0f} ms.", retry_after_s=1
            ) from None

    def drain(self) -> None:
        """The server is about to end: say so, and let nothing wait for more work."""
        self.is_draining = True
        for model in self.store.loaded:
            model.hurry()

    def close(self) -> None:
        """Finish what waits, and close the models."""
        self.drain()
        self.store.close()


def _result(made: Any) -> Result:
    if isinstance(made, Computed | MokaError):
        return made
    if isinstance(made, Exception):
        return BrokenModelError(f"the model failed: {type(made).__name__}: {made}")
    raise made
