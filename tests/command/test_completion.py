"""The scripts that complete command lines; bash's is run."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from moka.command.completion import SHELLS, bash, fish, main, zsh
from moka.command.table import COMMANDS

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def completed(*words: str, function: str = "_caffe") -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    text = (
        f"{bash()}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; {function};"
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@needs_bash
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["caffe", "tr"], ["train"]),
        (["caffe", ""], [*COMMANDS, "help"]),
        (["caffe", "help", "dev"], ["device_query"]),
        (["caffe", "train", "--sol"], ["--solver"]),
        (["caffe", "train", "--sig"], ["--sigint_effect", "--sighup_effect"]),
        (["caffe", "time", "--phase", "T"], ["TRAIN", "TEST"]),
        (["caffe", "time", "--phase", "=", "TE"], ["TEST"]),
        (["caffe", "time", "--phase", "="], ["TRAIN", "TEST"]),
        (["caffe", "db", ""], ["info", "head", "verify"]),
        (["caffe", "completion", "f"], ["fish"]),
        (["caffe", "train", "file"], []),  # bash then offers files
        (["caffe", "nothing", "--x"], []),
    ],
)
def test_bash(words: list[str], wanted: list[str]) -> None:
    assert sorted(completed(*words)) == sorted(wanted)


@needs_bash
def test_bash_completes_the_old_programs() -> None:
    found = completed("/bin/draw_net", "--rankdir", "T", function="_caffe_program")
    assert found == ["TB"]
    assert completed("download_model_binary", "--log_d", function="_caffe_program") == ["--log_dir"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_the_script(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    script = SHELLS[shell]()
    done = subprocess.run(
        [program, "-n"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_zsh_and_fish_know_every_flag() -> None:
    for command in COMMANDS.values():
        for flag in command.flags:
            assert f"--{flag.name}" in zsh()
            assert f"-l {flag.name}" in fish()
        assert f"'{command.name}:" in zsh()
        assert f"-a {command.name} -d" in fish()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell]) == 0
    assert capsys.readouterr().out == SHELLS[shell]()


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bsh"]) == 1
    assert 'Did you mean "bash"?' in capsys.readouterr().err
