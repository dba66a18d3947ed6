from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from moka import heap

COUNTING = """
import resource
import torch
from moka.heap import keep_freed_memory

torch.set_num_threads(1)
if {keep}:
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(30):
    torch.ones(1 << 24)
before = faults()
for _ in range(10):
    torch.ones(1 << 24)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_freed_memory_is_used_again() -> None:
    """Ten arrays of 64 MB are 163840 pages of 4 KB, fewer if the system uses larger ones."""
    counts = []
    for keep in (False, True):
        text = COUNTING.format(keep=keep)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
        counts.append(int(done.stdout))
    assert counts[1] < counts[0] / 10


GIVING_BACK = """
from pathlib import Path
import torch
from moka.heap import give_back_freed_memory, keep_freed_memory

def resident_mb():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) // 1024

keep_freed_memory()
torch.ones(1 << 26)
before = resident_mb()
give_back_freed_memory()
print(before - resident_mb())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    command = [sys.executable, "-c", GIVING_BACK]
    done = subprocess.run(command, capture_output=True, check=True)
    assert int(done.stdout) > 200  # of 256


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)  # would fail if it were used
    heap.keep_freed_memory.__wrapped__()
    heap.give_back_freed_memory()
