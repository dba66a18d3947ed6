"""What all routes for images share: they read a body within the limits and ask a model in time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moka.errors import MokaError
from moka.serving import answers
from moka.serving.errors import RequestError
from moka.serving.model import Computed, ServedModel
from moka.web.answers import Answer, number
from moka.web.api.bodies import Body, read_body
from moka.web.api.service import Deadline, Result, Service
from moka.web.patience import GONE

LOG = "moka.log"  # in a request's scope: what its line in the log tells besides
ANY, FEATURES = "any", "features"  # beside the kinds of outputs, what a route takes

Endpoint = Callable[[Request], Awaitable[Response]]


def answering(service: Service, answer: Callable[[Request, Body], Awaitable[Any]]) -> Endpoint:
    """An endpoint that reads a body within the limits, and answers in time or says why not."""

    async def endpoint(request: Request) -> Response:
        try:
            with service.budget.request() as held:
                async with service.in_time() as deadline:
                    _heed_deadline(request.query_params, deadline)
                    body = await read_body(request, service.limits, held)
                    deadline.has_body = True
                    _heed_deadline(body.values, deadline)
                    return Answer(await _while_wanted(request, answer(request, body), deadline))
        except RequestError as refusal:
            return refused(request, refusal)

    return endpoint


async def _while_wanted(request: Request, answer: Awaitable[Any], deadline: Deadline) -> Any:
    """An answer, which is given up if the client closes the connection."""
    request.scope[GONE] = deadline.client_went
    try:
        return await answer
    finally:
        del request.scope[GONE]


def _heed_deadline(values: Mapping[str, Any], deadline: Deadline) -> None:
    if values.get("deadline_ms"):
        deadline.shorten(number(values, "deadline_ms", 0, least=0) / 1000)


async def compute(
    request: Request, service: Service, body: Body, kind: str
) -> tuple[ServedModel, list[tuple[str, Result]]]:
    """What a model computes for each example, with the example's name. If the only example is
    refused, so is the request.

    Args:
        kind: of outputs that the route takes; ANY; FEATURES: the blob that the request names.
    """

    def blob_of(model: ServedModel) -> str:
        if kind == FEATURES:
            return str(body.values.get("blob", "")) or model.feature_blob
        if kind != ANY:
            answers.check_kind(model, kind)
        return ""

    log = request.scope.setdefault(LOG, {})
    log["images"] = len(body.images)
    start = time.perf_counter()
    name = str(body.values.get("model", ""))
    model, results = await service.compute(name, body.images, body.values, blob_of)
    log["model"] = model.name
    log["compute_ms"] = round(1000 * (time.perf_counter() - start), 3)
    log["batch"] = max((r.batch for _, r in results if isinstance(r, Computed)), default=0)
    if len(results) == 1 and isinstance(refusal := results[0][1], MokaError):
        raise refusal
    return model, results


def refused(request: Request, refusal: RequestError) -> Response:
    """A refusal as JSON, with its status; the log has its sentence."""
    request.scope.setdefault(LOG, {})["error"] = str(refusal)
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return Answer({"error": str(refusal)}, status_code=refusal.status, headers=headers)
