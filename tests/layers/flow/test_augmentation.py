from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers import Layer
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array
from moka.weights import load_weights

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

SHAPE = (2, 3, 5, 6)


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(0).normal(size=SHAPE)


def made(make_layer: LayerMaker, fields: str, *, training: bool = False) -> Layer:
    text = f'type: "DataAugmentation" augmentation_param {{ {fields} }}'
    return make_layer(text, SHAPE, training=training)


def test_a_mean_for_each_pixel(make_layer: LayerMaker, run: Runner, x: Array) -> None:
    layer = made(make_layer, "recompute_mean: 1000")
    assert [tuple(w.shape) for w in layer.weights] == [(1, 1, 1, 1), (1, 3, 5, 6), (1, 3, 1, 1)]
    mean = np.random.default_rng(1).normal(size=(1, 3, 5, 6)).astype(np.float32)
    layer.weights[1].data.copy_(torch.from_numpy(mean))
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, x - mean)


def test_a_mean_for_each_channel(make_layer: LayerMaker, run: Runner, x: Array) -> None:
    layer = made(make_layer, "recompute_mean: 1000 mean_per_pixel: false")
    layer.weights[2].data.copy_(torch.tensor([1.0, 2, 3])[None, :, None, None])
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, x - np.array([1, 2, 3])[:, None, None])


def test_a_mean_in_the_net(make_layer: LayerMaker, run: Runner, x: Array) -> None:
    layer = made(make_layer, "mean: 1 mean: 2 mean: 3 mean_per_pixel: false")
    assert [tuple(w.shape) for w in layer.weights] == [(1, 1, 1, 1)]
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, x - np.array([1, 2, 3])[:, None, None])
    (y,) = run(made(make_layer, "mean: 1 mean: 2 mean: 3"), x)  # which is not one for each pixel
    np.testing.assert_array_equal(y, x)


def test_the_center(make_layer: LayerMaker, run: Runner, x: Array) -> None:
    (y,) = run(made(make_layer, "crop_height: 3 crop_width: 2"), x)
    np.testing.assert_array_equal(y, x[:, :, 1:4, 2:4])
    (y,) = run(made(make_layer, "crop_height: 5 crop_width: 3"), x)
    np.testing.assert_allclose(y, (x[:, :, :, 1:4] + x[:, :, :, 2:5]) / 2)


def test_augmentation_by_chance(make_layer: LayerMaker, run: Runner, x: Array) -> None:
    run(made(make_layer, "translate { spread: 0.4 }"), x)
    for fields, training in (("", True), ("augment_during_test: true", False)):
        layer = made(make_layer, f"translate {{ spread: 0.4 }} {fields}", training=training)
        with pytest.raises(NetError, match="translate changes images by chance"):
            run(layer, x)


def test_a_stored_mean_of_another_size(tmp_path: Path) -> None:
    """A net for larger images takes the weights of one for small ones."""

    def net_of(size: int) -> str:
        return (
            f'input: "x" input_shape {{ dim: 1 dim: 2 dim: {size} dim: {size} }}'
            ' layer { name: "mean" type: "DataAugmentation" bottom: "x" top: "y"'
            " augmentation_param { recompute_mean: 1 } }"
        )

    file = caffe_pb2.NetParameter()
    layer = file.layer.add(name="mean", type="DataAugmentation")
    for shape in ((1, 1, 1, 1), (1, 2, 2, 2), (1, 2, 1, 1)):
        blob = layer.blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend(range(int(np.prod(shape))))
    path = tmp_path / "mean.caffemodel"
    path.write_bytes(file.SerializeToString())
    for size, want in ((2, range(8)), (3, [1.5] * 9 + [5.5] * 9)):
        net = build_net(parse_text(net_of(size), caffe_pb2.NetParameter), caffe_pb2.TEST)
        load_weights(net, path)
        assert net.layers[-1].weights[1].flatten().tolist() == list(want)


def test_a_crop_that_is_too_large(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"the crop \(6 x 2\) is larger than the image \(5 x 6\)"):
        made(make_layer, "crop_height: 6 crop_width: 2")
