"""Joining the processes that train one model, over `torch.distributed`."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from moka.errors import SolverError
from moka.parallel.team import Alone, Averaging, Team, TeamLostError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# How long others may take. It cannot be minutes: while the first process tests, or runs code of the
# user's between two steps, the others wait for it, and nothing tells that from a hanging process.
PATIENCE_S = 6 * 3600.0
NOTICE_S = 300.0  # how long a member waits until it says so; then twice as long, and so on
CONNECT_S = 300.0  # how long connecting may take once all have come; who ends then says nothing
# Seen with PyTorch 2.6 and not with 2.13; releases in between count as old. Gloo waits for messages
# as long as for connections (pytorch#167052). And the end of a group waits for gloo's threads while
# it holds Python's lock, which a thread needs that is the last to drop a tensor of Python's.
HAS_OLD_GLOO = torch.__version__ < "2.12"
POLL_S = 0.05  # how often a member looks who has come
HEARD_S = 5.0  # how long to wait until the first member has repeated an error
REASON_S = 0.5  # how long to look for the error of a member that has left


log = logging.getLogger("moka")
of_any = logging.getLogger("moka.team")  # shown by every process, not by the first alone


class _Connected(Team):
    """A member of the default group of `torch.distributed`.

    Numbers and messages travel as tensors on the CPU, over gloo; `average` and `copy_from_first`
    go where their tensors are, between GPUs over NCCL.

    Raises (all calls):
        SolverError: another member has left, ended or not answered in time.

    Args:
        notice_s: how long to wait for the others until a warning says so, in seconds.
        store: where members leave the error that ended them; None: nobody asks for it.
    """

    def __init__(self, rank: int, size: int, notice_s: float, store: Store | None = None) -> None:
        super().__init__(rank, size)
        self._notice_s = notice_s
        self._has_left = False
        self._store = store
        # Messages that one of gloo's two threads may still refer to.
        self._sent: deque[Sequence[Tensor]] = deque(maxlen=4 if HAS_OLD_GLOO else 0)
        atexit.register(self.leave)  # gloo aborts a process that ends while it is connected

    @property
    def is_connected(self) -> bool:
        return not self._has_left

    def gather_numbers(self, *own: float) -> dict[int, tuple[float, ...]]:
        table = self._gathered(torch.tensor(own, dtype=torch.float64))
        return {rank: tuple(row) for rank, row in enumerate(table.tolist())}

    def gather_messages(self, own: bytes) -> dict[int, bytes]:
        lengths = [int(n) for (n,) in self.gather_numbers(len(own)).values()]
        padded = torch.frombuffer(bytearray(own.ljust(max(1, *lengths), b"\0")), dtype=torch.uint8)
        table = self._gathered(padded)
        return {rank: table[rank, :n].numpy().tobytes() for rank, n in enumerate(lengths)}

    def gather_rows(self, own: Tensor) -> Tensor:
        return self._gathered(own.contiguous())

    def _gathered(self, own: Tensor) -> Tensor:
        """The rows of all members, as a table."""
        table = own.new_empty(self.size, len(own))
        rows = list(table.unbind())
        self._sent.append([own, *rows])
        with self._hearing():
            self._wait(dist.all_gather(rows, own, async_op=True), on_gpu=own.is_cuda)
        return table

    def begin_average(
        self,
        tensors: Sequence[Tensor],
        dtype: torch.dtype | None = None,
        row: Tensor | None = None,
    ) -> Averaging:
        if not tensors:
            return Averaging()
        whole = _joined(tensors, row).to(dtype or tensors[0].dtype)
        self._sent.append([whole])
        with self._hearing():
            work = dist.all_reduce(whole, async_op=True)

        def wait() -> None:
            with self._hearing():
                self._wait(work, on_gpu=whole.is_cuda)

        return Averaging(wait, lambda: _put_means(whole, self.size, tensors), whole)

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        if tensors:
            whole = _joined(tensors)
            self._sent.append([whole])
            with self._hearing():
                self._wait(dist.broadcast(whole, 0, async_op=True), on_gpu=whole.is_cuda)
            _split(whole, tensors)

    @contextmanager
    def calls_of_pytorch(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            is_of_group = isinstance(error, dist.DistError) or "gloo" in str(error)
            if not is_of_group:
                raise
            with self._hearing():
                raise

    def leave(self, why: str = "") -> None:
        if self._has_left:
            return
        self._has_left = True
        atexit.unregister(self.leave)
        self._tell(f"why/{self.rank}", why)
        with contextlib.suppress(RuntimeError, ValueError):
            dist.destroy_process_group()
        self._sent.clear()
        if why and self.is_first:
            self._tell("heard", "yes")
        elif why and self._store is not None and not self._wait_for("heard"):
            of_any.critical("process %d of %d: %s", self.rank, self.size, why)

    def _wait(self, call: Any, *, on_gpu: bool = False) -> None:
        """Wait for a call of `torch.distributed`, and warn when that takes long.

        A call between GPUs is only queued here; the next numbers over the CPU wait for it.
        """
        began = time.perf_counter()
        try:
            if on_gpu:
                call.wait()
            else:
                with self.waiting():
                    self._wait_patiently(call)
        finally:
            self.waited_s += time.perf_counter() - began

    def _wait_patiently(self, call: Any) -> None:
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
            if reason := self._reason_of_others():
                rank, why = reason
                raise SolverError(f"process {rank} of {self.size}: {why}") from None
            raise TeamLostError(
                f"{me} can no longer reach the others.",
                advice="One of them has ended, or hangs; its own log or error says why."
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


def _joined(tensors: Sequence[Tensor], row: Tensor | None = None) -> Tensor:
    """All numbers of the tensors in one row, so that they travel as one message.

    Args:
        row: memory to use if it is of their type.
    """
    if row is None or row.dtype != tensors[0].dtype:
        row = tensors[0].new_empty(sum(tensor.numel() for tensor in tensors))
    parts = torch.split(row, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        _laid_out(part, tensor).copy_(tensor.detach())
    return row


def _laid_out(part: Tensor, like: Tensor) -> Tensor:
    """Part of a row as a tensor whose numbers lie in the order of another's, row-major or
    channels-last, so that copying runs straight through the memory. All members have one order."""
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        return part.as_strided(like.shape, like.stride(), part.storage_offset())
    return part.view(like.shape)


def _split(row: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy a row of numbers back into the tensors that it was joined from."""
    parts = torch.split(row, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.detach().copy_(_laid_out(part, tensor))


def _put_means(sums: Tensor, count: int, tensors: Sequence[Tensor]) -> None:
    """Divide a row of sums into the tensors that it was joined from; reads and writes each number
    once."""
    parts = torch.split(sums.to(tensors[0].dtype), [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        torch.div(_laid_out(part, tensor), count, out=tensor.detach())


def first_line(error: Exception) -> str:
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
        notice_s: how long to wait until a warning says so, and who has not come, in seconds.

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
        _attend(store, rank, size, patience_s, notice_s)
        team = connect(
            store,
            rank,
            size,
            device,
            connect_s=min(patience_s, CONNECT_S),
            patience_s=patience_s,
            notice_s=notice_s,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise SolverError(
            f"process {rank} of {size} could not join the others: {first_line(error)}"
        ) from None
    if team.is_first:
        with contextlib.suppress(OSError):
            os.unlink(file)
    return team


def _attend(store: Store, rank: int, size: int, patience_s: float, notice_s: float) -> None:
    """Wait until all members have come; a warning says whom this one waits for.

    Raises:
        RuntimeError: some have not come in time.
    """
    store.set(f"came/{rank}", "yes")
    began, told_after = time.monotonic(), notice_s
    missing = list(range(size))
    while missing := [other for other in missing if not store.check([f"came/{other}"])]:
        waited, who = time.monotonic() - began, ", ".join(map(str, missing))
        if waited > patience_s:
            raise RuntimeError(f"within {patience_s:g} s these have not come: {who}")
        if waited > told_after:
            log.warning(
                "Process %d of %d has waited %g s for others, which have not come: %s.",
                rank,
                size,
                told_after,
                who,
            )
            told_after *= 2
        time.sleep(POLL_S)


def connect(
    store: Store,
    rank: int,
    size: int,
    device: torch.device,
    *,
    connect_s: float,
    patience_s: float,
    notice_s: float = NOTICE_S,
    reasons: Store | None = None,
) -> Team:
    """Make the default group of `torch.distributed`; all members call this at about one time.

    Args:
        store: where they meet.
        rank, size, device, patience_s, notice_s: as for `join_team`.
        connect_s: how long connecting may take, in seconds.
        reasons: where a member leaves the error that ended it.

    Raises:
        RuntimeError: they do not find each other.
    """
    if dist.is_initialized():  # of a run before this one
        dist.destroy_process_group()
    nccl = device.type == "cuda" and dist.is_nccl_available()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=patience_s if HAS_OLD_GLOO else connect_s),
        )
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"one of them came and does not answer ({first_line(error)})") from None
    # Its public name is of PyTorch 2.14, which deprecates the other one.
    set_timeout = getattr(dist, "set_timeout", None) or distributed_c10d._set_pg_timeout
    set_timeout(timedelta(seconds=patience_s))
    team = _Connected(rank, size, notice_s, reasons)
    team.gather_numbers(rank)  # all have come
    return team
