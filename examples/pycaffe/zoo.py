"""Models of the zoo, as the scripts here use them: their weights, images and last layers."""

from __future__ import annotations

import argparse
import os
import sys
from glob import glob
from importlib.resources import files
from pathlib import Path

import numpy as np

import caffe
from caffe.proto import caffe_pb2

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"
MEAN = np.array([104.0, 117.0, 123.0])  # of ImageNet's images: blue, green, red
SIZED = {"InnerProduct": "inner_product_param", "Convolution": "convolution_param"}


def parser(script: str, description: str | None, model: str) -> argparse.ArgumentParser:
    """Flags that all scripts have; `model` is a net in the folder models/."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--model", type=Path, default=MODELS / model, metavar="PROTOTXT")
    made.add_argument("--weights", help="default: the .caffemodel beside the model")
    made.add_argument("--gpu", type=int, metavar="ID", help="default: the CPU")
    made.add_argument(
        "--out",
        type=Path,
        default=HERE / "data" / script,
        metavar="DIR",
        help="for what it writes; default: data/ here",
    )
    return made


def use(given: argparse.Namespace) -> str:
    """Turn to the GPU or the CPU that was asked for, make the folder for files, and return the
    path of the weights; ends the program if there are none."""
    if given.gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(given.gpu)
        caffe.set_mode_gpu()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = os.path.relpath(given.model.parent)
    weights = given.weights or min(glob(f"{folder}/*.caffemodel"), default="")
    if not weights:
        sys.exit(f"There are no weights in {folder}: get them with `caffe download {folder}`.")
    return weights


def sample_image(name: str = "flower") -> str:
    """A photograph that comes with scikit-learn: flower or china."""
    return str(files("sklearn.datasets").joinpath(f"images/{name}.jpg"))


def transformer(net: caffe.Net) -> caffe.io.Transformer:
    """What makes the input of a net of an image (H, W, 3), RGB from 0 to 1: (3, H, W), BGR from 0
    to 255, less the mean."""
    name = net.inputs[0]
    made = caffe.io.Transformer({name: net.blobs[name].data.shape})
    made.set_transpose(name, (2, 0, 1))
    made.set_channel_swap(name, (2, 1, 0))
    made.set_raw_scale(name, 255)
    made.set_mean(name, MEAN)
    return made


def renew_classifier(net: caffe_pb2.NetParameter, classes: int) -> None:
    """Give a net (a train_val.prototxt) a last layer for other classes.

    Its new name keeps it from taking weights from a file; it learns ten times as fast as the
    others. A net with several classifiers (GoogLeNet) gets all of them anew: what has as many
    outputs as the last one.
    """
    sized = [
        (layer, getattr(layer, SIZED[layer.type])) for layer in net.layer if layer.type in SIZED
    ]
    count = sized[-1][1].num_output
    for layer, param in sized:
        if param.num_output == count:
            layer.name += "_new"
            param.num_output = classes
            while len(layer.param) < 1 + param.bias_term:
                layer.param.add()
            for rates in layer.param:
                rates.lr_mult *= 10


def final_loss(net: caffe_pb2.NetParameter) -> caffe_pb2.LayerParameter:
    """The last loss of a train_val.prototxt, whose top becomes "loss"; the layers that only tell
    how good the net is leave it."""
    kept = [layer for layer in net.layer if layer.type != "Accuracy"]
    del net.layer[:]
    net.layer.extend(kept)
    last = [layer for layer in net.layer if layer.type == "SoftmaxWithLoss"][-1]
    last.top[:] = ["loss"]
    return last


def make_solver(net: caffe_pb2.NetParameter, rate: float, out: Path) -> caffe.SGDSolver:
    """The solver of a net for training and testing; both are written to `out`."""
    net_file, file = out / "net.prototxt", out / "solver.prototxt"
    net_file.write_text(str(net))
    solver = caffe_pb2.SolverParameter(
        net=str(net_file),
        test_iter=[1],  # tested by the script,
        test_interval=1_000_000,  # not by the solver
        test_initialization=False,
        base_lr=rate,
        lr_policy="step",
        gamma=0.1,
        stepsize=20_000,
        momentum=0.9,
        weight_decay=0.0005,
        random_seed=1,  # also of the order of the images
    )
    file.write_text(str(solver))
    return caffe.SGDSolver(str(file))
