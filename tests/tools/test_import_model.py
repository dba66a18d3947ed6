from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.importer.onnx_models import random, write
from tests.messages import Messages

from moka.api import load
from moka.cli.main import main as caffe
from moka.errors import UsageError
from moka.tools.import_model import main, parse_shapes

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 2 } }
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    nodes: list[Any] = [("Conv", "x w", "a", {}), ("Relu", "a", "y", {})]
    write(Path("x.onnx"), nodes, {"w": random(3, 4, 2, 2)}, shape=("n", 4, "h", "w"))


def test_a_net(capsys: pytest.CaptureFixture[str]) -> None:
    assert caffe(["import", "x.onnx", "-o", "made.prototxt", "--input_shape=1,4,6,5"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ONNX Runtime and Moka differ on random input by ")
    assert second == (
        "Wrote made.prototxt, 3 layers, and made.caffemodel. Batches may have any size."
    )
    net = load("made.prototxt", "made.caffemodel")
    weight = torch.from_numpy(random(3, 4, 2, 2))
    assert torch.equal(net.layers[1].blobs[0], weight)


def test_weights(capsys: pytest.CaptureFixture[str]) -> None:
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), "x.pt")
    Path("map.txt").write_text("ip.weight weight\nip.bias bias\n")
    flags = ["--model=net.prototxt", "--map=map.txt", "-o", "made.caffemodel"]
    assert main(["x.pt", *flags]) == 0
    assert capsys.readouterr().out == "Wrote made.caffemodel.\n"
    x = torch.randn(1, 3)
    torch.testing.assert_close(load("net.prototxt", "made.caffemodel")(x)["ip"], module(x))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["x.onnx"], "F --output is missing. Name the file to write, such as -o net.prototxt."),
        (
            ["x.onnx", "-o", "made.prototxt", "--map=m"],
            "F --map goes with --model, the net that takes the weights.",
        ),
        (
            ["x.onnx", "-o", "made.caffemodel"],
            "F --output is the .prototxt; the .caffemodel is written beside it.",
        ),
        (
            ["x.onnx", "-o", "made.prototxt"],
            "F x.onnx: its input x has the shape (1, 4, ?, ?), and Caffe needs every size. Give"
            " them with --input_shape, such as 1,3,224,224.",
        ),
        (
            ["x.onnx", "-o", "made.prototxt", "--input_shape=1x3"],
            "F --input_shape 1x3 is no shape. Write 1,3,224,224, or NAME:1,3,224,224 with ; between"
            " several.",
        ),
        (
            ["net.caffemodel", "-o", "made.prototxt"],
            "F net.caffemodel is Caffe's already. `caffe export` writes ONNX and PyTorch; `caffe"
            " import` reads them.",
        ),
        (["no.onnx", "-o", "made.prototxt"], "F no.onnx: No such file or directory."),
        (
            ["x.onnx", "-o", "no/made.prototxt", "--input_shape=1,4,6,5"],
            "F no/made.prototxt: No such file or directory.",
        ),
    ],
)
def test_bad_input(argv: list[str], sentence: str, messages: Messages) -> None:
    before = set(Path().rglob("*"))
    assert main(argv) == 1
    assert messages()[-1] == sentence
    assert set(Path().rglob("*")) == before


def test_nothing_is_left_if_the_net_cannot_be_written(messages: Messages) -> None:
    Path("made.prototxt").mkdir()
    assert main(["x.onnx", "-o", "made.prototxt", "--input_shape=1,4,6,5"]) == 1
    assert messages()[-1] == "F made.prototxt: Is a directory."
    assert not Path("made.caffemodel").exists()


def test_a_folder_that_is_not_there_is_found_before_the_work(
    messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moka.tools.import_model.import_onnx", lambda *a, **k: pytest.fail("late"))
    assert main(["x.onnx", "-o", "no/made.prototxt", "--input_shape=1,4,6,5"]) == 1
    assert messages()[-1] == "F no/made.prototxt: No such file or directory."


def test_shapes() -> None:
    assert parse_shapes("") == {}
    assert parse_shapes("1,3,8,8") == {"": (1, 3, 8, 8)}
    assert parse_shapes("a:1,3; b:2,4") == {"a": (1, 3), "b": (2, 4)}
    with pytest.raises(UsageError):
        parse_shapes("a:")
