"""DIGITS' names for the API: a form with the fields job_id (a model's name here) and image_file.

DIGITS' fields image_path, image_url and image_list name files of the server: they are not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from moka.errors import MokaError
from moka.serving import answers
from moka.serving.model import Computed, ServedModel
from moka.serving.outputs import CLASSES
from moka.web.api.bodies import Body
from moka.web.api.endpoint import ANY, answering, compute
from moka.web.api.service import Result, Service

IMAGES = "/models/images"

Shape = Callable[[ServedModel, Computed], Any]
Results = list[tuple[str, Any]]  # an image's name, what is told of it


def digits_routes(service: Service) -> list[Route]:
    """DIGITS' routes for classes, and for the outputs of any net."""

    def classes(model: ServedModel, computed: Computed) -> Any:
        return answers.digits_predictions(model, computed)

    def outputs(model: ServedModel, computed: Computed) -> Any:
        return {name: values.tolist() for name, values in computed.blobs.items()}

    def one_batch(model: ServedModel, computed: Computed) -> Any:
        return {name: values[None].tolist() for name, values in computed.blobs.items()}

    def route(name: str, kind: str, shape: Shape, told: Callable[[Results], Any]) -> Route:
        async def answer(request: Request, body: Body) -> Any:
            body.values.setdefault("model", body.values.get("job_id", ""))
            model, results = await compute(request, service, body, kind)
            return told([(name, _told(model, result, shape)) for name, result in results])

        return Route(f"{IMAGES}/{name}.json", answering(service, answer), methods=["POST"])

    return [
        route("classification/classify_one", CLASSES, classes, _one("predictions")),
        route("classification/classify_many", CLASSES, classes, _many("classifications")),
        route("generic/infer_one", ANY, one_batch, _one("outputs")),
        route("generic/infer_many", ANY, outputs, _many("outputs")),
    ]


def _told(model: ServedModel, result: Result, shape: Shape) -> Any:
    return {"error": str(result)} if isinstance(result, MokaError) else shape(model, result)


def _one(key: str) -> Callable[[Results], Any]:
    return lambda results: {key: results[0][1]}


def _many(key: str) -> Callable[[Results], Any]:
    return lambda results: {key: {name or str(i): told for i, (name, told) in enumerate(results)}}
