"""A model that tells blue, green and red apart, and images for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import moka
from moka.serving.model import Job, ModelFiles
from moka.serving.net_inputs import Example

BLUE, GREEN, RED = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # BGR
NET = """
name: "colors"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "mix" type: "Convolution" bottom: "data" top: "mix"
        convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
layer { name: "mean" type: "Pooling" bottom: "mix" top: "mean"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "mean" top: "prob" }
"""


def write_model(folder: Path, name: str = "deploy.prototxt", text: str = NET) -> ModelFiles:
    """The model's files in a folder. Its scores are the softmax of 1/50 of the mean values."""
    folder.mkdir(parents=True, exist_ok=True)
    net, weights, labels = folder / name, folder / "colors.caffemodel", folder / "labels.txt"
    net.write_text(text)
    model = moka.load(net)
    for layer in model.layers:
        for weight in layer.weights:
            weight.data[...] = 0
            weight.data[range(3), range(3)] = 0.02
    moka.save_weights(model, weights)
    labels.write_text("n00000001 blue, azure\nn00000002 green\nn00000003 red\n")
    return ModelFiles(net, weights, labels)


def job(data: bytes, blob: str = "") -> Job:
    """One image for the model."""
    return Job(Example("", {"data": data}), blob)


def picture(color: tuple[int, int, int], height: int = 8, width: int = 8) -> bytes:
    """A PNG of one color."""
    return bytes(cv2.imencode(".png", np.full((height, width, 3), color, np.uint8))[1])
