"""What a run goes on from: one process, and processes that see other files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from moka.errors import SolverError
from moka.parallel.launched import Run
from moka.solver.resume import state_to_resume


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Member:
    """What a solver shows of itself; its snapshots are `prefix`_iter_N.solverstate."""

    def __init__(self, prefix: str = "snap", team: Any = None) -> None:
        self.prefix = prefix
        self.team = team or SimpleNamespace(is_connected=False)

    def newest_snapshot(self, passing_over: Any = ()) -> str | None:
        files = sorted(str(path) for path in Path().glob(f"{self.prefix}_iter_*.solverstate"))
        return max((file for file in files if file not in passing_over), default=None)


def snapshot(prefix: str, iteration: int, content: str = "state") -> str:
    file = f"{prefix}_iter_{iteration}.solverstate"
    Path(file).write_text(content)
    Path(f"{prefix}_iter_{iteration}.caffemodel").write_text("")
    return file


def resumed(member: Any, given: str, run: Run | None = None) -> str | None:
    return state_to_resume(member, given, run)


def test_one_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert resumed(Member(), "") is None
    assert resumed(Member(), "given.solverstate") == "given.solverstate"
    assert resumed(Member(), "auto") is None
    assert caplog.messages == ["Found no snapshot under snap: starting afresh"]
    newest = snapshot("snap", 3)
    assert resumed(Member(), "auto") == newest
    assert caplog.messages[1] == f"Found {newest}"
    assert resumed(Member(), "") is None


def test_a_run_whose_processes_start_again_goes_on_from_its_own() -> None:
    """The snapshots that were there before are another run's."""
    snapshot("snap", 3)
    store = HashStore()
    assert resumed(Member(), "", Run(store, 0)) is None
    assert resumed(Member(), "given", Run(store, 1)) == "given"  # it has none yet
    own = snapshot("snap", 5)
    assert resumed(Member(), "given", Run(store, 1)) == own


class Team:
    """Two threads that tell each other messages."""

    def __init__(self) -> None:
        self.barrier = Barrier(2, timeout=60)
        self.told: dict[int, bytes] = {}

    def member(self, rank: int) -> SimpleNamespace:
        def gather_messages(message: bytes) -> dict[int, bytes]:
            self.told[rank] = message
            self.barrier.wait()
            found = dict(self.told)
            self.barrier.wait()
            return found

        first = rank == 0
        return SimpleNamespace(
            is_connected=True, is_first=first, size=2, rank=rank, gather_messages=gather_messages
        )


def both(given: str, prefixes: tuple[str, str] = ("a", "b")) -> list[str | None]:
    """What each of two processes goes on from."""
    team = Team()
    members = [Member(prefix, team.member(rank)) for rank, prefix in enumerate(prefixes)]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(resumed, member, given) for member in members]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                assert [str(e) for e in errors] == [str(error)] * 2  # both end, and say the same
                raise error
    return [future.result() for future in futures]


def test_all_go_on_from_what_the_first_chooses() -> None:
    assert both("auto") == [None, None]
    chosen = snapshot("a", 3), snapshot("b", 3)
    assert both("auto") == list(chosen)
    assert both("") == [None, None]
    Path("given").write_text("it")
    assert both("given") == ["given", "given"]
    same = snapshot("a", 4)
    assert both("auto", ("a", "a")) == [same, same]


@pytest.mark.parametrize(
    ("theirs", "own", "says"),
    [
        (None, "state", "has found b_iter_3.solverstate, but the first has no snapshot"),
        ("state", "other", "it has another b_iter_3.solverstate"),
        ("state", None, "it has no b_iter_3.solverstate"),
    ],
)
def test_processes_that_see_other_files_end(theirs: str | None, own: str | None, says: str) -> None:
    for prefix, content in (("a", theirs), ("b", own)):
        if content is not None:
            snapshot(prefix, 3, content)
    with pytest.raises(SolverError, match=rf"^process 1 of 2 .*{says}\.\s+Let snapshot_prefix"):
        both("auto")
