from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from moka.doctor.facts import FINE, WORTH_KNOWING
from moka.doctor.machine import disk, gpus, memory, processors, quota

Usage = namedtuple("Usage", "total used free")


def test_a_containers_quota(tmp_path: Path) -> None:
    assert quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert quota(tmp_path) == 1.5


@pytest.mark.parametrize(("limit", "state"), [(None, FINE), (0.5, WORTH_KNOWING), (64.0, FINE)])
def test_processors(monkeypatch: pytest.MonkeyPatch, limit: float | None, state: str) -> None:
    monkeypatch.setattr("moka.doctor.machine.quota", lambda: limit)
    assert processors().state == state
    if state != FINE:
        assert "OMP_NUM_THREADS=1" in processors().advice


@pytest.mark.parametrize(
    ("driver", "cuda", "state", "advice"),
    [
        (None, None, FINE, ""),
        ("/usr/bin/nvidia-smi", None, WORTH_KNOWING, "PyTorch is built for processors only"),
        ("/usr/bin/nvidia-smi", "12.8", WORTH_KNOWING, "the driver may be too old"),
    ],
)
def test_no_gpu(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, cuda: str | None, state: str, advice: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(shutil, "which", lambda name: driver)
    assert gpus().state == state
    assert advice in gpus().advice


def test_memory_of_a_container(tmp_path: Path) -> None:
    assert memory(tmp_path).state in (FINE, WORTH_KNOWING)  # no limit: the machine's
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "memory.current").write_text("1500000000\n")
    assert memory(tmp_path).state == WORTH_KNOWING
    assert memory(tmp_path).found == "0.5 GB free"


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(9, 9, 5e9))
    assert disk("here", str(tmp_path)).found == f"5.0 GB free in {tmp_path}"
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(9, 9, 5e8))
    assert disk("here", str(tmp_path)).state == WORTH_KNOWING
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert disk("here", str(tmp_path)).found == f"{tmp_path} is read-only"
