from __future__ import annotations

from pathlib import Path

import pytest

from report import INFERENCE, TRAINING, Results, Row, geometric_mean, markdown


def results() -> Results:
    made = Results("2026-01-01, a machine", "python benchmarks/all.py", 3, 0.2)
    for contender, ms in (("caffe.Net", 12.0), ("ONNX Runtime", 10.0), ("OpenVINO", 20.0)):
        made.rows.append(Row(INFERENCE, "LeNet", 1, contender, ms, 1.5, 300.0))
    made.rows.append(Row(INFERENCE, "LeNet", 10, "caffe.Net", 100.0, 1.5, 310.0))
    made.rows.append(Row(INFERENCE, "LeNet", 10, "ONNX Runtime", 100.0, 1.5, 310.0))
    for contender, ms in (("caffe train", 10.0), ("PyTorch", 15.0)):
        made.rows.append(Row(TRAINING, "LeNet", 64, contender, ms, 2.0, 280.0))
    made.failed["LeNet, 1"] = {"OpenCV 4": "no such layer"}
    made.left_out.append("VGG-16, 64")
    return made


def test_the_page() -> None:
    page = markdown(results(), ["depth.svg"])
    assert "| LeNet, 1 | 12.00 (1.20) | 10.00 (1.00) | 20.00 (2.00) |" in page
    assert "| LeNet, 10 | 100 (1.00) | 100 (1.00) |  |" in page
    assert "| LeNet, 64 | 10.00 (1.00) | 15.00 (1.50) |" in page
    assert "in 1 of 2 cells: LeNet, 1 (1.20)." in page
    assert "moka.load: more than" not in page
    assert "PyTorch takes 1.50 times as long as caffe train" in page
    assert "- LeNet, 1: OpenCV 4: no such layer" in page
    assert "VGG-16, 64." in page
    assert "![depth.svg](depth.svg)" in page


def test_fastest_turns() -> None:
    """Turns that something else made longer, and the fastest ones."""
    made = Results("2026-01-01, a machine", "python benchmarks/all.py", 3)
    made.rows.append(Row(INFERENCE, "LeNet", 1, "caffe.Net", 14.0, 1.5, 300.0, 10.0))
    made.rows.append(Row(INFERENCE, "LeNet", 1, "ONNX Runtime", 10.0, 1.5, 300.0, 9.8))
    page = markdown(made)
    assert "in 1 of 1 cells: LeNet, 1 (1.40). By the fastest turn of each, in 0 of 1 cells." in page
    assert "fastest turn" not in markdown(results())


def test_as_json_and_back(tmp_path: Path) -> None:
    made = results()
    made.save(tmp_path / "folder" / "found.json")
    assert Results.load_from(tmp_path / "folder" / "found.json") == made


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None
