"""Small nets give the numbers that BVLC Caffe gave, layer by layer and as one training step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import caffe
from moka.engine.training import TrainingStep
from moka.net import build_net

if TYPE_CHECKING:
    from tests.conformance.conftest import Case

FILES = sorted((Path(__file__).parent / "layers").glob("*.npz"))
PHASES = {"TRAIN": caffe.TRAIN, "TEST": caffe.TEST}


def starts_at_the_loss(file: Path) -> bool:
    """Whether the backward pass starts once, with nothing but the weights of losses."""
    with np.load(file) as values:
        options = json.loads(str(values["options"]))
        given = {key.removeprefix("top_diff/") for key in values.files if "top_diff/" in key}
    automatic = set(options.get("auto_diff", ()))
    once = options.get("n_forward", 1) == options.get("n_backward", 1) == 1
    return bool(automatic) and given <= automatic and once


LOSSES = [file for file in FILES if starts_at_the_loss(file)]


def open_net(case: Case) -> caffe.Net:
    Path("net.prototxt").write_text(case.text("prototxt"))
    return caffe.Net(
        "net.prototxt",
        PHASES[case.text("phase")],
        level=case.options.get("level", 0),
        stages=case.options.get("stages"),
    )


def fill(net: caffe.Net, case: Case) -> None:
    """Put the recorded parameters and inputs into a net."""
    for address, values in case.group("param").items():
        layer, _, index = address.rpartition("/")
        net.params[layer][int(index)].data[...] = values
    for name, values in case.group("in").items():
        net.blobs[name].data[...] = values


def check_listing(net: caffe.Net, case: Case) -> None:
    assert list(net.blobs) == case.json("blob_names")
    assert [node.name for node in net._net.graph.nodes] == case.json("layer_names")
    assert [layer.type for layer in net.layers] == case.json("layer_types")
    assert net.inputs == case.json("inputs")
    assert net.outputs == case.json("outputs")
    shapes = {name: [list(b.shape) for b in blobs] for name, blobs in net.params.items()}
    assert shapes == case.json("param_shapes")
    if "loss_weights" in case.values:
        weights = {name: w for name, w in net.blob_loss_weights.items() if w}
        assert weights == pytest.approx(case.json("loss_weights"))


def check_params(net: caffe.Net, case: Case, prefix: str, side: str) -> None:
    for address in case.group(prefix):
        layer, _, index = address.rpartition("/")
        case.check(f"{prefix}/{address}", getattr(net.params[layer][int(index)], side))


@pytest.mark.parametrize("case", FILES, ids=lambda file: file.stem, indirect=True)
def test_layer_by_layer(case: Case, device: torch.device) -> None:
    net = open_net(case)
    check_listing(net, case)
    check_params(net, case, "init_param", "data")
    fill(net, case)
    if not case.options.get("forward", True):
        return
    for _ in range(case.options.get("n_forward", 1)):
        net.forward()
    assert {name: list(b.shape) for name, b in net.blobs.items()} == case.json("blob_shapes")
    for prefix in ("out", "mid"):
        for name in case.group(prefix):
            case.check(f"{prefix}/{name}", net.blobs[name].data)
    check_params(net, case, "param_after", "data")
    weights = net.blob_loss_weights
    case.check("loss", sum(w * net.blobs[name].data.sum() for name, w in weights.items() if w))
    if not case.options.get("backward", True):
        return
    for _ in range(case.options.get("n_backward", 1)):
        for name, values in case.group("top_diff").items():
            if name not in case.options.get("auto_diff", ()):
                net.blobs[name].diff[...] = values
        net.backward()
    for name in case.group("in_diff"):
        case.check(f"in_diff/{name}", net.blobs[name].diff)
    check_params(net, case, "param_diff", "diff")


@pytest.mark.parametrize("case", LOSSES, ids=lambda file: file.stem, indirect=True)
def test_as_one_training_step(case: Case, device: torch.device) -> None:
    Path("net.prototxt").write_text(case.text("prototxt"))
    net = build_net("net.prototxt", PHASES[case.text("phase")])
    face = caffe.Net.of(net)
    fill(face, case)
    for i in range(len(net.layers)):
        for blob in net.layer_blobs(i):
            blob.data_memory.put(torch.from_numpy(blob.data.copy()))  # to where the net runs
    loss = TrainingStep(net, keep_blobs=True).forward_backward()
    case.check("loss", float(loss))
    for name in case.group("out"):
        case.check(f"out/{name}", face.blobs[name].data)
    check_params(face, case, "param_diff", "diff")
