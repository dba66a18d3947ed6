from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import moka
from moka.cli.main import main as caffe

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 %s } }
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good").mkdir()
    Path("good/net.prototxt").write_text(NET % "")
    Path("bad").mkdir()
    Path("bad/net.prototxt").write_text(NET % "no_such_thing: 1")


def test_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert caffe(["check", "good"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "good/net.prototxt: loads; 2 layers; 15 parameters; 0.0 M multiply-adds; from x 1x4;"
        " engine onnxruntime; exports to ONNX",
        "1 net loads.",
    ]
    assert said.err == ""


def test_anything_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert caffe(["check", "good", "bad"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("good/net.prototxt: loads")
    assert 'no field named "no_such_thing"' in lines[1]
    assert lines[2] == "1 net loads. 1 net fails."
    assert caffe(["check", "--unknown_fields=warn", "good", "bad"]) == 0
    assert "no_such_thing" in capsys.readouterr().out


def test_models_are_exported_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    moka.save_weights(moka.load("good/net.prototxt"), "good/net.caffemodel")
    assert caffe(["check", "--export", "good"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"exports to ONNX, differs by \S+ \(\S+ of the scale\) in y", line)
    assert sorted(path.name for path in Path("good").iterdir()) == [
        "net.caffemodel",
        "net.prototxt",
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert caffe(["check", "--json", "good", "bad"]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["file"], good["loads"], good["parameters"]) == ("good/net.prototxt", True, 15)
    assert (bad["loads"], bad["parameters"]) == (False, None)
    assert "no_such_thing" in bad["obstacle"]


def test_a_table_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for columns in ("60", "150"):
        monkeypatch.setenv("COLUMNS", columns)
        assert caffe(["check", "good"]) == 0
        out = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", capsys.readouterr().out)
        assert "┃ file" in out
        assert "15 parameters" in out or " 15 " in out
        assert out.splitlines()[-1] == "1 net loads."
        assert max(map(len, out.splitlines())) <= int(columns)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone"], "gone: No such file or directory."),
        (["good", "--unknown_fields=maybe"], "--unknown_fields is error or warn, not 'maybe'."),
        ([], "1 or more arguments are needed, 0 were given."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert caffe(["check", *words]) == 1
    assert says in capsys.readouterr().err
