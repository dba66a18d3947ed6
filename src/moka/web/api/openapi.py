"""The API as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moka import __version__
from moka.serving.image_header import FORMS
from moka.serving.limits import MEGA, Limits

Json = dict[str, Any]

REFUSALS = {
    "400": "The request or an image cannot be read.",
    "404": "There is no such model or blob.",
    "408": "The body did not come in time.",
    "413": "More bytes, pixels or images than are allowed.",
    "415": f"An image is no {FORMS}.",
    "429": "The queue is full; Retry-After tells when to try again.",
    "500": "The model cannot be loaded, or failed.",
    "503": "The server is about to end.",
    "504": "The answer was not there before the deadline.",
}
_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
_CLASS = {"index": _INTEGER, "label": _TEXT, "score": _NUMBER}
_CORNERS = dict.fromkeys(("left", "top", "right", "bottom"), _NUMBER)

_CAT = {"index": 281, "label": "n02123045 tabby, tabby cat", "score": 0.83}
_PLACE = {"left": 12.5, "top": 40.0, "right": 210.0, "bottom": 300.5}
_PIXELS = {"name": "cat.jpg", "width": 320, "height": 480}

_BLOBS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {
            "shape": {"type": "array", "items": _INTEGER},
            "values": {"type": "array", "items": _NUMBER},
            "dtype": _TEXT,
            "base64": _TEXT,
        },
    },
}


def openapi(limits: Limits, deadline_s: float) -> Json:
    """The document for a server with these limits."""
    about = (
        f"Images are {FORMS}, each of at most {limits.image_bytes / MEGA:g} MB and"
        f" {limits.pixels / 1e6:g} million pixels; a request has at most {limits.images} images"
        f" and {limits.request_bytes / MEGA:g} MB, and is answered within {deadline_s:g} s. If one"
        " of several images is refused, its place in the answer holds an error. A net with several"
        " inputs takes them by name: fields of a form, or JSON's inputs; /v1/models?model=NAME has"
        " their names."
    )
    model = _parameter("model", _TEXT, "Tell all of this model, and load it if need be.")
    top = _parameter("top", _INTEGER, "How many classes to tell, highest score first.", 5)
    threshold = _parameter("threshold", _NUMBER, "The least score of a box.", 0)
    crops = _parameter(
        "oversample",
        {"type": "boolean"},
        "The mean over ten crops: four corners and the middle, and these mirrored.",
        False,
    )
    blob = _parameter("blob", _TEXT, "The blob to give out; by default the last layer's input.")
    form = _parameter("format", {"enum": ["json", "base64"]}, "How values are written.", "json")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Moka", "version": __version__, "description": about},
        "paths": {
            "/v1/models": {
                "get": _read("The models of this server, and what is known of those loaded.")
                | {"parameters": [model]}
            },
            "/v1/classify": _images(
                "The best classes of images.",
                {"classes": _list(_object(_CLASS))},
                top,
                crops,
                example={"classes": [_CAT]},
            ),
            "/v1/detect": _images(
                "Boxes around objects, in pixels of the image.",
                {"boxes": _list(_object(_CLASS | _CORNERS))},
                threshold,
                example={"boxes": [_CAT | _PLACE]},
            ),
            "/v1/segment": _images(
                "The best class of each pixel, as a gray PNG of class numbers in base64.",
                {
                    "segments": _object(
                        {
                            "height": _INTEGER,
                            "width": _INTEGER,
                            "png": _TEXT,
                            "classes": _list(
                                _object({"index": _INTEGER, "label": _TEXT, "share": _NUMBER})
                            ),
                        }
                    )
                },
            ),
            "/v1/predict": _images(
                "All outputs of a net of any kind, for each image or other example.",
                {"outputs": _BLOBS},
                form,
                crops,
            ),
            "/v1/features": _images(
                "A blob of the net for each image.", {"features": _BLOBS}, blob, form, crops
            ),
            "/models/images/classification/classify_one.json": _digits(
                "As DIGITS: the best classes of one image, in percent."
            ),
            "/models/images/classification/classify_many.json": _digits(
                "As DIGITS: the best classes of several images, in percent, by file name."
            ),
            "/models/images/generic/infer_one.json": _digits(
                "As DIGITS: the outputs of a net for one image, as nested lists."
            ),
            "/models/images/generic/infer_many.json": _digits(
                "As DIGITS: the outputs of a net for several images, by file name."
            ),
            "/openapi.json": {"get": _read("This document.")},
            "/healthz": {"get": _read("Whether the process lives.", "text/plain")},
            "/readyz": {"get": _read("200 once a model is loaded; 503 before and at the end.",
                                     "text/plain")},
            "/metrics": {"get": _read("Counters and histograms for Prometheus.", "text/plain")},
        },
    }  # fmt: skip


def _parameter(name: str, schema: Mapping[str, Any], about: str, default: Any = None) -> Json:
    told = dict(schema) if default is None else {**schema, "default": default}
    return {"name": name, "in": "query", "description": about, "schema": told}


def _images(about: str, of_image: Json, *parameters: Json, example: Json | None = None) -> Json:
    """A route that takes images and tells something of each.

    Args:
        example: what it tells of an image.
    """
    answer = _object(
        {
            "model": _TEXT,
            "images": _list(
                _object(
                    {"name": _TEXT, "width": _INTEGER, "height": _INTEGER, "error": _TEXT}
                    | of_image
                )
            ),
        }
    )
    told: Json = {"schema": answer}
    if example:
        told["example"] = {"model": "squeezenet", "images": [_PIXELS | example]}
    common = (
        _parameter("model", _TEXT, "A model's name; by default the first one."),
        _parameter("deadline_ms", _NUMBER, "Give up after this time."),
        _parameter("upright", {"type": "boolean"}, "Turn images as their EXIF says.", False),
    )
    base64 = {"type": "string", "contentEncoding": "base64"}
    bodies = {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": _object({"image": _list({"type": "string", "format": "binary"})})
        },
        "application/json": {
            "schema": _object(
                {"image": base64, "images": _list(base64), "inputs": {"type": "object"}}
            )
        },
    }
    return {"post": _operation(about, told, [*common, *parameters], bodies)}


def _digits(about: str) -> Json:
    binary = {"type": "string", "format": "binary"}
    body = {"multipart/form-data": {"schema": _object({"job_id": _TEXT, "image_file": binary})}}
    return {"post": _operation(about, {"schema": {"type": "object"}}, [], body)}


def _operation(about: str, answer: Json, parameters: list[Json], bodies: Json) -> Json:
    refusal = {"application/json": {"schema": _object({"error": _TEXT})}}
    return {
        "summary": about,
        "parameters": parameters,
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": {"description": "OK", "content": {"application/json": answer}},
            **{s: {"description": d, "content": refusal} for s, d in REFUSALS.items()},
        },
    }


def _read(about: str, kind: str = "application/json") -> Json:
    return {"summary": about, "responses": {"200": {"description": "OK", "content": {kind: {}}}}}


def _object(properties: Mapping[str, Any]) -> Json:
    return {"type": "object", "properties": dict(properties)}


def _list(items: Mapping[str, Any]) -> Json:
    return {"type": "array", "items": dict(items)}
