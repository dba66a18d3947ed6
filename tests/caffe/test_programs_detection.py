"""What public programs for detection do with pycaffe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tests.caffe.programs import opened, random

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2

PROPOSALS = """
import caffe
import numpy as np


class ProposalLayer(caffe.Layer):
    def setup(self, bottom, top):
        self._stride = eval(self.param_str)["feat_stride"]
        top[0].reshape(1, 5)

    def reshape(self, bottom, top):
        assert bottom[1].data.shape == (1, 3)

    def forward(self, bottom, top):
        height = int(bottom[1].data[0, 0])
        blob = np.ones((height // self._stride, 5))
        blob[:, 0] = self.phase
        top[0].reshape(*blob.shape)
        top[0].data[...] = blob

    def backward(self, top, propagate_down, bottom):
        pass


class RoIDataLayer(caffe.Layer):
    def setup(self, bottom, top):
        self._blobs, self._drawn = None, []
        top[0].reshape(1, 3, 6, 6)
        top[1].reshape(1)

    def set_roidb(self, sizes):
        self._blobs = list(sizes)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        size = self._blobs.pop(0)
        self._drawn.append(size)
        for k, blob in enumerate((np.ones((size, 3, 6, size)), np.zeros(size))):
            top[k].reshape(*blob.shape)
            top[k].data[...] = blob.astype(np.float32, copy=False)

    def backward(self, top, propagate_down, bottom):
        pass
"""


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """modules("a.b", code): a module of this name that a prototxt can name."""
    monkeypatch.syspath_prepend(".")
    made: list[str] = []

    def make(name: str, code: str) -> None:
        package, _, module = name.rpartition(".")
        Path(package).mkdir(exist_ok=True)
        (Path(package) / "__init__.py").touch()
        (Path(package) / f"{module}.py").write_text(code)
        made.extend((package, name))

    yield make
    for name in made:
        sys.modules.pop(name, None)


FASTER_RCNN = """
input: "data" input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
input: "im_info" input_shape { dim: 1 dim: 3 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layer { name: "proposal" type: "Python" bottom: "conv" bottom: "im_info" top: "rois"
  python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"
    param_str: "{'feat_stride': 4}" } }
layer { name: "cls" type: "InnerProduct" bottom: "rois" top: "cls"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "cls" top: "prob" }
"""


def test_faster_rcnn_detects(modules: Callable[[str, str], None]) -> None:
    modules("rpn.proposal_layer", PROPOSALS)
    net = opened(FASTER_RCNN)
    net.name = "zf_faster_rcnn"
    for height, width in ((40, 60), (20, 16)):
        blobs = {"data": random(1, 3, height, width), "im_info": np.array([[height, width, 1.6]])}
        forward_kwargs: dict[str, Any] = {}
        for name, blob in blobs.items():
            net.blobs[name].reshape(*blob.shape)
            forward_kwargs[name] = blob.astype(np.float32, copy=False)
        out = net.forward(**forward_kwargs)
        assert out["prob"].shape == (height // 4, 2)
        rois = net.blobs["rois"].data.copy()
        assert rois.shape == (height // 4, 5)
        assert (rois[:, 0] == caffe.TEST).all()


TRAINED = """
layer { name: "input-data" type: "Python" top: "data" top: "labels"
  python_param { module: "rpn.proposal_layer" layer: "RoIDataLayer" } }
layer { name: "gap" type: "Pooling" bottom: "data" top: "gap"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "gap" top: "bbox_pred"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "bbox_pred" bottom: "labels" top: "loss" }
"""


def test_faster_rcnn_trains(modules: Callable[[str, str], None]) -> None:
    modules("rpn.proposal_layer", PROPOSALS)
    Path("train_rois.prototxt").write_text(TRAINED)
    Path("rois.prototxt").write_text(
        'train_net: "train_rois.prototxt" base_lr: 0.5 lr_policy: "fixed" display: 0'
        ' snapshot: 0 snapshot_prefix: "rois"'
    )
    solver = caffe.SGDSolver("rois.prototxt")
    param = caffe_pb2.SolverParameter()
    text_format.Merge(Path("rois.prototxt").read_text(), param)
    assert param.snapshot_prefix == "rois"
    solver.net.save("pretrained.caffemodel")
    solver.net.copy_from("pretrained.caffemodel")
    data_layer = solver.net.layers[0]
    data_layer.set_roidb([2, 5, 3])
    losses = []
    while solver.iter < 3:
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
        assert solver.net.blobs["data"].data.shape[::3] == (data_layer._drawn[-1],) * 2
    assert data_layer._drawn == [2, 5, 3]
    assert losses == sorted(losses, reverse=True)
    # Outputs were normalized: what is saved is not, what is trained goes on as it was.
    net, stds = solver.net, np.array([2.0, 4.0])
    weight, bias = (blob.data.copy() for blob in net.params["bbox_pred"])
    net.params["bbox_pred"][0].data[...] = net.params["bbox_pred"][0].data * stds[:, np.newaxis]
    net.params["bbox_pred"][1].data[...] = net.params["bbox_pred"][1].data * stds + 1
    net.save("final.caffemodel")
    net.params["bbox_pred"][0].data[...] = weight
    net.params["bbox_pred"][1].data[...] = bias
    saved = caffe.Net("train_rois.prototxt", "final.caffemodel", caffe.TEST)  # type: ignore[arg-type]
    np.testing.assert_allclose(saved.params["bbox_pred"][0].data, weight * stds[:, None], rtol=1e-6)
    np.testing.assert_allclose(saved.params["bbox_pred"][1].data, bias * stds + 1, rtol=1e-6)


def test_ssd_builds_a_net() -> None:
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    from_layer = "data"
    assert list(net.keys()) == [from_layer]
    for k in (1, 2):
        name = f"conv{k}"
        net[name] = L.Convolution(net[from_layer], num_output=2, kernel_size=3, pad=1)
        net[f"relu{k}"] = L.ReLU(net[name], in_place=True)
        from_layer = net.keys()[-1]
    net["pool"] = L.Pooling(net[from_layer], pool=P.Pooling.MAX, kernel_size=2, stride=2)
    for frozen in ("conv1", "gone"):
        if frozen in net.keys():  # noqa: SIM118 (as in the original)
            net.update(frozen, dict(param=[dict(lr_mult=0), dict(lr_mult=0)]))
    proto = net.to_proto()
    proto.name = "ssd"
    layers = {layer.name: layer for layer in proto.layer}
    assert [param.lr_mult for param in layers["conv1"].param] == [0, 0]
    assert not layers["conv2"].param
    assert opened(str(proto)).forward()["pool"].shape == (1, 2, 4, 4)
