"""Examples are run in a copy of their folders, on small data made there."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moka.schema import caffe_pb2, read_text, write_text

ROOT = Path(__file__).parents[2]
MADE = ("data", "*_lmdb", "*.caffemodel", "*.solverstate", "*.binaryproto", "*.png", "__pycache__")

CopyExamples = Callable[..., Path]
LoadScript = Callable[[str], ModuleType]
ChangeSolver = Callable[..., None]
WriteMnist = Callable[[str, int], tuple[Path, Path]]


@pytest.fixture
def copy_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CopyExamples:
    """Copies examples, without what they make, to where paths in prototxt files start."""
    monkeypatch.chdir(tmp_path)

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(
                ROOT / "examples" / name,
                tmp_path / "examples" / name,
                ignore=shutil.ignore_patterns(*MADE),
            )
        return tmp_path / "examples" / names[0]

    return copy


@pytest.fixture
def load_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadScript:
    """Loads a script of the copy, `cifar10/get_data`, as a module; it finds those beside it."""

    def load(name: str) -> ModuleType:
        path = tmp_path / "examples" / name
        loader = SourceFileLoader(f"example_{path.stem}", str(path))
        spec = spec_from_loader(loader.name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, loader.name, module)
        monkeypatch.syspath_prepend(path.parent)
        for beside in path.parent.glob("*.py"):  # not those of another copy
            monkeypatch.delitem(sys.modules, beside.stem, raising=False)
        loader.exec_module(module)
        return module

    return load


@pytest.fixture
def change_solver() -> ChangeSolver:
    """Gives fields of a solver file other values: fewer iterations, say."""

    def change(file: Path, **fields: int) -> None:
        solver = read_text(file, caffe_pb2.SolverParameter)
        for name, value in fields.items():
            if name == "test_iter":
                solver.test_iter[:] = [value]
            else:
                setattr(solver, name, value)
        write_text(file, solver)

    return change


@pytest.fixture
def write_mnist(tmp_path: Path) -> WriteMnist:
    """Writes files like MNIST's where its example has them: digits of noise, labeled 0 to 9 in
    turn; returns those of images and of labels."""

    def write(part: str, count: int) -> tuple[Path, Path]:
        rng = np.random.default_rng(count)
        folder = tmp_path / "examples" / "mnist" / "data"
        files = folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"
        _write_idx(files[0], rng.integers(0, 256, (count, 28, 28)))
        _write_idx(files[1], np.arange(count) % 10)
        return files

    return write


def _write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = np.array(values.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes())
