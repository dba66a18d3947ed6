"""What a net computed for an image, as plain data that JSON can hold."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from moka.predict.labels import TOP, best_classes, short_label
from moka.serving.errors import BadRequestError
from moka.serving.model import Computed, ServedModel
from moka.serving.outputs import BOXES, CLASSES, MAP, VALUES
from moka.types import Array, Floats

MAX_MAP_CLASSES = 256

Answer = dict[str, Any]


def check_kind(model: ServedModel, wanted: str) -> None:
    """Raise BadRequestError if a model gives something else than is asked for."""
    if model.kind != wanted:
        route = _ROUTES[model.kind]
        raise BadRequestError(
            f'model "{model.name}" gives {_GIVES[model.kind]}, not {_GIVES[wanted]}. Ask {route}.'
        )


_GIVES = {
    CLASSES: "scores of classes",
    BOXES: "boxes",
    MAP: "a map of classes",
    VALUES: "values of other kinds",
}
_ROUTES = {
    CLASSES: "/v1/classify",
    BOXES: "/v1/detect",
    MAP: "/v1/segment",
    VALUES: "/v1/predict",
}


def classes(model: ServedModel, computed: Computed, top: int = TOP) -> list[Answer]:
    """The best classes, highest score first."""
    scores = computed.blobs[model.outputs.names[0]].ravel()
    return [
        {"index": i, "label": model.label(i), "score": float(scores[i])}
        for i in best_classes(scores, top)
    ]


def boxes(model: ServedModel, computed: Computed, threshold: float = 0.0) -> list[Answer]:
    """The boxes whose scores reach a threshold, highest score first, in pixels of the image."""
    assert computed.boxes is not None
    rows = computed.boxes[computed.boxes[:, 2] >= threshold]
    height, width = computed.size
    sides = np.array([width, height, width, height], np.float32)
    made = []
    for row in rows[np.argsort(-rows[:, 2], kind="stable")]:
        left, top, right, bottom = np.clip(row[3:] * sides, 0, sides).tolist()
        number = int(row[1])
        made.append(
            {
                "index": number,
                "label": model.label(number),
                "score": float(row[2]),
                "left": left,
                "top": top,
                "right": right,
                "bottom": bottom,
            }
        )
    return made


def segments(model: ServedModel, computed: Computed) -> Answer:
    """The best class of each pixel: a gray PNG in base64 whose bytes are numbers of classes, and
    the share of each class."""
    scores = computed.blobs[model.outputs.names[0]]
    if len(scores) > MAX_MAP_CLASSES:
        raise BadRequestError(f"the map has {len(scores)} classes, at most {MAX_MAP_CLASSES} fit.")
    found = scores.argmax(0).astype(np.uint8)
    numbers, counts = np.unique(found, return_counts=True)
    return {
        "height": found.shape[0],
        "width": found.shape[1],
        "png": base64.b64encode(_png(found)).decode(),
        "classes": [
            {"index": int(i), "label": model.label(int(i)), "share": float(count / found.size)}
            for i, count in sorted(zip(numbers, counts, strict=True), key=lambda pair: -pair[1])
        ],
    }


def features(values: Floats, *, as_base64: bool = False) -> Answer:
    """A blob of one image: its shape, and its values or their bytes (float32, little-endian)."""
    flat = np.ascontiguousarray(values, "<f4").ravel()
    made: Answer = {"shape": list(values.shape)}
    if as_base64:
        return {**made, "dtype": "float32", "base64": base64.b64encode(flat.tobytes()).decode()}
    return {**made, "values": flat.tolist()}


def digits_predictions(model: ServedModel, computed: Computed) -> list[tuple[str, float]]:
    """The best classes as DIGITS tells them: a label and a percentage with two digits."""
    scores = computed.blobs[model.outputs.names[0]].ravel()
    return [
        (short_label(model.label(i)), round(100 * float(scores[i]), 2))
        for i in best_classes(scores)
    ]


def _png(image: Array) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])
