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
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from moka.errors import SolverError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger("moka.team")

PATIENCE_S = 6 * 3600.0  # how long others may take, a test by the first process for instance
HEARD_S = 5.0  # how long to wait until the first member has repeated an error
REASON_S = 0.5  # how long to look for the error of a member that has left
TEAM_LOST = 76  # the exit code that asks a launcher to start all processes again


class TeamLostError(SolverError):
    """Other processes cannot be reached any more, and none of them has said why."""

    exit_code = TEAM_LOST


class Averaging:
    """Tensors whose mean over all members is under way.

    Args:
        wait: waits until it has come.
        put: puts it in the place of the tensors.
    """

    def __init__(
        self, wait: Callable[[], None] = lambda: None, put: Callable[[], None] = lambda: None
    ) -> None:
        self.wait = wait
        self._put = put

    def finish(self) -> None:
        """Wait for the mean and replace each tensor by it."""
        self.wait()
        self._put()


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
    def begin_average(self, tensors: Sequence[Tensor]) -> Averaging:
        """Start to average tensors over all members; they may have none."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all members."""
        self.begin_average(tensors).finish()

    @abstractmethod
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the first member's."""

    @abstractmethod
    def leave(self, why: str = "") -> None:
        """End this membership; members that wait for this one get a SolverError.

        Args:
            why: the error that ends this member's work; the others' error repeats it.
        """

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
        except TeamLostError:
            self.leave()
            raise
        except BaseException as error:
            self.leave(str(error) or type(error).__name__)
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

    def begin_average(self, tensors: Sequence[Tensor]) -> Averaging:
        return Averaging()

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        pass

    def leave(self, why: str = "") -> None:
        pass


class _Connected(Team):
    """A member of the default group of `torch.distributed`.

    Numbers and messages travel as tensors on the CPU, over gloo; `average` and `copy_from_first`
    go where their tensors are, between GPUs over NCCL.

    Args:
        store: where members leave the error that ended them; None: nobody asks for it.

    Raises (all calls):
        SolverError: another member has left, ended or not answered in time.
    """

    def __init__(self, rank: int, size: int, store: Store | None = None) -> None:
        super().__init__(rank, size)
        self._has_left = False
        self._store = store
        atexit.register(self.leave)  # gloo aborts a process that ends while it is connected

    @property
    def is_connected(self) -> bool:
        return not self._has_left

    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        with self._hearing():
            table = torch.empty(self.size, len(own), dtype=torch.float64)
            dist.all_gather(list(table.unbind()), torch.tensor(own, dtype=torch.float64))
        return {rank: tuple(row) for rank, row in enumerate(table.tolist())}

    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        lengths = [int(n) for (n,) in self.gather_numbers(len(own)).values()]
        padded = torch.frombuffer(bytearray(own.ljust(max(1, *lengths), b"\0")), dtype=torch.uint8)
        with self._hearing():
            table = torch.empty(self.size, len(padded), dtype=torch.uint8)
            dist.all_gather(list(table.unbind()), padded)
        return {rank: table[rank, :n].numpy().tobytes() for rank, n in enumerate(lengths)}

    def begin_average(self, tensors: Sequence[Tensor]) -> Averaging:
        if not tensors:
            return Averaging()
        whole = _joined(tensors)
        with self._hearing():
            work = dist.all_reduce(whole, async_op=True)

        def wait() -> None:
            with self._hearing():
                work.wait()

        return Averaging(wait, lambda: _split(whole / self.size, tensors))

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        if tensors:
            whole = _joined(tensors)
            with self._hearing():
                dist.broadcast(whole, 0)
            _split(whole, tensors)

    def leave(self, why: str = "") -> None:
        if self._has_left:
            return
        self._has_left = True
        atexit.unregister(self.leave)
        self._tell(f"why/{self.rank}", why)
        with contextlib.suppress(RuntimeError, ValueError):
            dist.destroy_process_group()
        if why and self.is_first:
            self._tell("heard", "yes")
        elif why and self._store is not None and not self._wait_for("heard"):
            log.critical("process %d of %d: %s", self.rank, self.size, why)

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        me = f"process {self.rank} of the {self.size} that train together"
        if self._has_left:
            raise SolverError(f"{me} has left the others, after an error or because it was closed.")
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if reason := self._reason_of_others():
                rank, why = reason
                raise SolverError(f"process {rank} of {self.size}: {why}") from None
            raise TeamLostError(
                f"{me} can no longer reach the others.",
                advice="One of them has ended; its own log or error says why."
                f" ({first_line(error)})",
            ) from None

    def _tell(self, key: str, value: str) -> None:
        if self._store is not None and value:
            with contextlib.suppress(RuntimeError):
                self._store.set(key, value)

    def _wait_for(self, key: str) -> bool:
        """Whether a member writes this key within a few seconds."""
        assert self._store is not None
        with contextlib.suppress(RuntimeError):
            self._store.wait([key], timedelta(seconds=HEARD_S))
            return True
        return False

    def _reason_of_others(self) -> tuple[int, str] | None:
        """The first of the others that ended with an error, and the error."""
        if self._store is None:
            return None
        end_s = time.monotonic() + REASON_S
        with contextlib.suppress(RuntimeError):
            while time.monotonic() < end_s:
                for rank in range(self.size):
                    if rank != self.rank and self._store.check([f"why/{rank}"]):
                        return rank, self._store.get(f"why/{rank}").decode()
                time.sleep(0.1)
        return None


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of the tensors in one row, so that they travel as one message."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _split(row: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy a row of numbers back into the tensors that it was joined from."""
    parts = torch.split(row, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def new_uid() -> bytes:
    """A name under which processes of this machine find each other; make one and give it to all."""
    return os.fsencode(os.path.join(tempfile.gettempdir(), f"moka-{uuid.uuid4().hex}"))


def join_team(
    uid: bytes, rank: int, size: int, device: torch.device, *, patience_s: float = PATIENCE_S
) -> Team:
    """Meet the other processes that were given the same uid; returns when all have come.

    Args:
        uid: from `new_uid`, in one process, for all.
        rank: which of them this is, from 0.
        size: how many there are. One is `Alone`.
        device: where this process trains.
        patience_s: how long to wait for the others, now and later, in seconds.

    Raises:
        SolverError: a rank beyond the size, or processes that do not find each other.
    """
    if not 0 <= rank < size:
        raise SolverError(f"a process of rank {rank} cannot be one of {size}.")
    if size == 1:
        return Alone()
    file = os.fsdecode(uid)
    try:
        store = dist.FileStore(file, size)  # type: ignore[attr-defined]
        team = connect(store, rank, size, device, patience_s=patience_s)
    except (RuntimeError, ValueError, OSError) as error:
        raise SolverError(
            f"process {rank} of {size} could not join the others: {first_line(error)}"
        ) from None
    if team.is_first:
        with contextlib.suppress(OSError):
            os.unlink(file)
    return team


def connect(
    store: Store,
    rank: int,
    size: int,
    device: torch.device,
    *,
    patience_s: float,
    reasons: Store | None = None,
) -> Team:
    """Make the default group of `torch.distributed`; returns when all members have come.

    Args:
        store: where they meet.
        rank, size, device, patience_s: as for `join_team`.
        reasons: where a member leaves the error that ended it.

    Raises:
        RuntimeError, ValueError: they do not find each other.
    """
    if dist.is_initialized():  # of a run before this one
        dist.destroy_process_group()
    nccl = device.type == "cuda" and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if nccl else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=patience_s),
    )
    team = _Connected(rank, size, reasons)
    team.gather_numbers(rank)  # all have come
    return team
