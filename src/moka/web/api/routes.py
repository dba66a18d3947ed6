"""The routes of the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from moka.errors import MokaError
from moka.predict.labels import TOP
from moka.serving import answers
from moka.serving.errors import RequestError
from moka.serving.model import Computed, ServedModel
from moka.serving.outputs import BOXES, CLASSES, MAP
from moka.web.answers import Answer, number, whole
from moka.web.api.bodies import Body
from moka.web.api.digits import digits_routes
from moka.web.api.endpoint import ANY, FEATURES, answering, compute, refused
from moka.web.api.openapi import openapi
from moka.web.api.service import Result, Service

MOST_TOP = 1000

Values = Mapping[str, Any]
Shape = Callable[[ServedModel, Computed, Values], dict[str, Any]]


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
        _images_route("/v1/classify", service, CLASSES, _classes),
        _images_route("/v1/detect", service, BOXES, _boxes),
        _images_route("/v1/segment", service, MAP, _segments),
        _images_route("/v1/predict", service, ANY, _outputs),
        _images_route("/v1/features", service, FEATURES, _features),
        Route("/healthz", health),
        Route("/readyz", readiness),
        Route("/metrics", metrics),
        Route("/openapi.json", description),
        Route("/v1/models", models),
        *digits_routes(service),
    ]


def described(model: ServedModel) -> dict[str, Any]:
    """What is known of a loaded model."""
    return {
        "name": model.name,
        "loaded": True,
        "kind": model.kind,
        "input": next((list(each.shape) for each in model.inputs.images.values()), []),
        "inputs": {
            **{n: {"takes": "image", "shape": i.shape} for n, i in model.inputs.images.items()},
            **{n: {"takes": "numbers", "shape": s} for n, s in model.inputs.numbers.items()},
        },
        "outputs": model.outputs.names,
        "blobs": model.blobs,
        "feature_blob": model.feature_blob,
        "labels": model.labels,
        "classes": model.class_count,
        "batches": model.outputs.sizes,
        "waiting": model.waiting,
    }


def _images_route(path: str, service: Service, kind: str, shape: Shape) -> Route:
    async def answer(request: Request, body: Body) -> Any:
        model, results = await compute(request, service, body, kind)
        made = [
            {"name": name} | _shaped(model, result, body.values, shape) for name, result in results
        ]
        return {"model": model.name, "images": made}

    return Route(path, answering(service, answer), methods=["POST"])


def _shaped(model: ServedModel, result: Result, values: Values, shape: Shape) -> dict[str, Any]:
    if isinstance(result, MokaError):
        return {"error": str(result)}
    height, width = result.size
    return {"width": width, "height": height} | shape(model, result, values)


def _classes(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    top = whole(values, "top", TOP, least=1, most=MOST_TOP)
    return {"classes": answers.classes(model, computed, top)}


def _boxes(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    return {"boxes": answers.boxes(model, computed, number(values, "threshold", 0.0))}


def _segments(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    return {"segments": answers.segments(model, computed)}


def _outputs(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    return {"outputs": _blobs(computed, values)}


def _features(model: ServedModel, computed: Computed, values: Values) -> dict[str, Any]:
    return {"features": _blobs(computed, values)}


def _blobs(computed: Computed, values: Values) -> dict[str, Any]:
    as_base64 = values.get("format") == "base64"
    return {
        name: answers.features(blob, as_base64=as_base64) for name, blob in computed.blobs.items()
    }
