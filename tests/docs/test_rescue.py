"""The lines of docs/rescue.md run as they stand there, one after the other."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from tests.docs.blocks import DOCS, blocks_of, run_page, run_shell
from tests.layers.annotated_records import fill, record
from tests.opencv.cases import CHAIN, SSD, photo
from tests.opencv.record import write_nets

import moka
from moka.cli.main import main

PAGE = DOCS / "rescue.md"
DEPLOY = CHAIN.replace("dim: 9", "dim: 32")
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label"
        data_param { source: "nothing" batch_size: 4 backend: LMDB } }
"""
SCORED = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss" }
"""
MINE = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "scores"
        inner_product_param { num_output: 5 } }
"""
ANNOTATED = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  data_param { source: "train_lmdb" batch_size: 4 backend: LMDB }
  annotated_data_param { }
  transform_param { mirror: true mean_value: 104 mean_value: 117 mean_value: 123
    resize_param { prob: 1 resize_mode: WARP height: 16 width: 16 interp_mode: LINEAR }
    emit_constraint { emit_type: CENTER } } }
"""
LOSS = """
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "loss" type: "MultiBoxLoss" top: "loss"
        bottom: "loc_flat" bottom: "conf_flat" bottom: "prior" bottom: "label"
        propagate_down: true propagate_down: true propagate_down: false propagate_down: false
        multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE } }
"""
EVALUATE = """
layer { name: "detection_eval" type: "DetectionEvaluate" bottom: "found" bottom: "label"
        top: "detection_eval"
        detection_evaluate_param { num_classes: 3 background_label_id: 0 overlap_threshold: 0.5 } }
