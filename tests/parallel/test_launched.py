from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time

import pytest
import torch
import torch.distributed as dist
from tests.processes import run_together

from moka.errors import SolverError
from moka.parallel.launched import Launched
from moka.parallel.libuv import has_libuv

CPU = torch.device("cpu")
VARIABLES = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}


def test_a_launcher_tells_a_process_its_place() -> None:
    assert Launched.from_environment(VARIABLES) == Launched(3, 4, 1, 2, "127.0.0.1", 29500, True)


def test_the_only_process_may_be_started_again() -> None:
    """A machine has left; another may come."""
    only = Launched.from_environment(
        {**VARIABLES, "RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "run"}
    )
    assert only is not None
    assert (only.rank, only.size) == (0, 1)


@pytest.mark.parametrize("variables", [{}, {"RANK": "0", "WORLD_SIZE": "1"}, {"WORLD_SIZE": "4"}])
def test_a_process_without_others(variables: dict[str, str]) -> None:
    assert Launched.from_environment(variables) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"MASTER_ADDR": None}, "RANK and WORLD_SIZE are set, but MASTER_ADDR is not"),
        ({"RANK": "first"}, "an environment variable of the launcher is no number: .*'first'"),
    ],
)
def test_an_environment_that_is_half_set(changes: dict[str, str | None], says: str) -> None:
    found = {**VARIABLES, **changes}
    with pytest.raises(SolverError, match=says):
        Launched.from_environment({k: v for k, v in found.items() if v is not None})


def test_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        first = Launched(0, 2, 0, 0, "127.0.0.1", port, launcher_hosts_store=False)
        says = f"another program listens at 127.0.0.1:{port}: give another MASTER_PORT."
        with pytest.raises(SolverError, match=says), first.joined(CPU, 1):
            pass


def test_others_that_do_not_come() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = Launched(0, 2, 0, 0, "127.0.0.1", port, launcher_hosts_store=False)
    says = f"process 0 of 2 could not join the others at 127.0.0.1:{port} within 1 s: "
    with pytest.raises(SolverError, match=says), first.joined(CPU, 1):
        pass


def test_whoever_cannot_reach_the_first_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else would; and its thread has ended, so that Python can."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    second = Launched(1, 2, 1, 0, "127.0.0.1", port, launcher_hosts_store=False)
    says = (
        f"process 1 of 2 could not join the others at 127.0.0.1:{port} within 1 s: nothing"
        " answers there"
    )
    with pytest.raises(SolverError, match=says), second.joined(CPU, 1):
        pass
    assert [(r.name, r.getMessage()) for r in caplog.records] == [("moka.team", says)]
    assert "join" not in {thread.name for thread in threading.enumerate()}


def test_another_program_answers_in_the_place_of_the_first() -> None:
    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with contextlib.suppress(OSError):
                while self.request.recv(100):
                    pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        second = Launched(1, 2, 1, 0, "127.0.0.1", port, launcher_hosts_store=False)
        says = f"could not join the others at 127.0.0.1:{port} within 5 s: another program answers"
        with pytest.raises(SolverError, match=says), second.joined(CPU, 5):
            pass
        server.shutdown()


def test_of_others_that_do_not_come_the_first_alone_tells(
    store: dist.TCPStore,  # type: ignore[name-defined]
    caplog: pytest.LogCaptureFixture,
) -> None:
    second = Launched(1, 3, 1, 0, "127.0.0.1", store.port, launcher_hosts_store=True)
    first = threading.Thread(target=lead, args=(store,), daemon=True)
    first.start()
    with pytest.raises(SolverError, match="could not join"), second.joined(CPU, 1):
        pass
    assert not caplog.records
    first.join()


def lead(store: dist.TCPStore) -> None:  # type: ignore[name-defined]
    """Answer process 1 as the first process does, which waits for a third one."""
    asked = store.get("moka/asks/3/1").decode()
    store.set(f"moka/life/{asked}", "moka/a life")


@pytest.fixture
def store() -> dist.TCPStore:  # type: ignore[name-defined]
    """The store that a launcher hosts, which outlives its processes."""
    return dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=has_libuv()
    )


def meet(
    rank: int, count: int, _: bytes, port: int, restarts: list[int]
) -> tuple[dict[int, tuple[float, ...]], dict[str, int] | None]:
    place = Launched(rank, count, rank, restarts[rank], "127.0.0.1", port, True)
    with place.joined(CPU, 20) as (team, run):
        remembered = run.remembered()
        told = team.gather_numbers(rank)
        if team.is_first:
            run.remember({"before": restarts[0]})
    return told, remembered


def test_processes_meet_whose_launchers_count_restarts_differently(
    store: dist.TCPStore,  # type: ignore[name-defined]
) -> None:
    """One launcher saw its process end, the other that it has to start again: torchrun's count
    themselves, and not all. What is in the store of a former life is no answer."""
    for rank in (1, 2):
        store.set(f"moka/asks/3/{rank}", "of a former life")
    everybody = {0: (0.0,), 1: (1.0,), 2: (2.0,)}
    lives = ([0, 0, 0], None), ([1, 0, 1], {"before": 0}), ([1, 0, 2], {"before": 1})
    for restarts, kept in lives:
        ended = run_together(meet, store.port, restarts, uid=b"", count=3)
        assert ended == [(everybody, kept)] * 3


def test_one_process_alone_remembers_for_those_that_come(
    store: dist.TCPStore,  # type: ignore[name-defined]
) -> None:
    alone = meet(0, 1, b"", store.port, [0])
    assert alone == ({0: (0,)}, None)
    joined = run_together(meet, store.port, [0, 0], uid=b"", count=2)
    assert joined == [({0: (0.0,), 1: (1.0,)}, {"before": 0})] * 2


def leave_late(rank: int, count: int, _: bytes, port: int) -> bool:
    """Whether the first process still worked when this one was ready."""
    place = Launched(rank, count, rank, 0, "127.0.0.1", port, True)
    with place.joined(CPU, 20) as (team, _run):
        store = dist.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", port, is_master=False, use_libuv=has_libuv()
        )
        team.gather_numbers(rank)
        if team.is_first:
            store.wait(["ready"])
            time.sleep(0.5)
            store.set("tested", "yes")
        store.set("ready", "yes")
    return bool(store.check(["tested"]))


def test_nobody_goes_while_the_first_process_works_alone(
    store: dist.TCPStore,  # type: ignore[name-defined]
) -> None:
    """Whoever has gone cannot notice that it hangs."""
    assert run_together(leave_late, store.port, uid=b"") == [True, True]
