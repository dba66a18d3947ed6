"""Small nets as forks of Caffe write them: they build, run both ways, and keep their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from moka.schema import caffe_pb2

IMAGE = 'input: "data" input_shape { dim: 2 dim: 3 dim: 17 dim: 17 }\n'
NETS = {
    "SegNet": IMAGE
    + """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" param { lr_mult: 1 decay_mult: 1
  } param { lr_mult: 2 decay_mult: 0 } convolution_param { weight_filler { type: "msra" }
  bias_filler { type: "constant" } num_output: 8 pad: 1 kernel_size: 3 } }
layer { bottom: "c1" top: "c1" name: "c1_bn" type: "BN" param { lr_mult: 1 decay_mult: 1 } param
  { lr_mult: 1 decay_mult: 0 } bn_param { bn_mode: INFERENCE scale_filler { type: "constant"
  value: 1 } shift_filler { type: "constant" value: 0.001 } } }
layer { name: "r" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "pool1" type: "Pooling" bottom: "c1" top: "pool1" top: "pool1_mask" pooling_param
  { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool1" top: "pool1" dropout_param { dropout_ratio:
  0.5 sample_weights_test: true } }
layer { name: "up" type: "Upsample" bottom: "pool1" bottom: "pool1_mask" top: "up"
  upsample_param { scale: 2 upsample_h: 17 upsample_w: 17 } }
layer { name: "up2" type: "Upsample" bottom: "pool1" bottom: "pool1_mask" top: "up2"
  upsample_param { scale: 2 pad_out_h: true pad_out_w: true } }
""",
    "PSPNet": IMAGE
    + """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output:
  8 kernel_size: 3 pad: 2 dilation: 2 bias_term: false } }
layer { name: "bn" type: "BN" bottom: "c1" top: "c1" param { lr_mult: 1 decay_mult: 0 } param {
  lr_mult: 1 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0
  } bn_param { slope_filler { type: "constant" value: 1 } bias_filler { type: "constant" value:
  0 } frozen: true momentum: 0.95 } }
layer { name: "p" type: "Pooling" bottom: "c1" top: "p" pooling_param { pool: AVE kernel_size:
  17 stride: 17 } }
layer { name: "i" type: "Interp" bottom: "p" top: "i" interp_param { height: 17 width: 17 } }
layer { name: "cat" type: "Concat" bottom: "c1" bottom: "i" top: "cat" }
layer { name: "i2" type: "Interp" bottom: "cat" top: "i2" interp_param { zoom_factor: 8 } }
layer { name: "i3" type: "Interp" bottom: "data" top: "i3" interp_param { shrink_factor: 2 } }
""",
    "NVCaffe": """
default_forward_type: FLOAT16 default_backward_type: FLOAT16 default_forward_math: FLOAT
  global_grad_scale: 1000 global_grad_scale_adaptive: true
layer { name: "d" type: "DummyData" top: "data" top: "label" dummy_data_param { shape { dim: 4
  dim: 3 dim: 16 dim: 16 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler {
  value: 1 } } }
layer { forward_type: FLOAT backward_type: FLOAT name: "c1" type: "Convolution" bottom: "data"
  top: "c1" convolution_param { num_output: 8 kernel_size: 3 cudnn_convolution_algo_seeker:
  FINDEX weight_filler { type: "msra" variance_norm: FAN_OUT } } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "bn" batch_norm_param {
  moving_average_fraction: 0.9 eps: 0.0001 scale_bias: true } }
layer { name: "r" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "fc" type: "InnerProduct" bottom: "bn" top: "fc" inner_product_param { num_output:
  5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_param
  { label_smoothing: 0.1 } }
""",
    "Intel Caffe": IMAGE
    + """
bn_stats_batch_size: 32 engine: "MKL2017" multinode { model: 1 }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" engine: "MKLDNN"
  convolution_param { num_output: 8 kernel_size: 3 relu: true engine: MKL2017 conv_algorithm:
  "auto" fusion_type: NONE_FUSION } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "bn" batch_norm_param { filler { value: 1
  } bias_filler { value: 0 } engine: MKL2017 use_weight_bias: true relu: true } }
layer { name: "p" type: "Pooling" bottom: "bn" top: "p" pooling_param { pool: AVE kernel_size: 3
  pad: 1 avg_include_pad: false engine: MKLDNN } }
layer { name: "sd" type: "SpatialDropout" bottom: "p" top: "sd" spatial_dropout_param {
  dropout_ratio: 0.2 } }
""",
    "ShuffleNet, MobileNet and SENet": IMAGE
    + """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output:
  24 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "dw" type: "DepthwiseConvolution" bottom: "c1" top: "dw" convolution_param {
  num_output: 24 kernel_size: 3 pad: 1 group: 24 bias_term: false engine: CAFFE } }
layer { name: "r6" type: "ReLU6" bottom: "dw" top: "dw" }
layer { name: "sh" type: "ShuffleChannel" bottom: "dw" top: "sh" shuffle_channel_param { group:
  3 } }
layer { name: "gp" type: "Pooling" bottom: "sh" top: "gp" pooling_param { pool: AVE engine:
  CAFFE global_pooling: true } }
layer { name: "ax" type: "Axpy" bottom: "gp" bottom: "sh" bottom: "dw" top: "ax" }
""",
    "DeepLab and SegNet in V1": """
input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
layers { bottom: "data" top: "c" name: "c" type: CONVOLUTION convolution_param { num_output: 2
  kernel_size: 3 hole: 2 } }
layers { bottom: "c" top: "b" name: "b" type: BN bn_param { scale_filler { type: "constant"
  value: 1 } shift_filler { type: "constant" value: 0.001 } } }
layers { bottom: "b" top: "p" top: "m" name: "p" type: POOLING pooling_param { pool: MAX
  kernel_size: 2 stride: 2 } }
layers { bottom: "p" bottom: "m" top: "u" name: "u" type: UPSAMPLE upsample_param { scale: 2 } }
""",
}


@pytest.mark.parametrize("family", NETS)
@pytest.mark.parametrize("phase", [caffe.TEST, caffe.TRAIN], ids=["test", "train"])
def test_a_net_of_this_family(
    family: str, phase: caffe_pb2.Phase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NETS[family])
    net = caffe.Net("net.prototxt", phase)
    rng = np.random.default_rng(1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.uniform(0.5, 1, blob.data.shape)
    if net.inputs:
        net.blobs["data"].data[...] = rng.normal(size=net.blobs["data"].data.shape)
    net.forward()
    assert all(np.isfinite(blob.data).all() for blob in net.blobs.values())
    net.backward()
    net.save("net.caffemodel")
    again = caffe.Net("net.prototxt", phase, weights="net.caffemodel")
    for name, blobs in net.params.items():
        for blob, other in zip(blobs, again.params[name], strict=True):
            np.testing.assert_array_equal(blob.data, other.data)
