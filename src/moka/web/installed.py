"""Whether what the pages and the server need is installed; it is asked before they are imported."""

from __future__ import annotations

import importlib.util
import os

from moka.errors import UsageError

NEEDED = {"starlette": "starlette", "uvicorn": "uvicorn", "multipart": "python-multipart"}


def check_installed() -> None:
    """Raises UsageError, with what to install, if the extra `web` is missing; or on Windows, where
    processes have no signals to stop a job with."""
    if os.name != "posix":
        raise UsageError("this command needs Linux or macOS.", advice="On Windows use WSL.")
    missing = [package for module, package in NEEDED.items()
               if importlib.util.find_spec(module) is None]  # fmt: skip
    if missing:
        raise UsageError(
            f"this command needs {', '.join(missing)}.",
            advice=f"Install them: pip install -U {' '.join(NEEDED.values())}",
        )
