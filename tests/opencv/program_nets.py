"""Nets of the kinds that OpenCV programs load, made small, with the forms of their prototxts."""

from __future__ import annotations

FACES = """
input: "data" input_shape { dim: 1 dim: 3 dim: 300 dim: 300 }
layer { name: "data_bn" type: "BatchNorm" bottom: "data" top: "data_bn" }
layer { name: "data_scale" type: "Scale" bottom: "data_bn" top: "data_bn"
  scale_param { bias_term: true } }
layer { name: "conv1_h" type: "Convolution" bottom: "data_bn" top: "conv1_h"
  convolution_param { num_output: 4 pad: 3 kernel_size: 7 stride: 2 } }
layer { name: "conv1_relu" type: "ReLU" bottom: "conv1_h" top: "conv1_h" }
layer { name: "conv1_pool" type: "Pooling" bottom: "conv1_h" top: "conv1_pool"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "Normalize" bottom: "conv1_pool" top: "norm"
  norm_param { across_spatial: false scale_filler { value: 20 } channel_shared: false } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc"
  convolution_param { num_output: 16 pad: 1 kernel_size: 3 stride: 4 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat"
  flatten_param { axis: 1 } }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf"
  convolution_param { num_output: 8 pad: 1 kernel_size: 3 stride: 4 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat"
  flatten_param { axis: 1 } }
layer { name: "prior" type: "PriorBox" bottom: "loc" bottom: "data" top: "prior"
  prior_box_param { min_size: 30 max_size: 60 aspect_ratio: 2 flip: true clip: false variance: 0.1
    variance: 0.1 variance: 0.2 variance: 0.2 step: 16 offset: 0.5 } }
layer { name: "conf_reshape" type: "Reshape" bottom: "conf_flat" top: "conf_reshape"
  reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: "conf_softmax" type: "Softmax" bottom: "conf_reshape" top: "conf_softmax"
  softmax_param { axis: 2 } }
layer { name: "conf_out" type: "Flatten" bottom: "conf_softmax" top: "conf_out"
  flatten_param { axis: 1 } }
layer { name: "detection_out" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_out"
  bottom: "prior" top: "detection_out" include { phase: TEST }
  detection_output_param { num_classes: 2 share_location: true background_label_id: 0
    nms_param { nms_threshold: 0.45 top_k: 400 } code_type: CENTER_SIZE keep_top_k: 200
    confidence_threshold: 0.01 } }
"""
MOBILENET_SSD = """
name: "MobileNet-SSD"
input: "data" input_shape { dim: 1 dim: 3 dim: 300 dim: 300 }
layer { name: "conv0" type: "Convolution" bottom: "data" top: "conv0"
  param { lr_mult: 1.0 decay_mult: 1.0 }
  convolution_param { num_output: 8 pad: 1 kernel_size: 3 stride: 2
    weight_filler { type: "msra" } } }
layer { name: "conv0/relu" type: "ReLU" bottom: "conv0" top: "conv0" }
layer { name: "conv1/dw" type: "Convolution" bottom: "conv0" top: "conv1/dw"
  convolution_param { num_output: 8 pad: 1 kernel_size: 3 stride: 8 group: 8 engine: CAFFE } }
layer { name: "conv1/dw/relu" type: "ReLU" bottom: "conv1/dw" top: "conv1/dw" }
layer { name: "loc" type: "Convolution" bottom: "conv1/dw" top: "loc"
  convolution_param { num_output: 12 kernel_size: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "mbox_loc" type: "Flatten" bottom: "loc_perm" top: "mbox_loc"
  flatten_param { axis: 1 } }
layer { name: "conf" type: "Convolution" bottom: "conv1/dw" top: "conf"
  convolution_param { num_output: 63 kernel_size: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "mbox_conf" type: "Flatten" bottom: "conf_perm" top: "mbox_conf"
  flatten_param { axis: 1 } }
layer { name: "priors" type: "PriorBox" bottom: "conv1/dw" bottom: "data" top: "priors"
  prior_box_param { min_size: 60 aspect_ratio: 2 flip: true clip: false variance: 0.1
    variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 } }
layer { name: "mbox_conf_reshape" type: "Reshape" bottom: "mbox_conf" top: "mbox_conf_reshape"
  reshape_param { shape { dim: 0 dim: -1 dim: 21 } } }
layer { name: "mbox_conf_softmax" type: "Softmax" bottom: "mbox_conf_reshape"
  top: "mbox_conf_softmax" softmax_param { axis: 2 } }
layer { name: "mbox_conf_flatten" type: "Flatten" bottom: "mbox_conf_softmax"
  top: "mbox_conf_flatten" flatten_param { axis: 1 } }
layer { name: "detection_out" type: "DetectionOutput" bottom: "mbox_loc"
  bottom: "mbox_conf_flatten" bottom: "priors" top: "detection_out"
  detection_output_param { num_classes: 21 share_location: true background_label_id: 0
    nms_param { nms_threshold: 0.45 top_k: 100 } code_type: CENTER_SIZE keep_top_k: 100
    confidence_threshold: 0.1 } }
"""
POSE = """
input: "image" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1
layer { name: "conv1_1" type: "Convolution" bottom: "image" top: "conv1_1"
  convolution_param { num_output: 4 pad: 1 kernel_size: 3 } }
layer { name: "prelu1_1" type: "PReLU" bottom: "conv1_1" top: "conv1_1" }
layer { name: "pool1_stage1" type: "Pooling" bottom: "conv1_1" top: "pool1_stage1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv5_5_L1" type: "Convolution" bottom: "pool1_stage1" top: "conv5_5_L1"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "conv5_5_L2" type: "Convolution" bottom: "pool1_stage1" top: "conv5_5_L2"
  convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "concat_stage2" type: "Concat" bottom: "conv5_5_L1" bottom: "conv5_5_L2"
  bottom: "pool1_stage1" top: "concat_stage2" concat_param { axis: 1 } }
layer { name: "Mconv1_stage2_L1" type: "Convolution" bottom: "concat_stage2"
  top: "Mconv1_stage2_L1" convolution_param { num_output: 4 pad: 3 kernel_size: 7 } }
layer { name: "Mrelu1_stage2_L1" type: "ReLU" bottom: "Mconv1_stage2_L1" top: "Mconv1_stage2_L1" }
layer { name: "Mconv1_stage2_L2" type: "Convolution" bottom: "concat_stage2"
  top: "Mconv1_stage2_L2" convolution_param { num_output: 3 pad: 3 kernel_size: 7 } }
layer { name: "net_output" type: "Concat" bottom: "Mconv1_stage2_L2" bottom: "Mconv1_stage2_L1"
  top: "net_output" concat_param { axis: 1 } }
"""
AGES = """
name: "CaffeNet"
input: "data"
input_dim: 1
input_dim: 3
input_dim: 227
input_dim: 227
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 7 stride: 4 } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "norm1" type: LRN bottom: "pool1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layers { name: "fc6" type: INNER_PRODUCT bottom: "norm1" top: "fc6"
  inner_product_param { num_output: 16 } }
layers { name: "relu6" type: RELU bottom: "fc6" top: "fc6" }
layers { name: "drop6" type: DROPOUT bottom: "fc6" top: "fc6"
  dropout_param { dropout_ratio: 0.5 } }
layers { name: "fc8" type: INNER_PRODUCT bottom: "fc6" top: "fc8"
  inner_product_param { num_output: 8 } }
layers { name: "prob" type: SOFTMAX bottom: "fc8" top: "prob" }
"""
COLORS = """
layer { name: "data_l" type: "Input" top: "data_l"
  input_param { shape { dim: 1 dim: 1 dim: 224 dim: 224 } } }
layer { name: "bw_conv1_1" type: "Convolution" bottom: "data_l" top: "conv1_1"
  convolution_param { num_output: 4 pad: 1 kernel_size: 3 stride: 14 } }
layer { name: "relu1_1" type: "ReLU" bottom: "conv1_1" top: "conv1_1" }
layer { name: "conv1_2norm" type: "BatchNorm" bottom: "conv1_1" top: "conv1_2norm"
  batch_norm_param { } }
layer { name: "conv5_1" type: "Convolution" bottom: "conv1_2norm" top: "conv5_1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 2 dilation: 2 } }
layer { name: "conv8_1" type: "Deconvolution" bottom: "conv5_1" top: "conv8_1"
  convolution_param { num_output: 4 kernel_size: 4 pad: 1 stride: 2 } }
layer { name: "conv8_313" type: "Convolution" bottom: "conv8_1" top: "conv8_313"
  convolution_param { num_output: 7 kernel_size: 1 } }
layer { name: "conv8_313_rh" type: "Scale" bottom: "conv8_313" top: "conv8_313_rh"
  scale_param { bias_term: false filler { type: "constant" value: 2.606 } } }
layer { name: "class8_313_rh" type: "Softmax" bottom: "conv8_313_rh" top: "class8_313_rh" }
layer { name: "class8_ab" type: "Convolution" bottom: "class8_313_rh" top: "class8_ab"
  convolution_param { num_output: 2 kernel_size: 1 stride: 1 dilation: 1 } }
"""
EDGES = """
name: "HED"
input: "data" input_dim: 1 input_dim: 3 input_dim: 500 input_dim: 500
layer { name: "conv1_1" type: "Convolution" bottom: "data" top: "conv1_1"
  convolution_param { num_output: 4 pad: 35 kernel_size: 3 } }
layer { name: "relu1_1" type: "ReLU" bottom: "conv1_1" top: "conv1_1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1_1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "score-dsn1" type: "Convolution" bottom: "conv1_1" top: "score-dsn1-up"
  convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "crop" type: "Crop" bottom: "score-dsn1-up" bottom: "data" top: "upscore-dsn1" }
layer { name: "sigmoid-dsn1" type: "Sigmoid" bottom: "upscore-dsn1" top: "sigmoid-dsn1" }
layer { name: "score-dsn2" type: "Convolution" bottom: "pool1" top: "score-dsn2"
  convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "upsample_2" type: "Deconvolution" bottom: "score-dsn2" top: "score-dsn2-up"
  convolution_param { kernel_size: 4 stride: 2 num_output: 1 } }
layer { name: "crop" type: "Crop" bottom: "score-dsn2-up" bottom: "data" top: "upscore-dsn2" }
layer { name: "concat" type: "Concat" bottom: "upscore-dsn1" bottom: "upscore-dsn2"
  top: "concat-upscore" concat_param { concat_dim: 1 } }
layer { name: "new-score-weighting" type: "Convolution" bottom: "concat-upscore"
  top: "upscore-fuse" convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "sigmoid-fuse" type: "Sigmoid" bottom: "upscore-fuse" top: "sigmoid-fuse" }
"""
TEXT_BOXES = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 64 input_dim: 64
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 pad: 1 kernel_size: 3 stride: 8 } }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc"
  convolution_param { num_output: 16 pad_h: 0 pad_w: 2 kernel_h: 1 kernel_w: 5 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf"
  convolution_param { num_output: 8 pad_h: 0 pad_w: 2 kernel_h: 1 kernel_w: 5 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_perm" top: "conf_rows"
  reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: "conf_soft" type: "Softmax" bottom: "conf_rows" top: "conf_soft"
  softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_soft" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior"
  prior_box_param { min_size: 10 aspect_ratio: 2 aspect_ratio: 5 aspect_ratio: 10 flip: false
    clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "detection_out" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat"
  bottom: "prior" top: "detection_out"
  detection_output_param { num_classes: 2 share_location: true background_label_id: 0
    nms_param { nms_threshold: 0.45 top_k: 400 } code_type: CENTER_SIZE keep_top_k: 200
    confidence_threshold: 0.3 } }
"""
INCEPTION = """
name: "GoogleNet"
input: "data" input_dim: 10 input_dim: 3 input_dim: 224 input_dim: 224
layer { name: "conv1/7x7_s2" type: "Convolution" bottom: "data" top: "conv1/7x7_s2"
  convolution_param { num_output: 4 pad: 3 kernel_size: 7 stride: 8 } }
layer { name: "conv1/relu_7x7" type: "ReLU" bottom: "conv1/7x7_s2" top: "conv1/7x7_s2" }
layer { name: "pool1/norm1" type: "LRN" bottom: "conv1/7x7_s2" top: "pool1/norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layer { name: "inception/1x1" type: "Convolution" bottom: "pool1/norm1" top: "inception/1x1"
  convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "inception/relu_1x1" type: "ReLU" bottom: "inception/1x1" top: "inception/1x1" }
layer { name: "inception/pool" type: "Pooling" bottom: "pool1/norm1" top: "inception/pool"
  pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "inception/output" type: "Concat" bottom: "inception/1x1" bottom: "inception/pool"
  top: "inception/output" }
layer { name: "pool5/7x7_s1" type: "Pooling" bottom: "inception/output" top: "pool5/7x7_s1"
  pooling_param { pool: AVE kernel_size: 28 stride: 1 } }
layer { name: "pool5/drop" type: "Dropout" bottom: "pool5/7x7_s1" top: "pool5/7x7_s1" }
layer { name: "loss3/classifier" type: "InnerProduct" bottom: "pool5/7x7_s1"
  top: "loss3/classifier" inner_product_param { num_output: 9 } }
layer { name: "prob" type: "Softmax" bottom: "loss3/classifier" top: "prob" }
"""
SRCNN = """
name: "SRCNN"
input: "data"
input_dim: 1
input_dim: 1
input_dim: 33
input_dim: 33
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 9 stride: 1 pad: 0 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "conv3" type: "Convolution" bottom: "conv2" top: "conv3"
  convolution_param { num_output: 1 kernel_size: 5 } }
"""
FCN = """
layer { name: "input" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 500 dim: 500 } } }
layer { name: "conv1_1" type: "Convolution" bottom: "data" top: "conv1_1"
  convolution_param { num_output: 4 pad: 20 kernel_size: 3 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1_1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "pool2" type: "Pooling" bottom: "pool1" top: "pool2"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "score_fr" type: "Convolution" bottom: "pool2" top: "score_fr"
  convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "upscore2" type: "Deconvolution" bottom: "score_fr" top: "upscore2"
  convolution_param { num_output: 5 kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "score_pool1" type: "Convolution" bottom: "pool1" top: "score_pool1"
  convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "upscore2c" type: "Crop" bottom: "upscore2" bottom: "score_pool1"
  top: "upscore2c" crop_param { axis: 2 offset: 1 } }
layer { name: "fuse" type: "Eltwise" bottom: "upscore2c" bottom: "score_pool1" top: "fuse"
  eltwise_param { operation: SUM } }
layer { name: "upscore8" type: "Deconvolution" bottom: "fuse" top: "upscore8"
  convolution_param { num_output: 5 kernel_size: 4 stride: 2 bias_term: false group: 5 } }
layer { name: "score" type: "Crop" bottom: "upscore8" bottom: "data" top: "score"
  crop_param { axis: 2 offset: 19 } }
"""
MTCNN = """
name: "PNet"
input: "data" input_dim: 1 input_dim: 3 input_dim: 12 input_dim: 12
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 5 kernel_size: 3 stride: 1 } }
layer { name: "PReLU1" type: "PReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv4-1" type: "Convolution" bottom: "pool1" top: "conv4-1"
  convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "conv4-2" type: "Convolution" bottom: "pool1" top: "conv4-2"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "prob1" type: "Softmax" bottom: "conv4-1" top: "prob1" }
