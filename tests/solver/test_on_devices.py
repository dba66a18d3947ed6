from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training_runs import database, iterations, solver_message

import moka
from moka.errors import UsageError
from moka.report.records import Record
from moka.schema import format_text
from moka.solver.on_devices import as_devices

__all__ = ["database"]

PROGRAM = """
import moka
if __name__ == "__main__":
    heard = []
    solver = moka.train("solver.prototxt", devices=["cpu", "cpu"], listeners=[heard.append])
    kinds = [type(record).__name__ for record in heard]
    print(kinds[0], [r.loss for r in heard if hasattr(r, "rate")], kinds[-1], sep=";")
    print(solver.iteration, [w.tolist() for w in solver.net.parameters()])
"""
WRONG_PROGRAM = """
import moka
if __name__ == "__main__":
    text = open("solver.prototxt").read().replace('"db"', '"nowhere"')
    open("wrong.prototxt", "w").write(text)
    try:
        moka.train("wrong.prototxt", devices=["cpu", "cpu"])
    except moka.MokaError as error:
        print(error)
    def fail(record):
        raise ZeroDivisionError(type(record).__name__)
    try:
        moka.train("solver.prototxt", devices=["cpu", "cpu"], listeners=[fail])
    except ZeroDivisionError as error:
        print(error)
"""


def run_as_program(text: str) -> list[str]:
    """The lines that a program prints, which trains in processes of its own."""
    Path("program.py").write_text(text)
    variables = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "program.py"], capture_output=True, text=True, env=variables, timeout=200
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_a_program_gets_the_trained_solver(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = solver_message("max_iter: 4 momentum: 0.9", "plain")
    Path("solver.prototxt").write_text(format_text(message))
    heard, trained = run_as_program(PROGRAM)
    # Two batches of 4 an iteration are one of 8, in the same order.
    message.net_param.layer[0].data_param.batch_size = 8
    records: list[Record] = []
    alone = moka.train(message, listeners=[records.append])
    losses = [record.loss for record in iterations(records)]
    first, of_iterations, last = heard.split(";")
    assert (first, last) == ("SolvingStarted", "SolvingCompleted")
    assert eval(of_iterations) == pytest.approx(losses, rel=1e-5)
    assert len(losses) == 4
    iteration, _, numbers = trained.partition(" ")
    assert int(iteration) == alone.iteration == 4
    for row, weight in zip(eval(numbers), alone.net.parameters(), strict=True):
        torch.testing.assert_close(torch.tensor(row), weight.detach())
    assert sorted(os.listdir()) == ["db", "program.py", "solver.prototxt"]


@pytest.mark.slow
@pytest.mark.usefixtures("database")
def test_a_program_is_told_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = solver_message("max_iter: 4 momentum: 0.9", "plain")
    Path("solver.prototxt").write_text(format_text(message))
    no_database, failed = run_as_program(WRONG_PROGRAM)
    assert 'layer "data" (Data): No such file or directory.' in no_database
    assert failed == "SolvingStarted"


def test_devices_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.cuda.device_count()
    with pytest.raises(UsageError, match=f"there is no GPU {count}: {count} found."):
        as_devices(["cpu", count])
    for given in (-1, "gpu", 1.5):
        with pytest.raises(UsageError, match=f"devices are numbers of GPUs .* found {given!r}"):
            as_devices(["cpu", given])  # type: ignore[list-item]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gpus: list[tuple[int | str, int]] = [(1, 1), ("cuda", 0), ("cuda:1", 1)]
    for twice in gpus:
        with pytest.raises(UsageError, match="is named twice"):
            as_devices(twice)
    for devices in (["cpu"], ["cpu", "cpu"]):
        with pytest.raises(UsageError, match="give either device or devices, not both"):
            moka.train(solver_message(""), devices=devices, device=torch.device("cpu"))
    solver = moka.train(solver_message("max_iter: 1"), devices=["cpu"])
    assert solver.iteration == 1
