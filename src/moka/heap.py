"""Keeps freed memory in the process.

Every iteration makes and frees batches and activations. By default malloc gives such large pieces
back to the system and fetches them again, which costs a page fault for each 4 KB: a quarter of
MobileNet's training step. The commands of `caffe` turn that off, and so does a solver of pycaffe as
long as it lives; any other program that imports Moka decides for itself. While the program of a
large net is made, more is given back than usual.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGEST = 2**31 - 1
# What malloc comes to by itself in a process that has freed large arrays.
_USUAL_MMAP_THRESHOLD, _USUAL_TRIM_THRESHOLD = 1 << 25, 1 << 26
_SMALL_MMAP_THRESHOLD, _LARGE_MMAP_THRESHOLD = 1 << 20, 1 << 30
_USERS_CHOICE = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")

_owners = 0
_for_good = False


@functools.cache
def keep_freed_memory() -> None:
    """Tell malloc, for the whole process, to keep freed memory for the next request.

    Training and scoring on a CPU get faster, and the process stays at the peak of the memory it has
    used. Once on, it stays on. Only glibc (Linux) is told; elsewhere nothing happens.
    """
    global _for_good
    _for_good = True
    mallopt = _from_c_library("mallopt")
    if mallopt is not None:
        _keep(mallopt)
        mallopt(_M_ARENA_MAX, 1)  # those of other threads go back whatever the thresholds say


def keep_freed_memory_for(owner: object) -> None:
    """As `keep_freed_memory`, until this object is gone; then what is kept goes back.

    What the environment says about malloc is left as it is.
    """
    global _owners
    mallopt = _from_c_library("mallopt")
    if mallopt is None or _is_users_choice():
        return
    _keep(mallopt)
    _owners += 1
    weakref.finalize(owner, _keep_no_longer).atexit = False


def _is_users_choice() -> bool:
    return any(name in os.environ for name in _USERS_CHOICE)


def _keep(mallopt: Callable[..., int]) -> None:
    mallopt(_M_MMAP_THRESHOLD, _LARGE_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def _do_as_usual(mallopt: Callable[..., int]) -> None:
    mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)


def keep_large_pieces(keep: bool) -> None:
    """Say whether pieces of 32 MB and more are among the freed memory that is kept, if any is.

    Solvers say no for their first iterations. Each of these asks for memory in another order:
    layers settle, the step is recorded. A large piece that is kept then is soon cut up, the next
    one comes from the system, and so on: at batch 64 MobileNet v1's training step grew to 5.0 GB.
    If they go back at first, 3.4 GB do, and the iterations after take as long as with 5.0.
    """
    mallopt = _from_c_library("mallopt") if _for_good or _owners else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_MMAP_THRESHOLD if keep else _USUAL_MMAP_THRESHOLD)


def _keep_no_longer() -> None:
    """An owner is gone; if it was the last one, malloc does again as it would by itself."""
    global _owners
    _owners -= 1
    mallopt = _from_c_library("mallopt")
    if mallopt is not None and not _owners and not _for_good:
        _do_as_usual(mallopt)
        give_back_freed_memory()


@contextmanager
def small_pieces_go_back() -> Iterator[None]:
    """Let malloc give freed pieces of 1 MB and more back to the system at once, for a while.

    For work that makes and frees much once: what malloc would keep of it lies in pieces that fit
    nobody (making ResNet-50's program: a peak of 541 MB instead of 599, in 40 ms more). Where
    freed memory is to be kept, it is. Afterwards malloc has the thresholds that it comes to by
    itself in a process that frees large arrays, but no longer changes them.
    """
    mallopt = _from_c_library("mallopt")
    if mallopt is None or _for_good or _owners or _is_users_choice():
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _SMALL_MMAP_THRESHOLD)
    try:
        yield
    finally:
        if not _for_good and not _owners:
            _do_as_usual(mallopt)


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
