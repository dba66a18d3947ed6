"""A net for training with its weights, served."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.serving.colors import GREEN, NET, job, picture
from tests.web.sites import make_database

from moka.errors import MokaError, NetError
from moka.schema import caffe_pb2, parse_text
from moka.serving.image_input import Look
from moka.serving.model import Pace, ServedModel
from moka.web.trained_files import TrainedFiles, look_of_transform, size_before_crop

SOON = 60.0
TRAINED = """
name: "colors"
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { scale: 0.5 crop_size: 8 } data_param { source: "x" batch_size: 5 } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { scale: 0.02 crop_size: 8 mean_value: 1 mean_value: 1 mean_value: 1 }
        data_param { source: "x" batch_size: 5 } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "mean" top: "ip"
        inner_product_param { num_output: 3 bias_term: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
DENSE = """
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "gone" batch_size: 5 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 3 bias_term: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def trained_files(folder: Path, text: str, weights: torch.Tensor, look: Look) -> TrainedFiles:
    """A net for training whose layer "ip" has these weights."""
    (folder / "train_val.prototxt").write_text(text)
    stored = caffe_pb2.NetParameter()
    layer = stored.layer.add(name="ip", type="InnerProduct")
    blob = layer.blobs.add(data=weights.flatten().tolist())
    blob.shape.dim.extend(weights.shape)
    (folder / "net.caffemodel").write_bytes(stored.SerializeToString())
    return TrainedFiles(folder / "train_val.prototxt", folder / "net.caffemodel", look=look)


@pytest.mark.parametrize(
    ("look", "mean", "scale"),
    [(Look(), 1, 0.02), (Look(scale=0.01), 1, 0.01), (Look(mean=np.full(3, 5.0)), 5, 0.02)],
)
def test_a_net_for_training_is_served_as_it_was_tested(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, look: Look, mean: float, scale: float
) -> None:
    """Images are taken as its data layer for testing says, unless somebody says otherwise."""
    files = trained_files(tmp_path, TRAINED, torch.eye(3), look)
    with caplog.at_level(logging.INFO, "moka"):
        model = ServedModel("x", files, Pace(batch=1, delay_s=0))
    (told,) = (line for line in caplog.messages if "is a net for training" in line)
    assert told == (
        f"{tmp_path}/train_val.prototxt is a net for training; served is the net for use made of"
        ' it, whose input "data" is 3 x 8 x 8.'
    )
    (future,) = model.submit([job(picture(GREEN))])
    scores = future.result(SOON).blobs["prob"].ravel()
    model.close()
    expected = np.exp([-mean * scale, (255 - mean) * scale, -mean * scale])
    np.testing.assert_allclose(scores, expected / expected.sum(), rtol=1e-4)


def test_the_weights_tell_the_size_of_images_whose_data_is_gone(tmp_path: Path) -> None:
    files = trained_files(tmp_path, DENSE, torch.zeros(3, 28 * 28), Look())
    model = ServedModel("x", files, Pace(batch=1, delay_s=0))
    assert model.input.shape == (1, 28, 28)
    model.close()


def test_weights_that_are_gone(tmp_path: Path) -> None:
    files = trained_files(tmp_path, TRAINED, torch.eye(3), Look())
    (tmp_path / "net.caffemodel").unlink()
    with pytest.raises(MokaError, match=r"^File not found: \S+net.caffemodel"):
        files.opened()


def test_a_net_of_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "rows.h5", "w") as rows:
        rows["x"], rows["label"] = np.zeros((9, 7), np.float32), np.zeros(9, np.float32)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/rows.h5\n")
    text = f"""
    layer {{ name: "d" type: "HDF5Data" top: "x" top: "label"
            hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 5 }} }}
    layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
            inner_product_param {{ num_output: 3 bias_term: false }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
    """
    files = trained_files(tmp_path, text, torch.zeros(3, 7), Look())
    model = ServedModel("x", files, Pace(batch=1, delay_s=0))
    assert model.inputs.numbers == {"x": (7,)}
    model.close()


def test_a_net_that_cannot_be_made_one_for_use(tmp_path: Path) -> None:
    text = (
        TRAINED.replace('bottom: "data" top: "mean"', 'bottom: "made" top: "mean"')
        + """
    layer { name: "made" type: "DummyData" top: "made"
            dummy_data_param { shape { dim: 5 dim: 3 dim: 8 dim: 8 } } }
    """
    )
    layers = text.split("layer {")
    files = trained_files(
        tmp_path, "layer {".join([layers[0], layers[-1], *layers[1:-1]]), torch.eye(3), Look()
    )
    with pytest.raises(NetError) as caught:
        files.opened()
    assert str(caught.value) == (
        f"{tmp_path}/train_val.prototxt: this net for training cannot be made one for use: what the"
        " net predicts needs nothing of a data layer. Give a deploy.prototxt, whose Input layers"
        " say what it takes."
    )


def test_a_net_for_use_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "deploy.prototxt").write_text(NET)
    files = TrainedFiles(tmp_path / "deploy.prototxt", None, look=Look(scale=3))
    assert files.opened() == (files.net, files.look)


def test_a_mean_file_beside_the_net(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.array([1.0, 2.0, 3.0]))
    param = caffe_pb2.TransformationParameter(mean_file="mean.npy", scale=0.5)
    look = look_of_transform(param, tmp_path)
    assert look.mean is not None
    assert (look.mean.tolist(), look.scale) == ([1, 2, 3], 0.5)


STORED = """
layer { name: "d" type: "ImageData" top: "data" top: "label"
        transform_param { crop_size: 8 mean_file: "none.binaryproto" }
        image_data_param { source: "list.txt" batch_size: 5 new_height: 12 new_width: 10 } }
"""


def data_layer(text: str) -> caffe_pb2.LayerParameter:
    return parse_text(text, caffe_pb2.NetParameter).layer[0]


def test_images_have_the_size_of_the_data_before_they_are_cropped(tmp_path: Path) -> None:
    file = str(tmp_path / "net.prototxt")
    assert size_before_crop(data_layer(STORED), file) == (12, 10)
    assert size_before_crop(data_layer(STORED.replace("crop_size: 8", "")), file) is None
    gone = parse_text(TRAINED, caffe_pb2.NetParameter).layer[1]
    assert size_before_crop(gone, file) is None
    make_database(tmp_path / "x")
    gone.data_param.source = str(tmp_path / "x")
    gone.data_param.backend = caffe_pb2.DataParameter.LMDB
    gone.transform_param.crop_size = 5
    assert size_before_crop(gone, file) == (8, 8)
