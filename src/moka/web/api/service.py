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
from moka.serving.net_inputs import Example, Upload
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
        self._has_begun = False
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
        if not self._has_begun:
            self._has_begun = True
            self.store.deliver = asyncio.get_running_loop().call_soon_threadsafe
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
        self, name: str, uploads: Sequence[Upload], values: Mapping[str, Any], blob: str = ""
    ) -> tuple[ServedModel, list[tuple[str, Result]]]:
        """What a model computes for each example, with the example's name; for one that is refused,
        why.

        Args:
            uploads, values: see `NetInputs.examples`.
            blob: of the net; "": its outputs.

        Raises:
            BadRequestError: the request lacks what an input takes.
            QueueFullError: there is no room for all of them.
            UnknownModelError, BrokenModelError, ClosingError: see `model`.
        """
        for _ in range(TRIES):
            model = await self.model(name)
            if blob:
                model.check_blob(blob)
            examples = model.inputs.examples(uploads, values)
            self.limits.check_count(len(examples))
            refusals = [self._refusal(example) for example in examples]
            good = [
                Job(example, blob)
                for example, refusal in zip(examples, refusals, strict=True)
                if refusal is None
            ]
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
                (example.name, refusal or _result(next(computed)))
                for example, refusal in zip(examples, refusals, strict=True)
            ]
        raise ClosingError("models are loaded and closed in turns.", retry_after_s=1)

    def _refusal(self, example: Example) -> RequestError | None:
        """Why an example is not computed."""
        try:
            for given in example.given.values():
                if isinstance(given, bytes):
                    self.limits.check(given)
        except RequestError as refusal:
            return refusal
        return None

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[Callable[[float], None]]:
        """Raises ExpiredError if the block takes longer than the deadline; what it waits for is
        given up. Call the value to shorten the deadline, in seconds from the beginning."""
        allowed = self.deadline_s
        begin = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(begin + allowed) as timeout:

                def shorten(seconds: float) -> None:
                    nonlocal allowed
                    allowed = min(allowed, seconds)
                    timeout.reschedule(begin + allowed)

                yield shorten
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
