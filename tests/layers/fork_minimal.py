"""The least that single layer types of forks need, for the tests that hold all types to the same.

Keys and values as in `MINIMAL` and `UNREAD` of tests/layers/one_layer.py.
"""

from __future__ import annotations

from typing import Any

IMAGE = "2 3 4 4"
DEFORMED = 'num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" }'
PRODUCT = 'num_output: 2 weight_filler { type: "gaussian" }'
MASKS = "weight_mask_filler { value: 1 } bias_mask_filler { value: 1 }"

MINIMAL: dict[str, dict[str, Any]] = {
    "AccuracyEncoding": {"bottoms": ("2 6", "2")},
    "Bilinear": {"bottoms": (IMAGE, "2 2 4 4")},
    "BinaryConvolution": {"fields": f"convolution_param {{ {DEFORMED} }}"},
    "BinaryInnerProduct": {"fields": f"inner_product_param {{ {PRODUCT} }}"},
    "CConvolution": {
        "fields": f"convolution_param {{ {DEFORMED} }} cconvolution_param {{ {MASKS} }}"
    },
    "CInnerProduct": {
        "fields": f"inner_product_param {{ {PRODUCT} }} cinner_product_param {{ {MASKS} }}"
    },
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
    "EltwiseAccuracy": {"bottoms": (IMAGE, "2 1 4 4")},
    "EuclideanLossHeatmap": {"bottoms": (IMAGE, IMAGE)},
    "GSTiling": {"fields": "gs_tiling_param { stride: 2 }"},
    "GradientReversal": {},
    "GradientScaler": {"fields": "gradient_scaler_param { lower_bound: 0.5 }"},
    "HSwish": {},
    "HardSwish": {},
    "HashingLoss": {"bottoms": ("2 6", "2")},
    "L2Norm": {},
    "L2Normalization": {"bottoms": ("2 6",)},
    "LocLoss": {"fields": "loc_loss_param { threshold: 0.3 }"},
    "LocalConv": {
        "fields": f"local_conv_param {{ {DEFORMED} }}",
    },
    "MIL": {},
    "MatrixMultiplication": {"bottoms": ("2 3 4", "2 4 2")},
    "Maxout": {"bottoms": ("2 4 4 4",), "fields": "maxout_param { chgroup_sz: 2 }"},
    "Mish": {},
    "ModulatedDeformableConvolution": {
        "bottoms": (IMAGE, "2 18 2 2", "2 9 2 2"),
        "fields": f"modulated_deformable_convolution_param {{ {DEFORMED} }}",
    },
    "MultiLabelAccuracy": {"bottoms": ("2 6", "2 6")},
    "MultiLabelLoss": {"bottoms": ("2 6", "2 6")},
    "Norm": {},
    "Normalization": {},
    "Pad": {"fields": "pad_param { paddings: [0, 0, 1, 0, 0, 2, 1, 1] }"},
    "Padding": {"fields": "padding_param { pad_beg: 1 pad_end: -1 }"},
    "PairwiseLoss": {"bottoms": ("2 6", "2 3")},
    "Quant": {"fields": "quant_param { centers: [0.2, 0.5, 0.9] }"},
    "RankHardLoss": {
        "bottoms": ("4 3", "4"),
        "fields": "rank_param { neg_num: 1 pair_size: 2 hard_ratio: 1 rand_ratio: 0 margin: 1 }",
    },
    "ResizeBilinear": {"fields": "resize_bilinear_param { output_height: 5 output_width: 3 }"},
    "ResizeNearestNeighbor": {"fields": "resize_nearest_neighbor_param { output_height: 5 }"},
    "ReverseTime": {"bottoms": ("3 2 4", "2")},
    "ScaleTanH": {"fields": "scale_tanh_param { init_scale: 2 }"},
    "SeLU": {"least": -0.9},
    "SignDiffusion": {},
    "SignedSqrt": {"least": -0.9},
    "SoftmaxCrossEntropyLoss": {"bottoms": ("2 6", "2 6")},
    "Squeeze": {"bottoms": ("2 1 4 1",)},
    "Unpooling": {"fields": "unpooling_param { kernel_size: 2 stride: 2 unpool_size: 8 }"},
    "Tiling": {"bottoms": ("2 4 3 3",), "fields": "tiling_param { tile_dim: 2 }"},
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
# Pairwise and PairwiseLoss, too.
OF_HASHNET = "l_threshold q_threshold l_lambda q_gamma class_num sigmoid_param continous_similarity"
UNREAD = {
    "Pairwise": dict.fromkeys(OF_HASHNET.split(), "belongs to PairwiseLoss"),
    "PairwiseLoss": dict.fromkeys(("operation", "coeff"), "belongs to Pairwise"),
    "UnPooling": dict.fromkeys(OF_UNPOOLING.split(), "belongs to Unpooling"),
    "Unpooling": dict.fromkeys(OF_PARSENET.split(), "belongs to UnPooling"),
}
