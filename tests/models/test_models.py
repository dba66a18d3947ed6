"""The zoo: its files are what the programs make, and the nets are the published ones."""

from __future__ import annotations

import pytest
import torch

from moka.models import zoo_folder
from moka.models.__main__ import MODELS
from moka.models.model import ReferenceModel
from moka.net import Net, build_net
from moka.net.cost import multiply_adds
from moka.net.spec import Top, to_proto
from moka.net.spec import layers as L
from moka.schema import caffe_pb2, read_text
from moka.solver.config import read_solver

ZOO = zoo_folder()
BY_NAME = {model.folder: model for model in MODELS}
META = torch.device("meta")  # shapes only: nets of 140 M numbers take no memory

# Millions of learned parameters (without BatchNorm's statistics) and 10^9 multiply-adds of an
# image, as published; how far ours may lie from the latter, where figures are rounded.
PUBLISHED = {
    "bvlc_alexnet": (60.97, 0.72, 0.01),  # its caffemodel; 0.72: Sze et al. 2017, Table II
    "bvlc_reference_caffenet": (60.97, 0.72, 0.01),
    "bvlc_reference_rcnn_ilsvrc13": (57.69, 0.72, 0.01),  # CaffeNet less 800 * 4097
    "finetune_flickr_style": (56.95, 0.72, 0.01),  # CaffeNet less 980 * 4097
    "bvlc_googlenet": (6.998, 1.586, 0.003),  # 7: Sze et al.; Table 1 of the paper, see below
    "lenet": (0.43108, 0.002293, 0.001),  # summed by hand from the layers of Caffe's example
    "nin": (7.595, 1.1, 0.01),  # its caffemodel has 30.4 MB
    "vgg16": (138.36, 15.47, 0.001),  # Table 2 of the paper: 138; 15.5: Sze et al. 2017
    "vgg19": (143.67, 19.6, 0.005),  # Table 2 of the paper: 144; 19.6: He et al. 2016
    "squeezenet_v1.1": (1.235, 0.36, 0.08),  # the authors: 0.72 GFLOPS, at 224 pixels
    "resnet18": (11.69, 1.8, 0.02),  # Table 1 of the paper
    "resnet50": (25.56, 3.86, 0.005),  # Table 1, which rounds down: 3.8
    "resnet101": (44.55, 7.6, 0.005),  # Table 1
    "resnet152": (60.19, 11.3, 0.005),  # Table 1
    "mobilenet_v1": (4.23, 0.569, 0.001),  # Table 8 of the paper: 4.2, 569 M
    "mobilenet_v2": (3.505, 0.3008, 0.05),  # Table 4: 3.4, 300 M; ours has conv2_1/expand besides
}
# GoogLeNet's table sums to 1.502, but says 34 M of its first convolution, which takes 118 M.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "bvlc_alexnet": {
        "conv1": (10, 96, 55, 55),
        "norm1": (10, 96, 55, 55),
        "pool1": (10, 96, 27, 27),
        "conv2": (10, 256, 27, 27),
        "conv3": (10, 384, 13, 13),
        "pool5": (10, 256, 6, 6),
        "fc7": (10, 4096),
        "prob": (10, 1000),
    },
    "bvlc_reference_caffenet": {"norm1": (10, 96, 27, 27), "norm2": (10, 256, 13, 13)},
    "bvlc_reference_rcnn_ilsvrc13": {"fc-rcnn": (10, 200)},
    "finetune_flickr_style": {"fc8_flickr": (10, 20), "prob": (10, 20)},
    "bvlc_googlenet": {
        "conv1/7x7_s2": (10, 64, 112, 112),
        "pool2/3x3_s2": (10, 192, 28, 28),
        "inception_3a/output": (10, 256, 28, 28),
        "inception_3b/output": (10, 480, 28, 28),
        "inception_4a/output": (10, 512, 14, 14),
        "inception_4d/output": (10, 528, 14, 14),
        "inception_4e/output": (10, 832, 14, 14),
        "inception_5b/output": (10, 1024, 7, 7),
        "pool5/7x7_s1": (10, 1024, 1, 1),
        "prob": (10, 1000),
    },
    "lenet": {"pool1": (64, 20, 12, 12), "pool2": (64, 50, 4, 4), "prob": (64, 10)},
    "nin": {"conv1": (10, 96, 54, 54), "pool3": (10, 384, 6, 6), "pool4": (10, 1000, 1, 1)},
    "vgg16": {"conv3_3": (10, 256, 56, 56), "pool5": (10, 512, 7, 7), "fc6": (10, 4096)},
    "vgg19": {"conv3_4": (10, 256, 56, 56), "conv5_4": (10, 512, 14, 14)},
    "squeezenet_v1.1": {
        "conv1": (10, 64, 113, 113),
        "fire2/concat": (10, 128, 56, 56),
        "fire9/concat": (10, 512, 14, 14),
        "pool10": (10, 1000, 1, 1),
    },
    "resnet18": {"pool1": (1, 64, 56, 56), "res5b": (1, 512, 7, 7)},
    "resnet50": {
        "conv1": (1, 64, 112, 112),
        "res2c": (1, 256, 56, 56),
        "res3a_branch2a": (1, 128, 28, 28),  # the stride is in the first 1x1
        "res3d": (1, 512, 28, 28),
        "res4f": (1, 1024, 14, 14),
        "res5c": (1, 2048, 7, 7),
        "fc1000": (1, 1000),
    },
    "resnet101": {"res3b3": (1, 512, 28, 28), "res4b22": (1, 1024, 14, 14)},
    "resnet152": {"res3b7": (1, 512, 28, 28), "res4b35": (1, 1024, 14, 14)},
    "mobilenet_v1": {
        "conv2_2/dw": (1, 64, 56, 56),
        "conv5_5/sep": (1, 512, 14, 14),
        "conv6/sep": (1, 1024, 7, 7),
        "fc7": (1, 1000, 1, 1),
    },
    "mobilenet_v2": {
        "conv2_1/expand": (1, 32, 112, 112),
        "conv3_1/linear": (1, 24, 56, 56),
        "block_4_6": (1, 64, 14, 14),
        "conv5_3/dwise": (1, 576, 7, 7),
        "conv6_4": (1, 1280, 7, 7),
    },
}
# The layers of a published model, from its first to its last
LAYERS = {
    "bvlc_alexnet": "conv1 relu1 norm1 pool1 conv2 fc6 relu6 drop6 fc8 prob",
    "bvlc_reference_caffenet": "conv1 relu1 pool1 norm1 conv2 pool2 norm2 conv3 fc8",
    "bvlc_googlenet": "conv1/7x7_s2 conv1/relu_7x7 pool1/3x3_s2 pool1/norm1 conv2/3x3_reduce"
    " conv2/relu_3x3_reduce conv2/norm2 inception_3a/1x1 inception_3a/relu_1x1"
    " inception_3a/5x5_reduce inception_3a/pool inception_3a/pool_proj inception_3a/output"
    " pool3/3x3_s2 pool4/3x3_s2 inception_5b/relu_pool_proj pool5/drop_7x7_s1 loss3/classifier",
    "lenet": "conv1 pool1 conv2 pool2 ip1 relu1 ip2 prob",
    "nin": "conv1 relu0 cccp1 cccp2 pool0 conv2 cccp4 pool2 cccp6 drop conv4-1024 cccp8-1024",
    "vgg16": "conv1_1 relu1_1 pool1 conv5_3 pool5 fc6 drop7 fc8",
    "squeezenet_v1.1": "conv1 relu_conv1 pool1 fire2/squeeze1x1 fire2/relu_squeeze1x1"
    " fire2/expand1x1 fire2/expand3x3 fire2/concat pool3 pool5 drop9 conv10 relu_conv10 pool10",
    "resnet18": "conv1 bn_conv1 res2a_branch2a res2a_branch2b res2a res3a_branch1 res5b_relu",
    "resnet50": "conv1 bn_conv1 scale_conv1 conv1_relu pool1 res2a_branch1 bn2a_branch1"
    " scale2a_branch1 res2a_branch2a bn2a_branch2a scale2a_branch2a res2a_branch2a_relu"
    " res2a_branch2c res2a res2a_relu res3d res4f_branch2c res5c_relu pool5 fc1000 prob",
    "resnet101": "res3a_branch1 res3b3_branch2b bn3b3_branch2b res4b22 res5c_relu",
    "resnet152": "res3b7_branch2b res4b35_branch2c scale4b35_branch2c res5c",
    "mobilenet_v1": "conv1 conv1/bn conv1/scale relu1 conv2_1/dw conv2_1/dw/bn conv2_1/dw/scale"
    " relu2_1/dw conv2_1/sep relu2_1/sep conv5_6/sep conv6/dw relu6/sep pool6 fc7 prob",
    "mobilenet_v2": "conv1 conv2_1/expand conv2_1/dwise conv2_1/linear conv2_1/linear/scale"
    " conv2_2/expand conv3_1/linear block_3_1 block_6_2 conv6_3/linear conv6_4 conv6_4/bn relu6_4",
}


