from __future__ import annotations

import getpass
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.fresh import run_program

from moka.byte_text import to_text
from moka.errors import UsageError
from moka.report import glog
from moka.report.glog import (
    GlogFormatter,
    add_log_file,
    log_to_file,
    log_to_stderr,
    set_stderr_level,
    show_pycaffe_log,
)

PREFIX = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6}\s+\d+ [\w./\\-]+:\d+\] ")
log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")


def say_everything() -> None:
    detail.info("a detail")
    log.info("said %d", 1)
    log.warning("warned")
    log.error("failed")
    log.critical("ended")


def test_the_parts_of_a_line() -> None:
    when = datetime(2026, 11, 5, 8, 31, 22, 123456).timestamp()
    record = logging.LogRecord("moka", logging.WARNING, "/a/b/c.py", 12, "50%% of %s", ("x",), None)
    record.created = when
    thread = threading.get_native_id()
    line = GlogFormatter().format(record)
    assert line == f"W1105 08:31:22.123456 {thread:5d} c.py:12] 50% of x"


def test_lines_and_their_severities(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_stderr():
        say_everything()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert all(PREFIX.match(line) for line in lines)
    assert [line[0] for line in lines] == ["I", "I", "W", "E", "F"]
    texts = [PREFIX.sub("", line) for line in lines]
    assert texts == ["a detail", "said 1", "warned", "failed", "ended"]
    assert all("test_glog.py:" in line for line in lines)
    assert out == ""


@pytest.mark.parametrize(
    ("level", "letters"), [("0", "IIWEF"), ("1", "WEF"), ("2", "EF"), ("3", "F"), ("9", "F")]
)
def test_minloglevel(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    letters: str,
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", level)
    with log_to_stderr():
        say_everything()
    assert [line[0] for line in capsys.readouterr().err.splitlines()] == list(letters)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("level", "verbosity", "shows"), [("0", "1", 1), ("0", "", 0), ("1", "1", 0)]
)
def test_a_verbosity(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    verbosity: str,
    shows: int,
    *,
    plain: bool,
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", level)
    monkeypatch.setenv("GLOG_v", verbosity)
    with log_to_stderr(plain=plain):
        detail.debug("why an engine is taken")
    assert capsys.readouterr().err.count("why an engine is taken") == shows


def test_a_minloglevel_that_is_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "quiet")
    with log_to_stderr():
        say_everything()
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_plain_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_stderr(plain=True):
        say_everything()
        logging.getLogger("moka.records").info("Iteration 0, loss = 1")  # a bar shows it
    assert capsys.readouterr().err == "said 1\nwarned\nfailed\nended\n"


@pytest.mark.parametrize("plain", [False, True])
def test_afterwards_logging_is_as_before(capsys: pytest.CaptureFixture[str], plain: bool) -> None:
    def state() -> list[object]:
        return [(each.handlers[:], each.level, each.propagate) for each in (log, detail)]

    before = state()
    with log_to_stderr(plain=plain):
        assert state() != before
    assert state() == before
    say_everything()
    assert capsys.readouterr().err == ""


def test_a_log_file_named_as_glog_names_it(tmp_path: Path) -> None:
    with log_to_stderr(), log_to_file(str(tmp_path)):
        logging.getLogger("moka.detail").info("a line")
    (file,) = (p for p in tmp_path.iterdir() if not p.is_symlink())
    assert re.fullmatch(r"caffe\..+\.\w+\.log\.INFO\.\d{8}-\d{6}\.\d+", file.name)
    assert file.read_text().endswith("] a line\n")
    assert (tmp_path / "caffe.INFO").resolve() == file


def test_a_log_folder_is_made(tmp_path: Path) -> None:
    with log_to_stderr(), log_to_file(str(tmp_path / "new" / "logs")):
        log.info("said")
    assert (tmp_path / "new" / "logs" / "caffe.INFO").read_text().endswith("] said\n")


def test_a_log_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"--log_dir .* cannot be written: File exists"),
        log_to_file(str(tmp_path / "file")),
    ):
        pass


