from __future__ import annotations

import ctypes
import sys

import pytest
from tests.fresh import run_program

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

for _ in range(15):
    torch.ones((1 << 23) + 1)
before = faults()
for _ in range(3):
    torch.ones((1 << 23) + 1)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_freed_memory_is_used_again() -> None:
    """Three arrays of 32 MB are 24576 pages of 4 KB, fewer if the system uses larger ones."""
    counts = []
    for keep in (False, True):
        counts.append(int(run_program(COUNTING.format(keep=keep)).stdout))
    assert counts[1] < counts[0] / 10


LARGE_PIECES = """
import resource
import torch
from moka.heap import keep_freed_memory, keep_large_pieces

torch.set_num_threads(1)
if {keep}:
    keep_freed_memory()

def faults():
    for _ in range(15):
        torch.ones((1 << 23) + 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones((1 << 23) + 1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for keep in (False, True):
    keep_large_pieces(keep)
    print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_large_pieces_go_back_for_a_while() -> None:
    first, later = map(int, run_program(LARGE_PIECES.format(keep=True)).stdout.split())
    assert later < first / 10
    first, later = map(int, run_program(LARGE_PIECES.format(keep=False)).stdout.split())
    assert later > first / 2  # if nothing is kept, large pieces are not


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
        torch.ones((1 << 23) + 1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

owners = [Owner(), Owner()]
for owner in owners:
    heap.keep_freed_memory_for(owner)
if FOR_GOOD:
    heap.keep_freed_memory()
for _ in range(15):
    torch.ones((1 << 23) + 1)
torch.ones(1 << 26)
kept_mb = resident_mb()
while owners:
    print(faults())
    owner = None
    owners.pop()
print(faults(), kept_mb - resident_mb())
"""


def _of_an_owner(*, for_good: bool = False) -> list[int]:
    return [*map(int, run_program(f"FOR_GOOD = {for_good}{OF_AN_OWNER}").stdout.split())]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_freed_memory_is_kept_as_long_as_an_owner_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    both, one, none, given_back_mb = _of_an_owner()
    assert max(both, one) < none / 10
    assert given_back_mb > 200  # of 256
    *counts, given_back_mb = _of_an_owner(for_good=True)
    assert max(counts) < none / 10
    assert given_back_mb < 200
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    both, _, none, _ = _of_an_owner()
    assert both > none / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    assert int(run_program(GIVING_BACK).stdout) > 200  # of 256


SMALL_PIECES = """
import resource
import torch
from moka import heap

torch.set_num_threads(1)
if {keep}:
    heap.keep_freed_memory()

def faults():
    for _ in range(15):
        torch.ones(1 << 20)  # 4 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with heap.small_pieces_go_back():
    print(faults())
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tunes glibc")
def test_small_pieces_go_back_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)

    def counts(*, keep: bool) -> list[int]:
        return [*map(int, run_program(SMALL_PIECES.format(keep=keep)).stdout.split())]

    meanwhile, after = counts(keep=False)
    assert after < meanwhile / 10
    kept, _ = counts(keep=True)
    assert kept < meanwhile / 10
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    of_user, _ = counts(keep=False)
    assert of_user < meanwhile / 10


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)  # would fail if it were used
    heap.keep_freed_memory.__wrapped__()
    heap.give_back_freed_memory()
