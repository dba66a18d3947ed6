"""What several processes that train one model decide together.

Each computes the gradients of its own share of the data. Whatever all of them must do alike (skip a
step, lower the rate, stop, save) they decide from numbers that a `Team` hands round. `Alone` is the
team of a process that asks nobody; `join_team` connects processes over `torch.distributed`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from moka.errors import SolverError

TEAM_LOST = 76  # the exit code that asks a launcher to start all processes again
REQUEUE = 75  # (EX_TEMPFAIL) of a run that has saved its state and should be resumed


class TeamLostError(SolverError):
    """Other processes cannot be reached any more, and none of them has said why."""

    exit_code = TEAM_LOST


class Averaging:
    """Tensors whose mean over all members is under way.

    Args:
        wait: waits until it has come.
        put: puts it in the place of the tensors.
        row: the memory in which it travels, if there is any.

    Attributes:
        wait, row: as given.
    """

    def __init__(
        self,
        wait: Callable[[], None] = lambda: None,
        put: Callable[[], None] = lambda: None,
        row: Tensor | None = None,
    ) -> None:
        self.wait = wait
        self.row = row
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

    Attributes:
        is_waiting: whether this member waits for others, and has nothing else to do.
        calls: how often it has waited.
        waited_s: how long it has waited so far, in seconds.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.is_waiting = False
        self.calls = 0
        self.waited_s = 0.0

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
    def gather_rows(self, own: Tensor) -> Tensor:
        """A table with the row of numbers of every member that can be heard, where the rows are.

        Args:
            own: (K,); all give equally many, of one type.
        """

    @abstractmethod
    def begin_average(
        self,
        tensors: Sequence[Tensor],
        dtype: torch.dtype | None = None,
        row: Tensor | None = None,
    ) -> Averaging:
        """Start to average tensors over all members; they may have none.

        Args:
            dtype: of the numbers that travel and are added up; None: the tensors' own.
            row: of an averaging of the same tensors that is over: memory to use again, since new
                memory costs ten times as much as writing to it.
        """

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all members."""
        self.begin_average(tensors).finish()

    @abstractmethod
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the first member's."""

    @contextmanager
    def calls_of_pytorch(self) -> Iterator[None]:
        """Around code in which PyTorch talks to other members by itself: an error that means that
        they cannot be reached becomes a TeamLostError."""
        yield

    @abstractmethod
    def leave(self, why: str = "") -> None:
        """End this membership; members that wait for this one get a SolverError.

        Args:
            why: the error that ends this member's work; the others' error repeats it.
        """

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """In the block, this member waits for others."""
        self.calls += 1
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False

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

    def gather_rows(self, own: Tensor) -> Tensor:
        return own[None]

    def begin_average(
        self,
        tensors: Sequence[Tensor],
        dtype: torch.dtype | None = None,
        row: Tensor | None = None,
    ) -> Averaging:
        return Averaging()

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        pass

    def leave(self, why: str = "") -> None:
        pass
