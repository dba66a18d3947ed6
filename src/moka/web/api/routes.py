"""The routes of the API."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from moka.errors import MokaError
from moka.predict.labels import TOP
from moka.serving import answers
from moka.serving.errors import RequestError
from moka.serving.model import BOXES, CLASSES, MAP, Computed, ServedModel
from moka.web.answers import Answer, number, whole
from moka.web.api.bodies import Body, read_body
from moka.web.api.openapi import openapi
from moka.web.api.service import Result, Service

MOST_TOP = 1000
LOG = "moka.log"  # in a request's scope: what its line in the log tells besides

Values = Mapping[str, Any]
Shape = Callable[[ServedModel, Computed, Values], dict[str, Any]]
Endpoint = Callable[[Request], Awaitable[Response]]


def api_routes(service: Service) -> list[Route]:
    """All routes of the API."""

    async def models(request: Request) -> Response:
        await service.look_again()
        if name := request.query_params.get("model"):
            try:
                return Answer(described(await service.model(name)))
            except RequestError as refusal:
                return refused(request, refusal)
        loaded = {model.name: model for model in service.store.loaded}
        return Answer(
            {
                "models": [
                    described(loaded[name]) if name in loaded else {"name": name, "loaded": False}
                    for name in service.store.names
                ]
            }
        )

    def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    def readiness(_: Request) -> Response:
        ready = bool(service.store.loaded) and not service.is_draining
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    def metrics(_: Request) -> Response:
        return PlainTextResponse(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    def description(_: Request) -> Response:
        return Answer(openapi(service.limits, service.deadline_s))

    return [
        Route("/healthz", health),
        Route("/readyz", readiness),
        Route("/metrics", metrics),
        Route("/openapi.json", description),
        Route("/v1/models", models),
        _images_route("/v1/classify", service, CLASSES, _classes),
        _images_route("/v1/detect", service, BOXES, _boxes),
        _images_route("/v1/segment", service, MAP, _segments),
        _images_route("/v1/features", service, "", _features),
        Route(f"{DIGITS}/classify_one.json", _digits(service, _one), methods=["POST"]),
        Route(f"{DIGITS}/classify_many.json", _digits(service, _many), methods=["POST"]),
    ]


def described(model: ServedModel) -> dict[str, Any]:
    """What is known of a loaded model."""
    return {
        "name": model.name,
        "loaded": True,
        "kind": model.kind,
        "input": list(model.input.shape),
        "outputs": model.outputs,
        "blobs": model.blobs,
        "feature_blob": model.feature_blob,
        "labels": model.labels,
        "classes": model.class_count,
        "batches": model.sizes,
        "waiting": model.waiting,
    }


def _images_route(path: str, service: Service, kind: str, shape: Shape) -> Route:
    async def answer(request: Request, body: Body) -> Any:
        wanted = "" if kind else str(body.values.get("blob", ""))
        model, results = await _compute(request, service, body, kind, wanted)
        made = [
            {"name": upload.name} | _shaped(model, result, body.values, shape)
            for upload, result in zip(body.images, results, strict=True)
        ]
        return {"model": model.name, "images": made}

    return Route(path, answering(service, answer), methods=["POST"])


def _shaped(model: ServedModel, result: Result, values: Values, shape: Shape) -> dict[str, Any]:
    if isinstance(result, MokaError):
        return {"error": str(result)}
    height, width = result.size
    return {"width": width, "height": height} | shape(model, result, values)


async def _compute(
    request: Request, service: Service, body: Body, kind: str, blob: str = ""
) -> tuple[ServedModel, list[Result]]:
    """What a model computes. If it is one image that is refused, so is the request."""
    name = str(body.values.get("model", ""))
    if kind:
        answers.check_kind(await service.model(name), kind)
    if not kind and not blob:
        blob = (await service.model(name)).feature_blob
    log = request.scope.setdefault(LOG, {})
    log["images"] = len(body.images)
    start = time.perf_counter()
    model, results = await service.compute(name, [each.data for each in body.images], blob)
    log["model"] = model.name
    log["compute_ms"] = round(1000 * (time.perf_counter() - start), 3)
    log["batch"] = max((r.batch for r in results if isinstance(r, Computed)), default=0)
    if len(results) == 1 and isinstance(results[0], MokaError):
        raise results[0]
    return model, results


def answering(service: Service, answer: Callable[[Request, Body], Awaitable[Any]]) -> Endpoint:
    """An endpoint that reads a body within the limits, and answers in time or says why not."""

    async def endpoint(request: Request) -> Response:
        try:
            with service.budget.request() as held:
                seconds = number(request.query_params, "deadline_ms", 0) / 1000 or None
                async with service.in_time(seconds):
                    body = await read_body(request, service.limits, held, service.deadline_s)
                    return Answer(await answer(request, body))
        except RequestError as refusal:
            return refused(request, refusal)

    return endpoint


def refused(request: Request, refusal: RequestError) -> Response:
    """A refusal as JSON, with its status; the log has its sentence."""
    request.scope.setdefault(LOG, {})["error"] = str(refusal)
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return Answer({"error": str(refusal)}, status_code=refusal.status, headers=headers)


def _classes(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    top = whole(values, "top", TOP, least=1, most=MOST_TOP)
    return {"classes": answers.classes(model, computed, top)}


def _boxes(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    return {"boxes": answers.boxes(model, computed, number(values, "threshold", 0.0))}


def _segments(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    return {"segments": answers.segments(model, computed)}


def _features(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    as_base64 = values.get("format") == "base64"
    return {
        "features": {
            name: answers.features(blob, as_base64=as_base64)
            for name, blob in computed.blobs.items()
        }
    }


# DIGITS' names: a form with the fields job_id (a model's name here) and image_file.
DIGITS = "/models/images/classification"


def _digits(service: Service, shape: Callable[[Body, list[Any]], Any]) -> Endpoint:
    async def answer(request: Request, body: Body) -> Any:
        body.values.setdefault("model", body.values.get("job_id", ""))
        model, results = await _compute(request, service, body, CLASSES)
        made = [
            {"error": str(result)}
            if isinstance(result, MokaError)
            else answers.digits_predictions(model, result)
            for result in results
        ]
        return shape(body, made)

    return answering(service, answer)


def _one(body: Body, made: list[Any]) -> Any:
    return {"predictions": made[0]}


def _many(body: Body, made: list[Any]) -> Any:
    names = [upload.name or str(i) for i, upload in enumerate(body.images)]
    return {"classifications": dict(zip(names, made, strict=True))}
