"""What a request gives for a net's inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.serving.colors import RED, picture
from tests.serving.test_image_input import MODES

from moka.errors import NetError
from moka.serving.errors import BadRequestError
from moka.serving.image_input import Look
from moka.serving.net_inputs import NetInputs, Upload

A, B = Upload("a.png", picture(RED, 6, 9)), Upload("b.png", picture(RED))
ONE = NetInputs({"data": (1, 3, 8, 8)}, Look())
INFO = NetInputs({"data": (1, 3, 8, 10), "im_info": (1, 3)}, Look())
PAIR = NetInputs({"left": (1, 1, 4, 4), "right": (1, 1, 4, 4)}, Look())
ROWS = NetInputs({"x": (5, 2), "seed": (5,)}, Look())


def told(inputs: NetInputs, uploads: list[Upload], **values: Any) -> list[dict[str, Any]]:
    return [
        {name: v if isinstance(v, bytes) else v.tolist() for name, v in example.given.items()}
        for example in inputs.examples(uploads, values)
    ]


def test_images_and_numbers_are_told_apart_by_their_shapes() -> None:
    many = NetInputs(
        {"a": (1, 3, 2, 2), "b": (1, 3, 1, 1), "c": (1, 2, 4, 4), "d": (1, 1, 1, 9)}, Look()
    )
    assert list(many.images) == ["a", "d"]
    assert many.numbers == {"b": (3, 1, 1), "c": (2, 4, 4)}
    assert many.shapes(7)["c"] == (7, 2, 4, 4)


def test_one_image_an_example_whatever_its_field_is_called() -> None:
    assert [example.name for example in ONE.examples([A, B], {})] == ["a.png", "b.png"]
    assert told(ONE, [A, B._replace(input="x")]) == [{"data": A.data}, {"data": B.data}]


def test_the_size_of_the_image_is_known() -> None:
    assert told(INFO, [A])[0]["im_info"] == [8, 10, 1]
    assert told(INFO, [A], im_info="600,800,1.5")[0]["im_info"] == [600, 800, 1.5]
    assert [e["im_info"] for e in told(INFO, [A, B], im_info=[[1, 2, 3], [4, 5, 6]])] == [
        [1, 2, 3],
        [4, 5, 6],
    ]


def test_images_can_be_turned_upright() -> None:
    for told, upright in (("true", True), (True, True), ("1", True), ("no", False), (None, False)):
        assert ONE.examples([A], {"upright": told})[0].upright is upright
    turned = NetInputs({"data": (1, 3, 8, 8)}, Look())
    turned_jpeg = MODES["turned jpeg"]
    (example,) = turned.examples([Upload("", turned_jpeg)], {"upright": "true"})
    assert turned.opened(example).size == (13, 9)


def test_ten_crops_can_be_asked_for() -> None:
    assert not ONE.examples([A], {})[0].oversample
    assert ONE.examples([A], {"oversample": "true"})[0].oversample
    with pytest.raises(BadRequestError, match="takes crops of images, and this net takes none"):
        ROWS.examples([], {"x": [1, 2], "seed": 1, "oversample": True})


def test_several_images_an_example() -> None:
    uploads = [A._replace(input="left"), B._replace(input="right"), A._replace(input="right"),
               B._replace(input="left")]  # fmt: skip
    assert told(PAIR, uploads) == [
        {"left": A.data, "right": B.data},
        {"left": B.data, "right": A.data},
    ]


def test_rows_of_numbers() -> None:
    assert told(ROWS, [], x=[[1, 2], [3, 4]], seed=7) == [
        {"x": [1, 2], "seed": 7},
        {"x": [3, 4], "seed": 7},
    ]


def test_filling() -> None:
    blobs = {"data": np.zeros((2, 3, 8, 10), np.float32), "im_info": np.zeros((2, 3), np.float32)}
    (example,) = INFO.examples([A], {})
    opened = INFO.opened(example)
    INFO.fill(opened, blobs, 1)
    assert opened.size == (6, 9)
    assert ROWS.opened(ROWS.examples([], {"x": [1, 2], "seed": 1})[0]).size == (0, 0)
    assert blobs["data"][1, 2].min() == 255
    assert blobs["im_info"].tolist() == [[0, 0, 0], [8, 10, 1]]


@pytest.mark.parametrize(
    ("inputs", "uploads", "values", "words"),
    [
        (ONE, [], {}, "the request holds no image"),
        (ONE, [Upload("", b"")], {}, "the request holds no image"),
        (PAIR, [A], {}, "does not say which input .* In a form, .* its input: left, right"),
        (PAIR, [A._replace(input="x")], {}, 'no input "x" for images'),
        (PAIR, [A._replace(input="left")], {}, "different numbers of images: {'left': 1, 'right'"),
        (ROWS, [A], {"x": [1, 2], "seed": 1}, "takes no images, but 2 numbers"),
        (ROWS, [], {"x": [1, 2]}, r'input "seed" is missing. This net takes 2 numbers \(2,\) for'),
        (ROWS, [], {"x": [1, 2, 3], "seed": 1}, r"takes 2 numbers \(2,\) for each .* found 3"),
        (ROWS, [], {"x": "1,b", "seed": 1}, 'input "x" has to be numbers'),
        (ROWS, [], {"x": [[1], [1, 2]], "seed": 1}, 'input "x" has to be numbers'),
        (ROWS, [], {"x": {}, "seed": 1}, 'input "x" has to be numbers'),
        (ROWS, [], {"x": [[1, 2]] * 2, "seed": [1, 2, 3]}, "numbers for 2 examples of 3"),
    ],
)  # fmt: skip
def test_what_is_refused(
    inputs: NetInputs, uploads: list[Upload], values: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequestError, match=words):
        inputs.examples(uploads, values)


@pytest.mark.parametrize("shapes", [{}, {"x": ()}, {"x": (1, 0)}])
def test_nets_without_inputs(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(NetError, match="a served net has inputs"):
        NetInputs(shapes, Look())