def test_quiet_on_the_screen_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_stderr(), log_to_file(str(tmp_path)):
        set_stderr_level(1)
        say_everything()
    assert [line[0] for line in capsys.readouterr().err.splitlines()] == list("WEF")
    assert [line[0] for line in (tmp_path / "caffe.INFO").read_text().splitlines()] == list("IIWEF")


def test_a_log_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_log_dir", str(tmp_path / "env"))
    (tmp_path / "env").mkdir()
    (tmp_path / "flag").mkdir()
    with log_to_stderr(), log_to_file(""):
        log.info("said")
    assert (tmp_path / "env" / "caffe.INFO").read_text().endswith("] said\n")
    with log_to_file(str(tmp_path / "flag")):
        pass
    assert (tmp_path / "flag" / "caffe.INFO").exists()


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    before = log.handlers[:], log.level
    yield
    log.handlers[:], level = before
    log.setLevel(level)


@pytest.mark.usefixtures("_log_as_before")
@pytest.mark.parametrize(
    ("arguments", "letters"),
    [((), "EF"), ((0,), "EF"), ((0, True), "IIWEF"), ((1, True), "WEF"), ((3, False), "F")],
)
def test_init_log(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[int, bool],
    letters: str,
) -> None:
    for name in ("logtostderr", "alsologtostderr", "minloglevel", "stderrthreshold"):
        monkeypatch.delenv(f"GLOG_{name}", raising=False)
    glog.init_log(2, True)
    glog.init_log(*arguments)
    say_everything()
    lines = capsys.readouterr().err.splitlines()
    assert [line[0] for line in lines] == list(letters)
    assert all(PREFIX.match(line) for line in lines)


