from __future__ import annotations

import socket

import pytest
import torch

from moka.errors import SolverError
from moka.parallel.launched import Launched

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
