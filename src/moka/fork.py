"""Forked processes: what a child process may rely on after `fork`.

PyTorch computes with threads of GNU OpenMP. A child of `fork` has only the thread that called it,
but OpenMP in it still counts on the others and waits for them for ever. So Moka ends them before
the fork; parent and child each start new ones with their next computation.
"""

from __future__ import annotations

import ctypes
import os
import sys

_SOFT = 1  # omp_pause_soft in omp.h: threads end, settings stay

_threads_ended = False


def make_forks_safe() -> None:
    """Let nets run in children of `fork`. Called once, when Moka is imported."""
    if sys.platform.startswith("linux"):  # elsewhere PyTorch uses an OpenMP that knows of forks
        os.register_at_fork(before=_end_threads, after_in_child=_use_one_thread)


def _end_threads() -> None:
    """Before a fork: end the OpenMP threads of the thread that forks."""
    global _threads_ended
    if "torch" not in sys.modules:
        return
    pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
    _threads_ended = pause is not None and pause(_SOFT) == 0


def _use_one_thread() -> None:
    """In the child: compute without OpenMP threads if they could not be ended."""
    torch = sys.modules.get("torch")
    if torch is not None and not _threads_ended:
        torch.set_num_threads(1)
