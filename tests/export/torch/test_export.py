from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import NetMaker
from tests.fresh import run_program
from torch import nn

from moka.errors import NetError, UsageError
from moka.export.torch.export import export_module, export_safetensors, export_torch
from moka.models import zoo_folder
from moka.net import Net, build_net
from moka.schema import caffe_pb2, read_text

FOLDERS = sorted(file.parent.name for file in zoo_folder().glob("*/deploy.prototxt"))
LARGE = (
    *("bvlc_alexnet", "bvlc_reference_rcnn_ilsvrc13", "finetune_flickr_style"),
    *("resnet50", "resnet101", "resnet152", "vgg16", "vgg19"),
)


def give_values(net: Net) -> None:
    """Weights that keep values in range, and statistics as training leaves them."""
    for place in net.places:
        blobs = list(place.layer.blobs)
        with torch.no_grad():
            if place.layer.entry.type == "BatchNorm":
                nn.init.uniform_(blobs[0], -0.5, 0.5)
                nn.init.uniform_(blobs[1], 1, 4)
                blobs[2].fill_(2)
                continue
            for blob in blobs:
                if blob.dim() > 1:
                    nn.init.kaiming_normal_(blob)
                else:
                    nn.init.uniform_(blob, 0.5, 1)


@pytest.mark.parametrize(
    "folder",
    [pytest.param(f, marks=pytest.mark.slow) if f in LARGE else f for f in FOLDERS],
)
def test_every_net_of_the_zoo(folder: str, tmp_path: Path) -> None:
    message = read_text(zoo_folder() / folder / "deploy.prototxt", caffe_pb2.NetParameter)
    for layer in message.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[0] = 1
        if layer.type == "InnerProduct" and layer.inner_product_param.num_output == 4096:
            layer.inner_product_param.num_output = 64  # a tenth of the time
    net = build_net(message)
    give_values(net)
    found = export_torch(net, tmp_path / "model.py")
    assert found.difference.relative < 1e-4
    assert found.weights.exists()


