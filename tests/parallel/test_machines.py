"""Runs on two machines, started by torchrun: each is a network namespace, or else an address of
this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.jobs import (
    HEARD_S,
    PATIENCE_S,
    SOLVER,
    Job,
    final_files,
    forget_snapshots,
    job,
    run_folder,
    train,
)
from tests.launches import free_port
from tests.training_runs import database

__all__ = ["database", "run_folder"]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


class Machine:
    """One of two machines, on loopback.

    Attributes:
        address: of its network device.
        within: words before a command that is to run there.
    """

    def __init__(self, number: int) -> None:
        self.address = f"127.0.0.{number}"
        self.within: tuple[str, ...] = ()


class Namespace(Machine):
    """One of two machines, with a network device and a host's name of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.address = f"10.77.0.{number}"
        self.name = f"moka{os.getpid()}-{number}"
        self.device = f"mk{os.getpid()}-{number}"
        self.within = (
            *("ip", "netns", "exec", self.name, "env", f"GLOO_SOCKET_IFNAME={self.device}"),
            *("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name),
        )

    def ip(self, *words: str) -> None:
        ip("-n", self.name, *words)

    def lose(self, other: Namespace) -> None:
        """Send what is for another machine to a card that does not exist."""
        card = ("lladdr", "02:00:00:00:00:99", "dev", self.device, "nud", "permanent")
        self.ip("neighbor", "replace", other.address, *card)

    def find(self, other: Namespace) -> None:
        self.ip("neighbor", "del", other.address, "dev", self.device)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Two machines, connected by a cable.

    Raises:
        OSError, subprocess.CalledProcessError: this user, or this system, cannot make any.
    """
    first, second = both = Namespace(1), Namespace(2)
    with ExitStack() as made:
        for machine in both:
            ip("netns", "add", machine.name)
            made.callback(ip, "netns", "del", machine.name)
        ends = ("type", "veth", "peer", "name", second.device, "netns", second.name)
        ip("link", "add", first.device, "netns", first.name, *ends)
        for machine in both:
            machine.ip("address", "add", f"{machine.address}/24", "dev", machine.device)
            for device in ("lo", machine.device):
                machine.ip("link", "set", device, "up")
            subprocess.run([*machine.within, "true"], check=True, capture_output=True)
        yield both


@pytest.fixture
def two_namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    if not shutil.which("ip"):
        pytest.skip("there is no program ip here (iproute2)")
    with ExitStack() as made:
        try:
            both = made.enter_context(namespaces())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces can be made here: {error}")
        yield both


@pytest.fixture
def two_machines(request: pytest.FixtureRequest) -> tuple[Machine, Machine]:
    """Two namespaces, or two addresses of the loopback device where there are none."""
    try:
        both: tuple[Machine, Machine] = request.getfixturevalue("two_namespaces")
    except pytest.skip.Exception:
        both = Machine(1), Machine(2)
    return both


@contextmanager
def torchrun(
    machines: tuple[Machine, Machine], *more: str, nnodes: str = "2"
) -> Iterator[Iterator[Job]]:
    """Start a launcher on each machine, with one process each, as the result is asked for them."""
    address = f"{machines[0].address}:{free_port()}"
    meeting = f"read_timeout={PATIENCE_S:g},last_call_timeout=1"
    with ExitStack() as running:

        def start() -> Iterator[Job]:
            for number, machine in enumerate(machines):
                flags = (
                    f"--nnodes={nnodes}",
                    "--nproc-per-node=1",
                    "--max-restarts=3",
                    "--rdzv-backend=c10d",
                    f"--rdzv-endpoint={address}",
                    f"--rdzv-conf=is_host={not number},{meeting}",
                    "--rdzv-id=two",
                    f"--local-addr={machine.address}",
                    *(
                        "-m",
                        "moka",
                        "train",
                        "--solver=solver.prototxt",
                        f"--patience={HEARD_S}",
                        *more,
                    ),
                )
                yield running.enter_context(
                    job(
                        "torch.distributed.run",
                        *flags,
                        log=f"log_{number}",
                        within=machine.within,
                    )
                )

        yield start()


def undisturbed(iterations: int) -> list[bytes]:
    """The last files of such a run of two processes of one machine."""
    Path("solver.prototxt").write_text(SOLVER.format(iterations=iterations))
    with job(*train()) as ours:
        assert ours.end() == 0, ours.log
    wanted = final_files(iterations)
    forget_snapshots()
    return wanted


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_two_machines_train_one_model(two_machines: tuple[Machine, Machine]) -> None:
    """The process of the second is killed: both start again."""
    wanted = undisturbed(400)
    with torchrun(two_machines) as start:
        first, second = start
        first.wait_for("Snapshotting solver state", 2)
        os.kill(second.workers()[0], signal.SIGKILL)
        first.wait_for("Resuming from snap_iter_")
        assert first.end() == 0, first.log
        assert second.end() == 0, second.log
    assert "Optimization Done." in first.log
    assert not [line for line in second.log.splitlines() if "solver.py" in line]
    assert final_files(400) == wanted


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_machines_that_cannot_hear_each_other_start_again(
    two_namespaces: tuple[Namespace, Namespace],
) -> None:
    wanted = undisturbed(400)
    one, two = two_namespaces
    with torchrun(two_namespaces) as start:
        first, second = start
        first.wait_for("Snapshotting solver state", 2)
        one.lose(two)
        two.lose(one)
        first.wait_for(r"Process 1 of 2 \(number \d+ on \S+\) has given no sign of life for 10 s\.")
        second.wait_for(r"Process 1 of 2 \(number \d+\) can no longer reach the others: ")
        one.find(two)
        two.find(one)
        assert first.end() == 0, first.log
        assert second.end() == 0, second.log
    assert "Resuming from snap_iter_" in first.log
    assert final_files(400) == wanted


@pytest.mark.slow
@pytest.mark.usefixtures("run_folder")
def test_a_machine_that_comes_later_is_taken_in() -> None:
    """One process saves, and two go on; either launcher may have the first of them."""
    Path("solver.prototxt").write_text(SOLVER.format(iterations=1000000))
    here = Machine(1)
    here.within = ("env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1")  # PyTorch 2.13 waits for ever
    with torchrun((here, here), "--snapshot=auto", nnodes="1:2") as start:
        alone = next(start)
        alone.wait_for("Snapshotting solver state")
        both = (alone, next(start))
        wait_for_any(both, r"This state is of a run of 1, not 2, processes")
        (stopped,) = re.findall(r"Stopped at iteration (\d+)\. To go on", alone.log)
        wait_for_any(both, f"Resuming from snap_iter_{stopped}.solverstate")
        wait_for_any(both, rf"Iteration (?!{stopped})\d+, lr = ")


def wait_for_any(jobs: Sequence[Job], pattern: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not any(re.search(pattern, each.log) for each in jobs):
        assert time.monotonic() < end, [each.log for each in jobs]
        time.sleep(0.05)
