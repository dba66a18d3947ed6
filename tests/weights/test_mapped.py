from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import moka
from moka.errors import WeightsError
from moka.schema import caffe_pb2
from moka.weights import binary, load, load_weights
from moka.weights.mapped import stored_layers
from moka.weights.stored import StoredLayer

NET = """
name: "small"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: %d kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "y"
  inner_product_param { num_output: 5 } }
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(count: int = 4) -> moka.Net:
    Path("n.prototxt").write_text(NET % count)
    net = moka.load("n.prototxt")
    moka.save_weights(net, "n.caffemodel")
    return net


def facts(layers: list[StoredLayer]) -> list[tuple[object, ...]]:
    return [
        (
            each.name,
            each.type,
            [(k, b.values.shape, b.values.tolist(), b.legacy) for k, b in each.blobs.items()],
        )
        for each in layers
    ]


def whole(file: str) -> list[tuple[object, ...]]:
    """The same of the file, read as a whole."""
    model = binary.read_model(file)
    return facts(binary.stored_layers(model, None, file))


def test_the_same_as_read_whole() -> None:
    save()
    found = stored_layers("n.caffemodel")
    assert facts(found) == whole("n.caffemodel")
    assert {k: b.values.shape for k, b in found[1].blobs.items()} == {0: (4, 3, 3, 3), 1: (4,)}


def test_little_memory() -> None:
    """A model of 12 MB takes less than 1 MB to look through."""
    save(400)
    assert Path("n.caffemodel").stat().st_size > 400_000
    wide = caffe_pb2.NetParameter()
    blob = wide.layer.add(name="ip", type="InnerProduct").blobs.add()
    blob.shape.dim.extend([1500, 2000])
    blob.data.extend(np.zeros(3_000_000, np.float32))
    Path("big.caffemodel").write_bytes(wide.SerializeToString())
    del wide, blob
    tracemalloc.start()
    (layer,) = stored_layers("big.caffemodel")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert layer.blobs[0].values.shape == (1500, 2000)
    assert peak < 1_000_000


def test_forms_of_forks_and_of_old() -> None:
    model = caffe_pb2.NetParameter()
    half = model.layer.add(name="half", type="InnerProduct").blobs.add()
    half.shape.dim.extend([2, 2])
    half.raw_data_type = caffe_pb2.FLOAT16
    half.raw_data = np.ones(4, np.float16).tobytes()
    double = model.layer.add(name="double", type="InnerProduct").blobs.add()
    double.shape.dim.extend([3])
    double.double_data.extend([1, 2, 3])
    double.double_diff.extend([1, 2, 3])
    Path("f.caffemodel").write_bytes(model.SerializeToString())
    assert facts(stored_layers("f.caffemodel")) == whole("f.caffemodel")

    old = caffe_pb2.NetParameter()
    v1 = old.layers.add(name="ip", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    v1.blobs.add(num=1, channels=1, height=2, width=3, data=[1.0] * 6)
    v0 = old.layers.add().layer
    v0.name, v0.type = "older", "innerproduct"
    v0.blobs.add(num=1, channels=1, height=1, width=3, data=[1.0] * 3)
    for name, message in (("v1", old.layers[0]), ("v0", old.layers[1])):
        Path(name).write_bytes(caffe_pb2.NetParameter(layers=[message]).SerializeToString())
        assert facts(stored_layers(name)) == whole(name)
    (layer,) = stored_layers("v1")
    assert (layer.name, layer.type) == ("ip", "InnerProduct")
    assert (layer.blobs[0].values.shape, layer.blobs[0].legacy) == ((1, 1, 2, 3), True)


def test_an_input_that_becomes_a_layer() -> None:
    model = caffe_pb2.NetParameter(input=["x"], input_dim=[1, 1, 2, 3])
    layer = model.layer.add(name="ip", type="InnerProduct", bottom=["x"], top=["y"])
    layer.blobs.add(data=[1.0, 2.0]).shape.dim.extend([2])
    Path("n.caffemodel").write_bytes(model.SerializeToString())
    assert facts(stored_layers("n.caffemodel")) == whole("n.caffemodel")
    assert [each.name for each in stored_layers("n.caffemodel")] == ["input", "ip"]


def test_inconsistent_blobs_of_layers_that_nobody_wants() -> None:
    model = caffe_pb2.NetParameter()
    for name, size in (("ip", 2), ("other", 3)):
        layer = model.layer.add(name=name, type="InnerProduct")
        layer.blobs.add(data=[1.0, 2.0]).shape.dim.extend([size])
    Path("n.caffemodel").write_bytes(model.SerializeToString())
    layers = stored_layers("n.caffemodel", {"ip"})
    assert [len(layer.blobs) for layer in layers] == [1, 0]


def test_memory_is_released_between_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = save()
    monkeypatch.setattr(load, "_BYTES_AT_A_TIME", 64)
    released: list[int] = []
    stored = stored_layers("n.caffemodel")

    def counted(*_: object) -> list[StoredLayer]:
        return [
            layer._replace(
                blobs={
                    k: blob._replace(release=lambda: released.append(1))
                    for k, blob in layer.blobs.items()
                }
            )
            for layer in stored
        ]

    monkeypatch.setattr("moka.weights.mapped.stored_layers", counted)
    other = moka.load("n.prototxt")
    load_weights(other, "n.caffemodel")
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert len(released) > 10
    for layer in stored:
        for blob in layer.blobs.values():
            assert blob.release is not None
            before = blob.values.tolist()
            blob.release()
            assert blob.values.tolist() == before


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: b"", "the file is empty"),
        (lambda data: b"version https://git-lfs", "Git LFS pointer"),
        (lambda data: b"<html>", "a web page"),
        (lambda data: b"\x0a\x01n", "holds no layers"),
    ],
)
def test_what_is_no_model(spoil: object, says: str) -> None:
    save()
    assert callable(spoil)
    Path("n.caffemodel").write_bytes(spoil(Path("n.caffemodel").read_bytes()))
    with pytest.raises(WeightsError, match=says):
        stored_layers("n.caffemodel")


def test_counts_that_do_not_fit_shapes() -> None:
    model = caffe_pb2.NetParameter()
    model.layer.add(name="ip").blobs.add(data=[1.0, 2.0]).shape.dim.extend([3])
    Path("n.caffemodel").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r'layer "ip": a blob of shape \(3,\) holds 2 numbers'):
        stored_layers("n.caffemodel")


def test_missing() -> None:
    with pytest.raises((WeightsError, moka.MokaError), match="gone"):
        stored_layers("gone.caffemodel")
