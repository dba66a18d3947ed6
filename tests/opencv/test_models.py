from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.opencv.cases import TWO, numbers, photo
from tests.opencv.record import write_nets

from moka.opencv import (
    ClassificationModel,
    DetectionModel,
    KeypointsModel,
    Model,
    OpenCVError,
    SegmentationModel,
    readNetFromCaffe,
)

NOTHING: Any = None  # what cv2.imread returns for a file that it cannot read
WORD: Any = "x"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nets")
    write_nets(made)
    return made


def test_models_from_files_and_nets(folder: Path) -> None:
    files = str(folder / "ssd.caffemodel"), str(folder / "ssd.prototxt")
    net = readNetFromCaffe(files[1], files[0])
    frame = photo(20, 20)
    outputs = [
        made.predict(frame)[0]
        for made in (Model(*files), Model(*files[::-1]), Model(net), Model(network=net))
    ]
    assert all(np.array_equal(output, outputs[0]) for output in outputs)


def test_setters_return_the_model() -> None:
    model = Model(readNetFromCaffe(TWO.encode()))
    made = (
        model.setInputSize((3, 3)).setInputSize(3, 3).setInputScale(2.0).setInputMean(1)
        .setInputSwapRB(True).setInputCrop(True).setOutputNames(["same"])
        .setPreferableBackend(0).setPreferableTarget(0).enableWinograd(False)
    )  # fmt: skip
    assert made is model
    assert DetectionModel(model.net).setNmsAcrossClasses(True).getNmsAcrossClasses()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda n: Model(), "takes a net, or a .caffemodel and a .prototxt"),
        (lambda n: Model("a.onnx"), "no .prototxt and .caffemodel"),
        (lambda n: Model("a.caffemodel", "a.prototxt"), "File not found"),
        (lambda n: Model(n).setInputSize(3), r"a size is \(width, height\), got 3"),
        (lambda n: Model(n).predict(NOTHING), "cv2.imread returns None"),
        (lambda n: Model(n).predict(np.zeros((0, 3, 3), np.uint8)), "an image is an array"),
        (lambda n: DetectionModel(n).detect(photo(4, 4)), 'this one ends with "same" \\(Power\\)'),
        (lambda n: Model(n).setOutputNames(["nobody"]).predict(photo(4, 4)), "no layer is named"),
        (lambda n: SegmentationModel(n).segment(photo(4, 4)), "2 outputs: same, size. Choose one"),
        (
            lambda n: SegmentationModel(n).setOutputNames(["size"]).segment(photo(4, 4)),
            "a map of scores, the net gives",
        ),
        (
            lambda n: KeypointsModel(n).setOutputNames(["size"]).estimate(photo(4, 4)),
            "heat maps or points, the net gives",
        ),
        (lambda n: ClassificationModel(n).setInputScale(WORD), "scale is a number"),
    ],
)
def test_errors(call: Any, sentence: str) -> None:
    with pytest.raises(OpenCVError, match=sentence):
        call(readNetFromCaffe(TWO.encode()))


def test_yolos_rows_are_detections() -> None:
    text = """
    input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
    layer { name: "map" type: "Convolution" bottom: "data" top: "map"
      convolution_param { num_output: 14 kernel_size: 4 stride: 4
      } }
    layer { name: "found" type: "YoloDetectionOutput" bottom: "map" top: "found"
      yolo_detection_output_param { num_classes: 2 num_box: 2 confidence_threshold: 0.01
        nms_threshold: 0.45 biases: [0.6, 0.6, 1.2, 1.0] } }
    """
    net = readNetFromCaffe(text.encode())
    net.setParam("map", 0, numbers(14, 3, 4, 4) / 500)
    model = DetectionModel(net)
    frame = photo(20, 30)
    rows = model.predict(frame)[0].reshape(-1, 7)
    classes, scores, boxes = model.detect(frame, 0.02)
    assert 0 < len(classes) <= len(rows)
    assert np.array_equal(scores, rows[rows[:, 2] >= 0.02, 2])
    left = (rows[rows[:, 2] >= 0.02, 3] * 30).astype(int).clip(0, 29)
    assert np.array_equal(np.asarray(boxes)[:, 0], left)


def test_points_as_they_are() -> None:
    """A net may give its points as numbers."""
    text = TWO.replace('type: "Power" bottom: "data" top: "image_out"',
                       'type: "Reshape" bottom: "data" top: "image_out"'
                       " reshape_param { shape { dim: 1 dim: -1 dim: 2 } }")  # fmt: skip
    model = KeypointsModel(readNetFromCaffe(text.encode()))
    model.setOutputNames(["same"])
    frame = photo(4, 4)
    points = model.estimate(frame)
    assert np.array_equal(points, frame.transpose(2, 0, 1).reshape(-1, 2).astype(np.float32))


def test_errors_are_opencvs() -> None:
    with pytest.raises(cv2.error):
        Model()
