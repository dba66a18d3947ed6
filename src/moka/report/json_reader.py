"""The file of `--json_log` read back to numbers; `json_lines.py` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from moka.free_name import free_name
from moka.report.readings import Reading
from moka.report.run_facts import RunFacts

_COUNTS = {"iteration", "max_iter", "display_every"}
_SILENT, _NO_DISPLAY = '"displayed": false', '"display_every": 0'


class JsonReader:
    """Takes the file line by line. Seconds count from the start of the first run in it.

    Args:
        facts: filled with what the records tell beside numbers.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.displays: list[Reading] = []
        self.tests: list[Reading] = []
        self._start: float | None = None
        self._rate = nan
        self._test: Reading | None = None  # which several test nets of one iteration share

    def take(self, line: str) -> None:
        """One line; a line that was cut off is skipped."""
        try:
            if _SILENT in line and _NO_DISPLAY not in line:  # most lines of a long run
                self.facts.iteration = _whole_number(line, '"iteration": ')
                self._test = None
                return
            record = json.loads(line)
            _check_types(record)
            self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return

    def _take(self, record: Mapping[str, Any]) -> None:
        if self._start is None:
            self._start = self.facts.started_s = record["time_s"]
        self.facts.last_s = seconds = record["time_s"] - self._start
        self.facts.take_record(record)
        kind = record["record"]
        if kind not in ("TestStarted", "ClassesTested", "TestCompleted"):
            self._test = None
        if kind == "IterationCompleted":
            if record["displayed"] or not record["display_every"]:
                rate = _number(record["rate"])
                reading = Reading(record["iteration"], seconds, self._rate, rate)
                reading.loss = _number(record["loss"])
                _add(reading, record["outputs"])
                self.displays.append(reading)
                self._rate = rate
        elif kind == "FinalLoss":
            reading = Reading(record["iteration"], seconds, self._rate)
            reading.loss = _number(record["loss"])
            self.displays.append(reading)
        elif kind == "TestCompleted":
            if self._test is None or self._test.iteration != record["iteration"]:
                self._test = Reading(record["iteration"], seconds, self._rate)
                self.tests.append(self._test)
            _add(self._test, record["outputs"])


def _check_types(record: Mapping[str, Any]) -> None:
    """Raises TypeError for a count or time that is none, ValueError for one that nobody writes."""
    for name in _COUNTS & record.keys():
        if not isinstance(record[name], int):
            raise TypeError(name)
        if abs(record[name]) >= 2**63:
            raise ValueError(name)
    if not isinstance(record["time_s"], (int, float)):
        raise TypeError("time_s")


def _add(reading: Reading, outputs: Sequence[Mapping[str, Any]]) -> None:
    for output in outputs:
        name = free_name(output["name"], reading.outputs, first=1, mark=".")
        reading.outputs[name] = _number(output["value"])
        if output["loss_weight"] or "loss" in name.lower():
            reading.losses.add(name)


def _number(value: float | None) -> float:
    """JSON has no word for a number that is not finite: null."""
    return nan if value is None else float(value)


def _whole_number(line: str, name: str) -> int:
    """The number that follows a name. Raises ValueError if there is none."""
    begin = line.index(name) + len(name)
    return int(line[begin : line.index(",", begin)])
