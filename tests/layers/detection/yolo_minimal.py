"""As minimal.py, for YOLO's layers."""

from __future__ import annotations

from typing import Any

from tests.layers.detection.minimal import LAMBDA

MAP = "2 16 4 4"  # two anchors, three classes
BIASES = "biases: 1 biases: 2 biases: 3 biases: 1"
MASKS = f"num_classes: 3 num_box: 2 {BIASES} mask: 0 mask: 1"

MINIMAL: dict[str, dict[str, Any]] = {
    "EvalDetection": {
        "bottoms": (MAP, "2 10"),
        "fields": f"eval_detection_param {{ side: 4 num_class: 3 num_object: 2 {BIASES} }}",
    },
    "GaussianYolov3": {
        "bottoms": ("2 24 4 4", "2 10"),
        "fields": f"yolov3_param {{ num_class: 3 num: 2 {BIASES} mask: 0 mask: 1 }}",
    },
    "RegionLoss": {
        "bottoms": (MAP, "2 10"),
        "fields": f"region_loss_param {{ num_class: 3 num: 2 {BIASES} }}",
    },
    "RegionYolo": {
        "bottoms": (MAP,),
        "fields": "region_yolo_param { classes: 3 num: 2 }",
    },
    "Reorg": {"bottoms": ("2 4 4 4",), "fields": "reorg_param { stride: 2 }"},
    "ReorgYolo": {},
    "SegmentationEvaluate": {"bottoms": ("2 3 4 4", "2 3 4 4")},
    "YoloDetectionLoss": {
        "bottoms": ("2 32", "2 28"),
        "fields": "detection_loss_param { side: 2 num_class: 3 num_object: 1 }",
    },
    "YoloDetectionOutput": {
        "bottoms": (MAP,),
        "fields": f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {BIASES} }}",
    },
    "YoloSeg": {"bottoms": ("2 3 4 4", "2 3 4 4")},
    "Yolov3": {
        "bottoms": (MAP, "2 10"),
        "fields": f"yolov3_param {{ num_class: 3 num: 2 {BIASES} mask: 0 mask: 1 }}",
    },
    "Yolov3DetectionOutput": {
        "bottoms": (MAP,),
        "fields": f"yolov3_detection_output_param {{ {MASKS} anchors_scale: 8 mask_group_num: 1 }}",
    },
}

OF_MS_CNN = (
    *("cls_num", "coord_num", "field_h", "field_w", "downsample_rate", "bb_smooth", "field_whr"),
    *("field_xyr", "bg_threshold", "bg_multiple", "sample_mode", "objectness", "iou_weighted"),
    "pos_neg_weighted",
)
UNREAD = {
    "YoloDetectionLoss": dict.fromkeys(OF_MS_CNN, "belongs to DetectionLoss")
    | dict.fromkeys(LAMBDA, "belongs to DetectionLoss")
}
