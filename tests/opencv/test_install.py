from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.opencv.cases import photo
from tests.opencv.record import write_nets

import moka.opencv
from moka.opencv import (
    ClassificationModel,
    DetectionModel,
    KeypointsModel,
    Model,
    Net,
    SegmentationModel,
)

cv2: Any = importlib.import_module("cv2")  # of any version
NAMES = [
    "readNetFromCaffe", "readNet", "Model", "ClassificationModel", "DetectionModel",
    "KeypointsModel", "SegmentationModel",
]  # fmt: skip
FORGOTTEN = ["shrinkCaffeModel", "DNN_BACKEND_HALIDE"]  # by OpenCV 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nets")
    write_nets(made)
    return made


@pytest.fixture
def installed() -> Iterator[None]:
    moka.opencv.install()
    yield
    moka.opencv.uninstall()


def opencvs_own() -> list[object]:
    return [
        *(getattr(cv2.dnn, name, None) for name in NAMES + FORGOTTEN),
        *(getattr(cv2, f"dnn_{name}") for name in NAMES[2:]),
    ]


def test_install_can_be_repeated_and_undone() -> None:
    before = opencvs_own()
    moka.opencv.install()
    during = opencvs_own()
    moka.opencv.install()
    assert opencvs_own() == during
    assert not set(map(id, before)) & set(map(id, during))
    moka.opencv.uninstall()
    assert opencvs_own() == before
    moka.opencv.uninstall()
    assert opencvs_own() == before


@pytest.mark.usefixtures("installed")
def test_a_program_for_opencv_4(folder: Path) -> None:
    text, weights = str(folder / "ssd.prototxt"), str(folder / "ssd.caffemodel")
    nets = [
        cv2.dnn.readNetFromCaffe(text, weights),
        cv2.dnn.readNet(weights, text),
        cv2.dnn.readNet(config=weights, model=text),
        cv2.dnn.readNet("caffe", np.fromfile(weights, np.uint8), np.fromfile(text, np.uint8)),
        cv2.dnn.readNet(
            framework="caffe",
            bufferModel=np.fromfile(weights, np.uint8),
            bufferConfig=np.fromfile(text, np.uint8),
        ),
    ]
    blob = cv2.dnn.blobFromImage(photo(20, 20), 1 / 64, (16, 16), (127, 127, 127))
    outputs = []
    for net in nets:
        assert isinstance(net, Net)
        net.setInput(blob)
        outputs.append(net.forward())
    assert all(np.array_equal(output, outputs[0]) for output in outputs)
    nets[0].setPreferableBackend(cv2.dnn.DNN_BACKEND_HALIDE)
    assert cv2.dnn.shrinkCaffeModel is moka.opencv.shrinkCaffeModel
    assert isinstance(cv2.dnn_DetectionModel(nets[0]), DetectionModel)
    assert isinstance(cv2.dnn.DetectionModel(weights, text), DetectionModel)
    assert isinstance(cv2.dnn.ClassificationModel(network=nets[0]), ClassificationModel)
    assert isinstance(cv2.dnn_Model(nets[0]), Model)
    assert isinstance(cv2.dnn_SegmentationModel(nets[0]), SegmentationModel)
    assert isinstance(cv2.dnn.KeypointsModel(nets[0]), KeypointsModel)


@pytest.mark.usefixtures("installed")
def test_other_files_go_to_opencv() -> None:
    with pytest.raises(cv2.error) as caught:
        cv2.dnn.readNet("no.onnx")
    assert not isinstance(caught.value, moka.MokaError)
    with pytest.raises((cv2.error, SystemError)) as from_model:
        cv2.dnn.DetectionModel("no.onnx")
    assert not isinstance(from_model.value, moka.MokaError)
