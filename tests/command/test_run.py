from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moka.command import run as running
from moka.command.commands import Command
from moka.command.flags import Flag
from moka.command.table import COMMANDS
from moka.command.usage import command_usage
from moka.errors import DataError, UsageError
from moka.report.glog import show_only

if TYPE_CHECKING:
    from tests.messages import Messages

COPY_IT = Command(
    "copy_it",
    "somewhere:main",
    "copy things",
    "FROM TO [HOW]",
    (Flag("n", 3, "How many"),),
    description="Copies\nthings.",
    programs=(("copy_it", "somewhere:main"),),
)
SHOW = Command(
    "show", "somewhere:show", "show files", "FILE...", description="Shows.", usage_exit=2
)
UPGRADE = Command("upgrade", "somewhere:main", "bring to today's form", "IN OUT")
TURN = Command(
    "turn",
    "somewhere:main",
    "turn a model",
    "",
    (Flag("model", "", "A net"), Flag("weights", "", "Its weights")),
    programs=(("turn", "somewhere:main"),),
)
Call = tuple[list[str], dict[str, Any]]


@pytest.fixture
def calls() -> list[Call]:
    return []


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (COPY_IT, SHOW, UPGRADE, TURN):
        monkeypatch.setitem(COMMANDS, command.name, command)


def run(calls: list[Call], *argv: str) -> int:
    return running.run("copy_it", lambda words, flags: calls.append((words, flags)), argv)


def test_arguments_and_flags(calls: list[Call]) -> None:
    assert run(calls, "a", "-n", "5", "b") == 0
    assert run(calls, "a", "b", "c") == 0
    (words, flags), (more, defaults) = calls
    assert (words, flags["n"]) == (["a", "b"], 5)
    assert (more, defaults["n"]) == (["a", "b", "c"], 3)


def test_the_command_lines_arguments(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["copy_it", "a", "b"])
    assert running.run("copy_it", lambda words, _: calls.append((words, {})), None) == 0
    assert calls[0][0] == ["a", "b"]


@pytest.mark.parametrize("argv", [[], ["a"], ["a", "b", "c", "d"]])
def test_too_few_or_too_many(calls: list[Call], messages: Messages, argv: list[str]) -> None:
    assert run(calls, *argv) == 1
    assert not calls
    said = messages()
    assert said[:4] == ["copy_it: Copies", "things.", "Usage:", "    copy_it [FLAGS] FROM TO [HOW]"]
    assert said[4] == "`copy_it --help` lists its flags."
    were = "was" if len(argv) == 1 else "were"
    assert said[-1] == f"F 2 to 3 arguments are needed, {len(argv)} {were} given."


@pytest.mark.parametrize(
    ("argv", "advice"),
    [
        (["a.prototxt", "b.caffemodel"], "Write --model=a.prototxt --weights=b.caffemodel."),
        (["a.prototxt", "b.onnx"], "Write --model=a.prototxt."),
        (["b.onnx"], "See `turn --help`."),
    ],
)
def test_flags_only(messages: Messages, argv: list[str], advice: str) -> None:
    assert running.run("turn", lambda *_: pytest.fail("it ran"), argv) == 1
    assert messages() == [f'F turn takes flags only, found "{argv[0]}". {advice}']


def test_any_number(calls: list[Call], messages: Messages) -> None:
    assert running.run("show", lambda words, _: calls.append((words, {})), ["a", "b", "c"]) == 0
    assert calls == [(["a", "b", "c"], {})]
    assert running.run("show", lambda words, _: None, []) == 2
    assert messages()[-1] == "F 1 or more arguments are needed, 0 were given."


def test_a_usage_of_one_line(messages: Messages) -> None:
    assert running.run("upgrade", lambda *_: None, ["a"]) == 1
    assert messages() == ["E Usage: caffe upgrade IN OUT"]


def test_help(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls, "-help") == 0
    out, err = capsys.readouterr()
    assert out.strip() == command_usage(COPY_IT).strip()
    assert "  Flags:\n    -n (How many) type: int32 default: 3" in out
    assert err == ""
    assert "[FLAGS]" not in command_usage(SHOW)
    assert not calls


def test_version(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls, "-version") == 0
    assert capsys.readouterr().out.startswith("copy_it of moka ")
    assert not calls


