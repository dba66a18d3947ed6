"""What a figure depends on: the machine, the day, the versions."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def described(threads: int) -> str:
    """One line: date, processor, cores, threads, versions."""
    today = datetime.date.today().isoformat()
    versions = [f"{label} {version(p)}" for p, label in PACKAGES.items() if _is_installed(p)]
    return ", ".join(
        [today, processor(), f"{os.cpu_count()} cores", f"{threads} threads", *versions]
    )


def load() -> float | None:
    """How many programs want to run, by processor, in the last minute; None: nobody knows."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return None


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
