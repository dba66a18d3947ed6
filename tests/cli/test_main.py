from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import moka
from moka.cli.main import main
from moka.command.actions import ACTIONS, TRAIN
from moka.command.pages import PAGES
from moka.command.table import COMMANDS, flags_of
from moka.command.tools import TOOLS

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe

    from moka.command.commands import Command


@pytest.mark.parametrize("argv", [[], ["-help"], ["help"]])
def test_usage(caffe: Caffe, argv: list[str]) -> None:
    run = caffe(*argv)
    assert run.code == 0
    assert "usage: caffe <command> <args>" in run.out
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", run.out, re.MULTILINE)
    for name in flags_of(TRAIN):
        assert f"    -{name} (" in run.out
    assert run.err == ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["train", "test"],
            'caffe train takes flags only, found "test". See `caffe train --help`.',
        ),
        (["train", "-quiet", "=", "true"], 'found "=". Leave no blanks around =.'),
        (["train", "-solver", "=", "s.prototxt"], "a blank and =. Leave no blanks around =."),
        (["train", "solver.prototxt"], 'found "solver.prototxt". See'),
    ],
)
def test_words_that_are_no_flags(caffe: Caffe, argv: list[str], says: str) -> None:
    run = caffe(*argv)
    assert run.code == 1
    assert says in run.messages("F")[0]
    assert run.out == ""


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_the_help_of_one_action(caffe: Caffe, action: Command) -> None:
    run = caffe(action.name, "--help")
    assert run == caffe("--help", action.name) == caffe("help", action.name)
    assert run.code == 0
    assert run.out.startswith(f"caffe {action.name}: {action.help}\nusage: caffe {action.name} <")
    own = run.out[: run.out.index("Flags of every command:")]
    assert re.findall(r"^    -(\w+) \(", own, re.MULTILINE) == sorted(f.name for f in action.flags)
    assert "-log_dir" in run.out


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_help_of_one_tool(caffe: Caffe, tool: Command) -> None:
    run = caffe(tool.name, "--help")
    assert run == caffe("help", tool.name)
    assert run.code == 0
    assert run.out.startswith(f"{tool.title}: ")
    assert tool.arguments in run.out
    for flag in tool.flags:
        assert f"-{flag.name} (" in run.out


def test_the_help_of_no_command(caffe: Caffe) -> None:
    assert caffe("help", "nothing").code == 1


def test_actions_accept_each_others_flags(caffe: Caffe) -> None:
    """As in Caffe's program: old scripts give what they do not need."""
    assert caffe("device_query", "--iterations=3", "--solver=x", "--phase=TEST").code == 0


def test_version(caffe: Caffe) -> None:
    assert caffe("--version").out == f"caffe version 1.0.0 (moka {moka.__version__})\n"


def test_an_unknown_action(caffe: Caffe) -> None:
    run = caffe("trian")
    assert run.code == 1
    assert run.messages("E")[0] == "Available caffe actions:"
    assert run.messages("F") == ['Unknown action: trian. Did you mean "train"?']
    run = caffe("upgrade_net_prototext")
    assert run.messages("F")[0].endswith('Did you mean "upgrade_net_proto_text"?')


def test_an_unknown_action_lists_all_commands(caffe: Caffe) -> None:
    run = caffe("frobnicate", "--what=3")
    assert run.code == 1
    names = [message.strip() for message in run.messages("E")[1:]]
    assert names == [*sorted(a.name for a in ACTIONS), *(c.name for c in (*TOOLS, *PAGES))]
    assert set(names) == set(COMMANDS)
    assert run.messages("F") == ["Unknown action: frobnicate."]  # nothing is near


def test_a_file_that_is_missing_is_one_sentence(caffe: Caffe, workspace: Path) -> None:
    """An OSError that no part has turned into an error of its own."""
    run = caffe("train", "--solver=solver.prototxt", "--replay=gone.replay")
    assert run.code == 1
    assert len(run.messages("F")) == 1
    assert "gone.replay" in run.messages("F")[0]
    assert "Traceback" not in run.err


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m moka help | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "caffe: command line brew\n"
    assert done.stderr == ""


def test_every_line_has_glogs_form(workspace: Path, caffe: Caffe) -> None:
    """But for the text of a message, which goes on in lines of its own."""
    run = caffe("train", "-solver", "gone.prototxt")
    assert len(run.messages()) == len(run.err.splitlines())


