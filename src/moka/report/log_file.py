"""A training log read back to numbers; it may be BVLC Caffe's, NVCaffe's or ours, or the file of
`--json_log`."""

from __future__ import annotations

import re
from datetime import datetime
from math import nan
from pathlib import Path

from moka.errors import DataError
from moka.free_name import free_name
from moka.report.json_reader import JsonReader
from moka.report.readings import Reading, TrainingLog
from moka.report.run_facts import RunFacts
from moka.types import PathLike

# Severity, date (a year only since glog 0.6), time, thread, source position.
_LINE = re.compile(
    r"([IWEF])(\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})\s+\d+ [^]]*:\d+\] ?(.*)"
)
_RANK = re.compile(r"\s*\[\d+(?:\.\d+)?\] ")  # NVCaffe's processes and devices begin lines so
_NUMBER = r"([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan(?:\(ind\))?))(?![\w.])"
_ITERATION = re.compile(r"\bIteration (\d{1,18})\b")
_LOSS = re.compile(rf"\bIteration \d+\b.*\bloss = {_NUMBER}")
_RATE = re.compile(rf"\blr = {_NUMBER}")
_OUTPUT = re.compile(rf"\b(Train|Test) net output #\d+: (.+?) = {_NUMBER}( \(\*)?")


def read_log(path: PathLike) -> TrainingLog:
    """Read a log.

    Raises:
        DataError: the file cannot be read, or no iteration is in it.
    """
    try:
        reader = LogReader(datetime.fromtimestamp(Path(path).stat().st_mtime).year)
        with open(path, encoding=encoding_of(path), errors="replace") as lines:
            for line in lines:
                reader.take(line)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", file=path) from None
    displays, tests = reader.take_readings(all_of_them=True)
    if not displays and not tests:
        raise DataError(
            "this log names no iteration.",
            file=path,
            advice="Give what `caffe train` wrote to standard error, or to --json_log.",
        )
    return TrainingLog(displays, tests)


def encoding_of(path: PathLike) -> str:
    """Of a log; PowerShell redirects as UTF-16. Raises OSError if it cannot be read."""
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8"


class LogReader:
    """Takes a log of any kind line by line, so that one that is being written can be followed.

    Args:
        year: of its first line, for log lines name none.

    Attributes:
        facts: what it tells beside its numbers.
    """

    def __init__(self, year: int) -> None:
        self.facts = RunFacts()
        self._lines = _Reader(_Clock(year), self.facts)
        self._records = JsonReader(self.facts)

    def take(self, line: str) -> None:
        """Read one line."""
        if line.startswith('{"record":'):
            self._records.take(line)
        else:
            self._lines.take(line)

    def take_readings(self, *, all_of_them: bool = False) -> tuple[list[Reading], list[Reading]]:
        """Take out the readings so far, of displays and of tests.

        Args:
            all_of_them: also the last ones, to which further lines may add.
        """
        kept = None if all_of_them else -1
        taken: tuple[list[Reading], list[Reading]] = ([], [])
        for reader in (self._lines, self._records):
            for out, own in zip(taken, (reader.displays, reader.tests), strict=True):
                out += own[:kept]
                del own[:kept]
        return taken

    def last_readings(self) -> tuple[list[Reading], list[Reading]]:
        """The readings that `take_readings` leaves, as they are now."""
        readers = (self._lines, self._records)
        return [r for x in readers for r in x.displays], [r for x in readers for r in x.tests]


class _Clock:
    """Turns a line's date and time into seconds since the first line; log lines name no year.

    Args:
        year: the one to begin with.
    """

    def __init__(self, year: int) -> None:
        self._year = year
        self._start: datetime | None = None  # the first line's
        self._last_month = 0

    def seconds(
        self,
        year: str | None,
        month: int,
        day: int,
        hour: int,
        minute: int,
        second: int,
        microsecond: int,
    ) -> float:
        """The seconds from the first line to this date and time.

        Raises:
            ValueError: there is no such date or time.
        """
        if year:
            self._year = int(year)
        elif month < self._last_month:  # over New Year
            self._year += 1
        if (month, day) == (2, 29):
            self._to_leap_year()
        when = datetime(self._year, month, day, hour, minute, second, microsecond)
        self._last_month = month
        self._start = self._start or when
        return (when - self._start).total_seconds()

    def started_s(self) -> float | None:
        """The first line's time in seconds since 1970; None before it."""
        return self._start.timestamp() if self._start else None

    def _to_leap_year(self) -> None:
        """Go back to a leap year: the file was copied, and is younger than its lines."""
        back = self._year % 4
        self._year -= back
        if self._start:
            self._start = self._start.replace(year=self._start.year - back)


class _Reader:
    """Takes a log line by line."""

    def __init__(self, clock: _Clock, facts: RunFacts) -> None:
        self.displays: list[Reading] = []
        self.tests: list[Reading] = []
        self._clock = clock
        self._facts = facts
        self._iteration: int | None = None
        self._rate = nan
        self._open: dict[str, Reading] = {}  # what further outputs belong to, by phase

    def take(self, line: str) -> None:
        """Read one line; lines that no training run writes are skipped."""
        found = _LINE.search(line)
        if not found:
            self._facts.take_plain(line)
            return
        letter, year, *time, message = found.groups()
        message = _RANK.sub("", message, count=1)
        solving = message.startswith("Solving ")
        if solving:
            self._open.clear()
        name = _ITERATION.search(message)
        if name:
            self._iteration = int(name[1])
        self._facts.take_message(letter, message, self._iteration if name else None)
        if self._iteration is None and not solving:
            return  # the clock starts where the training does
        try:
            seconds = self._clock.seconds(year, *map(int, time))
        except ValueError:
            return
        self._facts.started_s, self._facts.last_s = self._clock.started_s(), seconds
        if self._iteration is not None:
            self._take_message(message, self._iteration, seconds)

    def _take_message(self, message: str, iteration: int, seconds: float) -> None:
        if loss := _LOSS.search(message):
            self._reading("Train", iteration, seconds).loss = _number(loss[1])
        elif output := _OUTPUT.search(message):
            reading = self._reading(output[1], iteration, seconds)
            if not reading.outputs:
                reading.seconds, reading.rate_before = seconds, self._rate
            name = free_name(output[2], reading.outputs, first=1, mark=".")
            reading.outputs[name] = _number(output[3])
            if output[4] or "loss" in name.lower():
                reading.losses.add(name)
        elif rate := _RATE.search(message):
            self._rate = _number(rate[1])
            if display := self._open.get("Train"):
                display.rate = self._rate

    def _reading(self, phase: str, iteration: int, seconds: float) -> Reading:
        """The open reading of this phase and iteration, or a new one."""
        reading = self._open.get(phase)
        if reading is None or reading.iteration != iteration:
            reading = self._open[phase] = Reading(iteration, seconds, self._rate)
            (self.displays if phase == "Train" else self.tests).append(reading)
        return reading


def _number(text: str) -> float:
    return float(text.removesuffix("(ind)"))  # as Windows prints a NaN
