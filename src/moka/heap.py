"""Keeps freed memory in the process.

Every iteration makes and frees batches and activations. By default malloc gives such large pieces
back to the system and fetches them again, which costs a page fault for each 4 KB. The commands of
`caffe` turn that off; a program that imports Moka decides for itself.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> None:
    """Tell malloc, for the whole process, to keep freed memory for the next request.

    Training and scoring on a CPU get faster, and the process stays at the peak of the memory it has
    used. Once on, it stays on. Only glibc (Linux) is told; elsewhere nothing happens.
    """
    mallopt = _from_c_library("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        mallopt(_M_ARENA_MAX, 1)  # those of other threads go back whatever the thresholds say


def give_back_freed_memory() -> None:
    """Let malloc return what it keeps of freed memory to the system, once (glibc)."""
    trim = _from_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def kept_memory() -> int:
    """How many freed bytes malloc keeps for the next request (glibc; elsewhere 0)."""
    mallinfo = _from_c_library("mallinfo2")
    if mallinfo is None:
        return 0
    mallinfo.restype = _MallInfo  # type: ignore[attr-defined]
    return int(mallinfo().fordblks)  # type: ignore[attr-defined]


class _MallInfo(ctypes.Structure):
    """mallinfo2 of malloc.h."""

    _fields_ = (
        *((f"other{k}", ctypes.c_size_t) for k in range(8)),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def _from_c_library(name: str) -> Callable[..., int] | None:
    """A function of Linux's C library; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
