"""Environments for contenders whose packages do not go with Moka's: made once, kept in a cache."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

# A contender's own packages. OpenCV 5 reads Caffe's models no more.
NEEDS = {"OpenCV 4": ["opencv-python-headless<5"], "OpenVINO": ["openvino"]}
DONE = "packages.txt"


def python_of(contender: str) -> str:
    """The interpreter that a contender's process runs in; its environment is made if need be.

    Raises:
        OSError: it cannot be made, for instance without a network.
    """
    needs = NEEDS.get(contender)
    if needs is None:
        return sys.executable
    folder = _cache() / contender.lower().replace(" ", "-")
    python = folder / "bin" / "python"
    done = folder / DONE
    if done.exists() and done.read_text() == "\n".join(needs) and python.exists():
        return str(python)
    print(f"Making an environment for {contender} in {folder} ...", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "-q", *needs]
    found = subprocess.run(install, capture_output=True, text=True, check=False)
    if found.returncode:
        words = found.stderr.strip().splitlines()
        raise OSError(f"pip: {words[-1] if words else found.returncode}")
    done.write_text("\n".join(needs))
    return str(python)


def packages_of(contender: str) -> str:
    """The folder of a contender's packages, for another process of this Python.

    Raises:
        OSError: the environment cannot be made.
    """
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run(
        [python_of(contender), "-c", asked], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache"
    return Path(home) / "moka-benchmarks"
