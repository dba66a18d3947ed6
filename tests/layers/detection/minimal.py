"""The least that each layer type of detection needs, for the tests that hold all types to the same.

Keys and values as in `MINIMAL` and `UNREAD` of tests/layers/one_layer.py.
"""

from __future__ import annotations

from typing import Any

PRIORS = "1 2 24"  # six boxes
FIELDS = "field_w: 8 field_h: 8"

MINIMAL: dict[str, dict[str, Any]] = {
    "BboxAccuracy": {"bottoms": ("2 8", "2 5", "2 6")},
    "BoxAnnotatorOHEM": {
        "bottoms": ("2 5", "2", "2", "2 8"),
        "tops": 2,
        "fields": "box_annotator_ohem_param { roi_per_img: 1 }",
    },
    "BoxGroupOutput": {
        "bottoms": ("2 3 4 4", "2 4 4 4"),
        "fields": f"box_group_output_param {{ box_group_param {{ {FIELDS} stride: 4 }} }}",
    },
    "BoxOutput": {
        "bottoms": ("2 7 4 4",),
        "fields": f"box_output_param {{ {FIELDS} downsample_rate: 4 }}",
    },
    "DecodeBBox": {"bottoms": ("2 8", "2 5")},
    "DeformablePSROIPooling": {
        "bottoms": ("2 8 4 4", "2 5", "2 2 2 2"),
        "fields": "deformable_psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2"
        " part_size: 2 sample_per_part: 2 trans_std: 0.1 }",
    },
    "DetectionAccuracy": {
        "bottoms": ("2 6 4 4", "2 6 4 4"),
        "fields": f"detection_accuracy_param {{ cls_num: 2 {FIELDS} downsample_rate: 4 }}",
    },
    "DetectionEvaluate": {
        "bottoms": ("1 1 3 7", "1 1 2 8"),
        "fields": "detection_evaluate_param { num_classes: 3 background_label_id: 2 }",
    },
    "DetectionGroupAccuracy": {
        "bottoms": ("2 2 4 4", "2 4 4 4", "2 6 4 4"),
        "fields": f"detection_group_accuracy_param {{ cls_num: 2 {FIELDS} stride: 4 }}",
    },
    "DetectionGroupLoss": {
        "bottoms": ("2 2 4 4", "2 4 4 4", "2 6 4 4"),
        "fields": f"detection_group_loss_param {{ cls_num: 2 {FIELDS} stride: 4 }}",
        "least": 0.6,
        "most": 1.9,
    },
    "DetectionLoss": {
        "bottoms": ("2 6 4 4", "2 6 4 4"),
        "fields": f"detection_loss_param {{ cls_num: 2 {FIELDS} downsample_rate: 4 }}",
        "least": 0.6,
        "most": 1.9,
    },
    "DetectionOutput": {
        "bottoms": ("2 24", "2 18", PRIORS),
        "fields": "detection_output_param { num_classes: 3 keep_top_k: 2 }",
    },
    "FrcnnOutput": {"bottoms": ("2 3", "2 12", "2 5", "1 2")},
    "HardMining": {"bottoms": ("2", "2 5")},
    "MaskPooling": {"bottoms": ("2 3 4 4", "2 1 4 4")},
    "MaskResize": {
        "bottoms": ("2 1 4 4",),
        "fields": "mask_resize_param { output_height: 3 output_width: 6 }",
    },
    "MultiBoxLoss": {
        "bottoms": ("2 80", "2 60", "1 2 80", "1 1 12 8"),
        "fields": "multibox_loss_param { num_classes: 3 background_label_id: 2 mining_type: NONE }",
    },
    "Normalize": {},
    "PSROIPooling": {
        "bottoms": ("2 4 4 4", "2 5"),
        "fields": "psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 2 }",
    },
    "Permute": {"fields": "permute_param { order: 0 order: 2 }"},
    "PriorBox": {
        "bottoms": ("2 3 4 4", "2 3 8 8"),
        "fields": "prior_box_param { min_size: 4 }",
    },
    "PriorBoxClustered": {
        "bottoms": ("2 3 4 4", "2 3 8 8"),
        "fields": "prior_box_param { width: 4 height: 3 }",
    },
    "Proposal": {
        "bottoms": ("2 18 4 4", "2 36 4 4", "1 3"),
        "fields": "proposal_param { min_size: 0 }",
    },
    "ProposalTarget": {
        "bottoms": ("2 5", "2 8"),
        "tops": 6,
        "fields": "proposal_target_param { cls_num: 2"
        " batch_size: -1 img_width: 64 img_height: 64 }",
    },
    "ROIAlign": {
        "bottoms": ("3 3 4 4", "20 5"),
        "fields": "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 4 }",
    },
    "ROIPooling": {
        "bottoms": ("2 3 4 4", "2 5"),
        "fields": "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
    },
    "ScaleRoute": {"bottoms": ("2 5",)},
    "ROIWarping": {
        "bottoms": ("2 3 4 4", "2 5"),
        "fields": "roi_warping_param { pooled_h: 2 pooled_w: 2 spatial_scale: 4 }",
    },
    "SmoothL1Loss": {"bottoms": ("2 6", "2 6")},
    "SmoothL1LossOHEM": {"bottoms": ("2 6", "2 6")},
    "SoftmaxWithLossOHEM": {"bottoms": ("2 6", "2")},
}

OF_CAFFE_YOLO = (
    *("side", "num_class", "num_object", "object_scale", "noobject_scale", "class_scale"),
    *("coord_scale", "sqrt", "constriant"),
)
OF_CAFFE_YOLOV2 = ("side", "num_box", "coords", "nms_threshold", "biases", "label_map_file")
LAMBDA = {"lambda": "is a word of Python; read in `setup`"}
UNREAD = {
    "DetectionGroupLoss": LAMBDA,
    "DetectionLoss": LAMBDA | dict.fromkeys(OF_CAFFE_YOLO, "belongs to another layer of that name"),
    "DetectionOutput": dict.fromkeys(OF_CAFFE_YOLOV2, "belongs to another layer of that name"),
}
