"""Small nets as families of forks build them: what one layer makes, the next exporter takes."""

from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export


def net(*layers: str, **inputs: str) -> str:
    """A net of Inputs of these shapes ("1 3 32 48") and of layers."""
    shapes = {name: " ".join(f"dim: {n}" for n in s.split()) for name, s in inputs.items()}
    made = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}"'
        f" input_param {{ shape {{ {dims} }} }} }}"
        for name, dims in shapes.items()
    ]
    return "\n".join([*made, *layers])


def layer(kind: str, bottoms: str, top: str, fields: str = "") -> str:
    """A layer called as its top."""
    read = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    return f'layer {{ name: "{top}" type: "{kind}" {read} top: "{top}" {fields} }}'


def conv(bottom: str, top: str, outputs: int, kernel: int = 3, stride: int = 1) -> str:
    fields = f"num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {kernel // 2}"
    return layer("Convolution", bottom, top, f"convolution_param {{ {fields} }}") + layer(
        "ReLU", top, top, "relu_param { negative_slope: 0.1 }"
    ).replace(f'name: "{top}"', f'name: "{top}_relu"')


CTPN = net(
    conv("data", "c", 8, stride=4),
    layer("Im2col", "c", "windows", "convolution_param { pad: 1 kernel_size: 3 }"),
    layer("Transpose", "windows", "by_column",
          "transpose_param { dim: 3 dim: 2 dim: 0 dim: 1 }"),
    layer("Reshape", "by_column", "rows",
          "reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }"),
    layer("Lstm", "rows", "right", "lstm_param { num_output: 16 }"),
    layer("Reverse", "rows", "reversed", "reverse_param { axis: 0 }"),
    layer("Lstm", "reversed", "left", "lstm_param { num_output: 16 }"),
    layer("Reverse", "left", "left_in_order", "reverse_param { axis: 0 }"),
    layer("Concat", "right left_in_order", "both", "concat_param { axis: 2 }"),
    layer("Reshape", "both", "image",
          "reshape_param { shape { dim: -1 dim: 1 } axis: 1 num_axes: 1 }"),
    layer("Transpose", "image", "map", "transpose_param { dim: 2 dim: 3 dim: 1 dim: 0 }"),
    conv("map", "scores", 20, 1),
    layer("Reshape", "scores", "pairs", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }"),
    layer("Softmax", "pairs", "prob"),
    data="1 3 32 48",
)  # fmt: skip
CRNN = net(
    conv("data", "c", 16, stride=2),
    layer("Pooling", "c", "p",
          "pooling_param { pool: MAX kernel_h: 16 kernel_w: 2 stride_h: 16 stride_w: 2 }"),
    layer("Permute", "p", "steps", "permute_param { order: 3 order: 0 order: 1 order: 2 }"),
    layer("ContinuationIndicator", "", "cont",
          "continuation_indicator_param { time_step: 25 batch_size: 1 }"),
    layer("LSTM", "steps cont", "h", "recurrent_param { num_output: 20 }"),
    layer("InnerProduct", "h", "scores", "inner_product_param { num_output: 11 axis: 2 }"),
    layer("Softmax", "scores", "prob", "softmax_param { axis: 2 }"),
    layer("CTCGreedyDecoder", "prob cont", "text"),
    data="1 1 32 100",
)  # fmt: skip
FLOWNET2 = net(
    *(layer("DataAugmentation", f"image{k}", f"x{k}",
            "augmentation_param { recompute_mean: 1000 mean_per_pixel: false }") for k in "01"),
    *(conv(f"x{k}", f"a{k}", 8, 7, 2) + conv(f"a{k}", f"b{k}", 16, 5, 2) for k in "01"),
    layer("Correlation", "b0 b1", "corr",
          "correlation_param { pad: 8 kernel_size: 1 max_displacement: 8 stride_2: 2 }"),
    layer("Concat", "corr b0", "cat"),
    conv("cat", "flow", 2),
    layer("Deconvolution", "flow", "larger",
          "convolution_param { num_output: 2 kernel_size: 4 stride: 2 pad: 1 }"),
    layer("Resample", "larger image0", "whole", "resample_param { type: LINEAR }"),
    layer("FlowWarp", "x1 whole", "warped"),
    layer("Eltwise", "x0 warped", "apart", "eltwise_param { coeff: 1 coeff: -1 }"),
    layer("ChannelNorm", "apart", "error"),
    layer("Accum", "flow larger", "flows"),
    image0="1 3 48 64",
    image1="1 3 48 64",
)  # fmt: skip
FASTER_RCNN = net(
    conv("data", "c", 16, stride=16),
    conv("c", "scores", 18, 1),
    conv("c", "moves", 36, 1),
    layer("Reshape", "scores", "pairs", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }"),
    layer("Softmax", "pairs", "likely"),
    layer("Reshape", "likely", "prob", "reshape_param { shape { dim: 0 dim: 18 dim: -1 dim: 0 } }"),
    layer("Python", "prob moves im_info", "rois",
          """python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
             param_str: "'feat_stride': 16" }"""),
    layer("ROIPooling", "c rois", "pooled",
          "roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.0625 }"),
    layer("InnerProduct", "pooled", "fc", "inner_product_param { num_output: 5 }"),
    layer("Softmax", "fc", "classes"),
    data="1 3 64 96",
    im_info="1 3",
)  # fmt: skip
CASCADE_RCNN = net(
    conv("data", "c", 16, stride=8),
    conv("c", "both", 6, 1),
    layer("BoxOutput", "both", "rois", """box_output_param { field_w: 40 field_h: 40
          downsample_rate: 8 fg_thr: -9 iou_thr: 0.6 max_nms_num: 40 max_post_nms_num: 9 }"""),
    layer("ROIAlign", "c rois", "pooled",
          "roi_pooling_param { pooled_size: 3 spatial_scale: 0.125 }"),
    layer("InnerProduct", "pooled", "moves", "inner_product_param { num_output: 8 }"),
    layer("DecodeBBox", "moves rois", "better", "bbox_reg_param { cls_aware: false }"),
    layer("InnerProduct", "pooled", "fc", "inner_product_param { num_output: 4 }"),
    layer("Softmax", "fc", "prob"),
    layer("FrcnnOutput", "prob moves better size", "found", """frcnn_output_param {
          conf_thr: 0.1 iou_thr: 0.5 max_det_num: 6 } bbox_reg_param { cls_aware: false }"""),
    data="1 3 64 96",
    size="1 2",
)  # fmt: skip
YOLO_V2 = net(
    conv("data", "a", 16, stride=8) + conv("a", "b", 40, stride=2),
    layer("Reorg", "a", "deep", "reorg_param { stride: 2 }"),
    layer("Concat", "deep b", "cat"),
    conv("cat", "map", 24, 1),
    layer("YoloDetectionOutput", "map", "found", """yolo_detection_output_param { num_classes: 3
          num_box: 3 confidence_threshold: 0.1 nms_threshold: 0.45
          biases: 1 biases: 1.5 biases: 2 biases: 2 biases: 3 biases: 3 }"""),
    data="2 3 96 96",
)  # fmt: skip
YOLO_V3 = net(
    conv("data", "a", 16, stride=16) + conv("a", "b", 16, stride=2),
    layer("Upsample", "b", "up", "upsample_param { scale: 2 }"),
    layer("Concat", "up a", "cat"),
    conv("b", "coarse", 16, 1),
    conv("cat", "fine", 16, 1),
    layer("Yolov3DetectionOutput", "coarse fine", "found", """yolov3_detection_output_param {
          num_classes: 3 num_box: 2 confidence_threshold: 0.3 nms_threshold: 0.45
          biases: 10 biases: 13 biases: 33 biases: 23 biases: 62 biases: 45 biases: 59 biases: 90
          mask: 2 mask: 3 mask: 0 mask: 1 anchors_scale: 32 anchors_scale: 16
          mask_group_num: 2 }"""),
    data="2 3 96 96",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "free_batch"),
    [
        pytest.param(CTPN, True, id="CTPN"),
        pytest.param(CRNN, False, id="CRNN"),
        pytest.param(FLOWNET2, True, id="FlowNet2"),
        pytest.param(FASTER_RCNN, False, id="Faster R-CNN"),
        pytest.param(CASCADE_RCNN, False, id="Cascade R-CNN"),
        pytest.param(YOLO_V2, True, id="YOLOv2"),
        pytest.param(YOLO_V3, True, id="YOLOv3"),
    ],
)
def test_it_computes_the_same(export: Export, text: str, free_batch: bool) -> None:
    done = export(text)
    assert done.free_batch == free_batch
    assert done.random is not None
