from __future__ import annotations

import io
import logging

import pytest

from moka.report.glog import log_to_stderr
from moka.report.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with log_to_stderr(plain=True), progress("images", 40) as show:
        show(10)
        logging.getLogger("moka").info("said meanwhile")
        show(40)
    text = screen.getvalue()
    assert "images" in text
    assert "40/40" in text
    assert "said meanwhile\n" in text.replace("\r", "")


def test_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress("a.caffemodel", 3_000_000, in_bytes=True) as show:
        show(1_500_000)
    assert "1.5/3.0 MB" in screen.getvalue()


def test_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    with progress("images", 40) as show:
        show(10)
    assert file.getvalue() == ""
