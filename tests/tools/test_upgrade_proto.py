from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from moka.cli.main import main as caffe
from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text, read_binary, read_text, write_binary
from moka.tools.upgrade_proto import (
    NET_BINARY,
    NET_TEXT,
    SOLVER_TEXT,
    ProtoFile,
    net_binary,
    net_text,
    solver_text,
    upgrade_file,
)

PROGRAMS = {
    "upgrade_net_proto_text": net_text,
    "upgrade_net_proto_binary": net_binary,
    "upgrade_solver_proto_text": solver_text,
}
OLD = 'layers { name: "r" type: RELU bottom: "x" top: "x" blobs { num: 2 height: 1 data: 3 } }'
NEW = 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" blobs { num: 2 height: 1 data: 3 } }'


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_net_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").write_text(OLD)
    assert net_text(["in", "out"]) == 0
    assert read_text("out", caffe_pb2.NetParameter) == net(NEW)
    assert read_text("in", caffe_pb2.NetParameter) == net(OLD)
    assert sorted(os.listdir()) == ["in", "out"]
    assert messages(capsys) == [
        "I Attempting to upgrade input file specified using deprecated V1LayerParameter: in",
        "I Successfully upgraded file specified using deprecated V1LayerParameter",
        "I Wrote upgraded NetParameter text proto to out",
    ]


def messages(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was logged: severity and text."""
    out, err = capsys.readouterr()
    assert out == ""
    return [re.sub(r"^([IEF])\d{4} .*?\] ", r"\1 ", line) for line in err.splitlines()]


def test_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    write_binary("in", net(OLD))
    assert net_binary(["in", "out"]) == 0
    assert read_binary("out", caffe_pb2.NetParameter) == net(NEW)
    assert messages(capsys)[-1] == "I Wrote upgraded NetParameter binary proto to out"


def test_a_solver(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").write_text("base_lr: 0.1 solver_type: ADAM")
    assert solver_text(["in", "out"]) == 0
    wanted = parse_text('base_lr: 0.1 type: "Adam"', caffe_pb2.SolverParameter)
    assert read_text("out", caffe_pb2.SolverParameter) == wanted
    assert messages(capsys)[-1] == "I Wrote upgraded SolverParameter text proto to out"


def test_a_file_may_be_upgraded_in_its_place() -> None:
    Path("in").write_text(OLD)
    assert upgrade_file(NET_TEXT, "in", "in")
    assert read_text("in", caffe_pb2.NetParameter) == net(NEW)


@pytest.mark.parametrize(
    ("program", "text"),
    [("upgrade_net_proto_text", NEW), ("upgrade_solver_proto_text", 'type: "Adam"')],
)
def test_todays_form_is_copied(capsys: pytest.CaptureFixture[str], program: str, text: str) -> None:
    Path("in").write_text(text)
    assert PROGRAMS[program](["in", "out"]) == 0
    assert messages(capsys)[0] == "E File already in latest proto format: in"
    kind = caffe_pb2.NetParameter if "net" in program else caffe_pb2.SolverParameter
    assert read_text("out", kind) == parse_text(text, kind)


def test_what_is_dropped_is_named_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in").write_text('layers { layer { name: "t" type: "tanh" pad: 1 stride: 2 } }')
    assert net_text(["in", "out"]) == 1
    assert read_text("out", caffe_pb2.NetParameter) == net('layer { name: "t" type: "TanH" }')
    said = messages(capsys)
    assert 'E Unknown parameter pad for layer type tanh (layer "t"); it is dropped.' in said
    assert 'E Unknown parameter stride for layer type tanh (layer "t"); it is dropped.' in said
    assert "E Encountered error(s) while upgrading prototxt; see details above." in said


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("argv", [[], ["in"], ["in", "out", "more"]])
def test_usage(capsys: pytest.CaptureFixture[str], program: str, argv: list[str]) -> None:
    assert PROGRAMS[program](argv) == 1
    files = {
        "upgrade_net_proto_text": "v0_net_proto_file_in net_proto_file_out",
        "upgrade_net_proto_binary": "v0_net_proto_file_in net_proto_file_out",
        "upgrade_solver_proto_text": "old_solver_proto_file_in solver_proto_file_out",
    }
    assert messages(capsys) == [f"E Usage: {program} {files[program]}"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_a_command_of_caffe_too(capsys: pytest.CaptureFixture[str], program: str) -> None:
    assert caffe([program]) == 1
    assert messages(capsys)[0].startswith(f"E Usage: {program}")
    assert caffe([]) == 0
    assert f"  {program} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "content", "parsed", "says"),
    [
        ("upgrade_net_proto_text", b"layer { nmae: 1 }", "text file as NetParameter", '"nmae"'),
        ("upgrade_net_proto_text", None, "text file as NetParameter", "File not found: in"),
        ("upgrade_net_proto_binary", b"name", "binary file as NetParameter", "not a complete"),
        ("upgrade_solver_proto_text", b"lr: 1", "text file as SolverParameter", '"lr"'),
    ],
)
def test_sources_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str],
    program: str,
    content: bytes | None,
    parsed: str,
    says: str,
) -> None:
    if content is not None:
        Path("in").write_bytes(content)
    assert PROGRAMS[program](["in", "out"]) == 2
    first, second = messages(capsys)
    assert first == f"E Failed to parse input {parsed}: in"
    assert second.startswith("F ")
    assert says in second
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (NET_TEXT, "layer { } layers { }"),
        (NET_TEXT, 'layers { layer { type: "magic" } }'),
        (SOLVER_TEXT, 'type: "Adam" solver_type: ADAM'),
    ],
)
def test_inconsistent_sources_leave_the_target_alone(kind: ProtoFile, content: str) -> None:
    Path("in").write_text(content)
    Path("out").write_text("old")
    with pytest.raises(SchemaError, match=r"^in: "):
        upgrade_file(kind, "in", "out")
    assert Path("out").read_text() == "old"
    program = net_text if kind is NET_TEXT else solver_text
    assert program(["in", "out"]) == 2


def test_a_target_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    write_binary("in", net(OLD))
    assert net_binary(["in", "gone/out"]) == 1
    assert messages(capsys)[-1] == "F gone/out: No such file or directory."
    with pytest.raises(FileNotFoundError):
        upgrade_file(NET_BINARY, "in", "gone/out")
