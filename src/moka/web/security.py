"""The guard before every request: who may ask, for what, and how much. docs/security.md tells why.

A request passes if its Host header names this server, if it brings the token where one is needed,
and, if it changes anything, if it comes from a page of this server. Bodies are bounded.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moka.web.page import login_page

MIB = 1 << 20
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CSRF_HEADER = "x-moka-csrf"
LOGIN = "/login"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}

FOR_PAGES = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
FOR_PROGRAMS = [(b"x-content-type-options", b"nosniff")]  # of answers that no browser shows


def is_loopback(host: str) -> bool:
    """Whether an address that a server listens at is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        is_local: the server listens at a loopback address.
        hosts: names by which the server may be called, beside loopback's names and, if it is not
            local, addresses in digits (which no name in somebody else's hands can stand for).
        token: what every request has to bring; None: nothing.
        csrf: what a page brings when it changes something; new for each server.
        open_paths: paths that begin so are for programs: they need no CSRF token. A page of
            another site is still refused.
        public_paths: paths that need no token.
        max_body: bytes of a request's body.
    """

    is_local: bool = True
    hosts: frozenset[str] = frozenset()
    token: str | None = None
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    open_paths: tuple[str, ...] = ()
    public_paths: tuple[str, ...] = ()
    max_body: int = 32 * MIB

    @classmethod
    def to(
        cls, host: str, *, names: Iterable[str] = (), with_token: bool = False, **more: object
    ) -> Access:
        """The access to a server that listens at `host`: with a token unless that is loopback."""
        local = is_loopback(host)
        known = {host, *names} if local else {host, socket.gethostname(), *names}
        token = secrets.token_urlsafe(24) if with_token or not local else None
        hosts = frozenset(name.lower() for name in known)
        return cls(local, hosts, token, **more)  # type: ignore[arg-type]

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower().rstrip(".")
        except ValueError:
            return False
        if name in LOOPBACK_NAMES or name in self.hosts:
            return True
        if self.is_local:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def is_token(self, given: str) -> bool:
        """Whether this is the token, compared in a time that does not tell how much of it."""
        return self.token is None or hmac.compare_digest(given.encode(), self.token.encode())


class Guard:
    """The middleware that holds all requests to an `Access`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSocket is answered

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                for_programs = scope["path"].startswith(self.access.open_paths or ("\0",))
                message["headers"] = [
                    *message["headers"],
                    *(FOR_PROGRAMS if for_programs else FOR_PAGES),
                ]
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None and scope["path"] == LOGIN and scope["method"] == "POST":
            refusal = await self._login(scope, self._bounded(receive, 4096))
        if refusal is None:
            refusal = self._token_wanted(scope) or self._forged(scope)
        if refusal is not None:
            await refusal(scope, receive, with_headers)
            return
        await self.app(scope, self._bounded(receive, self.access.max_body), with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """For another host, or a body that says it is too large."""
        headers = Headers(scope=scope)
        if not self.access.knows(headers.get("host", "")):
            return _error(421, "the Host header does not name this server (see --hosts).")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.access.max_body:
            return _error(413, _too_large(self.access.max_body))
        return None

    def _token_wanted(self, scope: Scope) -> Response | None:
        """For a request without the token; one that has it in its address gets a cookie."""
        access = self.access
        if access.token is None or scope["path"] in access.public_paths:
            return None
        headers = Headers(scope=scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and access.is_token(given):
            return None
        if access.is_token(_cookie(headers.get("cookie", ""), _cookie_name(scope))):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["method"] == "GET" and access.is_token("".join(query.pop("token", [""]))):
            rest = urlencode(query, doseq=True)
            return self._welcome(scope, scope["path"] + (f"?{rest}" if rest else ""))
        if scope["path"].startswith(("/api/", "/v1/")) or scope["method"] not in SAFE:
            return _error(401, "the token is missing or wrong; the server has printed it.")
        return HTMLResponse(login_page(), status_code=401)

    async def _login(self, scope: Scope, receive: Receive) -> Response:
        body = (await Request(scope, receive).body()).decode("latin-1")
        if self.access.is_token("".join(parse_qs(body).get("token", [""])).strip()):
            return self._welcome(scope, "/")
        return HTMLResponse(login_page(wrong=True), status_code=401)

    def _welcome(self, scope: Scope, to: str) -> Response:
        answer = RedirectResponse("/" + to.lstrip("/\\"), status_code=303)
        answer.set_cookie(
            _cookie_name(scope),
            self.access.token or "",
            httponly=True,
            samesite="strict",
            secure=scope.get("scheme") == "https",
        )
        return answer

    def _forged(self, scope: Scope) -> Response | None:
        """For a change that no page of this server asks for."""
        if scope["method"] in SAFE:
            return None
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
        if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return _error(403, "this request comes from another site.")
        if scope["path"].startswith(self.access.open_paths or ("\0",)):
            return None
        if not hmac.compare_digest(
            headers.get(CSRF_HEADER, "").encode(), self.access.csrf.encode()
        ):
            return _error(403, "the page is older than this server: load it again.", stale=True)
        return None

    def _bounded(self, receive: Receive, most: int) -> Receive:
        """`receive` that gives no more bytes than this."""
        count = 0

        async def bounded() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > most:
                raise HTTPException(413, _too_large(most))
            return message

        return bounded


def _too_large(most: int) -> str:
    return f"the request is larger than {most / MIB:.3g} MiB."


def _error(status: int, fact: str, **more: object) -> Response:
    return JSONResponse(json.loads(json.dumps({"error": fact, **more})), status_code=status)


def _cookie_name(scope: Scope) -> str:
    """Cookies do not know ports, so each server on a machine has a cookie of its own name."""
    server = scope.get("server") or ("", 0)
    return f"moka_{server[1] or 0}"


def _cookie(header: str, name: str) -> str:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(header)
    except CookieError:
        return ""
    found = cookies.get(name)
    return found.value if found else ""
