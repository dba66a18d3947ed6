"""The scripts run on a model of the test's own: 61 million weights would take too long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import caffe

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples

SIDE = 32  # pixels
CLASSES = 4
BODY = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 }
  convolution_param { num_output: 8 kernel_size: 5 stride: 2
    weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc6" type: "InnerProduct" bottom: "pool1" top: "fc6" param { lr_mult: 1 }
  inner_product_param { num_output: 16 weight_filler { type: "gaussian" std: 0.02 } } }
layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
layer { name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7" param { lr_mult: 1 }
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.02 } } }
"""
DEPLOY = (
    'name: "tiny" layer { name: "data" type: "Input" top: "data"'
    f" input_param {{ shape {{ dim: 10 dim: 3 dim: {SIDE} dim: {SIDE} }} }} }}"
    + BODY
    + 'layer { name: "prob" type: "Softmax" bottom: "fc7" top: "prob" }'
)
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: PHASE }
  transform_param { crop_size: 32 mean_file: "data/ilsvrc12/imagenet_mean.binaryproto" }
  data_param { source: "lmdb" batch_size: 256 backend: LMDB } }
"""
ENDS = """
layer { name: "accuracy" type: "Accuracy" bottom: "fc7" bottom: "label" top: "accuracy"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc7" bottom: "label" top: "loss" }
"""


@pytest.fixture
def model(copy_examples: CopyExamples) -> Path:
    """The folder of a model as the zoo's are: deploy.prototxt, train_val.prototxt and weights."""
    copy_examples("pycaffe")
    folder = Path("models/tiny")
    folder.mkdir(parents=True)
    (folder / "deploy.prototxt").write_text(DEPLOY)
    data = "".join(DATA.replace("PHASE", phase) for phase in ("TRAIN", "TEST"))
    (folder / "train_val.prototxt").write_text(f'name: "tiny" {data} {BODY} {ENDS}')
    caffe.set_random_seed(7)
    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    net.save(str(folder / "tiny.caffemodel"))
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The names of the model's classes, as ImageNet's are."""
    file = tmp_path / "words.txt"
    names = ("tulip, flower", "pagoda", "tabby cat, tabby", "barn")
    file.write_text("".join(f"n0000000{i} {name}\n" for i, name in enumerate(names)))
    return file


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture of 60 x 48 noisy pixels."""
    import cv2

    file = tmp_path / "image.png"
    ramp = np.linspace(0, 200, 60)[None, :, None] + np.zeros((48, 60, 3))
    noise = np.random.default_rng(0).integers(0, 55, ramp.shape)
    cv2.imwrite(str(file), (ramp + noise).astype(np.uint8))
    return file
