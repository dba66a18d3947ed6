"""The choices that a program makes once: mode, device, seed. They hold per thread, as in Caffe.

Layers never read them; nets and solvers do when they are made.
"""

from __future__ import annotations

import logging
import operator
import threading
from collections.abc import Mapping

import torch
from torch import Tensor

from moka.errors import UsageError

log = logging.getLogger("moka")


NO_GPU_FOR_SOLVER = "The solver asks for a GPU and none is available"


class _Context(threading.local):
    gpu = False
    device_id = 0


_context = _Context()


def set_mode_cpu() -> None:
    """Run what is made from now on (in this thread) on the CPU."""
    _context.gpu = False


def set_mode_gpu() -> None:
    """Run what is made from now on (in this thread) on the GPU chosen by `set_device`."""
    _context.gpu = True


def set_device(device_id: int) -> None:
    """Choose the GPU by its number, for PyTorch in this thread too. On a machine without a GPU any
    number is accepted, and nets run on the CPU even in GPU mode.

    Raises:
        TypeError: no number.
        UsageError: there are GPUs, but not this one.
    """
    device_id = operator.index(device_id)
    count = torch.cuda.device_count()
    if device_id < 0 or 0 < count <= device_id:
        raise UsageError(
            f"there is no GPU {device_id}: {count} found.",
            advice="set_mode_cpu runs nets on the CPU.",
        )
    _context.device_id = device_id
    if torch.cuda.is_available():
        torch.cuda.set_device(device_id)


def set_random_seed(seed: int) -> None:
    """Seed everything random that follows: fillers, dropout, crops and mirrors."""
    torch.manual_seed(seed % 2**63)


def random_states(where: torch.device) -> dict[str, Tensor]:
    """The states of the random generators that a net on this device draws from, by name."""
    states = {"cpu": torch.get_rng_state()}
    if where.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(where)
    return states


def set_random_states(states: Mapping[str, Tensor], where: torch.device) -> None:
    """Restore `random_states`; states of devices that are not in use are ignored."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and where.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], where)


def device() -> torch.device:
    """The device for nets made from now on."""
    if not _context.gpu:
        return torch.device("cpu")
    found = gpu_or_cpu(_context.device_id)
    _context.gpu = found.type != "cpu"  # the warning comes once
    return found


def with_index(where: torch.device) -> torch.device:
    """The device as its tensors name it: "cuda" is PyTorch's present GPU."""
    if where.type == "cuda" and where.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return where


def gpu_or_cpu(device_id: int, reason: str = "No GPU is available here") -> torch.device:
    """The GPU with this number; the CPU where there is no GPU at all, with a warning that begins
    with `reason`."""
    if not torch.cuda.is_available():
        log.warning("%s: running on the CPU.", reason)
        return torch.device("cpu")
    return torch.device("cuda", device_id)