def test_flags_of_a_file(calls: list[Call], tmp_path: Path) -> None:
    (tmp_path / "flags").write_text("-n=8\n")
    assert run(calls, "a", "b", f"-flagfile={tmp_path / 'flags'}") == 0
    assert calls[0][1]["n"] == 8


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("it is broken.", file="x", advice="Mend it."), 1, "F x: it is broken. Mend it."),
        (OSError(28, "No space left", "out"), 1, "F out: No space left."),
        (OSError(28, "No space left"), 1, "F No space left."),
        (OSError("odd"), 1, "F odd"),
        (MemoryError(), 1, "F there is not enough memory."),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            1,
            "F there is not enough memory on the GPU: 2.00 GiB were asked for.",
        ),
        (KeyboardInterrupt(), 130, "E Interrupted."),
    ],
)
def test_errors(messages: Messages, error: BaseException, code: int, says: str) -> None:
    def fail(*_: object) -> None:
        raise error

    assert running.run("copy_it", fail, ["a", "b"]) == code
    assert messages() == [says]


def test_an_error_of_ours_is_not_hidden() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        running.run("copy_it", fail, ["a", "b"])


def test_errors_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert running.run("copy_it", lambda *_: None, []) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "copy_it: 2 to 3 arguments are needed, 0 were given."


def test_on_a_terminal_the_first_of_several_processes_tells_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        show_only("moka.team")
        raise UsageError("wrong.")

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert running.run("copy_it", fail, ["a", "b"]) == 1
    assert capsys.readouterr().err == ""


def test_the_log(messages: Messages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    def speak(*_: object) -> None:
        logging.getLogger("moka").debug("explained")
        logging.getLogger("moka").info("said")
        logging.getLogger("moka").error("cried")

    assert running.run("copy_it", speak, ["a", "b", "-v=1"]) == 0
    assert messages() == ["I explained", "I said", "E cried"]
    monkeypatch.setenv("GLOG_minloglevel", "1")
    for verbosity in ("1", "-1"):
        assert running.run("copy_it", speak, ["a", "b", f"-v={verbosity}"]) == 0
        assert messages() == ["E cried"]
    monkeypatch.delenv("GLOG_minloglevel")
    assert running.run("copy_it", speak, ["a", "b", "-minloglevel=2"]) == 0
    assert messages() == ["E cried"]
    assert running.run("copy_it", speak, ["a", "b", f"-log_dir={tmp_path}"]) == 0
    assert messages() == ["I said", "E cried"]
    assert "copy_it.INFO" in os.listdir(tmp_path)
    assert "said" in (tmp_path / "copy_it.INFO").read_text()


def test_the_process_keeps_freed_memory(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(running, "keep_freed_memory", lambda: asked.append(True))
    assert run(calls, "a", "b") == 0
    assert asked == [True]


def test_a_missing_file_is_a_sentence(messages: Messages) -> None:
    def read(*_: object) -> None:
        open("gone/file").close()

    assert running.run("copy_it", read, ["a", "b"]) == 1
    assert messages() == ["F gone/file: No such file or directory."]


def test_an_errors_own_exit_code(messages: Messages) -> None:
    def fail(*_: object) -> None:
        error = DataError("it is broken.")
        error.exit_code = 7
        raise error

    assert running.run("copy_it", fail, ["a", "b"]) == 7
    assert messages() == ["F it is broken."]


def test_the_functions_own_exit_code() -> None:
    def stop(*_: object) -> None:
        raise SystemExit(4)

    assert running.run("copy_it", stop, ["a", "b"]) == 4


def test_a_fault_in_a_users_layer_keeps_its_traceback(messages: Messages) -> None:
    def fail(*_: object) -> None:
        error = ZeroDivisionError("by zero")
        error.add_note('In layer "x" (Python).')
        raise error

    assert running.run("copy_it", fail, ["a", "b"]) == 1
    said = messages()
    assert said[0].startswith("Traceback")
    assert said[-1] == 'F ZeroDivisionError: by zero (In layer "x" (Python).)'


def test_names_that_standard_output_cannot_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where a file or pipe takes the letters of the country."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="cp1252"))
    assert running.run("copy_it", lambda *_: print("caf\xe9 \u732b"), ["a", "b"]) == 0
    sys.stdout.flush()
    assert out.getvalue().split() == [b"caf\xe9", b"\\u732b"]
