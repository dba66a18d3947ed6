from __future__ import annotations

import json
import time
from math import inf, nan
from pathlib import Path

import pytest

from moka.errors import UsageError
from moka.report.json_lines import JsonLines, to_json
from moka.report.records import IterationCompleted, Output, SolvingStarted


def test_a_record_a_line(tmp_path: Path) -> None:
    began = time.time()
    report = JsonLines(tmp_path / "log")
    report(SolvingStarted("LeNet", "inv", 0, 10))
    report(IterationCompleted(3, nan, 0.5, outputs=(Output("loss", 2.0, 1.0),), clipped=(8.0, inf)))
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())  # at once
    report.close()
    assert began - 1 <= first.pop("time_s") <= time.time()
    assert first == {
        "record": "SolvingStarted",
        "net": "LeNet",
        "lr_policy": "inv",
        "iteration": 0,
        "max_iter": 10,
    }
    assert second["record"] == "IterationCompleted"
    assert second["loss"] is None
    assert second["clipped"] == [8.0, None]
    assert second["outputs"] == [{"name": "loss", "value": 2.0, "loss_weight": 1.0}]


def test_a_file_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        report = JsonLines(tmp_path / "log")
        report(SolvingStarted("x", "inv", 0, 10))
        report.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--json_log .* cannot be written: Is a directory\.$"):
        JsonLines(tmp_path)


def test_json_has_no_word_for_nan() -> None:
    value = {"a": [1, 2.5, nan], "b": {"c": -inf}, "d": ("x", None, True)}
    assert to_json(value) == ('{"a": [1, 2.5, null], "b": {"c": null}, "d": ["x", null, true]}')
