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


OF_AN_OWNER = """
import resource
import sys
from pathlib import Path
import torch
from moka import heap

torch.set_num_threads(1)

class Owner:
    pass

def resident_mb():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) // 1024

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

owners = [Owner(), Owner()]
for owner in owners:
    heap.keep_freed_memory_for(owner)
if "for good" in sys.argv:
    heap.keep_freed_memory()
for _ in range(5):
    torch.ones(1 << 24)
torch.ones(1 << 26)
kept_mb = resident_mb()
while owners:
    print(faults())
    owner = None
    owners.pop()
print(faults(), kept_mb - resident_mb())
"""


def _of_an_owner(*words: str) -> list[int]:
    command = [sys.executable, "-c", OF_AN_OWNER, *words]
    return [*map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_freed_memory_is_kept_as_long_as_an_owner_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    both, one, none, given_back_mb = _of_an_owner()
    assert max(both, one) < none / 10
    assert given_back_mb > 200  # of 256
    *counts, given_back_mb = _of_an_owner("for good")
    assert max(counts) < none / 10
    assert given_back_mb < 200
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    both, _, none, _ = _of_an_owner()
    assert both > none / 10


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
