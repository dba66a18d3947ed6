from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

import caffe
from moka.errors import DataError, NetError
from moka.layers.detection.roi_data import SETTINGS, RoIDataLayer

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

RPN = ("data", "im_info", "gt_boxes")
REGIONS = ("data", "rois", "labels", "bbox_targets", "inside", "outside")
MEANS = np.array(SETTINGS["PIXEL_MEANS"], np.float32)


@pytest.fixture
def roidb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Three images of 30 x 40; the second is mirrored."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    entries = []
    for k in range(3):
        cv2.imwrite(f"{k}.png", rng.integers(0, 256, (30, 40, 3), np.uint8))
        entries.append({
            "image": f"{k}.png", "flipped": k == 1,
            "boxes": np.array([[1, 2, 20 + k, 25], [0, 0, 9, 9], [3, 3, 8, 8]], np.uint16),
            "gt_classes": np.array([2, 0, 1]),
            "max_overlaps": np.array([1, 0.3, 0.6], np.float32),
            "max_classes": np.array([2, 1, 1]),
            "bbox_targets": np.array([[2, 0.1, 0.2, 0.3, 0.4], [0] * 5, [1, 0.5, 0.6, 0.7, 0.8]]),
        })  # fmt: skip
    return entries


def make(
    make_layer: LayerMaker, tops: tuple[str, ...], more: str = "", classes: str = "'num_classes': 3"
) -> RoIDataLayer:
    names = " ".join(f'top: "{name}"' for name in tops)
    made = make_layer(
        f'type: "Python" {names} python_param {{ module: "roi_data_layer.layer"'
        f' layer: "RoIDataLayer" param_str: "{classes}{more}" }}',
        training=True,
    )
    assert isinstance(made, RoIDataLayer)
    return made


def test_faster_rcnn(make_layer: LayerMaker, roidb: list[dict[str, Any]]) -> None:
    layer = make(make_layer, RPN, ", 'SCALES': [60], 'MAX_SIZE': 70")
    assert layer.first_top_shapes == [(1, 3, 60, 70), (1, 3), (1, 5)]
    layer.set_roidb(roidb)
    seen = []
    for _ in range(3):
        data, info, boxes = layer()
        k = int(boxes[0, 2] / 70 * 40 - 20 + 0.5)
        seen.append(k)
        pixels = cv2.imread(f"{k}.png")
        assert pixels is not None
        pixels = (pixels[:, ::-1] if k == 1 else pixels) - MEANS
        want = cv2.resize(pixels, None, fx=1.75, fy=1.75, interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(data[0], want.transpose(2, 0, 1), atol=1e-4)
        assert info.tolist() == [[*want.shape[:2], 1.75]]  # 70 / 40: the long side decides
        corners = roidb[k]["boxes"][[0, 2]] * 1.75
        np.testing.assert_allclose(boxes, np.concatenate([corners, [[2], [1]]], 1))
    assert sorted(seen) == [0, 1, 2]


def test_fast_rcnn(make_layer: LayerMaker, roidb: list[dict[str, Any]]) -> None:
    layer = make(make_layer, REGIONS, ", 'SCALES': [30], 'BATCH_SIZE': 8")
    layer.set_roidb(roidb)
    data, rois, labels, targets, inside, outside = layer()
    assert data.shape == (2, 3, 30, 40)
    assert rois[:, 0].tolist() == [0, 0, 1, 1]  # one in front, one behind, of each image
    assert [label > 0 for label in labels.tolist()] == [True, False] * 2
    for image in range(2):
        front = 2 * image
        label = int(labels[front])
        wanted = [0.1, 0.2, 0.3, 0.4] if label == 2 else [0.5, 0.6, 0.7, 0.8]
        np.testing.assert_allclose(targets[front, 4 * label : 4 * label + 4], wanted)
        assert inside[front].nonzero().flatten().tolist() == list(range(4 * label, 4 * label + 4))
        assert not targets[front + 1].any()
    assert torch.equal(inside, outside)
    assert len(make(make_layer, REGIONS[:3]).first_top_shapes) == 3


def test_a_roidb_in_a_file(make_layer: LayerMaker, roidb: list[dict[str, Any]]) -> None:
    entries = [{k: np.asarray(v).tolist() for k, v in entry.items()} for entry in roidb]
    Path("roidb.json").write_text(json.dumps(entries))
    text = ", 'SCALES': [30], 'roidb': 'roidb.json'"
    layer = make(make_layer, RPN, text)
    assert layer()[2].shape == (2, 5)
    layer()
    resumed = make(make_layer, RPN, text)
    resumed.load_run_state(layer.run_state())
    assert torch.equal(resumed()[2], layer()[2])
    with pytest.raises(DataError, match=r"gone.json: cannot read the roidb"):
        make(make_layer, RPN, ", 'roidb': 'gone.json'")()
    Path("roidb.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"roidb.json: cannot read the roidb"):
        make(make_layer, RPN, text)()
    Path("roidb.json").write_text("3")
    with pytest.raises(DataError, match="a roidb is a list of a dict for each image"):
        make(make_layer, RPN, text)()


def test_faults(make_layer: LayerMaker, roidb: list[dict[str, Any]]) -> None:
    layer = make(make_layer, RPN)
    with pytest.raises(NetError, match=r"has no roidb yet.*set_roidb"):
        layer()
    with pytest.raises(NetError, match="param_str has no 'num_classes'"):
        make(make_layer, REGIONS, classes="")
    with pytest.raises(NetError, match="with im_info and gt_boxes IMS_PER_BATCH is 1"):
        make(make_layer, RPN, ", 'IMS_PER_BATCH': 2")
    with pytest.raises(DataError, match="the roidb has no image"):
        layer.set_roidb([])
    with pytest.raises(DataError, match="entry 0 of the roidb has no gt_classes"):
        layer.set_roidb([{"image": "0.png", "boxes": []}])
    with pytest.raises(DataError, match="entry 0 of the roidb has no max_overlaps"):
        make(make_layer, REGIONS).set_roidb([{"image": "0.png", "boxes": []}])
    roidb[0]["bbox_targets"][0, 0] = 3
    one = make(make_layer, REGIONS, ", 'SCALES': [30], 'IMS_PER_BATCH': 1")
    one.set_roidb(roidb[:1])
    with pytest.raises(DataError, match="class 3 is outside of the 3 classes"):
        one()


def test_pycaffe(roidb: list[dict[str, Any]]) -> None:
    Path("net.prototxt").write_text(
        'layer { name: "d" type: "Python" top: "data" top: "im_info" top: "gt_boxes"'
        ' python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer"'
        " param_str: \"'SCALES': [30]\" } }"
    )
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    net.layers[0].set_roidb(roidb)
    net.forward()
    assert net.blobs["data"].data.shape == (1, 3, 30, 40)
    assert net.blobs["gt_boxes"].data.shape == (2, 5)
