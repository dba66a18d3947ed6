from __future__ import annotations

from pathlib import Path

import pytest

from moka.cli.main import main as program
from moka.tools.draw_net import main

NET = """
name: "small"
layer { name: "d" type: "Data" top: "x" include { phase: TRAIN } }
layer { name: "c" type: "InnerProduct" bottom: "x" top: "c" }
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?"), ("dot", b"di")])
def test_pictures(suffix: str, start: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["draw_net", "net.prototxt", f"x.{suffix}"]) == 0
    assert Path(f"x.{suffix}").read_bytes().startswith(start)
    assert capsys.readouterr().out == f"Drawing net to x.{suffix}\n"


def test_flags() -> None:
    assert main(["net.prototxt", "x.dot"]) == 0
    plain = Path("x.dot").read_text()
    assert "rankdir=LR" in plain
    assert "(Data)" in plain
    assert "lr mult" not in plain
    flags = ["--rankdir", "TB", "--phase", "TEST", "--display_lrm"]
    assert main(["net.prototxt", "x.dot", *flags]) == 0
    text = Path("x.dot").read_text()
    assert "rankdir=TB" in text
    assert "(Data)" not in text
    assert "lr mult: 1.0, 1.0" in text


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["net.prototxt", "x.xyz"], "not '.xyz'."),
        (["net.prototxt", "x"], "not '.'."),
        (["gone.prototxt", "x.png"], "File not found: gone.prototxt"),
        (["net.prototxt", "x.png", "--rankdir", "XY"], "net.prototxt: rankdir is one of LR, RL"),
        (["net.prototxt", "x.png", "--phase", "BOTH"], "--phase is TRAIN, TEST or ALL, found"),
        (["net.prototxt", "no/x.png"], "No such file or directory."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert main(argv) == 1
    assert says in capsys.readouterr().err