def shapes_of(net: caffe_pb2.NetParameter, phase: caffe_pb2.Phase = caffe_pb2.TEST) -> Net:
    """The net without memory."""
    with META:
        return build_net(net, phase, device=META)


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.folder)
def model(request: pytest.FixtureRequest) -> ReferenceModel:
    found: ReferenceModel = request.param
    return found


def test_every_folder_is_a_model() -> None:
    folders = sorted(path.parent.name for path in ZOO.glob("*/readme.md"))
    assert folders == sorted(BY_NAME)
    assert sorted(PUBLISHED) == sorted(SHAPES) == folders


def test_the_files_are_what_the_programs_make(model: ReferenceModel) -> None:
    made = model.files()
    assert sorted(made) == sorted(path.name for path in (ZOO / model.folder).glob("*.prototxt"))
    for name, message in made.items():
        assert read_text(ZOO / model.folder / name, type(message)) == message, "run: make models"


def test_parameters_and_multiply_adds(model: ReferenceModel) -> None:
    net = shapes_of(model.deploy())
    learned = sum(
        weight.numel()
        for node, layer in zip(net.graph.nodes, net.layers, strict=True)
        for weight in layer.weights
        if node.type != "BatchNorm"
    )
    batch = net.blobs["data"].shape[0]
    parameters, cost, tolerance = PUBLISHED[model.folder]
    assert learned / 1e6 == pytest.approx(parameters, rel=1e-3)
    assert multiply_adds(net) / batch / 1e9 == pytest.approx(cost, rel=tolerance)


