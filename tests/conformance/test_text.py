"""The program says what BVLC Caffe's says; README.md tells how a text is compared."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from moka.cli.main import main

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("text/*/cmd.json"))
PREFIX = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6}\s+\d+ [\w./\\-]+:\d+\] ")
SPEED = re.compile(r"\([^()]* iter/s, [^()]*s/\d+ iters\)|[-+.\de]+ ms")
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)(?![\w.])")


def selected(log: str, patterns: Sequence[str]) -> list[str]:
    """The messages that match one of the patterns, in order."""
    messages = [PREFIX.sub("", line) for line in log.splitlines() if PREFIX.match(line)]
    return [m for m in messages if any(re.search(p, m) for p in patterns)]


def split_numbers(message: str) -> tuple[str, list[float]]:
    """A message with a mark for each number and without times; and the numbers."""
    message = SPEED.sub("<time>", message)
    return NUMBER.sub("#", message), [float(n) for n in NUMBER.findall(message)]


def check_lines(got: list[str], recorded: list[str]) -> None:
    for mine, theirs in zip(got, recorded, strict=False):
        words, numbers = split_numbers(mine)
        wanted_words, wanted_numbers = split_numbers(theirs)
        assert words.split() == wanted_words.split()
        assert numbers == pytest.approx(wanted_numbers, rel=1e-3, abs=1e-5, nan_ok=True), theirs
    assert recorded
    assert len(got) == len(recorded)


def table(log: str, phase: str) -> list[tuple[int, str, float]]:
    """(iteration, output, value) as readers of logs see them; `lr` counts as a train output."""
    rows: list[tuple[int, str, float]] = []
    iteration = -1
    for message in selected(log, [""]):
        if found := re.match(r"Iteration (\d+)", message):
            iteration = int(found[1])
        if found := re.match(rf"\s+{phase} net output #\d+: (\S+) = (\S+)", message):
            rows.append((iteration, found[1], float(found[2])))
        found = re.match(r"Iteration \d+, lr = (\S+)", message)
        if found and phase == "Train":
            rows.append((iteration, "lr", float(found[1])))
    return rows


def check_table(got: str, recorded: str, phase: str) -> None:
    mine, theirs = table(got, phase), table(recorded, phase)
    assert theirs
    assert [row[:2] for row in mine] == [row[:2] for row in theirs]
    assert [row[2] for row in mine] == pytest.approx([row[2] for row in theirs], rel=1e-3, abs=1e-5)


def check_csv(got: str, recorded: list[list[str]]) -> None:
    header, *rows = csv.reader(got.splitlines())
    assert header == recorded[0]
    assert len(rows) == len(recorded[1:])
    for mine, theirs in zip(rows, recorded[1:], strict=True):
        assert list(map(float, mine)) == pytest.approx(list(map(float, theirs)), rel=1e-6)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_text(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if (folder / "work").is_dir():
        shutil.copytree(folder / "work", tmp_path, dirs_exist_ok=True)
    command: dict[str, Any] = json.loads((folder / "cmd.json").read_text())
    check = command["check"]
    program, *argv = command["argv"]
    code = main(argv if program == "caffe" else [program, *argv])  # a tool is a command too
    out, err = capsys.readouterr()
    recorded = (folder / "stderr.txt").read_text()
    if not check.get("any_exit"):
        assert (code == 0) == (command["exit"] == 0)
    said = " ".join(f"{out} {err}".split())
    for fragment in check.get("contains", ()):
        assert " ".join(fragment.split()) in said
    if patterns := check.get("lines"):
        check_lines(selected(err, patterns), selected(recorded, patterns))
    if check.get("tables"):
        check_table(err, recorded, "Train")
        check_table(err, recorded, "Test")
    for name, rows in check.get("csv", {}).items():
        check_csv(Path(name).read_text(), rows)
    for name in check.get("creates", ()):
        assert Path(name).exists()
