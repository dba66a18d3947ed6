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
    "CReLU": {"least": -0.9},
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
    "EltwiseAffine": {},
    "EuclideanLossHeatmap": {"bottoms": (IMAGE, IMAGE)},
    "GSTiling": {"fields": "gs_tiling_param { stride: 2 }"},
    "GradientReversal": {},
    "GradientScaler": {"fields": "gradient_scaler_param { lower_bound: 0.5 }"},
    "HSwish": {},
    "HardSwish": {},
    "HashingLoss": {"bottoms": ("2 6", "2")},
    "MatrixMultiplication": {"bottoms": ("2 3 4", "2 4 2")},
    "Maxout": {"bottoms": ("2 4 4 4",), "fields": "maxout_param { chgroup_sz: 2 }"},
    "Mish": {},
    "ModulatedDeformableConvolution": {
        "bottoms": (IMAGE, "2 18 2 2", "2 9 2 2"),
        "fields": f"modulated_deformable_convolution_param {{ {DEFORMED} }}",
    },
    "MultiLabelLoss": {"bottoms": ("2 6", "2 6")},
    "Normalization": {},
    "Pad": {"fields": "pad_param { paddings: [0, 0, 1, 0, 0, 2, 1, 1] }"},
    "Padding": {"fields": "padding_param { pad_beg: 1 pad_end: -1 }"},
    "ResizeBilinear": {"fields": "resize_bilinear_param { output_height: 5 output_width: 3 }"},
    "ResizeNearestNeighbor": {"fields": "resize_nearest_neighbor_param { output_height: 5 }"},
    "ReverseTime": {"bottoms": ("3 2 4", "2")},
    "SeLU": {"least": -0.9},
    "SignedSqrt": {"least": -0.9},
    "SoftmaxCrossEntropyLoss": {"bottoms": ("2 6", "2 6")},
    "Squeeze": {"bottoms": ("2 1 4 1",)},
    "Unpooling": {"fields": "unpooling_param { kernel_size: 2 stride: 2 unpool_size: 8 }"},
    "VoxelSoftmaxLoss": {"bottoms": ("2 3 2 4 4", "2 1 2 4 4")},
    "WeightedSoftmaxWithLoss": {"bottoms": ("2 6", "2", "2")},
}

# UnPooling and Unpooling share a message.
OF_UNPOOLING = (
    "pad pad_h pad_w kernel_size kernel_h kernel_w stride stride_h stride_w unpool_size unpool_h"
    " unpool_w engine"
)
OF_PARSENET = (
    "out_kernel_size out_kernel_h out_kernel_w out_stride out_stride_h out_stride_w out_pad"
    " out_pad_h out_pad_w"
)
UNREAD = {
    "UnPooling": dict.fromkeys(OF_UNPOOLING.split(), "belongs to Unpooling"),
    "Unpooling": dict.fromkeys(OF_PARSENET.split(), "belongs to UnPooling"),
}
