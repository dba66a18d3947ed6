"""Examples are run in a copy of their folders, on small data made there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
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
def load_script(tmp_path: Path) -> LoadScript:
    """Loads a script of the copy, `cifar10/get_data`, as a module."""

    def load(name: str) -> ModuleType:
        path = tmp_path / "examples" / name
        loader = SourceFileLoader(f"example_{path.stem}", str(path))
        spec = spec_from_loader(loader.name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        loader.exec_module(module)
        return module

    return load


def change_solver(file: Path, **fields: int) -> None:
    """Give fields of a solver other values: fewer iterations, say."""
    solver = read_text(file, caffe_pb2.SolverParameter)
    for name, value in fields.items():
        if name == "test_iter":
            solver.test_iter[:] = [value]
        else:
            setattr(solver, name, value)
    write_text(file, solver)


def write_idx(path: Path, values: np.ndarray) -> None:
    """A file in the form of MNIST's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = np.array(values.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes())


def write_mnist(folder: Path, counts: Sequence[tuple[str, int]]) -> None:
    """Digits of noise, the labels 0 to 9 in turn."""
    rng = np.random.default_rng(0)
    for part, count in counts:
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