NET = """
name: "two ends"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv/1" type: "Convolution" bottom: "data" top: "conv/1"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 pad: 1 stride: 2
                            weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv/1" top: "conv/1" }
layer { name: "scale" type: "Scale" bottom: "conv/1" top: "conv/1"
        scale_param { bias_term: true } }
layer { name: "lambda" type: "ReLU" bottom: "conv/1" top: "lambda"
        relu_param { negative_slope: 0.1 } }
layer { name: "in_place" type: "Power" bottom: "lambda" top: "lambda" power_param { scale: 2 } }
layer { name: "pool" type: "Pooling" bottom: "lambda" top: "pool"
        pooling_param { pool: AVE kernel_size: 2 stride: 2 pad: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
layer { name: "other" type: "AbsVal" bottom: "lambda" top: "other" }
"""
# Layers that the zoo lacks, each between `data` (2, 4, 6, 5) and `y`.
LAYERS = {
    "Deconvolution": "convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 2"
    " weight_filler { type: 'xavier' } }",
    "Convolution": "convolution_param { num_output: 6 kernel_size: 3 relu: true"
    " weight_filler { type: 'xavier' } }",
    "Convolution ": "convolution_param { num_output: 6 kernel_size: 3 fuse_type: FUSED_CONV_RELU"
    " relu_param { negative_slope: 0.2 } weight_filler { type: 'xavier' } }",
    "Convolution  ": "convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2"
    " relu: true weight_filler { type: 'xavier' } }",
    "Convolution   ": "convolution_param { num_output: 6 kernel_size: 7 stride: 3"
    " weight_filler { type: 'xavier' } }",
    "Deconvolution ": "convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad_b: 1 pad_l: 2"
    " weight_filler { type: 'xavier' } }",
    "DepthwiseConvolution": "convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2"
    " weight_filler { type: 'xavier' } }",
    "ConvolutionDepthwise": "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 relu: true"
    " weight_filler { type: 'xavier' } }",
    "NdConvolution": "convolution_param { num_output: 3 kernel_shape { dim: [3, 2] }"
    " weight_filler { type: 'xavier' } }",
    "NdPooling": "pooling_param { kernel_shape { dim: [3, 2] } stride_shape { dim: [2, 2] } }",
    "Dropout": "dropout_param { dropout_ratio: 0.3 scale_train: false }",
    "SpatialDropout": "",
    "SeLU": "selu_param { lambda: 1.5 }",
    "CReLU": "crelu_param { negative_slope: 0.25 concat_axis: 2 }",
    "CReLU ": "",
    "Normalization": "",
    "NegReLU": "relu_param { negative_slope: 0.1 }",
    "Truncation": "truncation_param { lower_bound: -0.5 upper_bound: 0.25 }",
    "GRN": "grn_param { bias: 0.5 }",
    "L2Normalize": "",
    "PReLU": "",
    "ELU": "elu_param { alpha: 0.5 }",
    "BNLL": "",
    "TanH": "",
    "Sigmoid": "",
    "ReLU6": "",
    "Swish": "swish_param { beta: 1.5 }",
    "Clip": "clip_param { min: -0.5 max: 0.25 }",
    "Threshold": "threshold_param { threshold: 0.1 }",
    "Exp": "exp_param { base: 2 scale: 0.5 shift: 1 }",
    "Power": "power_param { power: 2 scale: 0.5 shift: 1 }",
    "MVN": "",
    "Mean": "mean_param { operation: SUBTRACT value: [1, 3] input_scale: 2 output_scale: 0.5 }",
    "Mean ": "mean_param { value: 1 }",
    "Bias": "bias_param { filler { value: 2 } }",
    "Scale": "scale_param { axis: 2 num_axes: 2 filler { value: 2 } }",
    "LRN": "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 }",
    "BatchNorm": "batch_norm_param { scale_bias: true }",
    "BatchNorm ": "batch_norm_param { use_weight_bias: true bias_term: false fused_relu: true }",
    "BatchNorm  ": "batch_norm_param { disable_mean: true relu: true }",
    "BatchNorm   ": "batch_norm_param { disable_variance: true }",
    "BN": "bn_param { eps: 0.01 }",
    "BN ": "bn_param { bn_mode: INFERENCE }",
    "BN  ": "bn_param { scale_filler { value: 2 } }",
    "BN   ": "bn_param { var_eps: 0.1 }",
    "BN    ": "bn_param { axis: 1 moving_average: true }",
    "SyncBN": "",
    "Normalize": "norm_param { channel_shared: false across_spatial: false }",
    "Normalize ": "norm_param { scale_filler { value: 20 } }",
    "Normalize  ": "normalize_param { normalize_type: 'L1' }",
    "Reduction": "reduction_param { axis: 2 operation: SUMSQ coeff: 0.5 }",
    "Reshape": "reshape_param { axis: 1 shape { dim: 2 dim: -1 } num_axes: 1 }",
    "Flatten": "flatten_param { axis: 1 end_axis: 2 }",
    "Flatten ": "flatten_param { axis: 2 end_axis: 1 }",
    "Tile": "tile_param { axis: 1 tiles: 3 }",
    "ArgMax": "argmax_param { axis: 1 }",
    "Permute": "permute_param { order: 0 order: 2 }",
    "Transpose": "transpose_param { dim: [1, 3, 0, 2] }",
    "Flip": "flip_param { flip_width: true flip_height: true }",
    "Reverse": "reverse_param { axis: [1, -1] }",
    "ShuffleChannel": "shuffle_channel_param { group: 2 }",
    "ResizeBilinear": "resize_bilinear_param { output_height: 3 scale_width: 2 }",
    "ResizeBilinear ": "resize_bilinear_param { output_width: 3 data_format: 'NCHW' }",
    "Interp": "interp_param { zoom_factor: 3 pad_beg: -1 }",
    "Upsample": "upsample_param { scale: 2 }",
    "Upsample ": "upsample_param { scale: 1.5 }",
    "Upsample  ": "upsample_param { stride_h: 3 stride_w: 2 scale: 0.5 }",
    "Pooling": "pooling_param { kernel_size: 2 stride: 3 pad: 1 }",
    "Pooling ": "pooling_param { kernel_size: 3 stride: 2 pad_b: 2 pad_l: 1 }",
    "Pooling   ": "pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad: 1 }",
    "Pooling    ": "pooling_param { pool: AVE_TF kernel_size: 3 stride: 2 pad_b: 1 pad_l: 2 }",
    "Pooling     ": "pooling_param { pool: AVE kernel_size: 3 pad: 1 avg_include_pad: false }",
    "ResizeNearestNeighbor": "resize_nearest_neighbor_param { output_height: 3 scale_width: 2 }",
    "ResizeNearestNeighbor ": "resize_nearest_neighbor_param { output_width: 3"
    " data_format: 'NCHW' half_pixel_centers: true }",
    "GSTiling": "gs_tiling_param { stride: 2 reverse: true }",
    "Tiling": "tiling_param { tile_dim: 2 }",
    "L2Norm": "l2norm_param { eps: 0.5 }",
    "L2Norm ": "",
    "Norm": "",
    "MIL": "",
    "MIL ": "mil_param { type: NOR }",
    "Quant": "quant_param { centers: [0.5, 1, 0.75, 2] negative_slope: 0.25 }",
    "Quant ": "quant_param { forward_func: 'sign' }",
    "Quant  ": "quant_param { forward_func: 'hard_tanh' }",
    "Quant   ": "quant_param { forward_func: 'relu' negative_slope: 0.25 }",
    "BinaryConvolution": "convolution_param { num_output: 3 kernel_size: 3 group: 1"
    " weight_filler { type: 'xavier' } bias_filler { type: 'gaussian' } }"
    " binary_convolution_param { use_alpha: true }",
    "CConvolution": "convolution_param { num_output: 3 kernel_size: 3"
    " weight_filler { type: 'xavier' } bias_filler { type: 'gaussian' } }"
    " cconvolution_param { weight_mask_filler { type: 'uniform' } }",
    "BinaryInnerProduct": "inner_product_param { num_output: 3 bias_term: false"
    " weight_filler { type: 'xavier' } }",
    "CInnerProduct": "inner_product_param { num_output: 3 bias_term: false axis: 2"
    " weight_filler { type: 'xavier' } }"
    " cinner_product_param { weight_mask_filler { type: 'uniform' } }",
    "InnerProduct ": "inner_product_param { num_output: 3 normalize: true transpose: true"
    " weight_filler { type: 'xavier' } }",
    "Pooling  ": "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad_b: 1 pad_l: 2 }",
    "InnerProduct": "inner_product_param { num_output: 3 axis: -1 transpose: true"
    " weight_filler { type: 'xavier' } }",
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind: str, make_net: NetMaker, tmp_path: Path) -> None:
    """Spaces tell the forms of one type apart."""
    net = make_net(
        'layer { name: "data" type: "Input" top: "data"'
        " input_param { shape { dim: 2 dim: 4 dim: 6 dim: 5 } } }"
        f' layer {{ name: "layer" type: "{kind.strip()}" bottom: "data" top: "y"'
        f" {LAYERS[kind]} }}"
    )
    for place in net.places:
        if place.layer.entry.type in ("BatchNorm", "BN", "SyncBN"):
            with torch.no_grad():
                for k, blob in enumerate(place.layer.blobs):
                    nn.init.uniform_(blob, *((0.5, 2) if k != 2 or blob.numel() > 1 else (2, 2)))
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


