"""When a solver logs its passes layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.training_runs import NETS, weights

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def debug_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """First words of the lines that debug_info asks for, and the summaries."""
    messages = [r.getMessage().strip() for r in caplog.records]
    kinds = [m.split("]")[0].strip("[") + ("!" if "All net" in m else "") for m in messages
             if m.startswith(("[Forward]", "[Backward]"))]  # fmt: skip
    return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]


PASS = ["Forward", "Backward", "Backward!"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("max_iter: 3 display: 1", [*PASS * 3, "Forward"]),
        ("max_iter: 4 display: 2", PASS * 2),  # iteration 3 turned it off for the last loss
        ("max_iter: 2 display: 1 iter_size: 2", [*PASS * 4, "Forward"]),
        ("max_iter: 2", []),
        # A test net logs each pass, displayed or not.
        ("max_iter: 2 test_iter: 2 test_interval: 1", ["Forward"]),
        (
            "max_iter: 2 test_iter: 1 test_interval: 1 display: 2",
            [*PASS, "Forward"],
        ),
    ],
)
def test_debug_info(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture, text: str, wanted: list[str]
) -> None:
    caplog.set_level("INFO", "moka")
    make_solver(f"debug_info: true {text}").solve()
    assert debug_lines(caplog) == wanted
    caplog.clear()
    make_solver(text).solve()
    assert debug_lines(caplog) == []


def test_the_solver_overrules_the_debug_info_of_its_nets(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "moka")
    monkeypatch.setitem(NETS, "debug", "debug_info: true" + NETS["linear"])
    make_solver("max_iter: 2 display: 1 test_iter: 1 test_interval: 1", net="debug").solve()
    assert debug_lines(caplog) == []


def test_debug_info_changes_no_number(make_solver: SolverMaker, database: str) -> None:
    runs = []
    for debug_info in ("false", "true"):
        solver = make_solver(f"debug_info: {debug_info} display: 1 momentum: 0.9", net="random")
        solver.step(5)
        runs.append(weights(solver))
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # float32, another order
