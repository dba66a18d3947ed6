"""The names that scripts get, and a script that works as SSD's do."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tests.fresh import run_program
from tests.layers.annotated_records import fill, record

import caffe
from caffe import model_libs
from moka.schema import caffe_pb2, read_text

ARGUMENTS = {
    "check_if_exist": "path",
    "make_if_not_exist": "path",
    "UnpackVariable": "var num",
    "ConvBNLayer": """net from_layer out_layer use_bn use_relu num_output kernel_size pad stride
        dilation use_scale lr_mult conv_prefix conv_postfix bn_prefix bn_postfix scale_prefix
        scale_postfix bias_prefix bias_postfix""",
    "ResBody": "net from_layer block_name out2a out2b out2c stride use_branch1 dilation",
    "InceptionTower": "net from_layer tower_name layer_params",
    "CreateAnnotatedDataLayer": """source batch_size backend output_label train label_map_file
        anno_type transform_param batch_sampler""",
    "ZFNetBody": """net from_layer need_fc fully_conv reduced dilated dropout need_fc8
        freeze_layers""",
    "VGGNetBody": """net from_layer need_fc fully_conv reduced dilated nopool dropout freeze_layers
        dilate_pool4""",
    "ResNet101Body": "net from_layer use_pool5 use_dilation_conv5",
    "ResNet152Body": "net from_layer use_pool5 use_dilation_conv5",
    "InceptionV3Body": "net from_layer output_pred",
    "CreateMultiBoxHead": """net data_layer num_classes from_layers use_objectness normalizations
        use_batchnorm lr_mult use_scale min_sizes max_sizes prior_variance aspect_ratios steps
        img_height img_width share_location flip clip offset inter_layer_depth kernel_size pad
        conf_postfix loc_postfix""",
}
# What SSD's scripts take from L, P and caffe_pb2.
CONSTANTS = [
    "Data.LMDB",
    "Resize.WARP",
    "Resize.LINEAR",
    "Resize.AREA",
    "Resize.NEAREST",
    "Resize.CUBIC",
    "Resize.LANCZOS4",
    "Loss.VALID",
    "Loss.NONE",
    "Loss.FULL",
    "Loss.BATCH_SIZE",
    "PriorBox.CORNER",
    "PriorBox.CENTER_SIZE",
    "PriorBox.CORNER_SIZE",
    "MultiBoxLoss.L2",
    "MultiBoxLoss.SMOOTH_L1",
    "MultiBoxLoss.SOFTMAX",
    "MultiBoxLoss.LOGISTIC",
    "MultiBoxLoss.BIPARTITE",
    "MultiBoxLoss.PER_PREDICTION",
    "MultiBoxLoss.NONE",
    "MultiBoxLoss.MAX_NEGATIVE",
    "MultiBoxLoss.HARD_EXAMPLE",
    "Solver.CPU",
    "Solver.GPU",
    "Pooling.MAX",
    "Pooling.AVE",
    "Eltwise.SUM",
    "LRN.WITHIN_CHANNEL",
    "LRN.CAFFE",
]
SCRIPT = """
import caffe
from caffe.model_libs import *
from google.protobuf import text_format

classes, size, maps = 3, 32, ["conv4_3", "fc7", "conv6_2"]
resized = {"prob": 1, "resize_mode": P.Resize.WARP, "height": size, "width": size}
resized["interp_mode"] = [P.Resize.LINEAR, P.Resize.CUBIC]
transform = {"mean_value": [104, 117, 123], "resize_param": resized}
augment = dict(
    transform,
    mirror=True,
    expand_param={"prob": 0.5, "max_expand_ratio": 4.0},
    emit_constraint={"emit_type": caffe_pb2.EmitConstraint.CENTER},
)
sampler = [
    {"sampler": {}, "max_trials": 1, "max_sample": 1},
    {"sampler": {"min_scale": 0.3}, "sample_constraint": {"min_jaccard_overlap": 0.5}},
]
files = {"label_map_file": "labelmap.prototxt", "name_size_file": "sizes.txt"}
loss = {"num_classes": classes, "code_type": P.PriorBox.CENTER_SIZE}
loss["conf_loss_type"] = P.MultiBoxLoss.SOFTMAX
loss["mining_type"] = P.MultiBoxLoss.MAX_NEGATIVE
found = {"num_classes": classes, "code_type": P.PriorBox.CENTER_SIZE, "keep_top_k": 20}
found["nms_param"] = {"nms_threshold": 0.45, "top_k": 40}
found["save_output_param"] = {"output_directory": "results", "output_format": "VOC", **files}
solver = {"base_lr": 0.001, "lr_policy": "multistep", "stepvalue": [80, 100], "type": "SGD"}
solver |= {"solver_mode": P.Solver.CPU, "eval_type": "detection", "ap_version": "11point"}
solver |= {"max_iter": 1, "test_iter": [1], "test_interval": 100, "test_initialization": False}

folder = "models/SSD_32x32"
make_if_not_exist(folder)
print("database:", check_if_exist("boxes_lmdb"), os.path.basename(folder))


def add_layers(net, use_batchnorm):
    last = net.keys()[-1]
    ConvBNLayer(net, last, "conv6_1", use_batchnorm, True, 16, 1, 0, 1)
    ConvBNLayer(net, "conv6_1", "conv6_2", use_batchnorm, True, 32, 3, 1, 2)


