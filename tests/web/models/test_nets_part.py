"""What the page Nets is told."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.serving.colors import NET, RED, picture, write_model

from moka.errors import UsageError
from moka.serving.errors import BadRequestError
from moka.serving.model import Pace, ServedModel
from moka.web.models import nets_part

PYTHON = 'layer { name: "p" type: "Python" top: "x" python_param { module: "m" layer: "L" } }'


def test_a_net_as_plain_data() -> None:
    told = nets_part.checked({"text": NET})
    assert told["name"] == "colors"
    assert told["problem"] is None
    assert told["states"] == ["TEST"]
    assert told["totals"] == {
        "layers": 4,
        "parameters": 9,
        "multiply_adds": 2 * 9 * 64,
        "output_bytes": 4 * 2 * 3 * (64 + 64 + 1 + 1),
    }
    mix = told["layers"][1]
    assert mix["tops"] == [{"name": "mix", "shape": "2x3x8x8"}]
    assert mix["parameters"] == ["weight 3x3x1x1"]
    assert mix["line"] == 5


def test_a_broken_net_as_plain_data() -> None:
    told = nets_part.checked({"text": NET.replace("kernel_size", "kernel_siz")})
    assert told["problem"]["line"] == 6
    assert told["problem"]["advice"] == 'Did you mean "kernel_size"?'
    assert told["totals"]["parameters"] is None


def test_the_drawing_has_shapes() -> None:
    told = nets_part.drawn({"text": NET})
    assert [box["layers"] for box in told["boxes"]] == [["data"], ["mix"], ["mean"], ["prob"]]
    assert told["boxes"][1]["lines"][-1] == "2x3x8x8"
    assert [edge["blobs"] for edge in told["edges"]] == [["data"], ["mix"], ["mean"]]
    assert not told["can_fold"]
    for box in told["boxes"]:
        assert box["height"] >= 17 * len(box["lines"])
    with pytest.raises(UsageError, match="no net to draw"):
        nets_part.drawn({"text": ""})


def test_a_net_that_cannot_be_built_is_drawn_all_the_same() -> None:
    told = nets_part.drawn({"text": NET + PYTHON})
    assert len(told["boxes"]) == 5


def test_times() -> None:
    told = nets_part.timed({"text": NET, "passes": 2})
    assert [row["name"] for row in told["layers"]] == ["data", "mix", "mean", "prob"]
    assert told["passes"] == 2
    assert sum(row["forward_ms"] for row in told["layers"]) == pytest.approx(told["forward_ms"])
    assert told["forward_ms"] > 0


def test_nets_for_training_are_timed_without_their_data() -> None:
    text = """
    layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
            transform_param { crop_size: 6 } data_param { source: "nothing" batch_size: 3 } }
    layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
            inner_product_param { num_output: 2 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
    """
    told = nets_part.timed({"text": text})
    assert [row["name"] for row in told["layers"]] == ["d", "ip", "loss"]
    assert told["backward_ms"] > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NET.replace("dim: 2", "dim: 5000000"), "too large to be timed here"),
        (NET + PYTHON, "cannot be built, so it cannot be timed"),
        (NET + 'layer { name: "h" type: "HDF5Output" bottom: "prob" bottom: "mean"'
         ' hdf5_output_param { file_name: "out.h5" } }', '"h" .HDF5Output. writes files'),
    ],
)  # fmt: skip
def test_what_is_not_timed(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        nets_part.timed({"text": text})
    assert list(tmp_path.iterdir()) == []


def test_differences() -> None:
    told = nets_part.compared({"a": NET, "b": NET.replace("num_output: 3", "num_output: 4")})
    assert [pair["change"] for pair in told["pairs"]] == ["same", "changed", "same", "same"]
    assert [each["parameters"] for each in told["totals"]] == [9, 12]
    with pytest.raises(UsageError, match="net B cannot be read: "):
        nets_part.compared({"a": NET, "b": "layer {"})


def test_a_model_from_inside(tmp_path: Path) -> None:
    model = ServedModel("m", write_model(tmp_path), Pace(batch=1, delay_s=0))
    told = nets_part.parameters_of(model)
    assert told["parameters"][0]["layer"] == "mix"
    assert told["filters"] is None  # they are pixels
    told = nets_part.activations(model, [picture(RED), picture(RED)])
    by_name: dict[str, Any] = {each["blob"]: each for each in told["blobs"]}
    assert (by_name["mix"]["dead"], by_name["mix"]["channels"]) == ([0, 1], 3)
    png = np.frombuffer(base64.b64decode(by_name["mix"]["png"]), np.uint8)
    assert cv2.imdecode(png, cv2.IMREAD_UNCHANGED) is not None
    assert by_name["prob"]["png"] is None
    with pytest.raises(BadRequestError, match="cannot be decoded"):
        nets_part.activations(model, [picture(RED)[:40]])
    with pytest.raises(UsageError, match="17 images were given, at most 16"):
        nets_part.activations(model, [picture(RED)] * 17)
    model.close()
