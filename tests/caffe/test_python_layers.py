"""Layers of the user's own, as pycaffe runs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.vectors import BlobVec, BoolVec, RawBlobVec

CODE = """
import caffe

class Tenfold(caffe.Layer):
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = 10 * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        self.seen = type(top), type(propagate_down), type(bottom), type(self.blobs)
        bottom[0].diff[...] = 10 * top[0].diff

class Broken(caffe.Layer):
    def setup(self, bottom, top):
        raise RuntimeError

class Counting(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 0
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        pass
    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] = 1

class Late(caffe.Layer):
    reshapes = 0
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        Late.reshapes += 1
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        raise ValueError(f"after {Late.reshapes} reshapes")

class PhaseIs(caffe.Layer):
    def setup(self, bottom, top):
        pass
    def reshape(self, bottom, top):
        top[0].reshape()
    def forward(self, bottom, top):
        top[0].data[()] = self.phase

class AsManyAsTold(caffe.Layer):
    def setup(self, bottom, top):
        self.told = []
    def reshape(self, bottom, top):
        self.told.append(int(bottom[0].data.flat[0]))
        top[0].reshape(self.told[-1])
    def forward(self, bottom, top):
        top[0].data[...] = 1

class Factor(caffe.Layer):
    def setup(self, bottom, top):
        try:
            self.value = float(self.param_str)
        except ValueError:
            raise ValueError("param_str must be a number")
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = self.value * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.value * top[0].diff
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_layers.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_layers", None)


def chain(*layers: tuple[str, str], data: str = "dim: 10 dim: 9 dim: 8") -> str:
    """A net of Python layers (class, param_str), one after the other: a, b, c..."""
    text = f'force_backward: true input: "data" input_shape {{ {data} }}\n'
    below = "data"
    for name, (cls, string) in zip("abc", layers, strict=False):
        text += (
            f'layer {{ type: "Python" name: "{name}" bottom: "{below}" top: "{name}" python_param'
            f' {{ module: "my_layers" layer: "{cls}" param_str: "{string}" }} }}\n'
        )
        below = name
    Path("python.prototxt").write_text(text)
    return "python.prototxt"


def test_forward_and_backward() -> None:
    net = caffe.Net(chain(*[("Tenfold", "")] * 3), caffe.TRAIN)
    net.blobs["data"].data[...] = 8
    net.forward()
    assert (net.blobs["c"].data == 8000).all()
    net.blobs["c"].diff[...] = 7
    net.backward()
    assert (net.blobs["data"].diff == 7000).all()
    assert net.layers[1].seen == (RawBlobVec, BoolVec, RawBlobVec, BlobVec)


def test_reshape() -> None:
    net = caffe.Net(chain(*[("Tenfold", "")] * 3), caffe.TRAIN)
    net.blobs["data"].reshape(4, 4, 4, 4)
    net.forward()
    assert [tuple(blob.data.shape) for blob in net.blobs.values()] == [(4, 4, 4, 4)] * 4


def test_a_reshape_sees_only_what_it_is_run_on() -> None:
    """Shapes may hang on data, so a layer is not asked before its turn."""
    net = caffe.Net(chain(("AsManyAsTold", "")), caffe.TEST)
    net.blobs["data"].reshape(4, 1, 1)
    net.blobs["data"].data[...] = 6
    assert net.forward()["a"].shape == (6,)
    assert net.layers[1].told == [0, 6]


def test_what_it_raises_comes_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        caffe.Net(chain(("Broken", "")), caffe.TEST)
    assert caught.value.__notes__ == ['raised by layer "a" (Python, my_layers.Broken)']
    with pytest.raises(ValueError, match="param_str must be a number"):
        caffe.Net(chain(("Factor", "ten")), caffe.TEST)
    net = caffe.Net(chain(("Late", "")), caffe.TEST)
    for count in (2, 3):  # and no more of it runs
        with pytest.raises(ValueError, match=f"after {count} reshapes"):
            net.forward()


def test_param_str() -> None:
    net = caffe.Net(chain(("Factor", "10"), ("Factor", "-2.5")), caffe.TRAIN)
    net.blobs["data"].data[...] = 4
    assert (net.forward()["b"] == -100).all()
    net.blobs["b"].diff[...] = 2
    assert (net.backward()["data"] == -50).all()


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_phase(phase: caffe.proto.caffe_pb2.Phase) -> None:
    Path("phase.prototxt").write_text(
        'layer { type: "Python" name: "p" top: "phase"'
        ' python_param { module: "my_layers" layer: "PhaseIs" } }'
    )
    got = caffe.Net("phase.prototxt", phase).forward()["phase"]
    assert got.shape == ()
    assert got == phase


def test_parameters() -> None:
    file = chain(("Counting", ""))
    net = caffe.Net(file, caffe.TRAIN)
    net.forward()
    net.backward()
    layer = net.layers[list(net._layer_names).index("a")]
    assert layer.blobs is net.params["a"]
    assert (layer.blobs[0].data[0], layer.blobs[0].diff[0]) == (0, 1)
    layer.blobs[0].data[0] += layer.blobs[0].diff[0]
    net.save("model")
    layer.blobs[0].data[0] = -1
    net.copy_from("model")
    assert layer.blobs[0].data[0] == 1
    net.clear_param_diffs()
    assert layer.blobs[0].diff[0] == 0
    other = caffe.Net(file, caffe.TRAIN)
    other.share_with(net)
    assert other.layers[1].blobs[0].data[0] == 1
    layer.blobs[0].data[0] = 5
    assert other.params["a"][0].data[0] == 5


def test_diffs_of_its_parameters_add_up_and_hold_updates() -> None:
    text = Path(chain(("Counting", ""), data="dim: 1")).read_text()
    loss = 'layer { type: "Reduction" name: "l" bottom: "a" top: "l" loss_weight: 1 }'
    Path("python.prototxt").write_text(text + loss)
    Path("s.prototxt").write_text(
        'train_net: "python.prototxt" base_lr: 0.5 lr_policy: "fixed" snapshot_after_train: false'
    )
    solver = caffe.get_solver("s.prototxt")
    layer = solver.net.layers[list(solver.net._layer_names).index("a")]
    solver.net.forward()
    solver.net.backward()
    solver.net.backward()
    assert layer.blobs[0].diff[0] == 2
    solver.step(1)
    np.testing.assert_allclose([layer.blobs[0].data[0], layer.blobs[0].diff[0]], [-0.5, 0.5])
