"""Makes the pictures of the front page and of the gallery: `python docs/make_pictures.py`.

It trains LeNet on scikit-learn's digits in a temporary folder, and takes all else from files in the
repository. The pictures are kept in docs/pictures; make them anew when what they show has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_images

import moka
from moka.cli.main import main as caffe
from moka.data import datum
from moka.data.lmdb import LmdbStore
from moka.report.log_file import read_log
from moka.schema import caffe_pb2

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
DIGITS = Path("examples/digits")
WEIGHTS = DIGITS / "lenet_iter_1500.caffemodel"
INK, BLUE, ORANGE, RED, PAPER = "#1f2933", "#0b6fa4", "#d95f02", "#c0152f", "#ffffff"


def main() -> None:
    matplotlib.use("Agg")
    PICTURES.mkdir(exist_ok=True)
    start = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", Path(folder) / "examples")
        os.chdir(folder)
        try:
            train()
            front()
            gallery()
        finally:
            os.chdir(start)
    for picture in sorted(PICTURES.iterdir()):
        print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size / 1e3:.0f} kB")


def train() -> None:
    subprocess.run([sys.executable, DIGITS / "make_data.py"], check=True)
    run("train", f"--solver={DIGITS}/lenet_solver.prototxt", "--json_log=run.jsonl", "--quiet")


def run(*words: str) -> None:
    if caffe(words):
        raise SystemExit(f"caffe {' '.join(words)} failed")


def front() -> None:
    """digits.png: a net as text, its training, and what it then reads."""
    figure = plt.figure(figsize=(14, 4.6), facecolor=PAPER)
    columns = figure.add_gridspec(1, 3, width_ratios=(1.1, 1, 1.15), wspace=0.14)
    text = figure.add_subplot(columns[0])
    text.axis("off")
    text.set_title("the net is a text", loc="left", color=INK)
    text.text(0, 0.98, NET, family="monospace", fontsize=10, va="top", color=INK, linespacing=1.45)

    log = read_log("run.jsonl")
    curve = figure.add_subplot(columns[1])
    curve.set_title("caffe train", loc="left", color=INK)
    curve.plot(
        [r.iteration for r in log.displays],
        [r.loss for r in log.displays],
        color=BLUE,
        label="loss",
    )
    accuracy = [(r.iteration, r.outputs["accuracy"]) for r in log.tests]
    curve.plot(*zip(*accuracy, strict=True), color=ORANGE, label="accuracy on unseen digits")
    curve.set_ylim(-0.04, 2.4)
    curve.set_xlabel("iteration")
    curve.legend(frameon=False)
    curve.spines[["top", "right"]].set_visible(False)

    cells = columns[2].subgridspec(3, 4, hspace=0.42, wspace=0.1)
    images, labels, chances = unseen()
    unsure = chances.amax(1).argsort()[:12].tolist()
    for place, k in enumerate(unsure):
        cell = figure.add_subplot(cells[place // 4, place % 4])
        cell.imshow(images[k], cmap="gray_r")
        best = int(chances[k].argmax())
        color = INK if best == labels[k] else RED
        cell.set_title(f"{best}  {chances[k, best]:.0%}", fontsize=10, color=color)
        cell.axis("off")
        if not place:
            title = "what it reads: the 12 of 360 that it is least sure of\n(red: wrong)"
            cell.text(0, 1.45, title, transform=cell.transAxes, fontsize=11, color=INK)
    figure.savefig(PICTURES / "digits.png", dpi=120, bbox_inches="tight", facecolor=PAPER)
    plt.close(figure)


NET = """\
layer {
  name: "conv1"  type: "Convolution"
  bottom: "data"  top: "conv1"
  convolution_param {
    num_output: 20  kernel_size: 5
    weight_filler { type: "xavier" }
  }
}
layer {
  name: "pool1"  type: "Pooling"
  bottom: "conv1"  top: "pool1"
  pooling_param {
    pool: MAX  kernel_size: 2  stride: 2
  }
}
..."""


def unseen() -> tuple[np.ndarray, list[int], torch.Tensor]:
    """The digits of the test, (N, 28, 28), their labels, and the trained net's answers, (N, 10)."""
    records = [datum.parse(value) for _, value in LmdbStore(DIGITS / "digits_test_lmdb").read()]
    images = np.stack([datum.decode(record)[0, 2:-2, 2:-2] for record in records])
    net = moka.load("examples/mnist/lenet.prototxt", WEIGHTS)
    with torch.no_grad():
        chances = net(data=torch.tensor(images[:, None]) / 256)["prob"]
    return images, [record.label for record in records], chances


def gallery() -> None:
    """What the commands draw, and what nets see."""
    run("plot", "run.jsonl", "-o", str(PICTURES / "plot.png"))
    run("draw_net", f"{DIGITS}/lenet_train_test.prototxt", str(PICTURES / "lenet.png"))
    run("draw_net", str(ROOT / "models/squeezenet_v1.1/deploy.prototxt"), "squeezenet.png")
    whole = cv2.imread("squeezenet.png")
    assert whole is not None
    cv2.imwrite(str(PICTURES / "squeezenet.png"), whole[:1100])
    run("db", "head", "-n", "64", "-o", str(PICTURES / "sheet.png"), f"{DIGITS}/digits_test_lmdb")

    net = moka.load("examples/mnist/lenet.prototxt", WEIGHTS)
    moka.viz.filters(net.state_dict()["conv1.weight"], PICTURES / "filters.png")
    images, labels, _ = unseen()
    with torch.no_grad():
        inside = net.propagate({"data": torch.tensor(images[:, None]) / 256}, ["conv2", "ip1"])
    moka.viz.feature_maps(inside["conv2"][0, :24], PICTURES / "feature_maps.png")
    moka.viz.embedding(moka.viz.tsne(inside["ip1"]), labels, path=PICTURES / "embedding.png")
    augmented()


AUGMENT = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 8 }
  transform_param { random_area_min: 0.2 crop_size: 224 mirror: true random_rotation: 10
    random_brightness: 0.3 random_contrast: 0.3 random_saturation: 0.4 random_hue: 10 } }
"""


def augmented() -> None:
    """augmented.png: one photograph eight times through `transform_param`."""
    photo = load_sample_images().images[1][:, :, ::-1]
    cv2.imwrite("flower.jpg", photo)
    Path("list.txt").write_text("flower.jpg 0\n" * 8)
    Path("augment.prototxt").write_text(AUGMENT)
    net = moka.load("augment.prototxt", phase=caffe_pb2.TRAIN)
    images = net()["data"].numpy().transpose(0, 2, 3, 1).clip(0, 255).astype(np.uint8)
    rows = [np.hstack(list(images[k : k + 4])) for k in (0, 4)]
    cv2.imwrite(str(PICTURES / "augmented.jpg"), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