@pytest.mark.parametrize(
    ("kind", "fields", "shape"),
    [
        ("ShuffleChannel", "shuffle_channel_param { group: 2 }", [2, 6]),
        ("L2Normalize", "", [4]),
        ("Normalization", "", [4]),
        ("L2Normalization", "", [3, 4]),
        ("MIL", "mil_param { context_per_roi: 3 }", [6, 4]),
        ("Pad", "pad_param { paddings: [0, 0, 1, 2, 3, 0] constant_values: -1.5 }", [2, 3, 4]),
        ("GSTiling", "gs_tiling_param { stride: 2 }", [2, 3, 4, 6]),
        ("Squeeze", "", [2, 1, 3, 1]),
        ("Squeeze", "squeeze_param { axis: -1 }", [2, 1, 3, 1]),
    ],
)
def test_blobs_that_are_no_images(
    kind: str, fields: str, shape: list[int], make_net: NetMaker, tmp_path: Path
) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "data"'
        f" input_param {{ shape {{ dim: {shape} }} }} }}"
        f' layer {{ name: "layer" type: "{kind}" bottom: "data" top: "y" {fields} }}'
    )
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


def test_matrix_multiplication(make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "a" top: "b"'
        " input_param { shape { dim: [5, 2, 3] } shape { dim: [3, 4] } } }"
        ' layer { name: "y" type: "MatrixMultiplication" bottom: "a" bottom: "b" top: "y" }'
    )
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