@pytest.mark.usefixtures("_log_as_before")
@pytest.mark.parametrize(
    ("variables", "arguments", "letters"),
    [
        ({"logtostderr": "1"}, (), "IIWEF"),
        ({"logtostderr": "1"}, (0,), "IIWEF"),
        ({"logtostderr": "true"}, (1,), "WEF"),
        ({"logtostderr": "1"}, (0, False), "EF"),  # the argument wins
        ({"logtostderr": "0"}, (0,), "EF"),
        ({"logtostderr": "1", "minloglevel": "2"}, (), "EF"),
        ({"logtostderr": "1", "minloglevel": "2"}, (0,), "IIWEF"),
        ({"alsologtostderr": "1"}, (0, False), "IIWEF"),
        ({"stderrthreshold": "1"}, (0,), "WEF"),
    ],
)
def test_init_log_and_the_environment(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    arguments: tuple[int, bool],
    letters: str,
) -> None:
    for name in ("logtostderr", "alsologtostderr", "minloglevel", "stderrthreshold"):
        monkeypatch.delenv(f"GLOG_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"GLOG_{name}", value)
    glog.init_log(*arguments)
    say_everything()
    assert [line[0] for line in capsys.readouterr().err.splitlines()] == list(letters)


@pytest.mark.usefixtures("_log_as_before")
def test_init_log_and_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLOG_log_dir", str(tmp_path / "logs"))
    glog.init_log(0, False)
    log.info("said")
    assert (tmp_path / "logs" / "caffe.INFO").read_text().endswith("] said\n")
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("GLOG_log_dir")
    glog.init_log(0, False)  # closes the file


@pytest.mark.usefixtures("_log_as_before")
@pytest.mark.parametrize(("level", "letters"), [(None, "IIWEF"), ("0", "IIWEF"), ("2", "EF")])
def test_pycaffe_shows_its_log(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    level: str | None,
    letters: str,
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    if level is not None:
        monkeypatch.setenv("GLOG_minloglevel", level)
    show_pycaffe_log()
    show_pycaffe_log()
    say_everything()
    lines = capsys.readouterr().err.splitlines()
    assert [line[0] for line in lines] == list(letters)
    assert all(PREFIX.match(line) for line in lines)


@pytest.mark.usefixtures("_log_as_before")
def test_a_program_that_has_set_up_logging_keeps_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    show_pycaffe_log()
    assert not log.handlers
    say_everything()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_log_as_before")
def test_a_line_of_the_callers(capsys: pytest.CaptureFixture[str]) -> None:
    glog.log("before")
    glog.init_log(0, True)
    glog.log("100% done")
    (line,) = capsys.readouterr().err.splitlines()
    assert PREFIX.sub("", line) == "100% done"
    assert "test_glog.py:" in line


def test_a_user_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", Mock(side_effect=KeyError("uid not found: 1234")))
    with log_to_file(str(tmp_path)):
        pass
    assert any(f".{os.getuid()}.log.INFO." in file.name for file in tmp_path.iterdir())


@pytest.mark.usefixtures("_log_as_before")
def test_a_verbosity_in_pycaffe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_v", "1")
    glog.init_log(0, stderr=True)
    detail.debug("why an engine is taken")
    assert "why an engine is taken" in capsys.readouterr().err


def test_importing_sets_up_no_logging() -> None:
    program = """
import logging
import caffe, moka
import moka.api, moka.cli.main
loggers = [logging.root, *map(logging.getLogger, ("moka", "moka.detail"))]
assert not any(each.handlers for each in loggers), loggers
assert [each.level for each in loggers] == [logging.WARNING, 0, 0]
assert all(each.propagate for each in loggers)
"""
    assert run_program(program).returncode == 0


LATIN = 'layer { name: "caf\xe9" type: "Input" top: "x" input_param { shape { dim: 1 } } }'


def test_bytes_of_other_encodings_leave_as_they_came(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes(LATIN.encode("latin-1"))
    code = "import caffe; caffe.Net('net.prototxt', caffe.TEST)"
    done = run_program(code, tmp_path)
    assert done.returncode == 0
    assert b"Creating Layer caf\xe9\n" in done.stderr
    assert "\U0010fee9".encode() not in done.stderr


def test_such_bytes_in_a_log_file(tmp_path: Path) -> None:
    with log_to_stderr(), log_to_file(str(tmp_path)):
        log.info("Creating Layer %s", to_text(b"caf\xe9"))
        log.info("Creating Layer café")
    lines = (tmp_path / "caffe.INFO").read_bytes().splitlines()
    assert [line.partition(b"] ")[2] for line in lines] == [
        b"Creating Layer caf\xe9",
        "Creating Layer café".encode(),
    ]


def test_such_bytes_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", Terminal(screen, encoding="utf-8"))
    with log_to_stderr(plain=True):
        log.info("Creating Layer %s", to_text(b"caf\xe9"))
    assert screen.getvalue() == rb"Creating Layer caf\xe9" + b"\n"


def test_such_bytes_where_only_text_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with log_to_stderr(plain=True):
        log.info("Creating Layer %s", to_text(b"caf\xe9"))
    assert written.getvalue() == "Creating Layer caf\\xe9\n"


def test_a_log_file_that_a_program_asks_for(tmp_path: Path) -> None:
    before = list(log.handlers)
    try:
        add_log_file(str(tmp_path / "a_"))
        log.warning("first")
        add_log_file(str(tmp_path / "b_"))
        log.warning("second")
        with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
            add_log_file(str(tmp_path / "none" / "c_"))
        log.warning("third")
    finally:
        for handler in [h for h in log.handlers if h not in before]:
            log.removeHandler(handler)
            handler.close()
    texts = [next(tmp_path.glob(f"{name}_*")).read_text() for name in "ab"]
    assert [re.findall("first|second|third", text) for text in texts] == [
        ["first"],
        ["second", "third"],
    ]
