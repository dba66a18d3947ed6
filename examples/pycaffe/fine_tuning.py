#!/usr/bin/env python3
"""Fine-tune a net for classes of your own, and train it from scratch beside, to see the difference.

    caffe download bvlc_reference_caffenet                      once
    python examples/pycaffe/fine_tuning.py FOLDER --gpu 0

FOLDER/train and FOLDER/test have a subfolder of images for each class. Both solvers see the same
images; one begins with the weights of a net that knows ImageNet, but for the last layer, which is
new. Writes fine-tuned.caffemodel, from_scratch.caffemodel, and learning.png: losses and accuracies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zoo
from google.protobuf import text_format

import caffe
import moka
from caffe.proto import caffe_pb2
from moka import viz
from moka.data.folder import find_classes, find_images


def net_for(model: Path, folder: Path, batch_size: int, side: int) -> caffe_pb2.NetParameter:
    """A model's train_val.prototxt with the images of a folder, and a last layer for its classes.

    Args:
        side: images are resized to so many pixels, of which the model crops its own number.
    """
    net = caffe_pb2.NetParameter()
    text_format.Parse(model.read_text(), net)
    for layer in net.layer:
        if layer.type == "Data":
            split = "train" if layer.include[0].phase == caffe.TRAIN else "test"
            layer.type = "ImageData"
            layer.ClearField("data_param")
            image_data = layer.image_data_param
            image_data.source = str(folder / split)
            image_data.batch_size = batch_size
            image_data.new_height = image_data.new_width = side
            image_data.shuffle = split == "train"
            if layer.transform_param.HasField("mean_file"):
                layer.transform_param.ClearField("mean_file")
                layer.transform_param.mean_value[:] = zoo.MEAN
    zoo.renew_classifier(net, len(find_classes(folder / "train")))
    loss = zoo.final_loss(net)
    net.layer.add(
        name="accuracy",
        type="Accuracy",
        bottom=loss.bottom,
        top=["accuracy"],
        include=[caffe_pb2.NetStateRule(phase=caffe.TEST)],
    )
    return net


def accuracy(net: caffe.Net, images: int) -> float:
    """The mean over one pass through the test images, to the end of a batch."""
    batches = -(-images // len(net.blobs["data"].data))
    # As numbers: what forward returns is the blob's own memory, which the next pass overwrites.
    return float(np.mean([float(net.forward()["accuracy"]) for _ in range(batches)]))


def compare(
    solvers: dict[str, caffe.SGDSolver], iterations: int, test_interval: int, images: int, out: Path
) -> None:
    """Train side by side; print and draw how each gets on."""
    losses: dict[str, list[float]] = {name: [] for name in solvers}
    tests: dict[str, list[float]] = {name: [] for name in solvers}
    tested = [*range(0, iterations, test_interval), iterations]
    for iteration in range(iterations + 1):
        for name, solver in solvers.items():
            if iteration in tested:
                tests[name].append(accuracy(solver.test_nets[0], images))
            if iteration < iterations:
                solver.step(1)
                losses[name].append(float(solver.net.blobs["loss"].data))
        if iteration in tested:
            rates = ", ".join(f"{name} {values[-1]:.1%}" for name, values in tests.items())
            print(f"iteration {iteration:5}: {rates} right", flush=True)
    panels: dict[str, viz.Curves] = {
        "training loss": {n: (np.arange(1, iterations + 1), v) for n, v in losses.items()},
        "test accuracy": {n: (tested, v) for n, v in tests.items()},
    }
    viz.curves(panels, out / "learning.png")


def main(argv: Sequence[str] | None = None) -> None:
    parser = zoo.parser("fine_tuning", __doc__, "bvlc_reference_caffenet/train_val.prototxt")
    parser.add_argument("folder", type=Path, help="with train/<class>/ and test/<class>/")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--test-interval", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--side", type=int, default=256, help="of the images before cropping")
    given = parser.parse_args(argv)
    weights = zoo.use(given)
    try:
        net = net_for(given.model, given.folder, given.batch_size, given.side)
        images = len(find_images(str(given.folder / "test")))
        solvers = {
            name: zoo.make_solver(net, given.rate, given.out)
            for name in ("fine-tuned", "from scratch")
        }
        solvers["fine-tuned"].net.copy_from(weights)  # its test net shares them
        compare(solvers, given.iterations, given.test_interval, images, given.out)
    except (moka.MokaError, OSError, RuntimeError) as error:
        sys.exit(f"fine_tuning.py: {error}")
    for name, solver in solvers.items():
        solver.net.save(str(given.out / f"{name.replace(' ', '_')}.caffemodel"))
    print(f"The models and the chart are in {given.out}")


if __name__ == "__main__":
    main()
