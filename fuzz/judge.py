"""Whether an input is read as it has to be: a result, or one clear sentence, in time and memory."""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import moka
from moka.command.run import sentence
from moka.errors import MokaError

MOST_SECONDS = 5.0  # of processor time: other programs may slow a machine
MOST_WAITING_S = 30.0  # of any time
MOST_BYTES = 1 << 30  # beyond what the process held before the first input
CLOCKS = (signal.SIGALRM, signal.SIGPROF)
SOURCE = Path(moka.__file__).parents[1]  # src, or where an installation has its packages
OURS = tuple(f"{SOURCE / name}{os.sep}" for name in ("moka", "caffe"))


class Finding(NamedTuple):
    """An input that was not read as it has to be.

    Attributes:
        kind: what went wrong and where: equal for inputs that meet the same fault.
        details: the traceback, or what was printed.
    """

    kind: str
    details: str


class TooSlowError(BaseException):
    """Raised in the middle of a reader that takes too long."""


class Judge:
    """Runs readers on inputs, within limits of time and memory.

    Args:
        stderr: also take what libraries print to standard error as a fault.
    """

    def __init__(self, *, stderr: bool = True) -> None:
        self._printed = Printed() if stderr else None
        self._most = _peak_bytes() + MOST_BYTES
        for clock in CLOCKS:
            signal.signal(clock, _too_slow)

    def judge(self, read: Callable[[Path], object], file: Path) -> Finding | None:
        """Read one file; None: all is well."""
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, MOST_WAITING_S)
        try:
            finding = self._run(read, file)
        except TooSlowError as error:
            finding = _of_error("too slow", error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if finding is None and (took := time.process_time() - start) > MOST_SECONDS:
            finding = Finding("too slow: in a library", f"{took:.1f} s")
        if finding is None and (peak := _peak_bytes()) > self._most:
            finding = Finding("too much memory", f"{peak - self._most + MOST_BYTES:,} bytes")
            _forget_peak()
        return finding

    def _run(self, read: Callable[[Path], object], file: Path) -> Finding | None:
        try:
            with warnings.catch_warnings(), self._silence():
                warnings.simplefilter("error")
                read(file)
        except MokaError as error:
            return _of_sentence(str(error))
        except OSError as error:
            if error.filename is None or not error.strerror:
                return _of_error(type(error).__name__, error)
            return _of_sentence(sentence(error))
        except Exception as error:  # noqa: BLE001 - any other one is what is looked for
            return _of_error(type(error).__name__, error)
        if self._printed is not None and (said := self._printed.take()):
            return Finding(f"printed: {said.splitlines()[0][:60]}", said)
        return None

    @contextmanager
    def _silence(self) -> Iterator[None]:
        if self._printed is None:
            yield
        else:
            with self._printed.caught():
                yield


class Printed:
    """What C libraries write to standard error, which Python does not see."""

    def __init__(self) -> None:
        self._file = os.memfd_create("stderr")
        self._own = os.dup(2)

    @contextmanager
    def caught(self) -> Iterator[None]:
        os.dup2(self._file, 2)
        try:
            yield
        finally:
            os.dup2(self._own, 2)

    def take(self) -> str:
        """What was printed since it was asked last."""
        size = os.fstat(self._file).st_size
        if not size:
            return ""
        said = os.pread(self._file, size, 0).decode(errors="replace")
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        return said


def _of_sentence(text: str) -> Finding | None:
    """A finding if an error's words are no sentence."""
    if not text.strip() or "Traceback" in text or " object at 0x" in text:
        return Finding("no sentence", text)
    return None


def _of_error(kind: str, error: BaseException) -> Finding:
    """Names the last place in Moka's own code that the error passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(OURS)]
    place = "?"
    if frames:
        place = f"{Path(frames[-1].filename).relative_to(SOURCE).as_posix()}:{frames[-1].name}"
    return Finding(f"{kind} in {place}", "".join(traceback.format_exception(error))[-6000:])


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")
