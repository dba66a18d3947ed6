"""What the outputs of nets of all kinds are, and what belongs to an example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.colors import picture

from moka.serving.errors import BrokenModelError
from moka.serving.model import Job, ModelFiles, Pace, ServedModel
from moka.serving.net_inputs import Upload
from moka.serving.outputs import BOXES, CLASSES, Outputs

PACE = Pace(batch=4, delay_s=0)
RCNN = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 64 dim: 96 } } }
layer { name: "im_info" type: "Input" top: "im_info" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "small" type: "Pooling" bottom: "data" top: "small"
        pooling_param { pool: AVE kernel_size: 16 stride: 16 } }
layer { name: "score" type: "Convolution" bottom: "small" top: "score" convolution_param {
        num_output: 18 kernel_size: 1 weight_filler { type: "gaussian" std: 1e-5 } } }
layer { name: "two" type: "Reshape" bottom: "score" top: "two"
        reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "soft" type: "Softmax" bottom: "two" top: "soft" }
layer { name: "back" type: "Reshape" bottom: "soft" top: "back"
        reshape_param { shape { dim: 0 dim: 18 dim: -1 dim: 0 } } }
layer { name: "move" type: "Convolution" bottom: "small" top: "move" convolution_param {
        num_output: 36 kernel_size: 1 weight_filler { type: "gaussian" std: 1e-5 } } }
layer { name: "proposal" type: "Python" bottom: "back" bottom: "move" bottom: "im_info" top: "rois"
        python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
                       param_str: "'feat_stride': 16" } }
layer { name: "roi" type: "ROIPooling" bottom: "small" bottom: "rois" top: "roi"
        roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 } }
layer { name: "cls" type: "InnerProduct" bottom: "roi" top: "cls" inner_product_param {
        num_output: 3 weight_filler { type: "gaussian" std: 1e-5 } } }
layer { name: "box" type: "InnerProduct" bottom: "roi" top: "bbox_pred" inner_product_param {
        num_output: 12 weight_filler { type: "gaussian" std: 1e-5 } } }
layer { name: "prob" type: "Softmax" bottom: "cls" top: "cls_prob" }
"""


def test_faster_rcnn(tmp_path: Path) -> None:
    (tmp_path / "rcnn.prototxt").write_text(RCNN)
    model = ServedModel("rcnn", ModelFiles(tmp_path / "rcnn.prototxt", None), PACE)
    assert (model.kind, model.outputs.sizes, model.class_count) == (BOXES, (1,), 3)
    rng = np.random.default_rng(0)
    for _ in range(4):  # by layers, then by a program
        red, green, blue = rng.integers(0, 256, 3).tolist()
        (example,) = model.inputs.examples([Upload("", picture((blue, green, red), 128, 96))], {})
        (future,) = model.submit([Job(example)])
        found = future.result(60)
        assert found.blobs.keys() == {"cls_prob", "bbox_pred", "rois"}
        assert len(found.blobs["cls_prob"]) == len(found.blobs["rois"]) > 1
        assert found.boxes is not None
        assert len(found.boxes)
        assert set(found.boxes[:, 1]) <= {1, 2}
        assert 0 <= found.boxes[:, 3:].min() <= found.boxes[:, 3:].max() < 1
    model.check_blob("rois")
    model.close()


CASCADE = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 40 dim: 80 } } }
layer { name: "im_info" type: "Input" top: "im_info" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "regions" type: "Input" top: "regions" input_param { shape { dim: 1 dim: 5 } } }
layer { name: "scores" type: "Input" top: "scores" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "deltas" type: "Input" top: "deltas" input_param { shape { dim: 1 dim: 12 } } }
layer { name: "quiet" type: "Silence" bottom: "data" }
layer { name: "found" type: "FrcnnOutput" bottom: "scores" bottom: "deltas" bottom: "regions"
        bottom: "im_info" top: "found" frcnn_output_param { conf_thr: 0.25 } }
"""
DETECTNET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 32 dim: 64 } } }
layer { name: "coverage" type: "Input" top: "coverage"
        input_param { shape { dim: 1 dim: 2 dim: 2 dim: 4 } } }
layer { name: "boxes" type: "Input" top: "boxes"
        input_param { shape { dim: 1 dim: 4 dim: 2 dim: 4 } } }
layer { name: "quiet" type: "Silence" bottom: "data" }
layer { name: "cluster" type: "Python" bottom: "coverage" bottom: "boxes" top: "first"
        top: "second" python_param { module: "caffe.layers.detectnet.clustering"
        layer: "ClusterDetections" param_str: "64, 32, 16, 0.5, 1, 0.1, 0, 2" } }
"""


def boxes_of(place: Path, text: str, values: dict[str, Any]) -> list[list[float]]:
    """The boxes that a net finds, as label, score and corners in fractions of the image."""
    place.write_text(text)
    model = ServedModel("x", ModelFiles(place, None), PACE)
    assert (model.kind, model.class_count) == (BOXES, None)
    (example,) = model.inputs.examples([Upload("", picture((9, 9, 9), 10, 20))], values)
    (future,) = model.submit([Job(example)])
    found = future.result(60).boxes
    model.close()
    assert found is not None
    assert found.shape[1] == 7
    assert (found[:, 0] == 0).all()
    return [[round(value, 4) for value in row] for row in found[:, 1:].tolist()]