"""
PLATES = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 112 input_dim: 96
layer { name: "conv1_1" type: "Convolution" bottom: "data" top: "conv1_1"
  convolution_param { num_output: 4 kernel_size: 3 stride: 8 pad: 1 } }
layer { name: "relu1_1" type: "PReLU" bottom: "conv1_1" top: "conv1_1" }
layer { name: "conv1_2" type: "Convolution" bottom: "conv1_1" top: "conv1_2"
  convolution_param { num_output: 4 kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "res1_3" type: "Eltwise" bottom: "conv1_1" bottom: "conv1_2" top: "res1_3"
  eltwise_param { operation: 1 } }
layer { name: "fc5" type: "InnerProduct" bottom: "res1_3" top: "fc5"
  inner_product_param { num_output: 12 } }
"""
RCNN = """
input: "data" input_shape { dim: 1 dim: 3 dim: 48 dim: 64 }
input: "im_info" input_shape { dim: 1 dim: 3 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 16 } }
layer { name: "rpn_cls_score" type: "Convolution" bottom: "conv" top: "rpn_cls_score"
  convolution_param { num_output: 18 kernel_size: 1 } }
layer { name: "rpn_bbox_pred" type: "Convolution" bottom: "conv" top: "rpn_bbox_pred"
  convolution_param { num_output: 36 kernel_size: 1 } }
layer { name: "rpn_cls_score_reshape" type: "Reshape" bottom: "rpn_cls_score"
  top: "rpn_cls_score_reshape" reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "rpn_cls_prob" type: "Softmax" bottom: "rpn_cls_score_reshape"
  top: "rpn_cls_prob" }
layer { name: "rpn_cls_prob_reshape" type: "Reshape" bottom: "rpn_cls_prob"
  top: "rpn_cls_prob_reshape" reshape_param { shape { dim: 0 dim: 18 dim: -1 dim: 0 } } }
layer { name: "proposal" type: "Proposal" bottom: "rpn_cls_prob_reshape"
  bottom: "rpn_bbox_pred" bottom: "im_info" top: "rois"
  proposal_param { ratio: 0.5 ratio: 1.0 ratio: 2.0 scale: 8 scale: 16 scale: 32 base_size: 16
    feat_stride: 16 pre_nms_topn: 60 post_nms_topn: 10 nms_thresh: 0.7 min_size: 16 } }
layer { name: "roi_pool5" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool5"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.0625 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool5" top: "fc"
  inner_product_param { num_output: 6 } }
"""
NETS = {
    "faces": FACES, "mobilenet_ssd": MOBILENET_SSD, "pose": POSE, "ages": AGES, "colors": COLORS,
    "edges": EDGES, "text_boxes": TEXT_BOXES, "inception": INCEPTION, "srcnn": SRCNN, "fcn": FCN,
    "mtcnn": MTCNN, "plates": PLATES, "rcnn": RCNN,
}  # fmt: skip
