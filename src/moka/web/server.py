"""Runs an application: says its address, listens, ends cleanly."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from moka.errors import UsageError
from moka.web.security import Access

GRACE_S = 2  # for open event streams, when the server ends


def address(host: str, port: int, access: Access) -> str:
    """The line of the browser's address bar that opens the server."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    token = f"/?token={access.token}" if access.token else "/"
    return f"http://{shown}:{port}{token}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{host}:{port} cannot be listened at: {reason}.",
            advice="Give another --port; 0 takes a free one.",
        ) from None
    return listener


def serve(
    app: object,
    listener: socket.socket,
    *,
    grace_s: int = GRACE_S,
    leaving: Callable[[], object] = lambda: None,
) -> None:
    """Answer requests until the process is asked to end (SIGTERM, SIGINT); then finish those that
    are in work.

    Args:
        grace_s: how long they may take.
        leaving: called in the event loop, when the process has been asked to end.
    """
    import uvicorn

    from moka.web.patience import Impatient

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            leaving()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=Impatient,
        log_config=None,
        access_log=False,  # it would hold tokens
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=grace_s,
    )
    with _ended_quietly():
        Server(config).run(sockets=[listener])


@contextmanager
def _ended_quietly() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more: then it has no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sig: signal.signal(sig, lambda *_: None) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
