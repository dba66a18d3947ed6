"""How busy this machine is: processor, memory, graphics cards. What it does not tell is None."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

GPU_EVERY_S = 2.0
_QUERY = "name,utilization.gpu,memory.used,memory.total"
MIB = 1 << 20


class Machine:
    """Asked from time to time; loads are means since the last time but at least LEAST_S."""

    LEAST_S = 0.5

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before = (time.monotonic(), _busy_and_all())
        self._cpu: float | None = None
        self._gpus: tuple[float, list[dict[str, Any]]] = (-GPU_EVERY_S, [])

    def load(self) -> dict[str, Any]:
        """cpu as a part of all cores, bytes of memory used and in all, and each GPU's."""
        with self._lock:
            return {
                "cores": os.cpu_count(),
                "cpu": self._cpu_now(),
                **memory(),
                "gpus": self._gpu(),
            }

    def _cpu_now(self) -> float | None:
        now, counts = time.monotonic(), _busy_and_all()
        then, before = self._before
        if counts is None or before is None:
            return None
        if now - then >= self.LEAST_S and counts[1] > before[1]:
            self._cpu = (counts[0] - before[0]) / (counts[1] - before[1])
            self._before = (now, counts)
        return self._cpu

    def _gpu(self) -> list[dict[str, Any]]:
        at, known = self._gpus
        if time.monotonic() - at >= GPU_EVERY_S:
            known = gpus()
            self._gpus = (time.monotonic(), known)
        return known


def _busy_and_all() -> tuple[int, int] | None:
    """Ticks of all cores since the start, those that they worked and all."""
    try:
        ticks = [int(t) for t in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def memory() -> dict[str, int | None]:
    """Bytes of memory that are used, and all of it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if ":" in line}
        used = kib["MemTotal"] - kib["MemAvailable"]
        return {"memory_used": used * 1024, "memory_all": kib["MemTotal"] * 1024}
    except (OSError, ValueError, KeyError, IndexError):
        return {"memory_used": None, "memory_all": None}


def gpus() -> list[dict[str, Any]]:
    """Each GPU's name, load and memory, by nvidia-smi; none where that is missing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu_of(line) for line in told.splitlines() if line.count(",") >= 3]


def _gpu_of(line: str) -> dict[str, Any]:
    name, *texts = [part.strip() for part in line.rsplit(",", 3)]
    load, used, total = (float(t) if t.replace(".", "").isdigit() else None for t in texts)
    return {
        "name": name,
        "load": None if load is None else load / 100,
        "memory_used": None if used is None else used * MIB,
        "memory_all": None if total is None else total * MIB,
    }
