"""What several processes that train one model decide together.

Each computes the gradients of its own share of the data. Whatever all of them must do alike (skip a
step, lower the rate, stop, save) they decide from numbers that a `Team` hands round. `Alone` is the
team of a process that asks nobody; `join_team` connects processes over `torch.distributed`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from moka.errors import SolverError

# How long others may take. It cannot be minutes: while the first process tests, or runs code of the
# user's between two steps, the others wait for it, and nothing tells that from a hanging process.
PATIENCE_S = 6 * 3600.0
NOTICE_S = 300.0  # how long a member waits until it says so; then twice as long, and so on

log = logging.getLogger("moka")


class Team(ABC):
    """The processes that train one model together, as one of them sees it.

    All members make the same calls in the same order.

    Args:
        rank: which member this is, from 0.
        size: how many members there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_first(self) -> bool:
        """Whether this member tests, saves and speaks for all."""
        return self.rank == 0

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether there are other members and this one can hear them."""

    @abstractmethod
    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        """The numbers of every member that can be heard, by rank; all give equally many."""

    @abstractmethod
    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        """The message of every member that can be heard, by rank."""

    @abstractmethod
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all members."""

    @abstractmethod
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the first member's."""

    @abstractmethod
    def leave(self) -> None:
        """End this membership; members that wait for this one get a SolverError."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is true for any member."""
        columns = zip(*self.gather_numbers(*flags).values(), strict=True)
        return tuple(any(column) for column in columns)

    def own_seed(self, seed: int) -> int:
        """The seed of this member's own random numbers, given the seed of all."""
        return seed + self.rank

    @contextmanager
    def leaving_on_error(self) -> Iterator[None]:
        """Leave the team when an exception ends the block, so that nobody waits for this member."""
        try:
            yield
        except BaseException:
            self.leave()
            raise


class Alone(Team):
    """A process that decides by itself.

    Args:
        rank, size: its part of the work, if other processes do the rest unheard.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        super().__init__(rank, size)

    @property
    def is_connected(self) -> bool:
        return False

    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        return {self.rank: own}

    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        return {self.rank: own}

    def average(self, tensors: Sequence[Tensor]) -> None:
        pass

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        pass

    def leave(self) -> None:
        pass


class _Connected(Team):
    """A member of the default group of `torch.distributed`.

    Numbers and messages travel as tensors on the CPU, over gloo; `average` and `copy_from_first`
    go where their tensors are, between GPUs over NCCL.

    Raises (all calls):
        SolverError: another member has left, ended or not answered in time.

    Args:
        notice_s: how long to wait for the others until a warning says so, in seconds.
    """

    def __init__(self, rank: int, size: int, notice_s: float) -> None:
        super().__init__(rank, size)
        self._notice_s = notice_s
        self._has_left = False
        atexit.register(self.leave)  # gloo aborts a process that ends while it is connected

    @property
    def is_connected(self) -> bool:
        return not self._has_left

    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        with self._hearing():
            table = torch.empty(self.size, len(own), dtype=torch.float64)
            row = torch.tensor(own, dtype=torch.float64)
            self._wait(dist.all_gather(list(table.unbind()), row, async_op=True))
        return {rank: tuple(row) for rank, row in enumerate(table.tolist())}

    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        lengths = [int(n) for (n,) in self.gather_numbers(len(own)).values()]
        padded = torch.frombuffer(bytearray(own.ljust(max(1, *lengths), b"\0")), dtype=torch.uint8)
        with self._hearing():
            table = torch.empty(self.size, len(padded), dtype=torch.uint8)
            self._wait(dist.all_gather(list(table.unbind()), padded, async_op=True))
        return {rank: table[rank, :n].numpy().tobytes() for rank, n in enumerate(lengths)}

    def average(self, tensors: Sequence[Tensor]) -> None:
        if tensors:
            whole = _joined(tensors)
            with self._hearing():
                self._wait(dist.all_reduce(whole, async_op=True), on_gpu=whole.is_cuda)
            _split(whole / self.size, tensors)

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        if tensors:
            whole = _joined(tensors)
            with self._hearing():
                self._wait(dist.broadcast(whole, 0, async_op=True), on_gpu=whole.is_cuda)
            _split(whole, tensors)

    def leave(self) -> None:
        if not self._has_left:
            self._has_left = True
            atexit.unregister(self.leave)
            with contextlib.suppress(RuntimeError, ValueError):
                dist.destroy_process_group()

    def _wait(self, call: Any, *, on_gpu: bool = False) -> None:
        """Wait for a call of `torch.distributed`, and warn when that takes long.

        A call between GPUs is only queued here; the next numbers over the CPU wait for it.
        """
        if on_gpu:
            call.wait()
            return
        pause, waited = self._notice_s, 0.0
        while True:
            try:
                call.wait(timedelta(seconds=pause))
                return
            except RuntimeError:
                if call.is_completed():  # it has failed
                    raise
            waited += pause
            pause *= 2
            log.warning(
                "Process %d of %d has waited %g s for the others. The first one may be testing, or"
                " one of them hangs.",
                self.rank,
                self.size,
                waited,
            )

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        me = f"process {self.rank} of the {self.size} that train together"
        if self._has_left:
            raise SolverError(f"{me} has left the others, after an error or because it was closed.")
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise SolverError(
                f"{me} can no longer reach the others.",
                advice="One of them has ended, or hangs; its own log or error says why."
                f" ({_first_line(error)})",
            ) from None


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of the tensors in one row, so that they travel as one message."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _split(row: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy a row of numbers back into the tensors that it was joined from."""
    parts = torch.split(row, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def new_uid() -> bytes:
    """A name under which processes of this machine find each other; make one and give it to all."""
    return os.fsencode(os.path.join(tempfile.gettempdir(), f"moka-{uuid.uuid4().hex}"))


def join_team(
    uid: bytes,
    rank: int,
    size: int,
    device: torch.device,
    *,
    patience_s: float = PATIENCE_S,
    notice_s: float = NOTICE_S,
) -> Team:
    """Meet the other processes that were given the same uid; returns when all have come.

    Args:
        uid: from `new_uid`, in one process, for all.
        rank: which of them this is, from 0.
        size: how many there are. One is `Alone`.
        device: where this process trains.
        patience_s: how long to wait for the others, now and later, in seconds. By default six
            hours: the others wait while the first process tests, or a program does something of
            its own between two steps, however long that takes.
        notice_s: how long to wait until a warning says so, in seconds.

    Raises:
        SolverError: a rank beyond the size, or processes that do not find each other.
    """
    if not 0 <= rank < size:
        raise SolverError(f"a process of rank {rank} cannot be one of {size}.")
    if size == 1:
        return Alone()
    if dist.is_initialized():  # of a run before this one
        dist.destroy_process_group()
    file = os.fsdecode(uid)
    nccl = device.type == "cuda" and dist.is_nccl_available()
    try:
        store = dist.FileStore(file, size)  # type: ignore[attr-defined]
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=patience_s),
        )
        team = _Connected(rank, size, notice_s)
        team.gather_numbers(rank)  # all have come
    except (RuntimeError, ValueError, OSError) as error:
        raise SolverError(
            f"process {rank} of {size} could not join the others: {_first_line(error)}"
        ) from None
    if team.is_first:
        with contextlib.suppress(OSError):
            os.unlink(file)
    return team
