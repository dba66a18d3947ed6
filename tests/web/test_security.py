"""The guard, line by line as docs/security.md states it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from moka.web.security import CSRF_HEADER, HEADERS, Access, Guard, is_loopback


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())} bytes")


def client(access: Access, host: str = "127.0.0.1:8321", **more: Any) -> TestClient:
    routes = [
        Route(path, echo, methods=["GET", "POST"]) for path in ("/", "/jobs", "/api/x", "/v1/x")
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, access=access)])
    return TestClient(app, base_url=f"http://{host}", follow_redirects=False, **more)


@pytest.fixture
def local() -> Access:
    return Access.to("127.0.0.1")


@pytest.fixture
def far() -> Access:
    return Access.to("0.0.0.0", names=["lab.example"])


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("lab.example", False),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
    assert (Access.to(host).token is None) is local


# --- the Host header: a name that somebody else's DNS gives this address is refused ------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8321", "[::1]:8321", "LOCALHOST"])
def test_names_of_loopback_are_served(local: Access, host: str) -> None:
    assert client(local).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.2", "", "[::1", "localhost@evil"]
)
def test_other_names_are_refused(local: Access, host: str) -> None:
    answer = client(local).get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "Host header" in answer.json()["error"]


def test_a_server_for_others_knows_its_addresses_and_the_names_given(far: Access) -> None:
    assert far.knows("192.168.1.2:8321")
    assert far.knows("lab.example")
    assert not far.knows("evil.example")


# --- the token --------------------------------------------------------------------------------


def test_without_the_token_nothing_is_told(far: Access) -> None:
    page, data = client(far).get("/jobs"), client(far).get("/api/x")
    assert (page.status_code, data.status_code) == (401, 401)
    assert "token" in page.text
    assert "the token is missing" in data.json()["error"]
    assert client(far).get("/jobs?token=wrong").status_code == 401
    headers = {"authorization": "Bearer wrong"}
    assert client(far).get("/api/x", headers=headers).status_code == 401


def test_the_address_gives_a_cookie_and_forgets_the_token(far: Access) -> None:
    browser = client(far)
    answer = browser.get(f"/jobs?runs=a&token={far.token}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/jobs?runs=a"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/api/x").status_code == 200


def test_programs_send_the_token_in_a_header(far: Access) -> None:
    headers = {"authorization": f"Bearer {far.token}", CSRF_HEADER: far.csrf}
    assert client(far).post("/api/x", headers=headers).status_code == 200


def test_the_form_takes_the_token(far: Access) -> None:
    browser = client(far)
    assert browser.post("/login", data={"token": "wrong"}).status_code == 401
    assert browser.post("/login", data={"token": far.token}).headers["location"] == "/"
    assert browser.get("/api/x").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example"])
def test_no_token_leads_to_another_site(far: Access, path: str) -> None:
    answer = client(far).get(f"http://127.0.0.1:8321{path}?token={far.token}")
    assert answer.headers["location"].startswith("/")
    assert not answer.headers["location"].startswith(("//", "/\\"))


def test_a_local_server_asks_for_a_token_if_told_to() -> None:
    assert client(Access.to("127.0.0.1", with_token=True)).get("/").status_code == 401


# --- changes come from this server's pages only -------------------------------------------------


def test_a_change_needs_the_csrf_token(local: Access) -> None:
    page = client(local)
    assert page.post("/api/x").json()["stale"]
    assert page.post("/api/x", headers={CSRF_HEADER: "wrong"}).status_code == 403
    assert page.post("/api/x", headers={CSRF_HEADER: local.csrf}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/x", "/v1/x"])
def test_other_sites_change_nothing(path: str, headers: dict[str, str]) -> None:
    access = replace(Access.to("127.0.0.1"), open_paths=("/v1/",))
    asked = client(access).post(path, headers={CSRF_HEADER: access.csrf, **headers})
    assert asked.status_code == 403
    assert "another site" in asked.json()["error"]


def test_open_paths_are_for_programs(local: Access) -> None:
    access = replace(local, open_paths=("/v1/",))
    assert client(access).post("/v1/x").status_code == 200
    assert client(access).post("/api/x").status_code == 403


# --- size -----------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_not_read(local: Access) -> None:
    access = replace(local, max_body=1 << 20)
    answer = client(access).post("/api/x", headers={"content-length": "9999999"})
    assert answer.status_code == 413
    assert answer.json()["error"] == "the request is larger than 1 MiB."


def test_a_body_of_unknown_length_is_counted(local: Access) -> None:
    access = replace(local, max_body=1000)
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(3):
            sent += 1
            yield b"x" * 600

    headers = {CSRF_HEADER: access.csrf}
    assert client(access).post("/api/x", content=chunks(), headers=headers).status_code == 413
    assert client(access).post("/api/x", content=b"x" * 900, headers=headers).status_code == 200


# --- what a browser may do with a page ---------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_every_answer_has_the_headers(local: Access, path: str) -> None:
    given = client(local).get(path).headers
    assert {name: given.get(name) for name in HEADERS} == HEADERS
    assert given["cache-control"] == "no-store"


def test_the_policy_allows_this_server_alone() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    for allowed in ("unsafe", "http:", "https:", "*"):
        assert allowed not in policy


# --- the page that states all this ------------------------------------------------------------


def test_every_line_of_the_page_has_its_test() -> None:
    here = Path(__file__).parent
    text = (here.parents[1] / "docs/security.md").read_text()
    named = re.findall(r"`((?:[\w/]+\.py)?(?:::)?(?:test_\w+)?)`", text)
    named = [name for name in named if name.startswith("test_") or ".py" in name]
    assert len(named) > 20
    for name in named:
        file, _, test = name.rpartition("::") if "::" in name else ("", "", name)
        if test.endswith(".py") or "." in test:
            assert (here / test).exists(), name
        else:
            assert f"def {test}(" in (here / (file or "test_security.py")).read_text(), name
