from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moka.telemetry import VARIABLE, report_nothing


@pytest.mark.parametrize(
    "program",
    [
        "from moka.export.onnx.library import load_runtime; load_runtime()",
        "from moka.doctor.packages import packages; list(packages())",
    ],
)
def test_onnx_runtime_leaves_nothing_to_report(program: str, tmp_path: Path) -> None:
    places = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "USERPROFILE")}
    free = {name: value for name, value in os.environ.items() if name != VARIABLE}
    variables = {**free, **places, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=variables, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


def test_whoever_wants_reports_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    report_nothing()
    assert os.environ[VARIABLE] == "0"
