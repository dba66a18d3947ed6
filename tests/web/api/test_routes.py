"""The API of a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.colors import BLUE, GREEN, RED, picture, write_model
from tests.web.api.serving_server import Answer, Server, form, serving

LABEL_OF = {BLUE: "n00000001 blue, azure", GREEN: "n00000002 green", RED: "n00000003 red"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        write_model(folder / name)
    broken = folder / "zero"
    write_model(broken)
    (broken / "deploy.prototxt").write_text("layer { name: 'x' type: 'NoSuchType' }")
    files = ("--max_image_mb", "0.05", "--max_megapixels", "0.01", "--max_images", "5")
    with serving(str(folder), *files, "--max_models", "1", "--batch", "4") as running:
        yield running


def classify(server: Server, body: bytes, kind: str, query: str = "") -> Answer:
    return server.ask("POST", f"/v1/classify{query}", body, content_type=kind)


@pytest.mark.parametrize("color", LABEL_OF)
def test_raw_bytes(server: Server, color: tuple[int, int, int]) -> None:
    answer = classify(server, picture(color, 6, 9), "image/png", "?top=2")
    assert answer.status == 200
    (image,) = answer.json["images"]
    assert answer.json["model"] == "one"
    assert (image["width"], image["height"]) == (9, 6)
    assert [len(image["classes"]), image["classes"][0]["label"]] == [2, LABEL_OF[color]]
    assert image["classes"][0]["score"] > 0.95


def test_a_form_with_several_files_tells_which_is_broken(server: Server) -> None:
    body, kind = form(
        ("image", "red.png", picture(RED)),
        ("image", "<b>.png", b"<b>no image</b>"),
        ("image", "blue.png", picture(BLUE)),
        ("top", None, b"1"),
    )
    answer = classify(server, body, kind)
    assert answer.status == 200
    red, broken, blue = answer.json["images"]
    assert red["name"] == "red.png"
    assert red["classes"][0]["index"] == 2
    assert len(red["classes"]) == 1
    assert broken["name"] == "<b>.png"
    assert broken["error"].startswith("this is no JPEG, PNG")
    assert blue["classes"][0]["index"] == 0


def test_json_with_base64(server: Server) -> None:
    given = base64.b64encode(picture(GREEN)).decode()
    body = {"images": [given, f"data:image/png;base64,{given}", {"name": "x", "base64": given}]}
    answer = classify(server, json.dumps(body).encode(), "application/json")
    assert [each["classes"][0]["index"] for each in answer.json["images"]] == [1, 1, 1]
    assert [each["name"] for each in answer.json["images"]] == ["", "", "x"]
    one = classify(server, json.dumps({"image": given, "top": 1}).encode(), "application/json")
    assert len(one.json["images"][0]["classes"]) == 1


def test_features(server: Server) -> None:
    answer = server.ask("POST", "/v1/features?blob=mean", picture(RED), content_type="image/png")
    found = answer.json["images"][0]["features"]["mean"]
    assert found["shape"] == [3, 1, 1]
    assert found["values"] == pytest.approx([0, 0, 5.1], abs=1e-4)
    default = server.ask("POST", "/v1/features?format=base64", picture(RED))
    assert default.json["images"][0]["features"]["data"]["shape"] == [3, 8, 8]


def test_as_digits_does(server: Server) -> None:
    body, kind = form(("job_id", None, b"two"), ("image_file", "r.png", picture(RED)))
    path = "/models/images/classification"
    one = server.ask("POST", f"{path}/classify_one.json", body, content_type=kind)
    assert [label for label, _ in one.json["predictions"]] == ["red", "blue", "green"]
    assert one.json["predictions"][0][1] == pytest.approx(98.8, abs=0.1)
    body, kind = form(("image_file", "r.png", picture(RED)), ("image_file", "b.png", picture(BLUE)))
    many = server.ask("POST", f"{path}/classify_many.json", body, content_type=kind)
    best = {name: found[0][0] for name, found in many.json["classifications"].items()}
    assert best == {"r.png": "red", "b.png": "blue"}


def test_models_take_turns(server: Server) -> None:
    for name in ("one", "two", "one"):
        answer = classify(server, picture(RED), "image/png", f"?model={name}")
        assert answer.json["model"] == name
        told = {
            each["name"]: each["loaded"] for each in server.ask("GET", "/v1/models").json["models"]
        }
        assert told == {"one": name == "one", "two": name == "two", "zero": False}


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "words"),
    [
        ("/v1/classify?model=three", picture(RED), "image/png", 404, 'no model "three"'),
        ("/v1/classify?model=zero", picture(RED), "image/png", 500, '"zero" cannot be loaded'),
        ("/v1/features?blob=fc7", picture(RED), "image/png", 404, 'no blob "fc7"'),
        ("/v1/detect", picture(RED), "image/png", 400, "not boxes. Ask /v1/classify"),
        ("/v1/classify?top=0", picture(RED), "image/png", 400, "top has to be a whole number"),
        ("/v1/classify?top=x", picture(RED), "image/png", 400, "top has to be a number, got x"),
        ("/v1/classify", b"", "image/png", 400, "holds no image"),
        ("/v1/classify", b"GIF", "image/gif", 415, "this is no JPEG, PNG"),
        ("/v1/classify", picture(RED)[:60], "image/png", 400, "the image cannot be decoded"),
        ("/v1/classify", picture(RED, 200, 200), "image/png", 413, "the PNG is 200 x 200"),
        ("/v1/classify", picture(RED) + bytes(60_000), "image/png", 413, "at most 50,000 bytes"),
        ("/v1/classify", bytes(300_000), "image/png", 413, "larger than 0.191 MiB"),
        ("/v1/classify", b"{", "application/json", 400, "the body is not JSON"),
        ("/v1/classify", b"[" * 100_000, "application/json", 400, "the body is not JSON"),
        ("/v1/classify", b"[1]", "application/json", 400, "not a JSON object"),
        ("/v1/classify", b'{"images": {}}', "application/json", 400, '"images" is not a list'),
        ("/v1/classify", b'{"image": "%%"}', "application/json", 400, "image 0 is not base64"),
        ("/v1/classify", b'{"image": 1}', "application/json", 400, "not a text in base64"),
        ("/v1/classify", b'{"images": ["","","","","",""]}', "application/json", 413, "6 images"),
        ("/v1/classify", b"--x", "multipart/form-data", 400, "the form cannot be read"),
        ("/v1/classify", b"--x", "multipart/form-data; boundary=y", 400, "the form cannot be read"),
        ("/v1/nothing", b"", "image/png", 404, "Not Found"),
    ],
)  # fmt: skip
def test_what_is_refused(
    server: Server, path: str, body: bytes, kind: str, status: int, words: str
) -> None:
    answer = server.ask("POST", path, body, content_type=kind)
    assert answer.status == status, answer.json
    assert any(part in answer.json["error"] for part in words.split("|")), answer.json
    assert server.ask("GET", "/healthz").body == b"ok\n"


def test_too_many_files_in_a_form(server: Server) -> None:
    body, kind = form(*[("image", "x.png", picture(RED))] * 6)
    answer = classify(server, body, kind)
    assert answer.status == 413
    assert "Too many files" in answer.json["error"]


def test_other_sites_and_hosts_are_refused(server: Server) -> None:
    foreign = server.ask("POST", "/v1/classify", picture(RED), origin="http://elsewhere.example")
    assert (foreign.status, foreign.json["error"]) == (403, "this request comes from another site.")
    rebound = server.ask("GET", "/v1/models", host="elsewhere.example")
    assert rebound.status == 421


def test_health_metrics_and_description(server: Server) -> None:
    classify(server, picture(RED), "image/png")
    assert server.ask("GET", "/readyz").status == 200
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    counted = [line for line in lines if line.startswith("moka_requests_total")]
    assert any('route="/v1/classify",status="200"' in line for line in counted)
    assert all("nothing" not in line for line in counted)  # unknown paths are counted together
    assert any(line.startswith("moka_images_total") for line in lines)
    memory = next(line for line in lines if line.startswith("process_resident_memory_bytes "))
    assert 5e7 < float(memory.split()[1]) < 1e10
    described = server.ask("GET", "/openapi.json").json
    assert described["openapi"].startswith("3.")
    asked = {"/v1/classify", "/v1/detect", "/v1/segment", "/v1/features", "/metrics", "/readyz"}
    assert asked <= described["paths"].keys()
    for path in described["paths"]:
        status = server.ask("GET", path).status
        assert status in (200, 405), path


def test_an_id_goes_through(server: Server) -> None:
    answer = server.ask("GET", "/healthz", x_request_id="abc-1")
    assert answer.headers["x-request-id"] == "abc-1"
    assert len(server.ask("GET", "/healthz", x_request_id='"\\').headers["x-request-id"]) == 16


def test_a_line_of_json_for_each_request(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with serving(str(tmp_path)) as server:
        classify(server, picture(RED), "image/png")
        classify(server, b"\n{}", "image/png")
        assert server.end() == 0
        good, bad = [line for line in server.requests() if line["path"] == "/v1/classify"]
    assert good["status"] == 200
    assert good["model"] == "m"
    assert good["images"] == 1
    assert good["batch"] == 1
    assert good["ms"] >= good["compute_ms"] > 0
    assert good["bytes"] == len(picture(RED))
    assert bad["status"] == 415
    assert bad["error"].startswith("this is no JPEG")
