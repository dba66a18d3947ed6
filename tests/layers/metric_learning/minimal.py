"""The least that each layer type of metric learning, and each loss of a fork, needs."""

from __future__ import annotations

from typing import Any

FILLED = 'num_output: 3 weight_filler { type: "gaussian" }'

MINIMAL: dict[str, dict[str, Any]] = {
    "BatchContrastiveLoss": {
        "bottoms": ("2 2", "2"),
        "fields": "batch_contrastive_loss_param { positive_margin: 0.05 }",
    },
    "CenterLoss": {
        "bottoms": ("2 6", "2"),
        "fields": 'center_loss_param { num_output: 3 center_filler { type: "gaussian" } }',
    },
    "ConfidencePenaltyLoss": {"bottoms": ("2 6", "2")},
    "CorrelationLoss": {"bottoms": ("2 6", "2 6")},
    "FeatureDecayLoss": {
        "bottoms": ("2 1",),
        "fields": "feature_decay_loss_param { force_decay: true }",
    },
    "FeatureIncayLoss": {
        "bottoms": ("2 6", "2 1", "2 3", "2"),
        "fields": "feature_incay_loss_param { force_incay: true }",
    },
    "FocalLoss": {"bottoms": ("2 6", "2")},
    "GeneralContrastiveLoss": {"bottoms": ("2 6", "2")},
    "GeneralTripletLoss": {"bottoms": ("2 6", "2")},
    "InnerDistance": {
        "bottoms": ("2 6",),
        "fields": f"inner_distance_param {{ {FILLED} }}",
    },
    "L1Loss": {"bottoms": ("2 6", "2 6")},
    "LabelSpecificAdd": {"bottoms": ("2 6", "2")},
    "LabelSpecificHardMargin": {"bottoms": ("2 6", "2")},
    "LabelSpecificMargin": {"bottoms": ("2 6", "2")},
    "LabelSpecificRescale": {
        "bottoms": ("2 6", "2"),
        "fields": "label_specific_rescale_param { positive_weight: 2 }",
    },
    "LargeMarginInnerProduct": {
        "bottoms": ("2 6", "2"),
        "fields": f"largemargin_inner_product_param {{ {FILLED} type: DOUBLE }}",
    },
    "LiftedStructSimilaritySoftmaxLoss": {"bottoms": ("4 6", "4"), "most": 1.9},
    "MMDLoss": {"bottoms": ("4 3", "5 3")},
    "MarginInnerProduct": {
        "bottoms": ("2 6", "2"),
        "fields": f"margin_inner_product_param {{ {FILLED} type: TRIPLE }}",
    },
    "MemoryLoss": {"bottoms": ("2 6", "2 6")},
    "NCALoss": {"bottoms": ("2 6", "2")},
    "Pairwise": {"bottoms": ("2 6", "3 6")},
    "SoftContrastiveLoss": {"bottoms": ("2 6", "2")},
    "SoftmaxFocalLoss": {"bottoms": ("2 6", "2")},
    "SoftmaxWithFocalLoss": {"bottoms": ("2 6", "2")},
    "TripletLoss": {"bottoms": ("2 6", "2 6", "2 6")},
}
