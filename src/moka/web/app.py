"""The application: a shell with one entry in its navigation for each part, and their routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from moka import __version__
from moka.errors import MokaError
from moka.web.answers import Answer, refused
from moka.web.page import shell
from moka.web.security import Access, Guard

STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True)
class Part:
    """One part of the site.

    Attributes:
        name: in the navigation.
        path: pages lie at /path and below; static/path.js shows them; the API is at /api/path.
        routes: of its API, below /api/path.
        close: called when the server ends.
        api: routes for programs, with paths of their own.
    """

    name: str
    path: str
    routes: Sequence[BaseRoute] = ()
    close: Callable[[], None] = field(default=lambda: None)
    api: Sequence[BaseRoute] = ()


def make_app(parts: Sequence[Part], access: Access, *, title: str = "Moka") -> Starlette:
    """The application that shows these parts.

    Args:
        parts: the first is the start page.
    """

    def page(_: Request) -> Response:
        return HTMLResponse(shell(title, parts))

    def start(_: Request) -> Response:
        return RedirectResponse(f"/{parts[0].path}", status_code=303)

    def site(_: Request) -> Response:
        listed = [{"name": part.name, "path": part.path} for part in parts]
        return Answer(
            {"title": title, "csrf": access.csrf, "parts": listed, "version": __version__}
        )

    routes: list[BaseRoute] = [
        *(route for part in parts for route in part.api),  # first: programs ask most often
        Route("/", start),
        Route("/api/site", site),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    for part in parts:
        routes.append(Mount(f"/api/{part.path}", routes=list(part.routes)))
        routes += [Route(f"/{part.path}", page), Route(f"/{part.path}/{{rest:path}}", page)]
    handlers = dict.fromkeys((MokaError, OSError, HTTPException), refused)
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers=handlers,
        lifespan=_closing(parts),
    )


def _closing(parts: Sequence[Part]) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for part in parts:
            part.close()

    return lifespan