@pytest.mark.parametrize("bottoms", ['bottom: "w"', 'bottom: "w" bottom: "b"'])
def test_weights_among_the_bottoms(bottoms: str, make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "x" top: "w" top: "b" input_param {'
        " shape { dim: [5, 2, 3] } shape { dim: [4, 2, 3] } shape { dim: [4] } } }"
        f' layer {{ name: "y" type: "InnerProduct" bottom: "x" {bottoms} top: "y"'
        " inner_product_param { num_output: 4 bias_filler { type: 'gaussian' } } }"
        ' layer { name: "rest" type: "Silence" bottom: "b" }'
    )
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


def test_an_input_of_indices(make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "word" input_param { shape { dim: [3, 20] } } }'
        ' layer { name: "table" type: "Embed" bottom: "word" top: "y" embed_param {'
        ' input_dim: 2 num_output: 3 weight_filler { type: "xavier" } } }'
    )
    assert export_torch(net, tmp_path / "model.py").difference.absolute == 0


def test_source_that_pytorch_cannot_run(make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 1] } } }'
        ' layer { name: "layer" type: "BN" bottom: "data" top: "y" bn_param { var_eps: 0.1 } }'
    )
    with pytest.raises(NetError, match="the PyTorch source cannot be run: Expected more than 1"):
        export_torch(net, tmp_path / "model.py")
    assert not list(tmp_path.iterdir())


VIDEO_LAYERS = {
    "Convolution3D": "convolution3d_param { num_output: 4 kernel_depth: 3 kernel_size: 2 pad: 1"
    " weight_filler { type: 'xavier' } bias_filler { type: 'gaussian' } }",
    "Deconvolution3D": "convolution3d_param { num_output: 4 kernel_depth: 2 kernel_size: 3"
    " stride: 2 weight_filler { type: 'xavier' } bias_filler { type: 'gaussian' } }",
    "Pooling3D": "pooling3d_param { kernel_depth: 2 temporal_stride: 2 kernel_size: 3 stride: 2 }",
    "SpatialDropout": "",
}


@pytest.mark.parametrize("kind", VIDEO_LAYERS)
def test_layers_of_videos(kind: str, make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "data"'
        " input_param { shape { dim: [2, 4, 5, 6, 7] } } }"
        f' layer {{ name: "layer" type: "{kind}" bottom: "data" top: "y" {VIDEO_LAYERS[kind]} }}'
    )
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


@pytest.mark.parametrize("reverse", [False, True])
def test_reorg(reverse: bool, make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "data"'
        " input_param { shape { dim: [2, 8, 4, 6] } } }"
        ' layer { name: "layer" type: "Reorg" bottom: "data" top: "y"'
        f" reorg_param {{ stride: 2 reverse: {str(reverse).lower()} }} }}"
    )
    assert export_torch(net, tmp_path / "model.py").difference.absolute == 0


