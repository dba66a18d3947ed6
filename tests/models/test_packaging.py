"""What is installed: every module, the models' files, the schema. No file is a link."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import moka
from moka.models import zoo_folder

ROOT = Path(__file__).parents[2]


def test_no_link_in_the_sources() -> None:
    assert not [path for path in (*ROOT.joinpath("src").rglob("*"),) if path.is_symlink()]
    if Path(moka.__file__).is_relative_to(ROOT):  # not the installed wheel
        assert zoo_folder() == ROOT / "models"  # where Caffe has them


def test_a_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.caffemodel")
    for name in ("src", "models", "matlab"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    installed = tmp_path / "installed"
    wanted = {path.relative_to(source / "src") for path in (source / "src").rglob("*.py")}
    wanted |= {
        Path("moka/models/zoo") / path.relative_to(source / "models")
        for pattern in ("*/*.prototxt", "*/readme.md")
        for path in (source / "models").glob(pattern)
    }
    wanted |= {
        Path("moka/matlab/files") / path.relative_to(source / "matlab")
        for path in (source / "matlab").rglob("*.m")
    }
    wanted |= {Path("moka/py.typed"), Path("caffe/py.typed"), Path("moka/schema/caffe.proto")}
    assert not [path for path in wanted if not (installed / path).is_file()]
    code = (
        "from moka.tools.download import description;"
        "print(*sorted(p.name for p in description('nin').iterdir()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [
        "deploy.prototxt",
        "readme.md",
        "solver.prototxt",
        "train_val.prototxt",
    ], done.stderr
    assert (tmp_path / "models" / "nin" / "readme.md").is_file()