def test_shapes_and_layers(model: ReferenceModel) -> None:
    net = shapes_of(model.deploy())
    wanted = SHAPES[model.folder]
    assert {name: tuple(net.blobs[name].shape) for name in wanted} == wanted
    names = iter([node.name for node in net.graph.nodes])
    assert all(name in names for name in LAYERS.get(model.folder, "").split())  # in this order


def test_deploy_is_trained_nowhere(model: ReferenceModel) -> None:
    text = str(model.deploy())
    for word in ("filler", "lr_mult", "loss_weight", "Accuracy", "phase"):
        assert word not in text
    norms = [layer for layer in model.deploy().layer if layer.type == "BatchNorm"]
    assert all(layer.batch_norm_param.use_global_stats for layer in norms)


TRAINED = [model for model in MODELS if model.source]


@pytest.mark.parametrize("model", TRAINED, ids=lambda model: model.folder)
@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_training_nets(model: ReferenceModel, phase: caffe_pb2.Phase) -> None:
    def constant(phase: caffe_pb2.Phase) -> tuple[Top, Top]:
        shape = [dict(dim=[2, model.channels, model.crop, model.crop]), dict(dim=[2])]
        data, label = L.DummyData(shape=shape, ntop=2, include=dict(phase=phase))
        return data, label

    net = shapes_of(model.train_val(constant), phase)
    deploy = shapes_of(model.deploy())
    assert tuple(net.blobs["data"].shape[1:]) == tuple(deploy.blobs["data"].shape[1:])
    losses = [node for node in net.graph.nodes if node.type == "SoftmaxWithLoss"]
    assert len(losses) == (3 if model.folder == "bvlc_googlenet" else 1)
    accuracies = [node for node in net.graph.nodes if node.type == "Accuracy"]
    assert bool(accuracies) == (phase == caffe_pb2.TEST)
    weights = {name: [tuple(w.shape) for w in layer.weights] for name, layer in net.named_layers()}
    for name, layer in deploy.named_layers():  # what is trained fits what is used
        assert weights.get(name, []) == [tuple(w.shape) for w in layer.weights], name


