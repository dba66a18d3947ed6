from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from moka.doctor.facts import BROKEN, FINE, WORTH_KNOWING
from moka.doctor.names import module, program
from moka.own_caffe import prefer_own_caffe


def program_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    file = folder / "caffe"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


@pytest.mark.skipif(os.name == "nt", reason="programs have other names there")
def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program().found == "not on PATH"
    assert "python -m moka" in program().advice
    other = program_in(tmp_path / "other")
    monkeypatch.setenv("PATH", str(other.parent))
    assert (program().state, program().found) == (WORTH_KNOWING, str(other))
    own = program_in(tmp_path / "venv" / "bin")
    monkeypatch.setenv("PATH", f"{own.parent}{os.pathsep}{other.parent}")
    assert (program().state, program().found) == (FINE, str(own))


def test_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    prefer_own_caffe()  # as every command does
    assert module().state == FINE
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "caffe"]:
        monkeypatch.delitem(sys.modules, name)
    found = module()
    assert found.state == BROKEN
    assert str(tmp_path) in found.found
    assert "PYTHONPATH" in found.advice
