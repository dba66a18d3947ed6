"""The API of a real server."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.serving.colors import BLUE, GREEN, RED, picture, write_model
from tests.serving.test_model import PAIR_NET
from tests.web.api.serving_server import SOON, Answer, Server, form, serving

import moka

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

    path = "/models/images/generic"
    body, kind = form(("image_file", "r.png", picture(RED)))
    one = server.ask("POST", f"{path}/infer_one.json?job_id=two", body, content_type=kind)
    (scores,) = one.json["outputs"]["prob"]
    assert np.shape(scores) == (3, 1, 1)
    many = server.ask("POST", f"{path}/infer_many.json", body, content_type=kind)
    assert many.json["outputs"] == {"r.png": {"prob": scores}}


def test_all_outputs(server: Server) -> None:
    answer = server.ask("POST", "/v1/predict", picture(RED), content_type="image/png")
    (image,) = answer.json["images"]
    assert image["outputs"]["prob"]["shape"] == [3, 1, 1]
    assert int(np.argmax(image["outputs"]["prob"]["values"])) == 2


def test_a_deadline_in_the_body(server: Server) -> None:
    given = base64.b64encode(picture(GREEN)).decode()
    body = {"image": given, "deadline_ms": 1e-9}
    late = classify(server, json.dumps(body).encode(), "application/json")
    assert (late.status, late.json["error"]) == (504, "the answer was not there after 0 ms.")
    wrong = json.dumps({"image": given, "deadline_ms": -1}).encode()
    answer = classify(server, wrong, "application/json")
    assert (answer.status, answer.json["error"]) == (
        400,
        "deadline_ms has to be at least 0, got -1.",
    )


def test_bodies_in_chunks_and_requests_in_a_row(server: Server) -> None:
    data = picture(RED)
    head = b"POST /v1/classify?top=1 HTTP/1.1\r\nHost: localhost\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:10], data[10:], b"")
    )  # fmt: skip
    whole = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as connection:
        connection.sendall(chunked + chunked + whole)
        got = b""
        while part := connection.recv(1 << 16):
            got += part
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.count(b'"index": 2') == 3


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "GET", "PUT", "DELETE"])
def test_other_methods(server: Server, method: str) -> None:
    answer = server.ask(method, "/v1/classify")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    if method in ("HEAD", "GET", "OPTIONS"):
        assert server.ask(method, "/healthz").status == (405 if method == "OPTIONS" else 200)


@pytest.mark.parametrize("kind", ["", "text/html", "image/jpeg", "application/octet-stream", "x"])
def test_an_image_whatever_its_content_type_says(server: Server, kind: str) -> None:
    assert classify(server, picture(RED), kind).json["images"][0]["classes"][0]["index"] == 2


def test_models_that_take_turns_lose_no_request(server: Server) -> None:
    """Clients ask for both models at the same time, and only one of them fits."""

    def ask(i: int) -> Answer:
        return classify(server, picture(RED), "image/png", f"?model={'one' if i % 2 else 'two'}")

    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(ask, range(24)))
    assert [each.status for each in found] == [200] * 24
    assert [each.json["model"] for each in found] == ["two", "one"] * 12


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
        ("/v1/classify?deadline_ms=nan", b"", "image/png", 400, "deadline_ms has to be a number"),
        ("/v1/classify", b'{"inputs": []}', "application/json", 400, '"inputs" is not an object'),
        ("/v1/classify", b'{"inputs": {"data": [1]}}', "application/json", 400, "holds no image"),
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


def part(headers: str, data: bytes) -> bytes:
    return b"--x\r\n" + headers.encode() + b"\r\n\r\n" + data + b"\r\n"


NAMED = 'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (part(NAMED, b"1") * 33, "Too many fields"),
        (part(NAMED, b"1" * 65_537), "Part exceeded maximum size"),
        (part(NAMED + "".join(f"\r\nX-{i}: y" for i in range(9)), b"1"), "invalid"),
        (part(NAMED + "\r\nX-Long: " + "y" * 20_000, b"1"), "invalid"),
        (part("X: y", b"1"), "name"),
    ],
)
def test_forms_are_bounded(server: Server, parts: bytes, words: str) -> None:
    """33 fields, a field of more than 64 kB, 10 headers, a long one, none that names the field."""
    whole = parts + part('Content-Disposition: form-data; name="i"; filename="i"', picture(RED))
    answer = classify(server, whole + b"--x--\r\n", "multipart/form-data; boundary=x")
    assert (answer.status, words.lower() in answer.json["error"].lower()) == (400, True), answer


def test_the_log_keeps_no_queries(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with serving(str(tmp_path)) as server:
        server.ask("POST", "/v1/classify?top=1&secret=of-mine", picture(RED))
        server.ask("GET", "/somewhere?secret=of-mine")
        assert server.end() == 0
        lines = server.requests()
    assert [line["path"] for line in lines if "where" in line["path"]] == ["/somewhere"]
    assert "of-mine" not in str(lines)


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


def test_two_images_and_a_number(tmp_path: Path) -> None:
    (tmp_path / "pair").mkdir()
    net = tmp_path / "pair" / "deploy.prototxt"
    net.write_text(PAIR_NET)
    moka.save_weights(moka.load(net), tmp_path / "pair" / "empty.caffemodel")
    left, right = picture((9, 9, 9), 4, 4), picture((2, 2, 2), 4, 4)
    with serving(str(tmp_path)) as server:
        told = server.ask("GET", "/v1/models?model=pair").json["inputs"]
        assert told["data_p"] == {"takes": "image", "shape": [1, 4, 4]}
        assert told["weight"] == {"takes": "numbers", "shape": [2]}
        body, kind = form(
            ("data_p", "r.png", right), ("data", "l.png", left), ("weight", None, b"5,6")
        )
        answer = server.ask("POST", "/v1/predict", body, content_type=kind)
        (image,) = answer.json["images"]
        assert (image["name"], image["outputs"]["pair"]["values"]) == ("l.png", [112, 5, 6])
        first, second = (base64.b64encode(each).decode() for each in (left, right))
        given = {"inputs": {"data": [first, second], "data_p": [second, second],
                            "weight": [[1, 2], [3, 4]]}}  # fmt: skip
        answer = server.ask(
            "POST", "/v1/predict", json.dumps(given), content_type="application/json"
        )
        found = [image["outputs"]["pair"]["values"] for image in answer.json["images"]]
        assert found == [[112, 1, 2], [0, 3, 4]]
        raw = server.ask("POST", "/v1/predict?weight=1,2", left, content_type="image/png")
        assert raw.status == 400
        assert raw.json["error"].startswith("the image does not say which input it is for. In")
        missing = server.ask("POST", "/v1/predict", *form(("data", "l.png", left))[:1],
                             content_type=kind)  # fmt: skip
        assert missing.status == 400
        assert server.end() == 0
