"""Large pages for memory that passes use again and again.

A processor remembers where some thousand pages of memory lie. The blobs and weights of a net are
many more pages of 4 KB; to look one up takes long, on a virtual machine twice as long. Linux has
pages of 2 MB, but by default gives them only to programs that ask, and neither malloc nor PyTorch
nor ONNX Runtime asks.

Measured on two cores of a virtual machine (Intel Xeon, processor time on one thread, beside other
programs): passes in ONNX Runtime take 0.63 (ResNet-50, one image), 0.71 (SqueezeNet, ten) and 0.92
(MobileNet v2, one) of the time.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moka.types import Shape

SIZE = 1 << 21
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MAPS, PAGEMAP = Path("/proc/self/maps"), Path("/proc/self/pagemap")
MOSTLY = 0.5  # of a large page that must be in use, so that memory does not grow much
_PAGE = 4096
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25  # mman.h; without the second Linux does it by and by
_IN_MEMORY = np.uint64(1 << 63)  # a page's bit in /proc/self/pagemap

Range = tuple[int, int]  # addresses: the first, and the one after the last


def are_for_the_asking() -> bool:
    """Whether the system gives large pages to those who ask and to nobody else, and lets a process
    see its own memory, which some containers do not."""
    if not sys.platform.startswith("linux") or os.sysconf("SC_PAGE_SIZE") != _PAGE:
        return False
    try:
        return "[madvise]" in SETTING.read_text() and all(
            os.access(f, os.R_OK) for f in (MAPS, PAGEMAP)
        )
    except OSError:
        return False


class NewMemory:
    """The memory that malloc adds to the process after this object is made."""

    def __init__(self) -> None:
        self._before = own_memory() if are_for_the_asking() else None

    def ranges(self) -> list[Range]:
        """Where it lies; nowhere if the system has no large pages for it."""
        return [] if self._before is None else without(own_memory(), self._before)


def put_on_large_pages(ranges: Iterable[Range]) -> None:
    """Let memory lie on large pages where most of one is in use. Its numbers stay as they are."""
    if not are_for_the_asking():
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, end in _mostly_in_use(ranges):
        for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):  # either may be refused
            madvise(start, end - start, advice)


def empty(shape: Shape) -> Tensor:
    """A tensor whose memory gets large pages when it is first written to."""
    count = prod(shape)
    if 4 * count < SIZE or not are_for_the_asking():
        return torch.empty(shape)
    memory = mmap.mmap(-1, 4 * count + SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.float32)
    start = -whole.data_ptr() % SIZE // 4
    return whole[start : start + count].view(shape)


def range_of(tensor: Tensor) -> Range:
    """The memory of a tensor's storage."""
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def own_memory() -> list[Range]:
    """The process's memory that belongs to no file, in order of addresses: malloc's, stacks."""
    found: list[Range] = []
    with open(MAPS, encoding="utf-8", errors="replace") as file:
        for line in file:
            addresses, access, _, _, inode, *name = line.split(maxsplit=5)
            if access == "rw-p" and inode == "0" and [n.strip() for n in name] in ([], ["[heap]"]):
                start, end = (int(address, 16) for address in addresses.split("-"))
                found.append((start, end))
    return found


def without(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """What lies in ranges but in none of the others; both are in order of addresses."""
    found = []
    for start, end in ranges:
        inside = [(max(a, start), min(b, end)) for a, b in others if a < end and b > start]
        edges = [(start, start), *inside, (end, end)]
        found += [(a, b) for (_, a), (b, _) in pairwise(edges) if a < b]
    return found


def _mostly_in_use(ranges: Iterable[Range]) -> Iterator[Range]:
    """The parts of ranges, in whole large pages, of which most is in use."""
    with open(PAGEMAP, "rb", buffering=0) as file:
        for first, last in ranges:
            start, end = -(-first // SIZE) * SIZE, last // SIZE * SIZE
            if start >= end:
                continue
            pages = os.pread(file.fileno(), (end - start) // _PAGE * 8, start // _PAGE * 8)
            used = (np.frombuffer(pages, np.uint64) & _IN_MEMORY) != 0
            is_used = used.reshape(-1, SIZE // _PAGE).mean(1) > MOSTLY
            edges = np.flatnonzero(np.diff(is_used, prepend=False, append=False))
            for a, b in edges.reshape(-1, 2).tolist():
                yield start + a * SIZE, start + b * SIZE
