"""Whether what the pages and the server need is installed; it is asked before they are imported."""

from __future__ import annotations

import importlib.util
import os

from moka.errors import UsageError

NEEDED = ("starlette", "uvicorn", "multipart")


def check_installed() -> None:
    """Raises UsageError, with what to install, if the extra `web` is missing; or on Windows, where
    processes have no signals to stop a job with."""
    if os.name != "posix":
        raise UsageError("this command needs Linux or macOS.", advice="On Windows use WSL.")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"this command needs {', '.join(missing)}.",
            advice="Install them: pip install 'moka-caffe[web]'.",
        )
