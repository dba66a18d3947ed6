"""A training process that is killed again and again loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.processes import PRELOAD

from moka.cli.main import main
from moka.schema import format_text
from moka.solver.snapshots.names import snapshots
from moka.solver.snapshots.state_file import read_state
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker

LIVES = 50
LONGEST_S = 0.4  # of a life, from the start of its process
PATIENCE_S = 60.0

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def live(server: multiprocessing.context.ForkServerContext, argv: list[str], for_s: float) -> int:
    """Run the program in a process of its own and kill it after a while; its exit code."""
    process = server.Process(target=main, args=(argv,))
    process.start()
    process.join(for_s)
    if process.is_alive():
        process.kill()
    process.join(PATIENCE_S)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_killed_at_random_moments(make_solver: SolverMaker, database: str, kind: str) -> None:
    text = (
        f"momentum: 0.9 weight_decay: 0.01 average_loss: 4 snapshot_format: {kind}"
        " snapshot: 2 snapshot_keep: 3 max_iter: 1000000 random_seed: 5"
    )
    first = make_solver(text, net="random")
    Path("solver.prototxt").write_text(format_text(first.config))
    first.close()

    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    argv = ["train", "--solver=solver.prototxt", "--snapshot=auto", "--minloglevel=3"]
    moments = random.Random(17)
    reached = 0
    longer = 1.0
    while not snapshots("snap"):  # once in its life it has to come that far
        assert live(server, argv, longer) == -signal.SIGKILL
        longer *= 2  # on a busy machine
    longest, lives = LONGEST_S, 0
    while lives < LIVES // 2 or reached <= 2:  # half of them for each of the two kinds
        lives += 1
        longest *= 1 if lives <= LIVES // 2 else 1.5  # on a busy machine
        assert live(server, argv, moments.uniform(0, longest)) == -signal.SIGKILL
        last = first.newest_snapshot()
        assert last is not None
        assert last == snapshots("snap")[-1][2]  # none is damaged
        iteration = read_state(last).iter
        assert iteration >= reached
        reached = iteration
        model = snapshots("snap")[-1][1]
        assert os.path.getsize(model) > 0

    kept = {name: Path(name).read_bytes() for name in snapshots("snap")[-1][1:]}
    for name in os.listdir():
        if name.startswith("snap"):
            os.unlink(name)
    straight: Solver = make_solver(text.replace("snapshot: 2", "snapshot: 0"), net="random")
    straight.step(reached)
    files = straight.snapshot()
    assert set(files) == set(kept)
    assert {name: Path(name).read_bytes() for name in files} == kept
