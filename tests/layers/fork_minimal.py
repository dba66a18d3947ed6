"""The least that single layer types of forks need, for the tests that hold all types to the same.

Keys and values as in `MINIMAL` and `UNREAD` of tests/layers/one_layer.py.
"""

from __future__ import annotations

from typing import Any

IMAGE = "2 3 4 4"
DEFORMED = 'num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" }'

MINIMAL: dict[str, dict[str, Any]] = {
    "AccuracyEncoding": {"bottoms": ("2 6", "2")},
    "Bilinear": {"bottoms": (IMAGE, "2 2 4 4")},
    "CompactBilinear": {
        "bottoms": (IMAGE, "2 2 4 4"),
        "fields": "compact_bilinear_param { num_output: 4 }",
    },
    "Debug": {"bottoms": (IMAGE, "2")},
    "DeephiResize": {"fields": "deephi_resize_param { scale_h: 2 scale_w: 1.5 }"},
    "DeformableConvolution": {
        "bottoms": (IMAGE, "2 18 2 2"),
        "fields": f"deformable_convolution_param {{ {DEFORMED} }}",
    },
    "DetectNetTransformation": {
        "bottoms": ("2 3 8 8", "2 1 3 16"),
        "tops": 2,
        "fields": "detectnet_groundtruth_param { stride: 4 image_size_x: 8 image_size_y: 8 }",
        "least": 0.0,  # labels without boxes
        "most": 0.0,
    },
    "GradientReversal": {},
    "GradientScaler": {"fields": "gradient_scaler_param { lower_bound: 0.5 }"},
    "HSwish": {},
    "HardSwish": {},
    "Maxout": {"bottoms": ("2 4 4 4",), "fields": "maxout_param { chgroup_sz: 2 }"},
    "Mish": {},
    "ModulatedDeformableConvolution": {
        "bottoms": (IMAGE, "2 18 2 2", "2 9 2 2"),
        "fields": f"modulated_deformable_convolution_param {{ {DEFORMED} }}",
    },
    "Padding": {"fields": "padding_param { pad_beg: 1 pad_end: -1 }"},
    "SignedSqrt": {"least": -0.9},
    "VoxelSoftmaxLoss": {"bottoms": ("2 3 2 4 4", "2 1 2 4 4")},
}