@pytest.mark.parametrize(("level", "wanted"), [("0", True), ("1", False), ("3", False)])
def test_glog_minloglevel(
    workspace: Path, caffe: Caffe, monkeypatch: pytest.MonkeyPatch, level: str, wanted: bool
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", level)
    run = caffe("train", "-solver", "gone.prototxt", "-gpu", "0")
    assert bool(run.messages("I")) is wanted or not run.messages("I")
    assert len(run.messages("F")) == 1
    run = caffe("time", "-model", "net.prototxt", "-iterations", "1")
    assert bool(run.messages("I")) is wanted


def test_on_a_terminal_an_error_is_one_plain_line(
    workspace: Path, caffe: Caffe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run = caffe("train")
    assert run.code == 1
    assert run.err == ("caffe: Need a solver definition to train. Give --solver=FILE.\n")


def test_the_program_leaves_the_process_as_it_was(workspace: Path, caffe: Caffe) -> None:
    loggers = [logging.getLogger(name) for name in ("moka", "moka.detail")]

    def state() -> list[object]:
        logging_state = [(log.handlers[:], log.level, log.propagate) for log in loggers]
        return [*logging_state, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)]

    before = state()
    assert caffe("train", "-solver", "solver.prototxt").code == 0
    assert caffe("train", "-solver", "gone.prototxt").code == 1
    assert state() == before


def test_argv_is_taken_from_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["caffe", "--version"])
    assert main() == 0
    assert "caffe version" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--version"], 0, "caffe version 1.0.0"),
        ([], 0, "usage: caffe <command> <args>"),
        (["trian"], 1, "Unknown action: trian"),
        (["train", "-solver", "gone.prototxt"], 1, "File not found: gone.prototxt"),
    ],
)
def test_as_a_process_of_its_own(tmp_path: Path, argv: list[str], code: int, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moka", *argv],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_flags_from_a_file(caffe: Caffe, tmp_path: Path) -> None:
    (tmp_path / "flags").write_text("# as for every run\n\n--version\n")
    run = caffe("--flagfile", str(tmp_path / "flags"))
    assert run.code == 0
    assert run.out.startswith("caffe version 1.0.0")
    assert caffe("--flagfile", str(tmp_path / "none")).code == 1


def test_less_to_read(caffe: Caffe, workspace: Path) -> None:
    run = caffe("train", "--solver=solver.prototxt", "--minloglevel=1", "--log_dir=.")
    assert run.code == 0
    assert not run.messages("I")


def test_more_to_read(caffe: Caffe, workspace: Path) -> None:
    said = "A step is recorded, and runs as one call from now on."
    assert said in caffe("train", "--solver=solver.prototxt", "--v=1").messages("I")
    assert said not in caffe("train", "--solver=solver.prototxt").messages("I")


def test_quiet(caffe: Caffe, workspace: Path) -> None:
    run = caffe("train", "--solver=solver.prototxt", "--quiet")
    assert run == (0, "", "")
    run = caffe("train", "--solver=gone.prototxt", "--quiet")
    assert (run.code, run.out, len(run.messages("F"))) == (1, "", 1)
    run = caffe("train", "--solver=gone.prototxt", "--quiet", "--minloglevel=2")
    assert len(run.messages("F")) == 1


def test_quiet_on_a_terminal(
    caffe: Caffe, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert caffe("train", "--solver=solver.prototxt", "--quiet") == (0, "", "")


def test_a_dash_in_a_commands_name(caffe: Caffe) -> None:
    assert "-gpu" in caffe("device-query", "-gpu", "x").messages("F")[0]


def test_usage_is_a_tidy_table(caffe: Caffe) -> None:
    out = caffe().out
    listed = out[out.index("commands:") : out.index("  Flags:")].splitlines()[1:-1]
    assert len({len(re.match(r"  \w+ +", line)[0]) for line in listed}) == 1  # type: ignore[index]


def test_unknown_fields(caffe: Caffe, workspace: Path) -> None:
    net = workspace / "net.prototxt"
    net.write_text(net.read_text() + "mystery_option: 3\n")
    argv = ["time", "-model", str(net), "-iterations", "1"]
    refused = caffe(*argv)
    assert refused.code == 1
    assert "pass --unknown_fields=warn" in refused.err
    run = caffe(*argv, "--unknown_fields=warn")
    assert run.code == 0
    assert 'has no field named "mystery_option": skipped.' in run.err
    wrong = caffe(*argv, "--unknown_fields=maybe")
    assert "--unknown_fields is error or warn, not 'maybe'" in wrong.err
