"""`caffe serve`: models behind a JSON API, with a page to try them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from moka.command.run import run
from moka.cores import usable_cores
from moka.errors import UsageError
from moka.web.installed import check_installed

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from moka.serving.limits import Limits
    from moka.serving.model import ModelFiles, Pace
    from moka.serving.store import ModelStore
    from moka.web.api.service import Service
    from moka.web.security import Access

Find = Callable[[], Mapping[str, "ModelFiles"]]
OPEN_PATHS = ("/v1/", "/models/images/")  # for programs: no page of another site, but no CSRF token
PROBES = ("/healthz", "/readyz")  # for whatever watches the process: no token
GRACE_S = 5.0  # beyond the deadline of requests, when the server ends


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe serve [DIR] [--model M --weights W] [flags]`."""
    return run("serve", _serve, argv)


def _serve(words: list[str], flags: dict[str, Any]) -> None:
    check_installed()
    from moka.command import engine
    from moka.web.api.log import LineWriter
    from moka.web.security import Access
    from moka.web.server import address, listen, serve

    engine.use(flags["engine"])
    _check(flags)
    limits = _limits(flags)
    service = make_service(_store(words, flags), limits, flags["deadline_ms"] / 1000)
    names = [name for name in flags["hosts"].split(",") if name]
    access = Access.to(
        flags["host"],
        names=names,
        with_token=flags["token"],
        open_paths=OPEN_PATHS,
        public_paths=PROBES,
        max_body=limits.request_bytes,
    )
    with listen(flags["host"], flags["port"]) as listener:
        port = listener.getsockname()[1]
        write = LineWriter(sys.stdout) if flags["log_requests"] else None
        app = make_app(service, access, write)
        first = service.store.names[0]
        print(
            f"Moka serves {', '.join(service.store.names)} at"
            f" {address(flags['host'], port, access)}",
            flush=True,
        )
        if not flags["lazy"]:
            service.store.get(first)
        serve(
            app,
            listener,
            grace_s=round(service.deadline_s + GRACE_S),
            leaving=service.drain,
        )
        if write is not None:
            write.flush()


def make_service(
    store: ModelStore, limits: Limits, deadline_s: float, find: Find | None = None
) -> Service:
    """The service of a store, which counts in metrics of its own.

    Args:
        find: see `Service`.
    """
    from moka.serving.metrics import LOADS, Metrics
    from moka.web.api.service import Service

    metrics = Metrics()
    store.told = lambda what, name: metrics.add(LOADS, what=what, model=name)
    store.seen = partial(_count_batch, metrics)
    return Service(store, limits=limits, metrics=metrics, deadline_s=deadline_s, find=find)


def _count_batch(metrics: Any, model: str, size: int, seconds: float) -> None:
    from moka.serving.metrics import BATCH_IMAGES, BATCH_SECONDS

    metrics.observe(BATCH_IMAGES, size, model=model)
    metrics.observe(BATCH_SECONDS, seconds, model=model)


def make_app(service: Service, access: Access, write: Callable[[str], object] | None) -> ASGIApp:
    """The application: the API, the page, a line of the log for each request.

    Args:
        write: called with a line of JSON for each request; None: no log.
    """
    from moka.web.api.log import RequestLog
    from moka.web.api.routes import api_routes
    from moka.web.app import Part
    from moka.web.app import make_app as make_site
    from moka.web.models.nets_part import nets_part
    from moka.web.models.try_part import try_part

    parts = [try_part(service), nets_part(service), Part("API", "docs")]
    site = make_site(parts, access, title="Moka")
    routes = [route.path for route in api_routes(service)]
    return RequestLog(site, service.metrics, routes, write)


def _check(flags: dict[str, Any]) -> None:
    """Raise UsageError for a number that is not above 0."""
    for name in ("batch", "queue", "workers", "threads", "max_models", "deadline_ms",
                 "max_image_mb", "max_megapixels", "max_images"):  # fmt: skip
        if name in ("workers", "threads") and flags[name] == 0:
            continue
        if not flags[name] > 0:
            raise UsageError(f"--{name} has to be > 0, got {flags[name]}.")


def _limits(flags: dict[str, Any]) -> Limits:
    from moka.serving.limits import MEGA, Limits

    image = round(flags["max_image_mb"] * MEGA)
    return Limits(
        image_bytes=image,
        request_bytes=4 * image,
        pixels=round(flags["max_megapixels"] * 1e6),
        images=flags["max_images"],
        held_bytes=16 * image,
    )


def _pace(flags: dict[str, Any]) -> Pace:
    """How models work. By default each core has a worker with one thread."""
    from moka.serving.model import Pace

    cores = usable_cores()
    workers = flags["workers"] or max(1, cores // (flags["threads"] or 1))
    return Pace(
        batch=flags["batch"],
        delay_s=flags["delay_ms"] / 1000,
        capacity=flags["queue"],
        workers=workers,
        threads=flags["threads"] or max(1, cores // workers),
    )


def _store(words: list[str], flags: dict[str, Any]) -> ModelStore:
    from moka.serving.model import ServedModel
    from moka.serving.store import ModelStore
    from moka.web.model_files import models_in, named_models

    files = models_in(words[0]) if words else {}
    files |= named_models(flags)
    if not files:
        raise UsageError(
            "there is no model to serve.",
            advice="Give --model and --weights, or a folder with a folder for each model.",
        )
    return ModelStore(files, partial(ServedModel, pace=_pace(flags)), most=flags["max_models"])
