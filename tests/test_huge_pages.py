from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fresh import run_program

from moka import huge_pages
from moka.huge_pages import (
    SIZE,
    NewMemory,
    are_for_the_asking,
    empty,
    own_memory,
    put_on_large_pages,
    range_of,
    without,
)

only_where_given = pytest.mark.skipif(
    not are_for_the_asking(), reason="the system gives no large pages, or gives them unasked"
)
PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
COUNT = 16 * SIZE // 4  # numbers


def kilobytes(field: str) -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(text.partition(f"{field}:")[2].split()[0])


@pytest.mark.parametrize(
    ("ranges", "others", "left"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(0, 10)], []),
        ([(0, 10)], [(2, 4), (6, 7)], [(0, 2), (4, 6), (7, 10)]),
        ([(5, 10), (20, 30)], [(0, 6), (9, 25)], [(6, 9), (25, 30)]),
        ([(5, 10)], [(0, 5), (10, 20)], [(5, 10)]),
    ],
)
def test_without(
    ranges: list[tuple[int, int]], others: list[tuple[int, int]], left: list[tuple[int, int]]
) -> None:
    assert without(ranges, others) == left


OLD_AND_NEW = """
import mmap, numpy, torch
from moka.huge_pages import SIZE, NewMemory, range_of

old = numpy.frombuffer(mmap.mmap(-1, 8 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
new_memory = NewMemory()
added = torch.ones(16 * SIZE // 4)
first, last = range_of(added)
found = new_memory.ranges()
start, end = old.ctypes.data, old.ctypes.data + old.nbytes
print(any(a <= first and last <= b for a, b in found))
print(any(a < end and b > start for a, b in found))
"""


@only_where_given
def test_new_memory_is_what_has_been_added() -> None:
    """In a process of its own, for malloc keeps what others have freed."""
    assert run_program(OLD_AND_NEW).stdout.split() == [b"True", b"False"]


@only_where_given
def test_memory_goes_to_large_pages_with_its_numbers() -> None:
    values = torch.arange(COUNT)
    before = kilobytes("AnonHugePages")
    put_on_large_pages([range_of(values)])
    assert kilobytes("AnonHugePages") >= before + COUNT * 8 // 1024 // 2
    assert torch.equal(values, torch.arange(COUNT))


@only_where_given
def test_memory_that_is_hardly_used_does_not_grow() -> None:
    memory = np.frombuffer(mmap.mmap(-1, 17 * SIZE, flags=PRIVATE), np.uint8)
    start = -memory.ctypes.data % SIZE
    memory[start : start + 16 * SIZE : SIZE] = 1
    before = kilobytes("Rss")
    put_on_large_pages([(memory.ctypes.data, memory.ctypes.data + memory.nbytes)])
    assert kilobytes("Rss") < before + 2 * SIZE // 1024


@only_where_given
def test_an_empty_tensor_gets_large_pages_when_it_is_written_to() -> None:
    before = kilobytes("AnonHugePages")
    tensor = empty((16, SIZE // 4))
    assert kilobytes("AnonHugePages") == before
    tensor.fill_(3)
    assert tensor.shape == (16, SIZE // 4)
    assert kilobytes("AnonHugePages") >= before + 8 * SIZE // 1024


def test_a_small_tensor_is_as_usual() -> None:
    assert empty((2, 3)).shape == (2, 3)


def test_a_system_without_large_pages_is_asked_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("always madvise [never]", "[always] madvise never"):
        monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
        huge_pages.SETTING.write_text(text)
        assert not are_for_the_asking()
        assert NewMemory().ranges() == []
        assert empty((4, SIZE)).shape == (4, SIZE)
        put_on_large_pages([(0, 2**40)])
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "not there")
    assert not are_for_the_asking()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells it")
def test_a_process_that_cannot_see_its_memory_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
    huge_pages.SETTING.write_text("always [madvise] never")
    assert are_for_the_asking()
    monkeypatch.setattr(huge_pages, "PAGEMAP", tmp_path / "pagemap")
    assert not are_for_the_asking()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells it")
def test_memory_of_files_is_not_our_own() -> None:
    with open(huge_pages.__file__, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = np.frombuffer(mapped, np.uint8).ctypes.data
        assert not any(a <= start < b for a, b in own_memory())
