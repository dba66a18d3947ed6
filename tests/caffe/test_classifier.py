from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe
from moka.errors import NetError
from moka.types import Array

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 4 dim: 3 dim: 4 dim: 5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
IMAGES = list(np.random.default_rng(3).random((3, 6, 8, 3), np.float32))


@pytest.fixture(autouse=True)
def net() -> caffe.Net:
    Path("deploy.prototxt").write_text(NET)
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    net.save("w.caffemodel")
    return net


def classifier(**more: Any) -> caffe.Classifier:
    return caffe.Classifier("deploy.prototxt", "w.caffemodel", **more)


def scores(net: caffe.Net, planes: Array) -> Array:
    """Of one crop (C, H, W), by the formula."""
    weight, bias = (blob.data for blob in net.params["ip"])
    e = np.exp(weight @ planes.ravel() + bias)
    return e / e.sum()


def test_the_middle_of_resized_images(net: caffe.Net) -> None:
    """Five images in batches of four, rows 1 to 5 and columns 1 to 6 of each."""
    made = classifier(image_dims=(6, 8), raw_scale=2, input_scale=3, channel_swap=(2, 1, 0),
                      mean=np.array([0.1, 0.2, 0.3]))  # fmt: skip
    images = [*IMAGES, caffe.io.resize_image(IMAGES[0], (9, 9)), IMAGES[1]]
    got = made.predict(iter(images), oversample=False)
    assert got.shape == (5, 6)
    for row, image in zip(got, images, strict=True):
        crop = caffe.io.resize_image(image, (6, 8))[1:5, 1:6, ::-1].transpose(2, 0, 1)
        planes = (crop * 2 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) * 3
        np.testing.assert_allclose(row, scores(net, planes), rtol=1e-4)


def test_the_mean_over_ten_crops(net: caffe.Net) -> None:
    made = classifier(image_dims=(6, 8))
    got = made.predict(IMAGES[:2])
    for row, image in zip(got, IMAGES, strict=False):
        crops = caffe.io.oversample([image], (4, 5)).transpose(0, 3, 1, 2)
        want = np.mean([scores(net, crop) for crop in crops], 0)
        np.testing.assert_allclose(row, want, rtol=1e-4)


def test_sizes() -> None:
    made = classifier()
    assert made.crop_dims.tolist() == made.image_dims.tolist() == [4, 5]
    assert classifier(image_dims=[6, 8]).image_dims.tolist() == [6, 8]
    assert made.predict(IMAGES).shape == (3, 6)


def test_a_phase_in_the_place_of_sizes() -> None:
    """BVLC takes 0 (caffe.TRAIN) as no sizes, and fails in `predict` for 1 (caffe.TEST)."""
    assert classifier(image_dims=0).predict(IMAGES).shape == (3, 6)
    made = classifier(image_dims=1)
    assert made.forward()["prob"].shape == (4, 6)
    with pytest.raises(TypeError, match=r"^image_dims is \(height, width\), found 1\. A caffe"):
        made.predict(IMAGES)


def test_a_net_for_training() -> None:
    data = """layer { name: "data" type: "DummyData" top: "data"
      dummy_data_param { shape { dim: 4 dim: 3 dim: 4 dim: 5 } } }"""
    Path("deploy.prototxt").write_text(data + NET[NET.index('layer { name: "ip"') :])
    with pytest.raises(NetError, match=r"the net has no input.*`caffe make_deploy` makes one"):
        classifier()


def test_a_mean_image_of_another_size() -> None:
    made = classifier(image_dims=(6, 8), mean=np.ones((3, 6, 8)))
    assert made.transformer.mean["data"].shape == (3, 4, 5)


def test_what_cannot_be_classified() -> None:
    made = classifier()
    with pytest.raises(ValueError, match="image 1 has 1 channels, the net takes 3"):
        made.predict([IMAGES[0], IMAGES[0][..., :1]])
    with pytest.raises(ValueError, match="there is no image"):
        made.predict([])
    with pytest.raises(ValueError, match=r"an image is \(height, width, channels\)"):
        made.predict([np.zeros((4, 5))])
    with pytest.raises(ValueError, match=r"shape \(6, 8, 3\): give \[image\]"):
        made.predict(IMAGES[0])
    names: Any
    for names in ("x.png", ["x.png"]):
        with pytest.raises(TypeError, match=r"got a name of a file: caffe\.io\.load_image"):
            made.predict(names)
    with pytest.raises(ValueError, match="a crop of 4 x 5 is larger than the image, 3 x 9"):
        classifier(image_dims=(3, 9)).predict(IMAGES)
