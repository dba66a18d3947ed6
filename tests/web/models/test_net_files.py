"""Nets of a folder, opened by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from moka.errors import UsageError
from moka.web.folder import Folder
from moka.web.models import net_files
from moka.web.models.net_files import net_names, net_text


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    shown = tmp_path / "shown"
    (shown / "jobs/a").mkdir(parents=True)
    (shown / "jobs/a/net.prototxt").write_text('name: "a"')
    (shown / "deploy.prototxt").write_text('name: "b"')
    (shown / "notes.txt").write_text("mine")
    (tmp_path / "secret.prototxt").write_text("secret")
    (shown / "link.prototxt").symlink_to(tmp_path / "secret.prototxt")
    return Folder(shown)


def test_names(folder: Folder) -> None:
    assert net_names(folder) == ["deploy.prototxt", "jobs/a/net.prototxt"]


def test_text(folder: Folder) -> None:
    assert net_text(folder, {"name": "jobs/a/net.prototxt"}) == {"text": 'name: "a"'}


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("notes.txt", "is no text of a net"),
        ("jobs", "is no text of a net"),
        ("../secret.prototxt", "is not in the folder"),
        ("link.prototxt", "is not in the folder"),
        ("none.prototxt", "there is no none.prototxt"),
        ("", "lacks name"),
    ],
)
def test_what_is_refused(folder: Folder, name: str, fact: str) -> None:
    with pytest.raises(UsageError, match=fact):
        net_text(folder, {"name": name})


def test_a_text_that_is_too_long(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_files, "MOST_BYTES", 3)
    with pytest.raises(UsageError, match="more than 3 bytes"):
        net_text(folder, {"name": "deploy.prototxt"})
