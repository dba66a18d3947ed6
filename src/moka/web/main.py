"""`caffe web [DIR]`: the pages of a folder, on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from moka.command.run import run
from moka.errors import UsageError
from moka.web.installed import check_installed


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe web [DIR] [--host HOST] [--port PORT]`."""
    return run("web", _web, argv)


def _web(words: list[str], flags: dict[str, Any]) -> None:
    check_installed()
    if flags["at_once"] < 1:
        raise UsageError(f"--at_once has to be > 0, got {flags['at_once']}.")
    from moka.web.app import make_app
    from moka.web.folder import Folder
    from moka.web.security import Access
    from moka.web.serve import OPEN_PATHS
    from moka.web.server import address, listen, serve
    from moka.web.site import parts_of

    folder = Folder(words[0] if words else ".")
    os.chdir(folder.path)  # where relative names in nets start, as for the jobs
    names = [name for name in flags["hosts"].split(",") if name]
    access = Access.to(flags["host"], names=names, with_token=flags["token"], open_paths=OPEN_PATHS)
    with listen(flags["host"], flags["port"]) as listener:
        port = listener.getsockname()[1]
        parts = parts_of(folder, at_once=flags["at_once"])
        app = make_app(parts, access, title=folder.path.name or "Moka")
        print(f"Moka shows {folder.path} at {address(flags['host'], port, access)}", flush=True)
        if not access.is_local:
            print("Other machines can reach it. Whoever has the token can run programs here.")
        serve(app, listener)
