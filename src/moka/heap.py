"""Batches and activations are made and freed in every iteration; this keeps their memory from
going back and forth between the process and the system, which costs a page fault for each 4 KB."""

from __future__ import annotations

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc's malloc, once for the process, to keep what is freed for the next request.

    Memory then stays at the peak it has reached. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        mallopt(_M_ARENA_MAX, 1)  # those of other threads go back whatever the thresholds say
