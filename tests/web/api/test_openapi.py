"""The document of the API: whole, true to the routes, and true to what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.serving.colors import BLUE, NET, RED, picture, write_model
from tests.serving.test_model import BOXES_NET
from tests.web.api.serving_server import Server, form, serving

import moka
from moka.serving.limits import Limits
from moka.serving.metrics import Metrics
from moka.serving.store import ModelStore
from moka.web.api.openapi import openapi
from moka.web.api.routes import api_routes
from moka.web.api.service import Service

LIMITS = Limits()
DOCUMENT = openapi(LIMITS, 10)
OPERATIONS = {"get", "post"}
WORDS = {  # of a schema
    "type", "properties", "items", "enum", "default", "additionalProperties", "format",
    "contentEncoding",
}  # fmt: skip
KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "number": (int, float), "integer": int,
    "boolean": bool,
}  # fmt: skip


def faults(value: Any, schema: Any, place: str = "$") -> Iterator[str]:
    """What a value has that its schema does not describe, or describes otherwise."""
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (kind != "boolean" and value is True)):
        yield f"{place} is no {kind}: {value!r}"
        return
    if value not in schema.get("enum", [value]):
        yield f"{place} is none of {schema['enum']}: {value!r}"
    if isinstance(value, dict) and "properties" in schema:
        for name, each in value.items():
            if name not in schema["properties"]:
                yield f"{place}.{name} is not described"
            else:
                yield from faults(each, schema["properties"][name], f"{place}.{name}")
    elif isinstance(value, dict) and "additionalProperties" in schema:
        for name, each in value.items():
            yield from faults(each, schema["additionalProperties"], f"{place}.{name}")
    for i, each in enumerate(value if isinstance(value, list) else []):
        yield from faults(each, schema.get("items", {}), f"{place}[{i}]")


def schemas(part: Any) -> Iterator[Any]:
    """All schemas in a part of the document."""
    if isinstance(part, dict):
        if "schema" in part:
            yield from within(part["schema"])
        for each in part.values():
            yield from schemas(each)
    elif isinstance(part, list):
        for each in part:
            yield from schemas(each)


def within(schema: Any) -> Iterator[Any]:
    yield schema
    for each in schema.get("properties", {}).values():
        yield from within(each)
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from within(schema[name])


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_well_formed() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {"title", "version", "description"} <= DOCUMENT["info"].keys()
    assert "10 s" in DOCUMENT["info"]["description"]
    for path, method, operation in operations():
        assert path.startswith("/")
        assert method in OPERATIONS
        assert operation["summary"]
        assert "200" in operation["responses"]
        for status, response in operation["responses"].items():
            assert status.isdecimal()
            assert response["description"]
            assert all("/" in kind for kind in response["content"])
        names = [parameter["name"] for parameter in operation.get("parameters", [])]
        assert len(set(names)) == len(names)
        for parameter in operation.get("parameters", []):
            assert parameter.keys() == {"name", "in", "description", "schema"}
            assert parameter["in"] == "query"
            default = parameter["schema"].get("default")
            assert default is None or not list(faults(default, parameter["schema"]))
        assert ("requestBody" in operation) == (method == "post")
    for schema in schemas(DOCUMENT):
        assert schema.keys() <= WORDS
        assert schema.get("type", "object") in KINDS


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        part = DOCUMENT
        assert reference.startswith("#/"), reference
        for name in reference.removeprefix("#/").split("/"):
            part = part[name.replace("~1", "/").replace("~0", "~")]


def test_examples_are_as_described() -> None:
    found = [
        content
        for _, _, operation in operations()
        for response in operation["responses"].values()
        for content in response["content"].values()
        if "example" in content
    ]
    assert found
    for content in found:
        assert list(faults(content["example"], content["schema"])) == []


def test_it_describes_every_route_and_no_other() -> None:
    store = ModelStore({}, lambda *_: pytest.fail("no model is loaded"), most=1)
    service = Service(store, limits=LIMITS, metrics=Metrics(), deadline_s=10)
    routes = {
        route.path: {method.lower() for method in route.methods or ()} & OPERATIONS
        for route in api_routes(service)
    }
    assert {path: set(each) for path, each in DOCUMENT["paths"].items()} == routes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "colors")
    write_model(folder / "map", text=NET.split('layer { name: "mean"')[0])
    (folder / "boxes").mkdir()
    boxes = folder / "boxes" / "deploy.prototxt"
    boxes.write_text(BOXES_NET)
    moka.save_weights(moka.load(boxes), folder / "boxes" / "x.caffemodel")
    with serving(str(folder)) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/classify", "model=colors&oversample=true"),
        ("/v1/detect", "model=boxes"),
        ("/v1/segment", "model=map"),
        ("/v1/predict", "model=colors"),
        ("/v1/features", "model=colors&format=base64"),
    ],
)
def test_answers_are_as_described(server: Server, path: str, query: str) -> None:
    body, kind = form(("image", "a.png", picture(RED)), ("image", "b.png", b"broken"))
    answer = server.ask("POST", f"{path}?{query}", body, content_type=kind)
    assert answer.status == 200, answer.body
    operation = DOCUMENT["paths"][path]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert list(faults(answer.json, schema)) == []
    good, bad = answer.json["images"]
    assert bad.keys() == {"name", "error"}
    assert len(good) > 3
    told = {parameter["name"] for parameter in operation["parameters"]}
    assert {each.partition("=")[0] for each in query.split("&")} <= told
    refused = server.ask("POST", f"{path}?{query}", b"broken")
    described = operation["responses"][str(refused.status)]["content"]["application/json"]
    assert list(faults(refused.json, described["schema"])) == []


def test_ten_crops_of_an_image(server: Server) -> None:
    one = server.ask("POST", "/v1/classify?model=colors&oversample=1", picture(BLUE))
    assert one.json["images"][0]["classes"][0]["index"] == 0
    places = server.ask("POST", "/v1/segment?model=map&oversample=true", picture(BLUE))
    assert (places.status, "tells places" in places.json["error"]) == (400, True)


def test_a_fault_is_found() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}}}
    assert list(faults({"a": 1, "b": "x"}, schema)) == []
    assert len(list(faults({"a": "1", "b": "y", "c": 1}, schema))) == 3
