"""How busy the machine is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from moka.web import machine


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here")
def test_what_linux_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([(100, 1000), (400, 2000)])
    monkeypatch.setattr(machine, "_busy_and_all", lambda: next(counts))
    monkeypatch.setattr(machine.Machine, "LEAST_S", 0.0)
    load = machine.Machine().load()
    assert load["cpu"] == pytest.approx(0.3)
    assert 0 < load["memory_used"] < load["memory_all"]


def test_a_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("shutil.which", lambda _: None)
    load = machine.Machine().load()
    assert (load["cpu"], load["memory_used"], load["gpus"]) == (None, None, [])


def test_graphics_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "Card, large, 37, 1024, 81920\nOther, [N/A], 0, 100\n"
    monkeypatch.setattr("shutil.which", lambda _: "nvidia-smi")
    done = subprocess.CompletedProcess([], 0, told, "")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: done)
    first, second = machine.gpus()
    assert first["name"] == "Card, large"
    assert first["load"] == pytest.approx(0.37)
    assert first["memory_all"] == 81920 << 20
    assert second["load"] is None
