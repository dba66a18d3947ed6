"""Answers of models for requests: admitted, bounded in time, counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from moka.errors import MokaError
from moka.serving.errors import (
    BrokenModelError,
    ClosingError,
    ExpiredError,
    GoneError,
    RequestError,
    TooLargeError,
    TooSlowError,
)
from moka.serving.limits import Budget, Limits
from moka.serving.metrics import IMAGES, Labels, Metrics
from moka.serving.model import Computed, Job, ModelFiles, ServedModel
from moka.serving.net_inputs import Example, Upload
from moka.serving.store import ModelStore
from moka.web.api.process_memory import resident_bytes

T = TypeVar("T")
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
        self._changing = asyncio.Lock()
        self._users: dict[str, list[tuple[Callable[[ServedModel], Any], asyncio.Future[Any]]]] = {}
        self._loads: set[asyncio.Task[None]] = set()
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
        """A model, loaded if need be.

        Raises:
            UnknownModelError, BrokenModelError: there is none, or it cannot be loaded.
        """
        return await self._with_model(name, lambda model: model)

    async def _with_model(self, name: str, use: Callable[[ServedModel], T]) -> T:
        """What `use` gives for a model, which is loaded if need be; requests that wait for the same
        one share the work. The model is not closed before `use` has returned."""
        if not self._has_begun:
            self._has_begun = True
            self.store.deliver = asyncio.get_running_loop().call_soon_threadsafe
            await self.look_again()
        name = self.store.checked(name)
        found = self.store.ready(name)
        if found is not None:
            with suppress(ClosingError):  # it has just begun to make room for another one
                return use(found)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        users = self._users.setdefault(name, [])
        users.append((use, future))
        if len(users) == 1:
            task = asyncio.create_task(self._load(name))
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)
        return await future

    async def _load(self, name: str) -> None:
        """Load a model for those who wait for it; one at a time, so that none goes before they have
        used it."""
        async with self._changing:
            loaded: ServedModel | Exception
            try:
                loaded = await asyncio.to_thread(self.store.get, name)
            except Exception as error:  # noqa: BLE001 - whatever it is, each request ends with it
                loaded = error
            for use, future in self._users.pop(name):
                if future.done():  # given up
                    continue
                try:
                    if isinstance(loaded, Exception):
                        raise loaded
                    future.set_result(use(loaded))
                except Exception as error:  # noqa: BLE001 - it belongs to the request
                    future.set_exception(error)

    async def compute(
        self,
        name: str,
        uploads: Sequence[Upload],
        values: Mapping[str, Any],
        blob_of: Callable[[ServedModel], str],
    ) -> tuple[ServedModel, list[tuple[str, Result]]]:
        """What a model computes for each example, with the example's name; for one that is refused,
        why.

        Args:
            uploads, values: see `NetInputs.examples`.
            blob_of: the blob to compute, "" for the outputs; raises RequestError for a model that
                is not wanted.

        Raises:
            BadRequestError: the request lacks what an input takes.
            QueueFullError: there is no room for all of them.
            UnknownModelError, BrokenModelError: see `model`.
        """
        model, submitted = await self._with_model(
            name, lambda model: (model, self._submitted(model, uploads, values, blob_of(model)))
        )
        waiting = [
            asyncio.wrap_future(each) for _, each in submitted if not isinstance(each, MokaError)
        ]
        computed = iter(await asyncio.gather(*waiting, return_exceptions=True))
        self.metrics.add(IMAGES, len(waiting), model=model.name)
        return model, [
            (example, each if isinstance(each, MokaError) else _result(next(computed)))
            for example, each in submitted
        ]

    def _submitted(
        self,
        model: ServedModel,
        uploads: Sequence[Upload],
        values: Mapping[str, Any],
        blob: str,
    ) -> list[tuple[str, Future[Computed] | RequestError]]:
        """Queue the examples of a request, each with its name; for one that is refused, why."""
        if blob:
            model.check_blob(blob)
        examples = model.inputs.examples(uploads, values)
        self.limits.check_count(len(examples))
        if any(example.oversample for example in examples):
            model.check_oversample()
        refusals = [self._refusal(example) for example in examples]
        jobs = [
            Job(example, blob)
            for example, refusal in zip(examples, refusals, strict=True)
            if refusal is None
        ]
        if len(jobs) > model.capacity:
            raise TooLargeError(
                f"the request has {len(jobs)} images, the queue {model.capacity} places."
            )
        futures = iter(model.submit(jobs))
        return [
            (example.name, refusal or next(futures))
            for example, refusal in zip(examples, refusals, strict=True)
        ]

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
    async def in_time(self) -> AsyncIterator[Deadline]:
        """Raises TooSlowError (while the body comes) or ExpiredError at the deadline, GoneError if
        the client has gone; what the block waits for is given up."""
        loop = asyncio.get_running_loop()
        deadline = Deadline(asyncio.timeout(None), loop.time(), self.deadline_s)
        try:
            async with deadline.timeout:
                deadline.shorten(self.deadline_s)
                yield deadline
        except TimeoutError:
            if deadline.client_is_gone:
                raise GoneError("the client has closed the connection.") from None
            if not deadline.has_body:
                raise TooSlowError(
                    f"the body was not there after {1000 * deadline.seconds:,.0f} ms."
                ) from None
            raise ExpiredError(
                f"the answer was not there after {1000 * deadline.seconds:,.0f} ms.",
                retry_after_s=1,
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


@dataclass
class Deadline:
    """When a request is given up.

    Attributes:
        begin: of the request, on the loop's clock.
        seconds: that it may take.
        has_body: its body has come.
    """

    timeout: asyncio.Timeout
    begin: float
    seconds: float
    has_body: bool = False
    client_is_gone: bool = False

    def shorten(self, seconds: float) -> None:
        """Allow no more than this, from the beginning."""
        self.seconds = min(self.seconds, seconds)
        self.timeout.reschedule(self.begin + self.seconds)

    def client_went(self) -> None:
        """Give the request up: nobody waits for its answer."""
        if not self.timeout.expired():
            self.client_is_gone = True
            self.timeout.reschedule(self.begin)


def _result(made: Any) -> Result:
    if isinstance(made, Computed | MokaError):
        return made
    if isinstance(made, Exception):
        return BrokenModelError(f"the model failed: {type(made).__name__}: {made}")
    raise made
