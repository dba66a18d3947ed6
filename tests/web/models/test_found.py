"""The models of a folder, and how images are taken for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.serving.colors import GREEN, job, picture, write_model
from tests.web.test_trained_files import STORED, TRAINED

import moka
from moka.schema import caffe_pb2, parse_text
from moka.serving.model import Pace, ServedModel
from moka.web.folder import Folder
from moka.web.model_files import models_in, pack_model
from moka.web.models.found import find_models, iteration_of
from moka.web.trained_files import TrainedFiles

SOON = 60.0


def write_run(folder: Path, *iterations: int) -> None:
    """A run's net with snapshots whose weights are the unit matrix."""
    folder.mkdir(parents=True)
    (folder / "net.prototxt").write_text(TRAINED)
    (folder / "solver.prototxt").write_text('net: "net.prototxt"')
    net = moka.load(_deploy())
    net.layers[-1].weights[0].data.copy_(torch.eye(3))
    for iteration in iterations:
        moka.save_weights(net, folder / f"snapshot_iter_{iteration}.caffemodel")


def _deploy() -> caffe_pb2.NetParameter:
    text = """
    layer { name: "data" type: "Input" top: "data"
            input_param { shape { dim: 1 dim: 3 dim: 1 dim: 1 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
            inner_product_param { num_output: 3 bias_term: false } }
    """
    return parse_text(text, caffe_pb2.NetParameter)


def test_a_run_serves_its_newest_snapshot(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "first", 90, 100, 20)
    found = find_models(Folder(tmp_path))
    assert list(found) == ["runs/first"]
    files = found["runs/first"]
    assert isinstance(files, TrainedFiles)
    assert str(files.weights).endswith("snapshot_iter_100.caffemodel")
    model = ServedModel("x", files, Pace(batch=2, delay_s=0))
    assert (model.kind, model.class_count, model.input.shape) == ("classes", 3, (3, 8, 8))
    (future,) = model.submit([job(picture(GREEN))])
    scores = future.result(SOON).blobs["prob"].ravel()
    expected = np.exp([-0.02, 254 * 0.02, -0.02])
    np.testing.assert_allclose(scores, expected / expected.sum(), rtol=1e-4)
    model.close()


def test_packed_models_and_the_order(tmp_path: Path) -> None:
    write_model(tmp_path / "old")
    write_run(tmp_path / "new", 1)
    os.utime(tmp_path / "old" / "colors.caffemodel", (1, 1))
    found = find_models(Folder(tmp_path))
    assert list(found) == ["new", "old"]
    assert found["old"].labels == tmp_path / "old" / "labels.txt"


def test_folders_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.caffemodel").write_bytes(b"")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "net.prototxt").write_text(TRAINED)
    assert find_models(Folder(tmp_path)) == {}


@pytest.mark.parametrize(
    ("name", "iteration"),
    [("a_iter_500.caffemodel", 500), ("a_iter_20.caffemodel.h5", 20), ("vgg16.caffemodel", -1)],
)
def test_iterations(name: str, iteration: int) -> None:
    assert iteration_of(name) == iteration


def test_a_run_takes_crops_of_resized_images(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 1)
    data = STORED.replace('mean_file: "none.binaryproto"', "")
    layers = TRAINED[TRAINED.index('layer { name: "mean') :]
    (tmp_path / "run" / "net.prototxt").write_text(data + layers)
    files = find_models(Folder(tmp_path))["run"]
    model = ServedModel("x", files, Pace(batch=1, delay_s=0))
    (image,) = model.inputs.images.values()
    assert (image.shape, image.resized) == ((3, 8, 8), (12, 10))
    model.close()
    pack_model(files, tmp_path / "packed")
    assert models_in(tmp_path / "packed")["packed"].look.resize == (12, 10)
