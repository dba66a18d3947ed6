"""What the page Try is told."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from tests.serving.colors import RED, write_model

from moka.errors import UsageError
from moka.serving.model import Pace, ServedModel
from moka.types import Array
from moka.web.models import try_part


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    made = ServedModel("m", write_model(tmp_path_factory.mktemp("m")), Pace(batch=4, delay_s=0))
    yield made
    made.close()


def half_red() -> bytes:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = RED
    return bytes(cv2.imencode(".png", image)[1])


def map_of(told: dict[str, str]) -> Array:
    made = cv2.imdecode(np.frombuffer(base64.b64decode(told["png"]), np.uint8), -1)
    assert made is not None
    return made


def test_a_map_is_bright_where_it_counts(model: ServedModel) -> None:
    told = try_part.explained(model, half_red(), "occlusion", 2)
    found = map_of(told)
    assert found.shape == (8, 8)  # no more cells than pixels
    assert found[:, 0].min() > 0
    assert found[:, 6].max() == 0
    assert found.max() == 255
    assert told["unit"] == "fall of the score"


def test_a_gradient(model: ServedModel) -> None:
    told = try_part.explained(model, half_red(), "gradient", 2)
    assert map_of(told).shape == (8, 8)
    assert told["most"] > 0


def test_a_folder(model: ServedModel) -> None:
    images = [
        {"truth": "blue", "index": 0, "score": 0.9},
        {"truth": "n00000003", "index": 0, "score": 0.8},
        {"truth": "holiday", "index": 1, "score": 0.7},
        {"truth": "2", "index": 2, "score": 0.6},
    ]
    told = try_part.confusion_of(model, images)
    assert told["accuracy"] == pytest.approx(2 / 3)
    assert [(c["label"], c["count"], c["right"]) for c in told["classes"]] == [
        ("n00000001 blue, azure", 1, 1),
        ("n00000003 red", 2, 1),
    ]
    assert told["matrix"] == [[1, 0], [1, 1]]
    assert told["worst"] == [1]
    assert told["strangers"] == ["holiday"]


def test_a_folder_that_names_no_class(model: ServedModel) -> None:
    with pytest.raises(UsageError, match="no folder is called after a class: x"):
        try_part.confusion_of(model, [{"truth": "x", "index": 0, "score": 1}])
    with pytest.raises(UsageError, match="index has to be a whole number from 0 to 2"):
        try_part.confusion_of(model, [{"truth": "blue", "index": 7, "score": 1}])
    with pytest.raises(UsageError, match="a list of objects"):
        try_part.confusion_of(model, "x")


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_points(how: str) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(c, 0.1, (8, 5)) for c in (0, 9)]).astype("<f4")
    text = base64.b64encode(rows.tobytes()).decode()
    points = np.array(try_part.plane({"vectors": text, "count": 16, "how": how})["points"])
    first, second = points[:8], points[8:]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > np.linalg.norm(first - first.mean(0), axis=1).max()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"vectors": "AAAAAA==", "count": 3}, "1 numbers are no 3 rows"),
        ({"vectors": "%", "count": 2}, "not the base64 of float32"),
        ({"vectors": "AADAfwAAwH8=", "count": 2}, "not finite"),
        ({"vectors": "AAAAAAAAAAA=", "count": 2, "how": "x"}, "pca or tsne, not x"),
        ({"vectors": "AAAAAAAAAAA=", "count": 1}, "count has to be a whole number"),
    ],
)
def test_points_that_cannot_be(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        try_part.plane(values)