def test_cascade_rcnn(tmp_path: Path) -> None:
    """Rows of image, corners, label and score, of which the first stands for none."""
    place = tmp_path / "cascade.prototxt"
    values = {"scores": [0.1, 0.6, 0.3], "deltas": [0] * 12, "regions": [0, 8, 4, 40, 20]}
    corners = [0.1, 0.1, 0.5, 0.5]
    assert boxes_of(place, CASCADE, values) == [[1, 0.6, *corners], [2, 0.3, *corners]]
    assert boxes_of(place, CASCADE, values | {"scores": [1, 0, 0]}) == []


def test_detectnet(tmp_path: Path) -> None:
    """A list of boxes for each class, filled up with zeros; a score is the logarithm of how many
    boxes were put together."""
    place = tmp_path / "detectnet.prototxt"
    coverage = np.zeros((2, 2, 4))
    coverage[1, 0, :2] = 1  # two cells of the second class
    boxes = np.zeros((4, 2, 4))
    boxes[:, 0, 0] = 16, 8, 48, 24
    boxes[:, 0, 1] = 0, 8, 32, 24  # the same, from the next cell
    values = {"coverage": coverage.tolist(), "boxes": boxes.tolist()}
    (found,) = boxes_of(place, DETECTNET, values)
    assert found == [1, pytest.approx(np.log(2), abs=1e-3), 0.25, 0.25, 0.75, 0.75]
    assert boxes_of(place, DETECTNET, values | {"coverage": np.zeros((2, 2, 4)).tolist()}) == []


MSCNN = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 32 dim: 64 } } }
layer { name: "maps" type: "Input" top: "maps"
        input_param { shape { dim: 1 dim: 6 dim: 4 dim: 8 } } }
layer { name: "quiet" type: "Silence" bottom: "data" }
layer { name: "proposals" type: "BoxOutput" bottom: "maps" top: "proposals" top: "proposals_score"
        box_output_param { field_w: 16 field_h: 16 downsample_rate: 8 fg_thr: 0.5 } }
"""
REFINED = """
layer { name: "cls" type: "InnerProduct" bottom: "proposals" top: "cls_pred"
        inner_product_param { num_output: 2 } }
"""


def test_the_regions_of_mscnn(tmp_path: Path) -> None:
    """Rows of image, corners and score; a row of zeros stands for none."""
    place = tmp_path / "mscnn.prototxt"
    maps = np.zeros((6, 4, 8))
    assert boxes_of(place, MSCNN, {"maps": maps.tolist()}) == []
    maps[:2, 1, 2] = 1, 3  # of a cell of 8 x 8 pixels; its field is 16 x 16 pixels
    (found,) = boxes_of(place, MSCNN, {"maps": maps.tolist()})
    assert found == [0, 2, 12 / 64, 4 / 32, 28 / 64, 20 / 32]
    place.write_text(MSCNN.replace(' top: "proposals_score"', ""))
    model = ServedModel("x", ModelFiles(place, None), PACE)
    assert model.kind != BOXES
    model.close()


def test_regions_are_not_what_a_net_finds_that_looks_into_them(tmp_path: Path) -> None:
    place = tmp_path / "mscnn.prototxt"
    place.write_text(MSCNN + REFINED)
    model = ServedModel("x", ModelFiles(place, None), PACE)
    assert model.kind != BOXES
    model.close()


def outputs(kind: str = CLASSES, pixels: tuple[int, int] | None = None) -> Outputs:
    return Outputs(kind, ("out",), (1, 2), None, pixels)


def test_rows_and_what_has_none() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert outputs().of_example({"out": values}, 2, 1)["out"].tolist() == [3, 4, 5]
    assert outputs().of_example({"out": values}, 1, 0)["out"].shape == (2, 3)
    with pytest.raises(
        BrokenModelError, match=r'"out" has shape \(2, 3\), not a row for each of 4'
    ):
        outputs().of_example({"out": values}, 4, 0)


@pytest.mark.parametrize("width", [7, 15])
def test_boxes_in_pixels_of_the_input(width: int) -> None:
    rows = np.zeros((1, 1, 3, width), np.float32)
    rows[0, 0, :2, :7] = [[0.0, 1, 0.5, 10, 20, 50, 40], [1.0, 2, 0.5, 0, 0, 1, 1]]
    rows[0, 0, 2, 1] = -1  # nothing found
    found = outputs(BOXES, (80, 100))
    (made,) = found.of_example({"out": rows}, 2, 0).values()
    assert made.shape == (1, width)
    np.testing.assert_allclose(found.boxes({"out": made}), [[0, 1, 0.5, 0.1, 0.25, 0.5, 0.5]])
