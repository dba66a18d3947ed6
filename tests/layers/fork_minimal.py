"""The least that single layer types of forks need, for the tests that hold all types to the same.

Keys and values as in `MINIMAL` and `UNREAD` of tests/layers/test_registry.py.
"""

from __future__ import annotations

from typing import Any

IMAGE = "2 3 4 4"
DEFORMED = 'num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" }'

MINIMAL: dict[str, dict[str, Any]] = {
    "AccuracyEncoding": {"bottoms": ("2 6", "2")},
    "Debug": {"bottoms": (IMAGE, "2")},
    "DeformableConvolution": {
        "bottoms": (IMAGE, "2 18 2 2"),
        "fields": f"deformable_convolution_param {{ {DEFORMED} }}",
    },
    "HSwish": {},
    "HardSwish": {},
    "Mish": {},
    "ModulatedDeformableConvolution": {
        "bottoms": (IMAGE, "2 18 2 2", "2 9 2 2"),
        "fields": f"modulated_deformable_convolution_param {{ {DEFORMED} }}",
    },
    "Padding": {"fields": "padding_param { pad_beg: 1 pad_end: -1 }"},
    "VoxelSoftmaxLoss": {"bottoms": ("2 3 2 4 4", "2 1 2 4 4")},
}
