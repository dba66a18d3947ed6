#!/usr/bin/env python3
"""Several labels for one image, from a data layer written in Python.

    caffe download bvlc_reference_caffenet                              once
    python examples/pycaffe/python_layer_multilabel.py VOC2012 --gpu 0

VOC2012 is PASCAL VOC's folder, or any with JPEGImages/, Annotations/ and ImageSets/Main/train.txt
and val.txt. `voc_layer.py` reads it. The net is fine-tuned: its last layer is new, and its loss a
SigmoidCrossEntropyLoss, that is a yes or no for each class. Draws learning.png and guesses.png.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zoo
from google.protobuf import text_format
from voc_layer import MEAN, classes_in, names_of

import caffe
import moka
from caffe.proto import caffe_pb2
from moka import viz

SPLITS = {caffe.TRAIN: "train", caffe.TEST: "val"}


def net_for(
    model: Path, folder: Path, classes: int, batch_size: int
) -> tuple[caffe_pb2.NetParameter, str]:
    """A model's train_val.prototxt with the Python layer in front and a yes or no for each class;
    and the name of the blob of their scores, which are above 0 for a yes."""
    net = caffe_pb2.NetParameter()
    text_format.Parse(model.read_text(), net)
    for layer in net.layer:
        if layer.type == "Data":
            options = dict(
                folder=str(folder),
                split=SPLITS[layer.include[0].phase],
                batch_size=batch_size,
                side=layer.transform_param.crop_size,
            )
            layer.type = "Python"
            layer.ClearField("data_param")
            layer.ClearField("transform_param")
            layer.python_param.module = "voc_layer"
            layer.python_param.layer = "VocLayer"
            layer.python_param.param_str = json.dumps(options)
    zoo.renew_classifier(net, classes)
    scores = zoo.final_loss(net).bottom[0]
    for layer in net.layer:
        if layer.type == "SoftmaxWithLoss":
            layer.type = "SigmoidCrossEntropyLoss"
    return net, scores


def hamming_accuracy(net: caffe.Net, scores: str, images: int) -> tuple[float, float]:
    """The share of labels that a test net gets right, and the share that a net which always says
    no would."""
    right, absent = [], []
    for _ in range(-(-images // len(net.blobs["data"].data))):
        net.forward()
        label = net.blobs["label"].data
        right.append((net.blobs[scores].data > 0) == label)
        absent.append(label == 0)
    return float(np.mean(right)), float(np.mean(absent))


def learn(
    solver: caffe.SGDSolver, scores: str, iterations: int, test_interval: int, images: int
) -> dict[str, viz.Curves]:
    """Train; the curves of the loss and the accuracy."""
    losses, tested, accuracies, baselines = [], [], [], []
    while True:
        if solver.iter % test_interval == 0 or solver.iter == iterations:
            accuracy, baseline = hamming_accuracy(solver.test_nets[0], scores, images)
            tested.append(solver.iter)
            accuracies.append(accuracy)
            baselines.append(baseline)
            print(f"iteration {solver.iter:5}: {accuracy:.2%} of the labels right", flush=True)
        if solver.iter >= iterations:
            break
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    print(f"To say no to everything gets {baselines[-1]:.2%} right.")
    return {
        "training loss": {"net": (np.arange(1, len(losses) + 1), losses)},
        "Hamming accuracy": {"net": (tested, accuracies), "always no": (tested, baselines)},
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = zoo.parser(
        "python_layer_multilabel", __doc__, "bvlc_reference_caffenet/train_val.prototxt"
    )
    parser.add_argument("folder", type=Path, help="as PASCAL VOC has it")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--test-interval", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.0001)
    given = parser.parse_args(argv)
    weights = zoo.use(given)
    try:
        classes = classes_in(given.folder)
        images = len(names_of(given.folder, "val"))
        net, scores = net_for(given.model, given.folder, len(classes), given.batch_size)
        solver = zoo.make_solver(net, given.rate, given.out)
        solver.net.copy_from(weights)  # the test net shares them
        panels = learn(solver, scores, given.iterations, given.test_interval, images)
    except (moka.MokaError, OSError, ValueError) as error:
        sys.exit(f"python_layer_multilabel.py: {error}")
    viz.curves(panels, given.out / "learning.png")
    test = solver.test_nets[0].blobs  # what is left of the last batch
    chances = 1 / (1 + np.exp(-test[scores].data[0]))
    image = (test["data"].data[0] + MEAN[:, None, None]).clip(0, 255).astype(np.uint8)
    viz.guesses(chances, classes, given.out / "guesses.png", image=image)
    print(f"The pictures are in {given.out}")


if __name__ == "__main__":
    main()
