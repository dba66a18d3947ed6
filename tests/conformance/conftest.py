"""Reading recorded cases and comparing with them; README.md describes the format."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from moka.types import Array

DEFAULT = {"rtol": 1e-4, "arel": 2e-5, "floor": 1e-8}  # BVLC sums float32 in another order
CUDA_FACTOR = 10.0  # a GPU sums in yet another order, and its exp and log have other last bits


class Case:
    """One recorded case.

    Args:
        path: the .npz, or a folder with case.json, expect.npz and work/.
        factor: widens every tolerance.
    """

    def __init__(self, path: Path, factor: float = 1.0) -> None:
        self.name = path.stem
        self.folder = path if path.is_dir() else None
        with np.load(path / "expect.npz" if self.folder else path) as stored:
            self.values: dict[str, Array] = {key: stored[key] for key in stored.files}
        self.factor = factor
        if self.folder:
            self.options: dict[str, Any] = json.loads((path / "case.json").read_text())
            self.tolerances: dict[str, dict[str, float]] = self.options["tol"]
        else:
            self.options = self.json("options") if "options" in self.values else {}
            self.tolerances = self.json("tol")

    def text(self, key: str) -> str:
        return str(self.values[key])

    def json(self, key: str) -> Any:
        return json.loads(self.text(key))

    def group(self, prefix: str) -> dict[str, Array]:
        """Values by what follows `prefix/` in their key."""
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in self.values.items() if k.startswith(start)}

    def limits(self, key: str) -> dict[str, float]:
        """Tolerances of a result; the longest pattern that matches its key counts."""
        patterns = [p for p in self.tolerances if p == "*" or fnmatchcase(key, p)]
        return self.tolerances[max(patterns, key=len)] if patterns else DEFAULT

    def check(self, key: str, got: ArrayLike) -> None:
        """Fail unless `got` agrees with what was recorded under `key`."""
        have = np.asarray(got, np.float64)
        want = np.asarray(self.values[key], np.float64)
        assert have.shape == want.shape, key
        finite = np.isfinite(want)
        np.testing.assert_array_equal(have[~finite], want[~finite], err_msg=key)
        have, want = have[finite], want[finite]
        if not want.size:
            return
        limits = self.limits(key)
        limit = limits["rtol"] * np.abs(want) + limits["arel"] * np.abs(want).max()
        excess = np.abs(have - want) - self.factor * (limit + limits["floor"])
        worst = int(np.argmax(excess))
        assert np.isfinite(have).all(), f"{key}: not finite where BVLC is"
        assert excess[worst] <= 0, f"{key}[{worst}]: {have[worst]:.8g}, BVLC {want[worst]:.8g}"

    def write_files(self) -> None:
        """Write what the case needs into the current directory."""
        if self.folder:
            shutil.copytree(self.folder / "work", ".", dirs_exist_ok=True)
        for name, content in self.group("file").items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content.tobytes())


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """The case in the file given by parametrization, its files in the current directory."""
    monkeypatch.chdir(tmp_path)
    cuda = "device" in request.fixturenames and _device(request).type == "cuda"
    made = Case(request.param, CUDA_FACTOR if cuda else 1.0)
    made.write_files()
    if made.options.get("python_path"):
        monkeypatch.syspath_prepend(str(tmp_path))
    return made


def _device(request: pytest.FixtureRequest) -> torch.device:
    found: torch.device = request.getfixturevalue("device")
    return found
