"""Processes meet in builds of PyTorch without libuv too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from moka.parallel import libuv
from moka.parallel.libuv import has_libuv, meeting_place


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "0")
    has_libuv.cache_clear()
    yield
    has_libuv.cache_clear()


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (None, True),
        (
            RuntimeError("use_libuv was requested but PyTorch was built without libuv support"),
            False,
        ),
        (RuntimeError("no more sockets"), True),
    ],
)
def test_what_this_build_has(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, wanted: bool
) -> None:
    def store(*args: object, **more: object) -> None:
        assert more["use_libuv"]
        if error is not None:
            raise error

    monkeypatch.setattr(dist, "TCPStore", store)
    assert has_libuv() is wanted


def test_where_the_agent_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libuv, "has_libuv", lambda: True)
    assert meeting_place("127.0.0.1") == {"endpoint": "127.0.0.1:0"}
    assert os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "0"


PROGRAM = """
import sys
from pathlib import Path
from moka.parallel import launch, libuv

if __name__ == "__main__":
    libuv.has_libuv = lambda: False
    launch.launch(sys.executable, ["sum.py"], 2, max_restarts=0)
"""
IN_EACH = """
import torch
from pathlib import Path
from moka.parallel import launched

launched.has_libuv = lambda: False
with launched.Launched.from_environment().joined(torch.device("cpu"), 60) as (team, _):
    numbers = team.gather_numbers(team.rank + 1)
    if team.is_first:
        Path("sum.txt").write_text(repr(dict(numbers)))
"""


@pytest.mark.slow
def test_a_run_without_it(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(PROGRAM)
    (tmp_path / "sum.py").write_text(IN_EACH)
    ran = subprocess.run(
        [sys.executable, "run.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "sum.txt").read_text() == "{0: (1.0,), 1: (2.0,)}"
