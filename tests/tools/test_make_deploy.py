from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from moka.cli.main import main as command_line
from moka.net import read_net
from moka.tools.make_deploy import main

MODELS = Path(__file__).parents[2] / "models"
TRAINED = """
name: "small"
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { mirror: true } data_param { source: "gone" batch_size: 5 } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { scale: 0.5 mean_value: 7 } data_param { source: "gone" batch_size: 5 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 3 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SHAPED = """
name: "small"
input: "data" input_shape { dim: 2 dim: 1 dim: 10 dim: 10 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train_val.prototxt").write_text(TRAINED)


def test_the_weights_of_the_trained_net_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """They also tell how large images are whose data is gone."""
    Path("shaped.prototxt").write_text(SHAPED.replace("dim: 10 dim: 10", "dim: 28 dim: 28"))
    known = caffe.Net("shaped.prototxt", caffe.TEST)
    known.save("net.caffemodel")
    assert main(["train_val.prototxt", "deploy.prototxt", "--weights=net.caffemodel"]) == 0
    prepared = "transform_param { scale: 0.5 mean_value: 7.0 }"
    assert capsys.readouterr().out == (
        'Wrote deploy.prototxt: input "data" is 1 x 28 x 28; it gives prob.\n'
        f"Prepare images as its data layer does: {prepared}\n"
    )
    assert Path("deploy.prototxt").read_text().startswith(f"# Images are prepared by {prepared}\n")
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="net.caffemodel")
    images = np.random.default_rng(1).random((2, 1, 28, 28), np.float32)
    scores = net.forward_all(data=images)["prob"]
    np.testing.assert_allclose(scores, known.forward(data=images)["prob"], rtol=1e-5)


def test_nothing_tells_the_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["make_deploy", "train_val.prototxt", "deploy.prototxt"]) == 0
    captured = capsys.readouterr()
    assert "Nothing tells the size of its images" in captured.err
    assert "--input_shape=1,3,224,224" in captured.err
    assert 'input "data" is 3 x 224 x 224; it gives prob.' in captured.out


def test_the_size_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train_val.prototxt", "deploy.prototxt", "--input_shape=9,1,12,14"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert 'input "data" is 1 x 12 x 14; it gives prob.' in captured.out
    assert "size" not in captured.err


def test_a_model_of_the_zoo(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = MODELS / "bvlc_reference_caffenet"
    assert main([str(source / "train_val.prototxt"), "made.prototxt"]) == 0
    assert 'input "data" is 3 x 227 x 227; it gives prob.' in capsys.readouterr().out
    made, own = read_net("made.prototxt")[0], read_net(source / "deploy.prototxt")[0]
    assert [layer.name for layer in made.layer] == [layer.name for layer in own.layer]


def test_the_source_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train_val.prototxt", "train_val.prototxt"]) == 1
    assert "train_val.prototxt would be overwritten." in capsys.readouterr().err
    assert Path("train_val.prototxt").read_text() == TRAINED


def test_a_net_for_use(capsys: pytest.CaptureFixture[str]) -> None:
    Path("use.prototxt").write_text(SHAPED)
    assert main(["use.prototxt", "deploy.prototxt"]) == 1
    assert "use.prototxt has inputs already (data): it is a net for use." in capsys.readouterr().err
    assert not Path("deploy.prototxt").exists()


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (
            'type: "Python" python_param { module: "voc_layers" layer: "VOCSegDataLayer" }',
            'the data comes from the Python layer "d", whose shapes nothing tells. Write an Input',
        ),
        ('type: "Parameter" parameter_param { shape { dim: 1 dim: 3 } }', "reads no data"),
    ],
)
def test_data_of_other_layers(capsys: pytest.CaptureFixture[str], layer: str, told: str) -> None:
    text = f"""layer {{ name: "d" top: "x" {layer} }}
    layer {{ name: "y" type: "TanH" bottom: "x" top: "y" }}"""
    Path("other.prototxt").write_text(text)
    assert main(["other.prototxt", "deploy.prototxt"]) == 1
    assert told in capsys.readouterr().err


