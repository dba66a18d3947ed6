"""Nets with forks' layers whose numbers other programs gave: exported, they give them too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.conformance.test_forks import FILES, TOLERANCES, check

import moka
from moka.export.onnx.export import export_onnx

CASES = [path for path in FILES if not path.stem.startswith("Files__")]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded_numbers(path: Path, tmp_path: Path) -> None:
    with np.load(path) as case:
        values = dict(case)
    options = json.loads(str(values.get("options", "{}")))
    (tmp_path / "net.prototxt").write_text(str(values["prototxt"]))
    weights = None
    if "caffemodel" in values:
        weights = tmp_path / "net.caffemodel"
        weights.write_bytes(values["caffemodel"].tobytes())
    net = moka.load(tmp_path / "net.prototxt", weights)
    inputs = {key[3:]: value for key, value in values.items() if key.startswith("in/")}
    done = export_onnx(net, tmp_path / "net.onnx", check_inputs=inputs)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    names = [name for name in done.outputs if f"out/{name}" in values]
    assert names
    found = session.run(names, {name: inputs[name] for name in done.inputs})
    for name, have in zip(names, found, strict=True):
        check(
            have,
            values[f"out/{name}"],
            TOLERANCES | options.get("tol", {}),
            in_any_order=name in options.get("rows", []),
        )
