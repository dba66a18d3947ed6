from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import NetMaker

from moka.errors import NetError
from moka.export.torch.export import export_torch


def test_prior_boxes_are_constants(make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net("""
layer { name: "data" type: "Input" top: "data" top: "image"
        input_param { shape { dim: 2 dim: 4 dim: 3 dim: 5 }
                      shape { dim: 1 dim: 3 dim: 60 dim: 90 } } }
layer { name: "a" type: "PriorBox" bottom: "data" bottom: "image" top: "a"
        prior_box_param { min_size: 10 max_size: 20 aspect_ratio: 2 variance: 0.1 } }
layer { name: "b" type: "PriorBoxClustered" bottom: "data" bottom: "image" top: "b"
        prior_box_param { width: 10 height: 20 width: 4 height: 5 step: 16 clip: true } }
layer { name: "y" type: "Concat" bottom: "a" bottom: "b" top: "y" concat_param { axis: 2 } }
""")
    assert export_torch(net, tmp_path / "model.py").difference.absolute == 0


HEAD = """
layer { name: "loc" type: "Input" top: "loc" input_param { shape { dim: [2, 480] } } }
layer { name: "conf" type: "Input" top: "conf" input_param { shape { dim: [2, 480] } } }
layer { name: "data" type: "Input" top: "data" top: "image"
        input_param { shape { dim: [1, 1, 6, 5] } shape { dim: [1, 3, 90, 75] } } }
layer { name: "prior" type: "PriorBox" bottom: "data" bottom: "image" top: "prior"
        prior_box_param { min_size: 20 max_size: 30 aspect_ratio: 2 variance: 0.1 } }
layer { name: "by_box" type: "Reshape" bottom: "conf" top: "by_box"
        reshape_param { shape { dim: [0, -1, 4] } } }
layer { name: "softmax" type: "Softmax" bottom: "by_box" top: "softmax"
        softmax_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "softmax" top: "flat" }
layer { name: "_detect" type: "DetectionOutput" bottom: "loc" bottom: "flat" bottom: "prior"
        top: "_detect" detection_output_param { num_classes: 4 FIELDS } }
"""


@pytest.mark.parametrize(
    "fields",
    [
        "code_type: CENTER_SIZE confidence_threshold: 0.3 keep_top_k: 30"
        " nms_param { nms_threshold: 0.45 top_k: 20 }",
        "code_type: CORNER variance_encoded_in_target: true background_label_id: -1"
        " keep_top_k: -1 nms_param { nms_threshold: 0.2 }",
        "code_type: CORNER_SIZE confidence_threshold: 0.25 nms_param { nms_threshold: 0.3 }",
        "code_type: CENTER_SIZE clip: true nms_param { nms_threshold: 0.3 }",
        "confidence_threshold: 0.9999",
    ],
)
def test_detections(fields: str, make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(HEAD.replace("FIELDS", fields))
    export_torch(net, tmp_path / "head.py")
    names: dict[str, Any] = {"__file__": str(tmp_path / "head.py"), "__name__": "head"}
    exec((tmp_path / "head.py").read_text(), names)
    given = [torch.randn(shape) for shape in net.input_shapes.values()]
    wanted = net.propagate(dict(zip(net.input_shapes, given, strict=True)))["_detect"]
    made = names["load"]()(*given)
    assert (len(made[0, 0]) == 2) == ("0.9999" in fields)
    torch.testing.assert_close(made, wanted)


def test_a_falling_threshold_is_refused(make_net: NetMaker, tmp_path: Path) -> None:
    fields = "nms_param { nms_threshold: 0.6 eta: 0.9 }"
    with pytest.raises(NetError, match="a threshold that does not fall, have a form in PyTorch"):
        export_torch(make_net(HEAD.replace("FIELDS", fields)), tmp_path / "head.py")