def test_training_data() -> None:
    made = BY_NAME["bvlc_googlenet"].files()["train_val.prototxt"]
    assert isinstance(made, caffe_pb2.NetParameter)
    train, test = made.layer[:2]
    assert (train.include[0].phase, test.include[0].phase) == (caffe_pb2.TRAIN, caffe_pb2.TEST)
    assert (train.transform_param.mirror, test.transform_param.mirror) == (True, False)
    assert (train.data_param.batch_size, test.data_param.batch_size) == (32, 50)
    assert train.data_param.source == "examples/imagenet/ilsvrc12_train_lmdb"
    assert test.data_param.source == "examples/imagenet/ilsvrc12_val_lmdb"
    assert list(test.transform_param.mean_value) == [104, 117, 123]
    assert test.transform_param.crop_size == 224


def test_googlenet_in_training() -> None:
    made = BY_NAME["bvlc_googlenet"].files()["train_val.prototxt"]
    assert isinstance(made, caffe_pb2.NetParameter)
    losses = [layer for layer in made.layer if layer.type == "SoftmaxWithLoss"]
    assert [(layer.name, layer.top[0], round(layer.loss_weight[0], 6)) for layer in losses] == [
        ("loss1/loss", "loss1/loss1", 0.3),
        ("loss2/loss", "loss2/loss1", 0.3),
        ("loss3/loss3", "loss3/loss3", 1),
    ]
    net = caffe_pb2.NetParameter(layer=[layer for layer in made.layer if layer.type != "Data"])
    shape = [dict(dim=[1, 3, 224, 224]), dict(dim=[1])]
    data, _ = L.DummyData(shape=shape, ntop=2)
    source = to_proto(data).layer[0]
    source.top[:] = ["data", "label"]
    net.layer.insert(0, source)
    built = shapes_of(net, caffe_pb2.TRAIN)
    count = sum(w.numel() for layer in built.layers for w in layer.weights)
    assert count / 1e6 == pytest.approx(13.38, rel=1e-3)  # 53.5 MB of caffemodel
    assert tuple(built.blobs["loss1/ave_pool"].shape) == (1, 512, 4, 4)
    assert tuple(built.blobs["loss2/ave_pool"].shape) == (1, 528, 4, 4)


def test_what_flickr_style_starts_afresh() -> None:
    caffenet, flickr = (
        {n.name: [tuple(w.shape) for w in layer.weights] for n, layer in zip(
            net.graph.nodes, net.layers, strict=True)}
        for net in (shapes_of(BY_NAME[name].deploy()) for name in (
            "bvlc_reference_caffenet", "finetune_flickr_style"))
    )  # fmt: skip
    assert {name for name in flickr if flickr[name] and name not in caffenet} == {"fc8_flickr"}
    shared = flickr.keys() & caffenet.keys()
    assert all(flickr[name] == caffenet[name] for name in shared)
    made = BY_NAME["finetune_flickr_style"].files()["train_val.prototxt"]
    assert isinstance(made, caffe_pb2.NetParameter)
    (last,) = (layer for layer in made.layer if layer.name == "fc8_flickr")
    assert [spec.lr_mult for spec in last.param] == [10, 20]


@pytest.mark.parametrize("model", TRAINED, ids=lambda model: model.folder)
def test_solvers(model: ReferenceModel) -> None:
    for path in (ZOO / model.folder).glob("*solver.prototxt"):
        solver, _ = read_solver(path)
        assert solver.net == f"models/{model.folder}/train_val.prototxt"
        assert solver.snapshot_prefix.startswith(f"models/{model.folder}/")


@pytest.mark.parametrize("name", ["squeezenet_v1.1", "mobilenet_v1", "mobilenet_v2", "resnet18"])
def test_light_nets_run(name: str) -> None:
    deploy = BY_NAME[name].deploy()
    deploy.layer[0].input_param.shape[0].dim[0] = 1
    torch.manual_seed(1)
    net = build_net(deploy)
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        weights = layer.weights
        if node.type == "Convolution":
            torch.nn.init.kaiming_normal_(weights[0])
        elif node.type == "BatchNorm":
            torch.nn.init.ones_(weights[1])
            torch.nn.init.ones_(weights[2])
        elif node.type == "InnerProduct":
            torch.nn.init.normal_(weights[0], std=0.05)
    x = torch.rand(*net.blobs["data"].shape) - 0.5
    with torch.no_grad():
        (prob,) = net(data=x).values()
    assert prob.shape[1] == 1000
    assert prob.sum().item() == pytest.approx(1, abs=1e-4)
    assert prob.std() > 1e-5  # classes differ: the image goes all the way through
