from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.opencv.cases import TWO, photo
from tests.opencv.record import write_nets

from moka.opencv import ClassificationModel, DetectionModel, Model, OpenCVError, readNetFromCaffe

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
        (lambda n: DetectionModel(n).detect(photo(4, 4)), 'this one ends with "size" \\(Power\\)'),
        (lambda n: Model(n).setOutputNames(["nobody"]).predict(photo(4, 4)), "no layer is named"),
        (lambda n: ClassificationModel(n).setInputScale(WORD), "scale is a number"),
    ],
)
def test_errors(call: Any, sentence: str) -> None:
    with pytest.raises(OpenCVError, match=sentence):
        call(readNetFromCaffe(TWO.encode()))


def test_errors_are_opencvs() -> None:
    with pytest.raises(cv2.error):
        Model()
