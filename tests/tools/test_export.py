from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from tests.export.conftest import random_weights
from tests.messages import Messages

from moka.cli.main import main as caffe
from moka.errors import UsageError
from moka.net import build_net
from moka.tools.export import main, open_net
from moka.weights import save_weights

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""
TRAIN_TEST = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "a_database_that_is_not_here" batch_size: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
FILES = ["--model=net.prototxt", "--weights=net.caffemodel", "-o", "net.onnx"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(NET)


def write(text: str, *shape: str) -> None:
    Path("net.prototxt").write_text(text)
    net = open_net("net.prototxt", *shape)
    save_weights(random_weights(net), "net.caffemodel")


def test_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert caffe(["export", *FILES]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "Wrote net.onnx: 3 nodes, 0.0 MB.",
        "Input data (N, 3, 6, 6)",
        "Output prob (N, 4, 1, 1)",
    ]
    assert lines[3].startswith("ONNX Runtime and Moka differ on random input by ")


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.txt").write_text("a\nb\nc\nd\n")
    cv2.imwrite("image.png", np.full((9, 8, 3), 7, np.uint8))
    flags = ["--opset=15", "--batch=3", "--outputs=prob,conv", "--half", "--labels=labels.txt"]
    flags += ["--mean=104,117,123", "--scale=0.1", "--channel_swap=2,1,0", "--resize"]
    flags += ["--check_image=image.png", "--input_shape=5,3,12,14"]
    assert main([*FILES, *flags]) == 0
    out = capsys.readouterr().out
    assert "Input data (3, H, W, 3)\nOutput prob (3, 4, 1, 1)\nOutput conv (3, 4, 10, 12)\n" in out
    assert "differ on the image by" in out
    model = onnx.load("net.onnx")
    assert model.opset_import[0].version == 15
    facts = {fact.key: fact.value for fact in model.metadata_props}
    assert facts["weights"] == "net.caffemodel"
    assert facts["source"] == "net.prototxt"
    assert facts["labels"] == "a\nb\nc\nd"


def test_a_mean_from_a_file() -> None:
    np.save("mean.npy", np.ones((3, 6, 6), np.float32))
    assert main([*FILES, "--mean=mean.npy"]) == 0


def test_the_net_of_a_training_run(capsys: pytest.CaptureFixture[str]) -> None:
    write(TRAIN_TEST, "data:4,3,2,2")
    assert main([*FILES, "--input_shape=data:4,3,2,2"]) == 0
    assert "Input data (N, 3, 2, 2)\nOutput ip (N, 5)\n" in capsys.readouterr().out


def test_weights_of_another_net(messages: Messages) -> None:
    text = Path("net.prototxt").read_text()
    Path("other.prototxt").write_text(text.replace('name: "', 'name: "other_'))
    assert main(["--model=other.prototxt", FILES[1], *FILES[2:]]) == 1
    assert messages()[-1].startswith(
        "F net.caffemodel: it has no parameters for any layer of this net. Layers with parameters"
        " are other_"
    )
    assert not Path("net.onnx").exists()


def test_shapes_by_name() -> None:
    Path("two.prototxt").write_text("""
    layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }
    """)
    net = open_net("two.prototxt", "a:4,5;b:4,5")
    assert net.blobs["c"].shape == (4, 5)
    with pytest.raises(UsageError, match=r"names 'q', which is no input: they are a, b\."):
        open_net("two.prototxt", "q:1")
    for text in ("1,x", "0,3", ""):
        if text:
            with pytest.raises(UsageError, match="input_shape takes"):
                open_net("two.prototxt", text)
    assert build_net("two.prototxt").blobs["c"].shape == (2, 3)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (FILES[1:], "F --model is missing. See `caffe export --help`."),
        (FILES[:3], "F flag 'o' is missing its argument."),
        (
            [*FILES, "-o", "net.xyz"],
            'F "net.xyz" does not end like a file of a known format: .onnx, .py, .pt, .safetensors.'
            " Name the format.",
        ),
        (
            [*FILES, "--format=onx"],
            'F unknown format "onx" (known: onnx, torch, safetensors). Did you mean "onnx"?',
        ),
        (
            [*FILES, "--format=torch", "--half"],
            "F --half is an option of the format onnx alone.",
        ),
        ([*FILES, "--batch=many"], "F --batch takes a number > 0 or 'dynamic', found 'many'."),
        (
            [*FILES, "--outputs=prop"],
            'F net.prototxt: no layer makes a blob "prop" to give out. Did you mean "prob"?',
        ),
    ],
)
def test_bad_input(flags: list[str], sentence: str, messages: Messages) -> None:
    assert main(flags) == 1
    assert messages()[-1] == sentence
    assert not Path("net.onnx").exists()
