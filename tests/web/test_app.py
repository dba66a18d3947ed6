"""The application: its shell, its parts, its errors, and its scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from moka.errors import DataError
from moka.web.answers import Values, get, post, wanted
from moka.web.app import STATIC, Part, make_app
from moka.web.security import CSRF_HEADER, Access


def fails(_: Values) -> Any:
    raise DataError("it is broken.", file="a.log", advice="Make it again.")


def missing(_: Values) -> Any:
    raise FileNotFoundError(2, "No such file or directory", "b.log")


ROUTES = [
    get("/fails", fails),
    get("/missing", missing),
    get("/echo/{word}", dict),
    get("/nan", lambda _: {"loss": float("nan")}),
    post("/echo/{word}", dict),
    post("/wanted", lambda values: wanted(values, "name")),
]


@pytest.fixture
def browser() -> TestClient:
    access = Access.to("127.0.0.1")
    app = make_app([Part("Jobs <1>", "jobs", ROUTES), Part("Data", "data")], access, title="a<b")
    return TestClient(app, base_url="http://127.0.0.1", headers={CSRF_HEADER: access.csrf})


def test_the_shell_names_all_parts_and_escapes_them(browser: TestClient) -> None:
    page = browser.get("/").text
    assert '<a href="/jobs">Jobs &lt;1&gt;</a>' in page
    assert '<a href="/data">Data</a>' in page
    assert "<title>a&lt;b</title>" in page
    assert browser.get("/data/sets/one").text == page
    assert browser.get("/nothing").status_code == 404


def test_the_shell_runs_scripts_of_this_server_only(browser: TestClient) -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", browser.get("/").text)
    assert scripts == ["", ""]


def test_values_go_in_and_come_out(browser: TestClient) -> None:
    assert browser.get("/api/jobs/echo/a?b=1").json() == {"word": "a", "b": "1"}
    assert browser.post("/api/jobs/echo/a", json={"b": [1]}).json() == {"word": "a", "b": [1]}
    assert browser.get("/api/jobs/nan").text == '{"loss": null}'


@pytest.mark.parametrize(("body", "fact"), [("{", "is not JSON."), ("[1]", "is not a JSON object")])
def test_a_body_that_is_no_object(browser: TestClient, body: str, fact: str) -> None:
    answer = browser.post("/api/jobs/echo/a", content=body)
    assert answer.status_code == 400
    assert fact in answer.json()["error"]


def test_errors_are_sentences(browser: TestClient) -> None:
    said = {path: browser.get(f"/api/jobs/{path}").json()["error"] for path in ("fails", "missing")}
    assert said["fails"] == "a.log: it is broken. Make it again."
    assert said["missing"] == "b.log: No such file or directory."
    answer = browser.post("/api/jobs/wanted", json={})
    assert answer.status_code == 400
    assert answer.json()["error"] == "the request lacks name."


def test_the_page_learns_of_the_site(browser: TestClient) -> None:
    site = browser.get("/api/site").json()
    assert [part["path"] for part in site["parts"]] == ["jobs", "data"]
    assert site["csrf"] == browser.headers[CSRF_HEADER]


def test_no_script_reads_text_as_html_or_leaves_the_server() -> None:
    scripts = [path for path in STATIC.iterdir() if path.suffix in (".js", ".css")]
    assert len(scripts) >= 5
    for script in scripts:
        text = script.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{script.name} has {word}"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), script.name
