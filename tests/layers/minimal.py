"""The least that each layer type of caffe-windows and other forks needs, of modules in layers/."""

from __future__ import annotations

from typing import Any

MINIMAL: dict[str, dict[str, Any]] = {
    "Arccos": {},
    "Cosine": {},
    "Gram": {},
    "Hotspot": {
        "bottoms": ("2 4", "2 3 4 4"),
        "fields": "hotspot_param { data_height: 4 data_width: 4 }",
    },
    "Insanity": {"least": -0.9},
    "LRNRistretto": {"fields": "quantization_param { precision: MINIFLOAT }"},
    "Local": {
        "fields": 'local_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" } }'
    },
    "LpqLoss": {"bottoms": ("2 3 4", "2 3 4"), "fields": "lpq_loss_param { p: 2 q: 0.5 }"},
    "Mean": {"fields": "mean_param { value: 1 }"},
    "MergeCrop": {
        "bottoms": ("2 3 4 4", "2 3 5 6"),
        "fields": "mergecrop_param { backward: true backward: true }",
    },
    "MovingNormalize": {},
    "Noise": {"fields": "noise_param { uniform_range: 0.2 }"},
    "Slope": {},
    "SubRegion": {
        "bottoms": ("2 3 4 4", "2 4"),
        "fields": "sub_region_param { region_height: 2 region_width: 2 data_height: 4"
        " data_width: 4 }",
    },
    "Transformer": {"bottoms": ("2 3 4 4", "2 6")},
}
