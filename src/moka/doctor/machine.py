"""Processors, GPUs, memory and disk, as far as this process may use them."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from moka.cores import usable_cores
from moka.doctor.facts import WORTH_KNOWING, Fact
from moka.free_memory import CGROUP, free_memory, gigabytes

TOPIC = "machine"
LEAST_MEMORY, LEAST_DISK = 1e9, 1e9


def machine() -> Iterator[Fact]:
    """Yield facts about what this process may use."""
    yield processors()
    yield gpus()
    yield memory()
    for name, folder in (("disk, here", os.getcwd()), ("disk, temporary", tempfile.gettempdir())):
        yield disk(name, folder)


def quota(folder: Path = CGROUP) -> float | None:
    """How many processors' time a container's limit allows; None: no limit is known."""
    try:
        most, _, period = (folder / "cpu.max").read_text().partition(" ")
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return None


def processors() -> Fact:
    """Cores, instruction set, and a container's limit on them."""
    cores, limit, threads = usable_cores(), quota(), torch.get_num_threads()
    found = f"{cores} cores, {torch.backends.cpu.get_cpu_capability()}, {_cpu_name()}"
    if limit is not None and limit < threads:
        return Fact(
            TOPIC,
            "processors",
            f"{found}; {threads} threads, but a limit of {limit:g} processors",
            WORTH_KNOWING,
            f"Threads then stand still again and again: set OMP_NUM_THREADS={max(1, int(limit))}.",
        )
    return Fact(TOPIC, "processors", f"{found}; {threads} threads")


def gpus() -> Fact:
    """The GPUs that PyTorch can use, or why it uses none."""
    if torch.cuda.is_available():
        each = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        found = ", ".join(f"{gpu.name} ({gigabytes(gpu.total_memory)})" for gpu in each)
        return Fact(TOPIC, "GPUs", f"{found}; CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi") is None:
        return Fact(TOPIC, "GPUs", "none; nets run on the processors")
    advice = "PyTorch is built for processors only: install its CUDA build, see pytorch.org."
    if torch.version.cuda is not None:
        advice = f"PyTorch is built for CUDA {torch.version.cuda}: the driver may be too old."
    return Fact(TOPIC, "GPUs", "there is a driver, but PyTorch finds no GPU", WORTH_KNOWING, advice)


def memory(folder: Path = CGROUP) -> Fact:
    """What is free, and what a container's limit leaves."""
    free = free_memory(folder)
    if free == float("inf"):
        return Fact(TOPIC, "memory", "this system does not say how much is free")
    if free < LEAST_MEMORY:
        return Fact(
            TOPIC,
            "memory",
            f"{gigabytes(free)} free",
            WORTH_KNOWING,
            "A net like CaffeNet takes 1 GB to train: end other programs, or raise the limit.",
        )
    return Fact(TOPIC, "memory", f"{gigabytes(free)} free")


def disk(name: str, folder: str) -> Fact:
    """Free space of a folder, and whether files can be made there."""
    free = shutil.disk_usage(folder).free
    found = f"{gigabytes(free)} free in {folder}"
    if not os.access(folder, os.W_OK):
        return Fact(
            TOPIC,
            name,
            f"{folder} is read-only",
            WORTH_KNOWING,
            "Snapshots go elsewhere: see snapshot_prefix.",
        )
    if free < LEAST_DISK:
        return Fact(TOPIC, name, found, WORTH_KNOWING, "Make room, or write to another disk.")
    return Fact(TOPIC, name, found)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
