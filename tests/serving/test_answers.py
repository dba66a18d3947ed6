"""What was computed as plain data."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from moka.serving import answers
from moka.serving.errors import BadRequestError
from moka.serving.model import Computed, ServedModel
from moka.serving.outputs import BOXES, CLASSES


def model(kind: str = CLASSES, labels: list[str] | None = None) -> Any:
    outputs = SimpleNamespace(names=["out"])
    made: Any = SimpleNamespace(name="m", kind=kind, outputs=outputs, labels=labels or [])
    made.label = lambda number: ServedModel.label(made, number)
    return made


def computed(values: Any, size: tuple[int, int] = (10, 20)) -> Computed:
    return Computed({"out": np.asarray(values, np.float32)}, size, 1)


def test_the_best_classes() -> None:
    found = answers.classes(model(labels=["a", "b", "c"]), computed([0.25, 0.5, 0.25]), 2)
    assert found == [
        {"index": 1, "label": "b", "score": 0.5},
        {"index": 0, "label": "a", "score": 0.25},
    ]


def test_boxes_in_pixels_by_score_and_within_the_image() -> None:
    rows = [[0, 1, 0.5, 0.1, 0.2, 0.5, 0.6], [0, 2, 0.9, -0.5, 0, 2, 1], [0, 1, 0.1, 0, 0, 1, 1]]
    found = answers.boxes(
        model(BOXES), computed(rows)._replace(boxes=np.array(rows, np.float32)), 0.4
    )
    assert [box["index"] for box in found] == [2, 1]
    assert found[0] | {"score": 0} == {
        "index": 2, "label": "2", "score": 0, "left": 0, "top": 0, "right": 20, "bottom": 10,
    }  # fmt: skip
    assert found[1]["left"] == pytest.approx(2)
    assert found[1]["bottom"] == pytest.approx(6)


def test_segments() -> None:
    scores = np.zeros((3, 2, 4), np.float32)
    scores[2, :, 1:] = 1
    found = answers.segments(model(), computed(scores))
    assert (found["height"], found["width"]) == (2, 4)
    assert [(c["index"], c["share"]) for c in found["classes"]] == [(2, 0.75), (0, 0.25)]
    png = np.frombuffer(base64.b64decode(found["png"]), np.uint8)
    image: Any = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    assert image.tolist() == [[0, 2, 2, 2]] * 2


def test_features_as_numbers_and_as_bytes() -> None:
    values = np.array([[1.5, -2]], np.float32)
    assert answers.features(values) == {"shape": [1, 2], "values": [1.5, -2.0]}
    told = answers.features(values, as_base64=True)
    assert np.frombuffer(base64.b64decode(told["base64"]), "<f4").tolist() == [1.5, -2.0]


def test_digits_tells_percent_and_short_labels() -> None:
    labels = ["n01440764 tench, Tinca tinca", "b"]
    found = answers.digits_predictions(model(labels=labels), computed([0.99996, 0.00004]))
    assert found == [("tench", 100.0), ("b", 0.0)]


def test_the_wrong_question_names_the_right_one() -> None:
    with pytest.raises(
        BadRequestError, match=r"gives boxes, not scores of classes. Ask /v1/detect"
    ):
        answers.check_kind(model(BOXES), CLASSES)
