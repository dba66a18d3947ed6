"""The least that each layer type of video, flow and segmentation needs, for the tests that hold all
types to the same.

Keys and values as in `MINIMAL` and `UNREAD` of tests/layers/one_layer.py.
"""

from __future__ import annotations

from typing import Any

from moka.layers.videos import ELSEWHERE

IMAGE, VIDEO = "2 3 4 4", "2 3 4 4 4"
FILLED = 'num_output: 2 weight_filler { type: "gaussian" }'
IN_TIME = "kernel_size: 3 kernel_depth: 2"

MINIMAL: dict[str, dict[str, Any]] = {
    "AnnotatedData": {
        "bottoms": (),
        "tops": 2,
        "fields": 'data_param { source: "boxes.lmdb" batch_size: 2 backend: LMDB }',
    },
    "BoxData": {
        "bottoms": (),
        "tops": 2,
        "fields": 'data_param { source: "yolo.lmdb" batch_size: 2 backend: LMDB }',
    },
    "DetectionData": {
        "bottoms": (),
        "tops": 3,
        "fields": 'detection_data_param { source: "objects.txt" batch_size: 2 stride: 2'
        " field_h: 2 field_w: 2 output_gt_boxes: true }",
    },
    "EvalData": {
        "bottoms": (),
        "tops": 3,
        "fields": 'eval_data_param { source: "objects.txt" batch_size: 1 }',
    },
    "ImageGtData": {
        "bottoms": (),
        "tops": 3,
        "fields": 'image_gt_data_param { source: "regions.txt" batch_size: 2 downsample_rate: 2'
        " field_h: 2 field_w: 2 output_gt_boxes: true }",
    },
    "BatchReduction": {"fields": "batch_reduction_param { reduction_param { axis: 1 } }"},
    "ChannelNorm": {},
    "Convolution3D": {
        "bottoms": (VIDEO,),
        "fields": f"convolution3d_param {{ {FILLED} {IN_TIME} }}",
    },
    "ColinearConvolution": {
        "fields": "colinear_convolution_param { num_output: 2 kernel_size: 3"
        ' quadratic_weight_filler { type: "gaussian" } linear_weight_filler { type: "gaussian" } }',
    },
    "ConvolutionRistretto": {"fields": f"convolution_param {{ {FILLED} kernel_size: 3 }}"},
    "DeconvolutionRistretto": {"fields": f"convolution_param {{ {FILLED} kernel_size: 3 }}"},
    "FcRistretto": {"fields": f"inner_product_param {{ {FILLED} }}"},
    "Correlation": {
        "bottoms": (IMAGE, IMAGE),
        "fields": "correlation_param { pad: 1 kernel_size: 1 max_displacement: 1 }",
    },
    "Correlation1D": {
        "bottoms": (IMAGE, IMAGE),
        "fields": "correlation_param { pad: 1 kernel_size: 1 max_displacement: 1 }",
    },
    "DenseBlock": {
        "fields": "denseblock_param { numTransition: 2 growthRate: 2 Filter_Filler { type:"
        ' "gaussian" } BN_Scaler_Filler { value: 1 } BN_Bias_Filler { value: 0.5 } }',
    },
    "DenseImageData": {
        "bottoms": (),
        "tops": 2,
        "fields": 'dense_image_data_param { source: "pairs.txt" batch_size: 2 }',
    },
    "ImageLabelData": {
        "bottoms": (),
        "tops": 2,
        "fields": 'image_label_data_param { image_list_path: "alone.txt" label_list_path:'
        ' "alone.txt" batch_size: 2 label_slice { dim: 2 dim: 2 stride: 1 stride: 1 offset: 1'
        " offset: 1 } } transform_param { crop_size: 4 }",
    },
    "ImageLabelmapData": {
        "bottoms": (),
        "tops": 2,
        "fields": 'image_data_param { source: "pairs.txt" batch_size: 2 }',
    },
    "ImageSegData": {
        "bottoms": (),
        "tops": 3,
        "fields": 'image_data_param { source: "pairs.txt" batch_size: 2 label_type: PIXEL }',
    },
    "VideoData": {
        "bottoms": (),
        "tops": 2,
        "fields": 'video_data_param { source: "clips.txt" batch_size: 2 }',
    },
    "DataAugmentation": {"fields": "augmentation_param { recompute_mean: 1 }"},
    "Deconvolution3D": {
        "bottoms": (VIDEO,),
        "fields": f"convolution3d_param {{ {FILLED} {IN_TIME} }}",
    },
    "FlowWarp": {"bottoms": (IMAGE, "2 2 4 4")},
    "Gather": {},
    "NdConvolution": {
        "bottoms": (VIDEO,),
        "fields": f"convolution_param {{ {FILLED} kernel_shape {{ dim: 3 dim: 2 dim: 2 }} }}",
    },
    "NdPooling": {
        "bottoms": (VIDEO,),
        "fields": "pooling_param { kernel_shape { dim: 3 dim: 2 dim: 2 } }",
    },
    "Pooling3D": {
        "bottoms": (VIDEO,),
        "fields": "pooling3d_param { kernel_size: 2 kernel_depth: 2 }",
    },
    "Scatter": {},
    "SegAccuracy": {"bottoms": (IMAGE, "2 1 4 4")},
    "SpatialTransformer": {"bottoms": (IMAGE, "2 6")},
}

SUPPORTED_NOT_YET = "augments images in training, or asks for other labels; refused in `setup`"
OTHER_FORM = "belongs to another layer of that name; refused in `setup`"
UNREAD = {
    "DataAugmentation": dict.fromkeys(
        (
            *("write_augmented", "max_multiplier", "write_mean", "mode", "mirror", "translate"),
            *("rotate", "zoom", "squeeze", "translate_x", "translate_y", "lmult_pow"),
            *("lmult_mult", "lmult_add", "sat_pow", "sat_mult", "sat_add", "col_pow", "col_mult"),
            *("col_add", "ladd_pow", "ladd_mult", "ladd_add", "col_rotate", "gamma", "brightness"),
            *("contrast", "color", "bottomwidth", "bottomheight", "num", "chromatic_eigvec"),
            *("fog_amount", "fog_size", "motion_blur_angle", "motion_blur_size", "shadow_angle"),
            *("shadow_distance", "shadow_strength", "noise"),
        ),
        "augments images in training; refused in `forward`",
    ),
    "ImageSegData": dict.fromkeys(
        ("scale", "mean_file", "crop_size", "mirror"), "belong to transform_param now"
    ),
    "ImageLabelmapData": dict.fromkeys(
        ("scale", "mean_file", "crop_size", "mirror"), "belong to transform_param now"
    ),
    "VideoData": dict.fromkeys(ELSEWHERE, OTHER_FORM),
    "AnnotatedData": dict.fromkeys(
        (
            "single_class",
            "seg_scales",
            "seg_resize_width",
            "seg_resize_height",
            "difficult_label_warmup",
        ),
        SUPPORTED_NOT_YET,
    ),
}
