"""Small nets with layer types of Caffe's forks give the numbers that other programs gave.

One case a file in forks/: a net as text (`prototxt`), perhaps a weights file (`caffemodel`, its
bytes), inputs (`in/<blob>`) and what the net makes of them in the phase TEST (`out/<blob>`).
`options` is JSON: `rows` lists blobs of detections, whose order among equal images and labels is
free, and `tol` replaces tolerances.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import caffe
from moka.types import Array

FILES = sorted((Path(__file__).parent / "forks").glob("*.npz"))
TOLERANCES = {"rtol": 1e-4, "arel": 2e-5, "floor": 1e-7}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_net_gives_the_recorded_numbers(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with np.load(path) as case:
        values = dict(case)
    options = json.loads(str(values.get("options", "{}")))
    Path("net.prototxt").write_text(str(values["prototxt"]))
    weights = None
    if "caffemodel" in values:
        weights = "net.caffemodel"
        Path(weights).write_bytes(values["caffemodel"].tobytes())
    net = caffe.Net("net.prototxt", caffe.TEST, weights=weights)
    for name in net.inputs:
        net.blobs[name].data[...] = values[f"in/{name}"]
    net.forward()
    expected = {key[4:]: value for key, value in values.items() if key.startswith("out/")}
    assert expected
    for name, want in expected.items():
        check(
            net.blobs[name].data,
            want,
            TOLERANCES | options.get("tol", {}),
            in_any_order=name in options.get("rows", []),
        )


def check(have: Array, want: Array, tolerance: dict[str, float], *, in_any_order: bool) -> None:
    assert have.shape == want.shape
    if in_any_order:
        have, want = sorted_rows(have), sorted_rows(want)
    largest = np.abs(want).max() if want.size else 0
    limit = tolerance["arel"] * largest + tolerance["floor"]
    np.testing.assert_allclose(have, want, rtol=tolerance["rtol"], atol=limit)


def sorted_rows(rows: Array) -> Array:
    """Detections by image, label and falling score."""
    rows = rows.reshape(-1, rows.shape[-1])
    return rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]


@pytest.mark.parametrize("change", ["shape", "value"])
def test_a_difference_is_found(change: str) -> None:
    want = np.array([[0, 1, 0.5, 0, 0, 1, 1]])
    have = want[:, :6] if change == "shape" else want + 1e-3
    with pytest.raises(AssertionError):
        check(have, want, TOLERANCES, in_any_order=True)
