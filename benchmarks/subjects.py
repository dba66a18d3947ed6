"""The nets that are measured, and their files in everybody's form."""

from __future__ import annotations

from pathlib import Path

import torch
from object_detection import ssd_vgg
from passes import Files

import moka
from moka.export.onnx.export import export_onnx
from moka.export.torch.export import export_torch
from moka.net import Net, build_net

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
SSD = "SSD-300"
NETS = {
    "LeNet": ROOT / "examples/mnist/lenet.prototxt",
    "CIFAR-quick": ROOT / "examples/cifar10/cifar10_quick.prototxt",
    "CaffeNet": MODELS / "bvlc_reference_caffenet/deploy.prototxt",
    "GoogLeNet": MODELS / "bvlc_googlenet/deploy.prototxt",
    "VGG-16": MODELS / "vgg16/deploy.prototxt",
    "ResNet-50": MODELS / "resnet50/deploy.prototxt",
    "SqueezeNet": MODELS / "squeezenet_v1.1/deploy.prototxt",
    "MobileNet v1": MODELS / "mobilenet_v1/deploy.prototxt",
    "MobileNet v2": MODELS / "mobilenet_v2/deploy.prototxt",
    SSD: None,  # written by a program
}
DEPTHS = {18: "ResNet-18", 50: "ResNet-50", 101: "ResNet-101", 152: "ResNet-152"}
DEEP = {name: MODELS / f"resnet{depth}/deploy.prototxt" for depth, name in DEPTHS.items()}
DETECTION = """
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "scores" bottom: "prior"
  top: "found" detection_output_param { num_classes: 21 share_location: true background_label_id: 0
    code_type: CENTER_SIZE keep_top_k: 200
    confidence_threshold: 0.25 nms_param { nms_threshold: 0.45 top_k: 400 } } }
"""


def net_file(name: str, folder: Path) -> Path:
    """The prototxt of a net."""
    known = {**NETS, **DEEP}[name]
    if known is not None:
        return known
    file = folder / "ssd.prototxt"
    file.write_text(f'name: "{SSD}"\n{ssd_vgg()}\n{DETECTION}')
    return file


def image_shape(name: str, folder: Path) -> tuple[int, ...]:
    """(channels, height, width)."""
    net = build_net(net_file(name, folder))
    return tuple(net.input_shapes[net.graph.inputs[0]][1:])


def files_of(name: str, folder: Path) -> Files:
    """A net's files, written into the folder; its weights are random."""
    prototxt = net_file(name, folder)
    net = build_net(prototxt)
    weights, onnx, module = (str(folder / f"net.{end}") for end in ("caffemodel", "onnx", "py"))
    randomize(net)
    moka.save_weights(net, weights)
    export_onnx(net, onnx, check=False)
    export_torch(net, module)
    return Files(str(prototxt), weights, onnx, module)


def randomize(net: Net) -> None:
    """Random weights that keep the numbers of a pass in range."""
    for layer in net.layers:
        for weight in layer.weights:
            with torch.no_grad():
                weight.normal_(0, (weight.numel() // max(1, len(weight))) ** -0.5)
                if layer.entry.state_blobs:
                    weight.abs_().add_(0.5)