def detector(train, **data):
    net = caffe.NetSpec()
    net.data, net.label = CreateAnnotatedDataLayer(
        "boxes_lmdb", batch_size=2, train=train, label_map_file="labelmap.prototxt", **data
    )
    VGGNetBody(net, from_layer="data", fully_conv=True, reduced=True, dilated=True, dropout=False)
    add_layers(net, use_batchnorm=False)
    head = CreateMultiBoxHead(
        net, data_layer="data", from_layers=maps, use_batchnorm=False, num_classes=classes,
        min_sizes=[6.4, 12.8, 19.2], max_sizes=[[], 19.2, 25.6], aspect_ratios=[[2], [2, 3], [2]],
        normalizations=[20, -1, -1], steps=[8, 16, 32], prior_variance=[0.1, 0.1, 0.2, 0.2],
        share_location=True, flip=True, clip=False, kernel_size=3, pad=1,
    )
    return net, head


def write(name, message):
    with open(os.path.join(folder, name), "w") as file:
        print(message, file=file)


net, head = detector(True, transform_param=augment, batch_sampler=sampler)
head.append(net.label)
net["mbox_loss"] = L.MultiBoxLoss(
    *head, multibox_loss_param=loss, loss_param={"normalization": P.Loss.VALID},
    include=dict(phase=caffe_pb2.Phase.Value("TRAIN")), propagate_down=[True, True, False, False],
)
write("train.prototxt", net.to_proto())

net, head = detector(False, transform_param=transform)
net["mbox_conf_reshape"] = L.Reshape(net["mbox_conf"], shape=dict(dim=[0, -1, classes]))
net["mbox_conf_softmax"] = L.Softmax(net["mbox_conf_reshape"], axis=2)
net["mbox_conf_flatten"] = L.Flatten(net["mbox_conf_softmax"], axis=1)
head[1] = net["mbox_conf_flatten"]
test = dict(phase=caffe_pb2.Phase.Value("TEST"))
net.detection_out = L.DetectionOutput(*head, detection_output_param=found, include=test)
net.detection_eval = L.DetectionEvaluate(
    net.detection_out, net.label, include=test,
    detection_evaluate_param={"num_classes": classes, "name_size_file": "sizes.txt"},
)
write("test.prototxt", net.to_proto())

deploy = net.to_proto()
del deploy.layer[0]
del deploy.layer[-1]
deploy.name = "small_deploy"
deploy.input.extend(["data"])
deploy.input_shape.extend([caffe_pb2.BlobShape(dim=[1, 3, size, size])])
write("deploy.prototxt", deploy)

write("solver.prototxt", caffe_pb2.SolverParameter(
    train_net=folder + "/train.prototxt", test_net=[folder + "/test.prototxt"],
    snapshot_prefix=folder + "/small", **solver,
))
"""
LABELS = """
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "cat" label: 1 display_name: "cat" }
item { name: "dog" label: 2 display_name: "dog" }
"""


def test_names_of_a_star_import() -> None:
    names: dict[str, Any] = {}
    exec("from caffe.model_libs import *", names)
    names.pop("__builtins__")
    assert set(names) == {*ARGUMENTS, "os", "caffe", "L", "P", "caffe_pb2"}
    assert names["caffe"] is caffe
    assert (names["L"], names["P"]) == (caffe.layers, caffe.params)
    assert names["caffe_pb2"] is caffe_pb2


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_in_their_order(name: str) -> None:
    parameters = inspect.signature(getattr(model_libs, name)).parameters.values()
    places = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert places == ARGUMENTS[name].split()


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name: str) -> None:
    message, _, value = name.partition(".")
    assert isinstance(getattr(getattr(caffe.params, message), value), int)


def test_caffe_does_not_import_it() -> None:
    code = "import sys, caffe; print('caffe.model_libs' in sys.modules)"
    assert run_program(code).stdout == b"False\n"


def test_folders() -> None:
    assert not model_libs.check_if_exist("a/b")
    for _ in range(2):
        model_libs.make_if_not_exist("a/b")
        assert model_libs.check_if_exist("a/b")


def test_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 40, 48)).astype(np.uint8)
    fill(Path("boxes_lmdb"), [record(i, [(1, 0, 0.2, 0.2, 0.8, 0.9, False)]) for i in images])
    Path("labelmap.prototxt").write_text(LABELS)
    Path("sizes.txt").write_text("one 40 48\ntwo 40 48\n")
    Path("ssd_small.py").write_text(SCRIPT)
    runpy.run_path("ssd_small.py")
    assert "database: True SSD_32x32" in capsys.readouterr().out
    folder = Path("models/SSD_32x32")
    solver = text_format.Parse(
        (folder / "solver.prototxt").read_text(), caffe_pb2.SolverParameter()
    )
    assert (solver.eval_type, list(solver.stepvalue)) == ("detection", [80, 100])

    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    boxes = 16 * 3 + 4 * 6 + 4  # of 4 x 4, 2 x 2 and 1 pixels
    assert net.blobs["mbox_priorbox"].data.shape == (1, 2, 4 * boxes)
    net.blobs["data"].data[...] = images[0, :, :32, :32]
    found = net.forward()["detection_out"]
    assert found.shape[:2] + found.shape[3:] == (1, 1, 7)
    assert 1 <= found.shape[2] <= 20

    trained = caffe.get_solver(str(folder / "solver.prototxt"))
    trained.step(1)
    assert trained.net.blobs["mbox_loss"].data > 0
    tested = trained.test_nets[0]
    tested.forward()
    assert tested.blobs["detection_eval"].data.shape[3] == 5
    trained.net.save("small.caffemodel")
    net.copy_from("small.caffemodel")
    for name in ("conv1_1", "conv4_3_norm_mbox_loc"):
        np.testing.assert_array_equal(net.params[name][0].data, trained.net.params[name][0].data)
    head = read_text(folder / "deploy.prototxt", caffe_pb2.NetParameter).layer[-1]
    assert (head.type, head.name) == ("DetectionOutput", "detection_out")
