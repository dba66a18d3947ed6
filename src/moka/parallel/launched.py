"""A process that a launcher has started as one of several: torchrun, or `moka.parallel.launch`.

Both tell a process its place by environment variables (RANK, WORLD_SIZE, MASTER_ADDR ...), as
PyTorch documents them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from moka.errors import SolverError
from moka.parallel.join import PATIENCE_S, connect, first_line
from moka.parallel.libuv import has_libuv
from moka.parallel.signs import SignsOfLife
from moka.parallel.team import Alone, Team, TeamLostError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

of_any = logging.getLogger("moka.team")  # shown by every process, not by the first alone

PARTING_S = 10.0  # how long the host of the store waits for the others to end
LATE_S = 5.0  # how much later than asked PyTorch may say that a store does not answer
POLL_S = 0.02  # how often the first process looks who has come


@dataclass(frozen=True)
class Launched:
    """The place of a process among those that were started together.

    Attributes:
        rank, size: which one it is of how many.
        local_rank: which one of this machine.
        restart: how often the launcher has started all of them again.
        address, port: where they meet.
        launcher_hosts_store: whether the launcher listens there; else the first process does.
    """

    rank: int
    size: int
    local_rank: int
    restart: int
    address: str
    port: int
    launcher_hosts_store: bool

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Launched | None:
        """The place that a launcher has given this process; None without one, or if it is the only
        process and nobody would start it again.

        Raises:
            SolverError: variables are missing or no numbers.
        """
        is_only = variables.get("WORLD_SIZE", "1") == "1"
        if "RANK" not in variables or (is_only and "TORCHELASTIC_RUN_ID" not in variables):
            return None
        try:
            rank = int(variables["RANK"])
            return cls(
                rank=rank,
                size=int(variables["WORLD_SIZE"]),
                local_rank=int(variables.get("LOCAL_RANK", rank)),
                restart=int(variables.get("TORCHELASTIC_RESTART_COUNT", 0)),
                address=variables["MASTER_ADDR"],
                port=int(variables["MASTER_PORT"]),
                launcher_hosts_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            )
        except KeyError as error:
            raise SolverError(
                f"RANK and WORLD_SIZE are set, but {error.args[0]} is not.",
                advice="Start the processes with torchrun, or unset RANK and WORLD_SIZE.",
            ) from None
        except ValueError as error:
            raise SolverError(
                f"an environment variable of the launcher is no number: {error}."
            ) from None

    @contextmanager
    def joined(self, device: torch.device, patience_s: float) -> Iterator[tuple[Team, Run]]:
        """Meet the other processes; they hear of an error that ends the block.

        Args:
            device: where this process works.
            patience_s: how long to wait for the others to come, and for a sign of life of one.

        Raises:
            SolverError: they do not come, or the place where they meet cannot be reached.
        """
        wait = timedelta(seconds=patience_s)
        hears_first = not self.rank
        try:
            shared = _within(patience_s + LATE_S, lambda: self._store(wait))
            name = self._name_of_life(shared)
            hears_first = True
            self._meet(shared, name, patience_s)
            life = dist.PrefixStore(name, shared)  # type: ignore[attr-defined]
            team = self._team(life, device, patience_s)
            signs = dist.PrefixStore(  # type: ignore[attr-defined]
                name, self._store(wait, again=True)
            )
        except (RuntimeError, ValueError) as error:
            why = self._why_not_joined(error, patience_s)
            if not hears_first:  # which else tells it
                of_any.critical("%s", why)
            raise SolverError(why) from None
        try:
            with SignsOfLife(signs, team, patience_s=patience_s):
                with team.leaving_on_error():
                    yield team, Run(shared, self.restart)
                team.leave()
        except TeamLostError:
            raise
        except BaseException:
            self._part(life)
            raise
        self._part(life)

    def _team(self, life: Store, device: torch.device, connect_s: float) -> Team:
        if self.size == 1:
            return Alone()
        group = dist.PrefixStore("group", life)  # type: ignore[attr-defined]
        return connect(
            group,
            self.rank,
            self.size,
            device,
            connect_s=connect_s,
            patience_s=PATIENCE_S,
            reasons=life,
        )

    def _name_of_life(self, store: Store) -> str:
        """The name of the life that all processes begin together: the first makes it, and tells it
        to each of the others that asks.

        The store outlives processes that are started again, and what is in it may be of a former
        life: launchers count restarts each for itself, and do not count them all. So each life has
        a new name, and each question too.

        Raises:
            RuntimeError: the first has not come in time.
        """
        own = uuid.uuid4().hex
        if not self.rank:
            return f"moka/{own}"
        store.set(f"moka/asks/{self.size}/{self.rank}", own)
        return store.get(f"moka/life/{own}").decode()  # waits for it

    def _meet(self, store: Store, name: str, patience_s: float) -> None:
        """Wait until all have come to this life.

        Raises:
            RuntimeError: some have not come in time.
        """
        if self.rank:
            store.set(f"{name}/came/{self.rank}", "yes")
            store.wait([f"{name}/all"], timedelta(seconds=patience_s))
            return
        missing = list(range(1, self.size))
        end_s = time.monotonic() + patience_s
        while missing:
            if time.monotonic() > end_s:
                raise RuntimeError(f"process {missing[0]} has not come")
            for rank in missing:
                if store.check([asks := f"moka/asks/{self.size}/{rank}"]):
                    store.set(f"moka/life/{store.get(asks).decode()}", name)
            time.sleep(POLL_S)
            missing = [rank for rank in missing if not store.check([f"{name}/came/{rank}"])]
        store.set(f"{name}/all", "yes")

    def _part(self, life: Store) -> None:
        """Need the store no longer; the process that hosts it waits until nobody does."""
        with contextlib.suppress(RuntimeError):
            if self.rank:
                life.set(f"left/{self.rank}", "yes")
            elif not self.launcher_hosts_store:
                others = [f"left/{rank}" for rank in range(1, self.size)]
                life.wait(others, timedelta(seconds=PARTING_S))

    def _store(self, wait: timedelta, *, again: bool = False) -> Store:
        hosts = self.rank == 0 and not self.launcher_hosts_store and not again
        store = dist.TCPStore(  # type: ignore[attr-defined]
            self.address,
            self.port,
            self.size,
            is_master=hosts,
            timeout=wait / 2,  # of the first of two tries to connect
            wait_for_workers=False,
            multi_tenant=True,
            use_libuv=has_libuv(),
        )
        store.set_timeout(wait)
        return store

    def _why_not_joined(self, error: Exception, patience_s: float) -> str:
        where, said = f"{self.address}:{self.port}", first_line(error)
        if "client socket has timed out" in said:
            said = "nothing answers there"
        if "Ping failed" in said:
            said = "another program answers there"
        if "EADDRINUSE" in said or "in use" in said:
            return f"another program listens at {where}: give another MASTER_PORT."
        return (
            f"process {self.rank} of {self.size} could not join the others at {where} within"
            f" {patience_s:g} s: {said}"
        )


def _within(seconds: float, make: Callable[[], Store]) -> Store:
    """What is made, in a thread: PyTorch waits for ever if another program accepts its connection
    and does not answer.

    Raises:
        RuntimeError, ValueError: it cannot be made, or not in time.
    """
    made: list[Store] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            made.append(make())
        except (RuntimeError, ValueError) as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="join", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not made:
        raise RuntimeError("what listens there does not answer")
    return made[0]


class Run:
    """What a run keeps while its processes are started again.

    Args:
        store: of all its processes.
        restart: how often they have been started again.
    """

    _KEY = "moka/files_before"

    def __init__(self, store: Store, restart: int) -> None:
        self._store = store
        self.restart = restart

    def remember(self, files: Mapping[str, int]) -> None:
        """Note the snapshots of other runs, by name, with the time when they were written."""
        with contextlib.suppress(RuntimeError):
            self._store.set(self._KEY, json.dumps(dict(files)))

    def remembered(self) -> dict[str, int] | None:
        """The files of `remember`; None if it was not called, or the store has been lost."""
        with contextlib.suppress(RuntimeError):
            if self._store.check([self._KEY]):
                return dict(json.loads(self._store.get(self._KEY)))
        return None