def test_blobs_of_blobs(make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net("""
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 4 dim: 6 dim: 6 } } }
layer { name: "cut" type: "Slice" bottom: "data" top: "a" top: "b" }
layer { name: "relu" type: "ReLU" bottom: "a" top: "c" }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum"
        eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "max" type: "Eltwise" bottom: "a" bottom: "c" top: "max"
        eltwise_param { operation: MAX } }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool"
        pooling_param { global_pooling: true } }
layer { name: "flat" type: "Flatten" bottom: "pool" top: "flat" }
layer { name: "gate" type: "Scale" bottom: "max" bottom: "flat" top: "gate"
        scale_param { axis: 0 } }
layer { name: "up" type: "Tile" bottom: "gate" top: "up" tile_param { axis: 3 tiles: 2 } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "gate" top: "crop"
        crop_param { axis: 2 offset: 0 offset: 3 } }
layer { name: "middle" type: "Crop" bottom: "up" bottom: "gate" top: "middle"
        crop_param { center_align: true } }
layer { name: "join" type: "Concat" bottom: "crop" bottom: "b" bottom: "middle" top: "y" }
""")
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


def test_shared_parameters_stay_shared(make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net("""
layer { name: "data" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "one" type: "InnerProduct" bottom: "a" top: "x" param { name: "w" }
        inner_product_param { num_output: 3 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "two" type: "InnerProduct" bottom: "b" top: "y" param { name: "w" }
        inner_product_param { num_output: 3 bias_term: false weight_filler { type: "xavier" } } }
""")
    export_torch(net, tmp_path / "model.py")
    assert "self.two.weight = self.one.weight" in (tmp_path / "model.py").read_text()


@pytest.mark.parametrize("form", [pytest.param("torch", marks=pytest.mark.slow), "safetensors"])
def test_the_file_needs_no_moka(form: str, make_net: NetMaker, tmp_path: Path) -> None:
    """It runs in a Python that does not have Moka, takes other batches, and trains."""
    net = make_net(NET)
    give_values(net)
    found = export_module(net, tmp_path / "two_ends.py", form)
    x = torch.randn(5, 3, 9, 8)
    torch.save({"x": x, "wanted": net(x)}, tmp_path / "numbers.pt")
    program = """
import sys
sys.modules["moka"] = None
import torch
from two_ends import load
numbers = torch.load("numbers.pt")
net = load()
made = net(numbers["x"])
for name, wanted in numbers["wanted"].items():
    torch.testing.assert_close(made[name], wanted)
net.train()
sum(y.sum() for y in net(numbers["x"]).values()).backward()
print(len(list(net.parameters())))
"""
    done = run_program(program, tmp_path)
    assert (done.stdout, done.stderr) == (b"6\n", b"")
    assert found.weights.name == f"two_ends.{'pt' if form == 'torch' else 'safetensors'}"


def test_the_source_reads_like_one(make_net: NetMaker, tmp_path: Path) -> None:
    export_safetensors(make_net(NET), tmp_path / "x.py")
    text = (tmp_path / "x.py").read_text()
    assert "class Two_ends(nn.Module):" in text
    assert "self.conv_1 = nn.Conv2d(3, 4, (3, 2), stride=2, padding=1)" in text
    assert "self.bn = nn.BatchNorm2d(4, eps=1e-05, momentum=0.001)" in text
    assert "lambda_ = F.leaky_relu(conv_1, 0.1)" in text
    assert "ip = self.ip(pool.flatten(1))" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ('name: "spp" type: "SPP" bottom: "data" top: "y" spp_param { pyramid_height: 1 }',
         'layer "spp" (SPP): cannot be written as PyTorch source: there is no short form of this'
         " layer type in PyTorch."),
        ('name: "p" type: "Pooling" bottom: "data" top: "y" top: "m"'
         " pooling_param { kernel_size: 2 }",
         'layer "p" (Pooling): cannot be written as PyTorch source: stochastic pooling, and the'
         " positions of maxima, have no short form in PyTorch."),
        ('name: "bn" type: "BN" bottom: "data" top: "y" bn_param { moving_average: true }',
         "PyTorch source: the averages of mean and variance are not among the layer's blobs."),
        ('name: "bn" type: "BN" bottom: "data" top: "y" bn_param { across_spatial: false }',
         "PyTorch source: only statistics of channels at axis 1 have a short form in PyTorch."),
        ('name: "bn" type: "BN" bottom: "data" top: "y" top: "m" bn_param { bn_mode: LEARN }',
         "PyTorch source: the statistics of a batch are not exported: leave out all tops but one."),
        ('name: "bn" type: "BatchNorm" bottom: "data" top: "y"'
         " batch_norm_param { use_global_stats: false }",
         "PyTorch source: use_global_stats: false takes the statistics of the batch in testing"
         " too."),
    ],
)  # fmt: skip
def test_refused_layers(layer: str, says: str, make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(
        'layer { name: "data" type: "Input" top: "data"'
        f" input_param {{ shape {{ dim: 1 dim: 2 dim: 4 dim: 4 }} }} }} layer {{ {layer} }}"
    )
    with pytest.raises(NetError) as error:
        export_torch(net, tmp_path / "x.py")
    assert str(error.value).endswith(says)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_module(make_net: NetMaker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'^"my-net" is no name of a Python module'):
        export_torch(make_net(NET), tmp_path / "my-net.py")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_failure(
    make_net: NetMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form that computes something else is found, and nothing written."""
    from moka.export.torch import table

    monkeypatch.setitem(table._forms, "AbsVal", lambda site: f"{site.bottoms[0]} * 2")
    with pytest.raises(NetError, match=r"the PyTorch source differs from the net by .* in other"):
        export_torch(make_net(NET), tmp_path / "x.py")
    assert list(tmp_path.iterdir()) == []
