#!/usr/bin/env python3
"""LeNet from nothing, in Python: the net, the solver, and the loop that trains it.

    examples/mnist/get_data                             once
    python examples/pycaffe/learn_lenet.py

Writes the two nets and the solver, and draws learning.png (loss and accuracy on the way), digit.png
(what it said of one test digit at each test) and filters.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import caffe
import moka
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from moka import viz
from moka.draw.figures import drawing, save

HERE = Path(__file__).resolve().parent
MNIST = HERE.parent / "mnist"
MADE = HERE / "data" / "learn_lenet"


def lenet(database: Path, batch_size: int) -> caffe_pb2.NetParameter:
    """The net of examples/mnist/lenet_train_test.prototxt, a line for each layer."""
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        source=str(database),
        backend=P.Data.LMDB,
        batch_size=batch_size,
        transform_param=dict(scale=1 / 256),
        ntop=2,
    )
    xavier = dict(weight_filler=dict(type="xavier"))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, **xavier)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=50, **xavier)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.ip1 = L.InnerProduct(n.pool2, num_output=500, **xavier)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, **xavier)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


def write_files(batch_size: int) -> Path:
    """The nets for training and testing, and the solver, whose path is returned."""
    MADE.mkdir(parents=True, exist_ok=True)
    nets = {"train": batch_size, "test": 100}
    for name, size in nets.items():
        (MADE / f"{name}.prototxt").write_text(str(lenet(MNIST / f"mnist_{name}_lmdb", size)))
    solver = caffe_pb2.SolverParameter(
        train_net=str(MADE / "train.prototxt"),
        test_net=[str(MADE / "test.prototxt")],
        test_iter=[100],  # tested below by hand,
        test_interval=1_000_000,  # not by the solver
        test_initialization=False,
        base_lr=0.01,
        momentum=0.9,
        weight_decay=0.0005,
        lr_policy="inv",
        gamma=0.0001,
        power=0.75,
        random_seed=1,
    )
    file = MADE / "solver.prototxt"
    file.write_text(str(solver))
    return file


def accuracy(net: caffe.Net, batches: int) -> float:
    """The share of digits that a test net gets right."""
    right = []
    for _ in range(batches):
        net.forward()
        right.append(net.blobs["score"].data.argmax(1) == net.blobs["label"].data)
    return float(np.mean(right))


def learn(iterations: int, test_interval: int, test_batches: int) -> None:
    solver = caffe.SGDSolver(str(write_files(batch_size=64)))
    train, test = solver.net, solver.test_nets[0]

    test.forward()
    first_batch = test.blobs["data"].data.copy()
    digit = first_batch[0, 0]
    losses, tested, accuracies, scores = [], [], [], []
    while True:
        if solver.iter % test_interval == 0:
            tested.append(solver.iter)
            accuracies.append(accuracy(test, test_batches))
            test.blobs["data"].data[...] = first_batch
            test.forward(start="conv1")  # not the data layer, which would read the next batch
            scores.append(test.blobs["score"].data[0].copy())
            print(f"iteration {solver.iter:5}: {accuracies[-1]:.2%} right", flush=True)
        if solver.iter >= iterations:
            break
        solver.step(1)
        losses.append(float(train.blobs["loss"].data))

    panels: dict[str, viz.Curves] = {
        "training loss": {"": (np.arange(1, len(losses) + 1), losses)},
        "test accuracy": {"": (tested, accuracies)},
    }
    viz.curves(panels, MADE / "learning.png", title="LeNet learns MNIST")
    viz.filters(train.params["conv1"][0].data, MADE / "filters.png")
    draw_scores(digit, tested, np.array(scores), MADE / "digit.png")


def draw_scores(
    digit: NDArray[np.float32], tested: Sequence[int], scores: NDArray[np.float32], path: Path
) -> None:
    """A digit (28, 28) and what the net said of it at each test, (tests, 10)."""
    with drawing(8, 3) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1, 3])
        left.imshow(digit, cmap="gray")
        left.set_axis_off()
        shown = right.imshow(scores.T, aspect="auto", interpolation="nearest")
        right.grid(visible=False)
        right.set_xticks(range(len(tested)), [str(iteration) for iteration in tested])
        right.set_yticks(range(10))
        right.set_xlabel("iteration")
        right.set_ylabel("digit")
        figure.colorbar(shown, ax=right, label="score")
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--test-interval", type=int, default=100)
    parser.add_argument("--test-batches", type=int, default=100, help="of 100 digits (all)")
    given = parser.parse_args(argv)
    if not (MNIST / "mnist_train_lmdb").exists():
        sys.exit("learn_lenet.py: there is no MNIST yet: run examples/mnist/get_data first.")
    try:
        learn(given.iterations, given.test_interval, given.test_batches)
    except moka.MokaError as error:
        sys.exit(f"learn_lenet.py: {error}")
    print(f"The pictures are in {MADE}")


if __name__ == "__main__":
    main()
