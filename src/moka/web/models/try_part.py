"""The API of the page Try, beside the routes for programs: maps over an image, the confusion of a
folder, the picture of features."""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Route

from moka.draw.viz import tsne
from moka.errors import UsageError
from moka.free_name import free_name
from moka.predict.components import principal_components
from moka.predict.confusion import class_named, confusion
from moka.predict.explain import gradient_map, occlusion_map
from moka.serving.answers import check_kind
from moka.serving.model import ServedModel
from moka.serving.outputs import CLASSES
from moka.types import Floats
from moka.web.answers import post, wanted, whole
from moka.web.api.bodies import Body
from moka.web.api.endpoint import answering
from moka.web.api.routes import api_routes
from moka.web.api.service import Service
from moka.web.app import Part
from moka.web.folder import Folder
from moka.web.model_files import pack_model

CELLS = 12  # of an occlusion map
MOST_POINTS = 5000
MAPS = ("occlusion", "gradient")
PACKED = "models"  # the folder of packed models


def try_part(service: Service, folder: Folder | None = None) -> Part:
    """The page that tries the models of a service, with its API for programs; the service ends with
    it. Models of a folder can be packed for `caffe serve`."""

    async def explain(request: Request, body: Body) -> Any:
        how = wanted(body.values, "how")
        if how not in MAPS:
            raise UsageError(f"a map is one of {', '.join(MAPS)}, not {how}.")
        number = whole(body.values, "class", 0)
        model = await service.model(str(body.values.get("model", "")))
        check_kind(model, CLASSES)
        data = model.images_of(body.images)[0]
        service.limits.check(data)
        return await run_in_threadpool(explained, model, data, how, number)

    def confused(values: Mapping[str, Any]) -> Any:
        model = service.store.get(str(values.get("model", "")))
        return confusion_of(model, values.get("images"))

    routes = [
        Route("/explain", answering(service, explain), methods=["POST"]),
        post("/confusion", confused),
        post("/plane", plane),
    ]
    if folder is not None:
        routes.append(post("/pack", partial(packed, service, folder)))
    return Part("Try", "try", routes, service.close, api_routes(service))


def packed(service: Service, folder: Folder, values: Mapping[str, Any]) -> dict[str, Any]:
    """Pack a model into a new folder below `models`; tells its name, and the line that serves it.

    Raises:
        UsageError: there is no such model.
    """
    name = wanted(values, "model")
    files = service.store.files.get(name)
    if files is None:
        raise UsageError(f"there is no model {name}.")
    place = folder.path / PACKED
    place.mkdir(exist_ok=True)
    taken = {path.name for path in place.iterdir()}
    target = place / free_name(Path(name).name, taken, first=2, mark="-")
    pack_model(files, target)
    shown = folder.name(target)
    return {
        "folder": shown,
        "shell": f"cd {shlex.quote(str(folder.path))} && caffe serve {shlex.quote(shown)}",
    }


def explained(model: ServedModel, data: bytes, how: str, number: int) -> dict[str, Any]:
    """A map of an image as a gray PNG in base64, 255 where the class depends on it most, and what
    that most is."""
    blob = np.zeros(model.input.shape, np.float32)
    model.input.fill(data, blob, "an image", upright=True)  # as the page shows it
    if how == "gradient":
        found = gradient_map(model.net, blob, number)
        unit = "change of the score by a pixel's value"
    else:
        (name,) = model.inputs.images
        found = occlusion_map(
            lambda images: model.compute({name: images})[model.outputs.names[0]],
            blob,
            number,
            cells=min(CELLS, *model.input.shape[1:]),
            batch=model.outputs.sizes[-1],
        )
        unit = "fall of the score"
    most = float(found.max())
    gray = np.clip(255 * found / most, 0, 255) if most > 0 else np.zeros(found.shape)
    png = bytes(cv2.imencode(".png", gray.astype(np.uint8))[1])
    return {"png": base64.b64encode(png).decode(), "most": most, "unit": unit}


def confusion_of(model: ServedModel, images: Any) -> dict[str, Any]:
    """How well a model does: images is a list of {truth: a folder's name, index, score}."""
    if not isinstance(images, list) or not all(isinstance(each, dict) for each in images):
        raise UsageError("images is a list of objects with truth, index and score.")
    classes = model.class_count or 0
    truths = [class_named(str(each.get("truth", "")), model.labels, classes) for each in images]
    known = [i for i, truth in enumerate(truths) if truth is not None]
    strangers = sorted({str(e["truth"]) for e, t in zip(images, truths, strict=True) if t is None})
    if not known:
        raise UsageError(
            f"no folder is called after a class: {', '.join(strangers[:5])}.",
            advice=f"Classes are {', '.join(model.label(i) for i in range(min(5, classes)))} ...",
        )
    found = confusion(
        [truth for truth in truths if truth is not None],
        [whole(images[i], "index", 0, most=max(0, classes - 1)) for i in known],
        [float(images[i].get("score", 0)) for i in known],
    )
    return {
        "accuracy": found.accuracy,
        "classes": [
            {"index": number, "label": model.label(number), "count": count, "right": right}
            for number, count, right in zip(found.classes, found.counts, found.right, strict=True)
        ],
        "matrix": found.matrix.tolist(),
        "worst": [known[i] for i in found.worst],
        "strangers": strangers,
    }


def plane(values: Mapping[str, Any]) -> Any:
    """Points in a plane for features: `vectors`, the base64 of float32 (count, ...); `how`, pca or
    tsne."""
    rows = _vectors(wanted(values, "vectors"), whole(values, "count", 0, 2, MOST_POINTS))
    how = values.get("how", "pca")
    if how not in ("pca", "tsne"):
        raise UsageError(f"a plane is made by pca or tsne, not {how}.")
    places = tsne(rows) if how == "tsne" else principal_components(rows)
    return {"points": places.tolist()}


def _vectors(text: str, count: int) -> Floats:
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (binascii.Error, ValueError):
        raise UsageError("vectors are not the base64 of float32 numbers.") from None
    if not values.size or values.size % count:
        raise UsageError(f"{values.size} numbers are no {count} rows.")
    if not np.isfinite(values).all():
        raise UsageError("a feature is not finite.")
    return values.reshape(count, -1)
