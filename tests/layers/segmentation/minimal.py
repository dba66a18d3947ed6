"""The least that each layer type of segmentation needs."""

from __future__ import annotations

from typing import Any

IMAGE = "2 3 4 4"

MINIMAL: dict[str, dict[str, Any]] = {
    "AdaptiveBiasChannel": {"bottoms": (IMAGE, "2 1"), "least": 0, "most": 0.9},
    "BiasChannel": {"bottoms": (IMAGE, "2 1"), "least": 0, "most": 0.9},
    "DenseCRF": {"bottoms": (IMAGE, "2 2"), "least": 1, "most": 5,
                 "fields": "dense_crf_param { pos_w: 1 pos_xy_std: 2 }"},
    "DomainTransform": {"bottoms": (IMAGE, "2 1 4 4", "2 2"), "least": 2, "most": 5},
    "DomainTransformForwardOnly": {"bottoms": (IMAGE, "2 1 4 4", "2 2"), "least": 2, "most": 5},
    "Grouping": {"bottoms": (IMAGE, "2 1 4 4")},
    "MatWrite": {"tops": 0, "fields": 'mat_write_param { prefix: "written" }'},
    "MultiStageMeanfield": {
        "bottoms": (IMAGE, IMAGE, IMAGE),
        "fields": "multi_stage_meanfield_param {"
        " num_iterations: 2 theta_alpha: 4 theta_beta: 2 theta_gamma: 2 }",
    },
    "ParseEvaluate": {"bottoms": ("2 1 4 4", "2 1 4 4"),
                      "fields": "parse_evaluate_param { num_labels: 3 }"},
    "ParseOutput": {"tops": 2},
    "RandCatConv": {
        "bottoms": (IMAGE, "2 2 3 3", "1 1 4 4", "2 1 4 4"),
        "tops": 2,
        "fields": "rand_cat_conv_param { rand_selection: false pooling_factor: 1"
        " pooling_factor: 2 }",
        "least": 1,
        "most": 1.0001,  # all pixels are valid
    },
    "SpatialProduct": {"bottoms": (IMAGE, "2 1 4 4")},
    "UniqueLabel": {"bottoms": ("2 1 4 4",), "fields": "unique_label_param { max_labels: 40 }"},
}  # fmt: skip