def test_label_images_have_a_layer_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    images = """
    layer { name: "%s" type: "ImageData" top: "%s" top: "%s" transform_param { scale: %s }
      image_data_param { source: "none" batch_size: 1 new_height: 9 new_width: 7 } }
    """
    score = """
    layer { name: "score" type: "Convolution" bottom: "data" top: "score"
            convolution_param { num_output: 2 kernel_size: 1 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
    """
    text = images % ("a", "data", "x", 0.5) + images % ("b", "label", "z", 1) + score
    Path("train_val.prototxt").write_text(text)
    assert main(["train_val.prototxt", "deploy.prototxt"]) == 0
    out = capsys.readouterr().out
    assert 'input "data" is 3 x 9 x 7; it gives prob.' in out
    assert "transform_param { scale: 0.5 }" in out


def test_a_net_for_training_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """As SSD's train.prototxt, whose loss has no layer that predicts."""
    text = TRAINED.replace("{ phase: TEST }", "{ phase: TRAIN stage: 'never' }")
    text = text.replace("SoftmaxWithLoss", "HingeLoss")
    Path("train.prototxt").write_text(text.replace('name: "accuracy"', 'name: "a"'))
    assert main(["train.prototxt", "deploy.prototxt", "--input_shape=1,1,6,6"]) == 0
    captured = capsys.readouterr()
    assert "train.prototxt has no net for testing: its net for training is taken." in captured.err
    assert 'No layer predicts in place of the loss "loss" (HingeLoss)' in captured.err
    assert 'input "data" is 1 x 6 x 6; it gives ip.' in captured.out


def test_data_that_a_program_gives(capsys: pytest.CaptureFixture[str]) -> None:
    """As in nets for reinforcement learning: the layer tells the shape of what it is given."""
    sizes = "memory_data_param { batch_size: %d channels: %d height: 5 width: 6 }"
    text = f"""
    layer {{ name: "a" type: "MemoryData" top: "frames" top: "x" {sizes % (32, 4)} }}
    layer {{ name: "b" type: "MemoryData" top: "target" top: "y" {sizes % (32, 2)} }}
    layer {{ name: "q" type: "Convolution" bottom: "frames" top: "q"
            convolution_param {{ num_output: 2 kernel_size: 1 }} }}
    layer {{ name: "loss" type: "EuclideanLoss" bottom: "q" bottom: "target" top: "loss" }}
    """
    Path("dqn.prototxt").write_text(text)
    assert main(["dqn.prototxt", "deploy.prototxt"]) == 0
    assert 'input "frames" is 4 x 5 x 6; it gives q.' in capsys.readouterr().out
    assert list(read_net("deploy.prototxt")[0].layer[0].input_param.shape[0].dim) == [1, 4, 5, 6]


def test_files_of_results_are_left_out() -> None:
    text = """
    layer { name: "data" type: "Data" top: "data" top: "label"
            data_param { source: "gone" batch_size: 1 } }
    layer { name: "loc" type: "Flatten" bottom: "data" top: "loc" }
    layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "loc" bottom: "priors"
            top: "found" detection_output_param { num_classes: 4
              save_output_param { output_directory: "out" } } }
    layer { name: "priors" type: "DummyData" top: "priors"
            dummy_data_param { shape { dim: 1 dim: 2 dim: 4 } } }
    """
    layers = text.split("layer {")
    Path("t.prototxt").write_text("layer {".join([*layers[:2], layers[-1], *layers[2:-1]]))
    assert main(["t.prototxt", "deploy.prototxt", "--input_shape=1,1,2,2"]) == 0
    made = read_net("deploy.prototxt")[0]
    assert made.layer[-1].detection_output_param.num_classes == 4
    assert not made.layer[-1].detection_output_param.HasField("save_output_param")
