"""No name leads out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from moka.errors import UsageError
from moka.web import folder as module
from moka.web.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for name in ("shown/jobs/a.log", "shown/.git/config", "secret/key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "shown/out").symlink_to(tmp_path / "secret")
    (tmp_path / "shown/key").symlink_to(tmp_path / "secret/key")
    (tmp_path / "shown/in").symlink_to("jobs/a.log")
    return Folder(tmp_path / "shown")


def test_names_within(folder: Folder) -> None:
    assert folder.existing("jobs/a.log").read_text() == "text"
    assert folder.inside("jobs/../jobs/new") == folder.path / "jobs/new"
    assert folder.existing("in") == folder.path / "jobs/a.log"
    assert folder.inside(".") == folder.path
    assert folder.name(folder.path / "jobs/a.log") == "jobs/a.log"


@pytest.mark.parametrize(
    "name", ["..", "../secret/key", "/etc/passwd", "jobs/../../secret", "out/key", "key", "a\0b"]
)
def test_names_that_lead_out(folder: Folder, name: str) -> None:
    with pytest.raises(UsageError):
        folder.inside(name)


def test_a_name_with_nothing_behind_it(folder: Folder) -> None:
    with pytest.raises(UsageError, match="there is no jobs/b"):
        folder.existing("jobs/b")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        Folder(tmp_path / "none")


def test_the_walk_leaves_out_hidden_names_and_links_that_lead_out(folder: Folder) -> None:
    found = {
        folder.name(place): [entry.name for entry in entries] for place, entries in folder.walk()
    }
    assert found == {".": ["in", "jobs"], "jobs": ["a.log"]}


def test_the_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "/".join("abcdefghijkl")).mkdir(parents=True)
    deepest = max(len(place.relative_to(tmp_path).parts) for place, _ in Folder(tmp_path).walk())
    assert deepest == module.DEPTH
    for i in range(50):
        (tmp_path / f"{i}/x").mkdir(parents=True)
    monkeypatch.setattr(module, "MOST_ENTRIES", 60)
    assert sum(1 for _ in Folder(tmp_path).walk()) < 15