"""
SOLVER = """
train_net: "train.prototxt" test_net: "test.prototxt" test_iter: 2 test_interval: 4
eval_type: "detection" base_lr: 0.001 lr_policy: "fixed" max_iter: 4 snapshot_prefix: "tuned"
solver_mode: CPU
"""
AUGMENTED = {  # what the page says works: a part of ANNOTATED, and what asks for it instead
    "batch_sampler": ("data_param { }", "data_param { batch_sampler { max_sample: 1 } }"),
    "distort_param": (
        "mirror: true",
        "distort_param { brightness_prob: 0.5 brightness_delta: 9 }",
    ),
    "expand_param": ("mirror: true", "expand_param { prob: 0.5 max_expand_ratio: 2 }"),
    "noise_param": ("mirror: true", "noise_param { decolorize: true }"),
    "interp_mode": ("interp_mode: LINEAR", "interp_mode: LINEAR interp_mode: AREA"),
}


def section_of_page(start: str) -> str:
    """The section whose title starts so."""
    (found,) = [
        part for part in PAGE.read_text(encoding="utf-8").split("\n## ") if part.startswith(start)
    ]
    return found


def net_for_training() -> str:
    parts = re.findall(r"^layer .*?(?=^layer |\Z)", SSD, re.DOTALL | re.MULTILINE)
    kept = [
        p for p in parts if not re.search(r'name: "(data|conf_rows|conf_soft|conf_flat|found)"', p)
    ]
    return ANNOTATED + "".join(kept) + LOSS


def net_for_tests() -> str:
    return ANNOTATED.replace("mirror: true", "") + SSD[SSD.index('layer { name: "c1"') :] + EVALUATE


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with the files that the page's lines name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("deploy.prototxt").write_text(DEPLOY)
    net = moka.load("deploy.prototxt")
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, 0.01, 0.02)
    moka.save_weights(net, "net.caffemodel")
    layers = DEPLOY[DEPLOY.index('layer { name: "conv"') : DEPLOY.index('layer { name: "prob"')]
    Path("train_val.prototxt").write_text(DATA + layers + SCORED)
    write_nets(tmp_path)
    cv2.imwrite("photo.jpg", photo(40, 50))
    Path("mine.prototxt").write_text(MINE)
    Path("train.prototxt").write_text(net_for_training())
    Path("test.prototxt").write_text(net_for_tests())
    Path("solver.prototxt").write_text(SOLVER)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 20, 24)).astype(np.uint8)
    box = (0, 0.25, 0.25, 0.75, 0.75, False)
    fill(Path("train_lmdb"), [record(p, [(1 + k % 2, *box)]) for k, p in enumerate(pixels)])
    Path("script.py").write_text(
        "import cv2\n"
        "net = cv2.dnn.readNetFromCaffe('deploy.prototxt', 'net.caffemodel')\n"
        "print(net.getLayerNames()[-1])\n"
    )
    old = Path("old_models")
    old.mkdir()
    (old / "deploy.prototxt").write_text(
        DEPLOY.lstrip().replace("{ num_output: 4", "{ my_field: 3 num_output: 4")
    )
    for end in ("prototxt", "caffemodel"):
        shutil.copy(f"ssd.{end}", old / f"ssd.{end}")
    yield
    for module in ("plain", "back"):  # which the page's lines write
        sys.modules.pop(module, None)


def test_an_opencv_program(capfd: pytest.CaptureFixture[str]) -> None:
    names = run_page(section_of_page("My OpenCV program"))
    assert names["probabilities"].shape == (1, 5)
    assert capfd.readouterr().out == "prob\n"


def test_onnx() -> None:
    names = run_page(section_of_page("I have a caffemodel"))
    image = cv2.imread("photo.jpg")
    assert image is not None
    resized = cv2.resize(image, (32, 32)).astype(np.float32) - (104, 117, 123)
    x = torch.from_numpy(resized.transpose(2, 0, 1)[None]).float()
    want = moka.load("deploy.prototxt", "net.caffemodel")(data=x)["prob"].detach()
    np.testing.assert_allclose(names["scores"], want, atol=0.02)  # resized in another way
    np.testing.assert_allclose(names["program"].module()(x)["prob"].detach(), want, atol=1e-5)
    shapes = {}
    for name in ("fixed", "ssd", "one"):
        session = names["onnxruntime"].InferenceSession(f"{name}.onnx")
        shapes[name] = session.get_inputs()[0].shape
    assert shapes["fixed"] == [1, 3, 32, 32]
    assert shapes["ssd"][1:] == [3, 24, 32]
    assert [out.name for out in session.get_outputs()] == ["prob"]
    (scores,) = (
        names["onnxruntime"].InferenceSession("made.onnx").run(["prob"], {"data": x.numpy()})
    )
    np.testing.assert_allclose(scores, want, atol=1e-5)
    assert Path("half.onnx").stat().st_size < Path("net.onnx").stat().st_size


def test_a_converter_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    check, says, skip = blocks_of(section_of_page("My converter fails"))
    assert run_shell(check.text) == [1]
    assert capsys.readouterr().out == says.text
    assert run_shell(skip.text) == [0, 0]
    assert "2 nets load." in capsys.readouterr().out
    assert Path("rescued.onnx").exists()


def test_a_detector_to_fine_tune(capsys: pytest.CaptureFixture[str]) -> None:
    run_page(section_of_page("I want to fine-tune"))
    assert "Test net output #0: detection_eval = " in capsys.readouterr().err
    before, after = (
        moka.load("ssd.prototxt", weights).state_dict()["c1.weight"]
        for weights in ("ssd.caffemodel", "tuned_iter_4.caffemodel")
    )
    assert 0 < (before - after).abs().max() < 0.5  # it went on from the weights given
    with lmdb.open("my_lmdb") as database, database.begin() as reader:
        Path("train.prototxt").write_text(net_for_training().replace("train_lmdb", "my_lmdb"))
        assert reader.stat()["entries"] == 1
    assert main(["train", "--solver=solver.prototxt", "--quiet"]) == 0


@pytest.mark.parametrize("option", AUGMENTED)
def test_what_training_asks_for(option: str) -> None:
    """The page says that it works; it does."""
    assert f"`{option}`" in PAGE.read_text("utf-8")
    old, new = AUGMENTED[option]
    assert ANNOTATED.count(old) == 1
    Path("train.prototxt").write_text(net_for_training().replace(old, new))
    assert main(["train", "--solver=solver.prototxt", "--quiet"]) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.onnx.export
def test_a_pytorch_model() -> None:
    (names_file,) = (
        b for b in blocks_of(section_of_page("I have a PyTorch model")) if b.language == "text"
    )
    Path("names.txt").write_text(names_file.text)
    names = run_page(section_of_page("I have a PyTorch model"))
    x = torch.rand(2, 3, 32, 32)
    want = names["model"](x)
    for name in ("imported", "older", "mine"):
        net = moka.load(f"{name}.prototxt", f"{name}.caffemodel")
        torch.testing.assert_close(net(data=x)["scores"], want, atol=1e-5, rtol=1e-4)
    from back import load  # type: ignore[import-not-found]

    torch.testing.assert_close(load()(x), want, atol=1e-5, rtol=1e-4)
    assert "round_mode" not in Path("older.prototxt").read_text()
    assert Path("back_safe.py").exists()
