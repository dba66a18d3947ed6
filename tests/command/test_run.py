from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from moka.cli.flags import Flag
from moka.tools.program import Program

from moka.cli.main import TOOLS, tool
from moka.errors import DataError

if TYPE_CHECKING:
    from tests.tools.conftest import Messages

PROGRAM = Program("copy_it", "Copies\nthings.", "FROM TO [HOW]", (Flag("n", 3, "How many"),))
Call = tuple[list[str], dict[str, Any]]


@pytest.fixture
def calls() -> list[Call]:
    return []


def run(calls: list[Call], *argv: str) -> int:
    return PROGRAM.run(lambda words, flags: calls.append((words, flags)), argv)


def test_arguments_and_flags(calls: list[Call]) -> None:
    assert run(calls, "a", "-n", "5", "b") == 0
    assert run(calls, "a", "b", "c") == 0
    (words, flags), (more, defaults) = calls
    assert (words, flags["n"]) == (["a", "b"], 5)
    assert (more, defaults["n"]) == (["a", "b", "c"], 3)


def test_the_command_lines_arguments(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["copy_it", "a", "b"])
    assert PROGRAM.run(lambda words, _: calls.append((words, {})), None) == 0
    assert calls[0][0] == ["a", "b"]


@pytest.mark.parametrize("argv", [[], ["a"], ["a", "b", "c", "d"]])
def test_too_few_or_too_many(calls: list[Call], messages: Messages, argv: list[str]) -> None:
    assert run(calls, *argv) == 1
    assert not calls
    said = messages()
    assert said[:4] == ["copy_it: Copies", "things.", "Usage:", "    copy_it [FLAGS] FROM TO [HOW]"]
    were = "was" if len(argv) == 1 else "were"
    assert said[-1] == f"F 2 to 3 arguments are needed, {len(argv)} {were} given."


def test_one_is_singular(messages: Messages) -> None:
    assert Program("show", "Shows.", "FILE").run(lambda words, flags: None, []) == 1
    assert messages()[-1] == "F 1 argument is needed, 0 were given."


def test_help(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls, "-help") == 0
    out, err = capsys.readouterr()
    assert out.strip() == PROGRAM.usage().strip()
    assert "  Flags:\n    -n (How many) type: int32 default: 3" in out
    assert err == ""
    assert "Flags" not in Program("a", "b", "c").usage().replace("[FLAGS]", "Flags")
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
        (KeyboardInterrupt(), 130, "E Interrupted."),
    ],
)
def test_errors(messages: Messages, error: BaseException, code: int, says: str) -> None:
    def fail(*_: object) -> None:
        raise error

    assert PROGRAM.run(fail, ["a", "b"]) == code
    assert messages() == [says]


def test_an_error_of_ours_is_not_hidden() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        PROGRAM.run(fail, ["a", "b"])


def test_errors_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert PROGRAM.run(lambda *_: None, []) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "copy_it: 2 to 3 arguments are needed, 0 were given."


def test_the_log(messages: Messages, tmp_path: Path) -> None:
    import logging

    def speak(*_: object) -> None:
        logging.getLogger("moka").info("said")
        logging.getLogger("moka").error("cried")

    assert PROGRAM.run(speak, ["a", "b", "-minloglevel=2"]) == 0
    assert messages() == ["E cried"]
    assert PROGRAM.run(speak, ["a", "b", f"-log_dir={tmp_path}"]) == 0
    assert messages() == ["I said", "E cried"]
    assert "copy_it.INFO" in os.listdir(tmp_path)
    assert "said" in (tmp_path / "copy_it.INFO").read_text()


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_every_tool_is_there(name: str) -> None:
    assert callable(tool(name))
