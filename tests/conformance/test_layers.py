"""Small nets give the numbers that BVLC Caffe gave, layer by layer and as one training step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import pytest
import torch

import caffe
from moka.engine.autograd import Autograd
from moka.memory import Memory
from moka.schema import caffe_pb2, format_text, parse_text

if TYPE_CHECKING:
    from tests.conformance.conftest import Case

FILES = sorted((Path(__file__).parent / "layers").glob("*.npz"))
PHASES = {"TRAIN": caffe.TRAIN, "TEST": caffe.TEST}


def open_net(case: Case, prototxt: str) -> caffe.Net:
    Path("net.prototxt").write_text(prototxt)
    net = caffe.Net(
        "net.prototxt",
        PHASES[case.text("phase")],
        level=case.options.get("level", 0),
        stages=case.options.get("stages"),
    )
    if "mem_data" in case.values:
        net.set_input_arrays(case.values["mem_data"], case.values["mem_labels"])
    return net


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
    net = open_net(case, case.text("prototxt"))
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
    for address in case.group("outfile"):
        file, dataset = address.rsplit("/", 1)
        with h5py.File(file) as written:
            case.check(f"outfile/{address}", written[dataset])
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


def as_a_loss(case: Case) -> str:
    """The net with a loss for every diff that is put into a top: sum(top * diff), whose gradient
    for the top is that diff."""
    net = parse_text(case.text("prototxt"), caffe_pb2.NetParameter)
    for name, diff in case.group("top_diff").items():
        if name in case.options.get("auto_diff", ()):
            continue
        for layer in net.layer:
            if name in layer.top:
                layer.ClearField("loss_weight")  # the diff replaces it
        given = net.layer.add(name=f"diff of {name}", type="Input", top=[f"diff of {name}"])
        given.input_param.shape.add(dim=diff.shape)
        product = net.layer.add(name=f"loss of {name}", type="Eltwise", loss_weight=[1])
        product.eltwise_param.operation = caffe_pb2.EltwiseParameter.PROD
        product.bottom.extend([name, *given.top])
        product.top.append(product.name)
        case.values[f"in/{given.name}"] = diff
    return format_text(net)


# Nets that cannot be run as a training step, and why.
NO_STEP = {
    "Filter__two_blobs": "Filter announces more rows than it makes, so no product can follow it",
    "Pooling__stochastic_test_shape": "only the net's listing is recorded",
}


@pytest.mark.parametrize("case", FILES, ids=lambda file: file.stem, indirect=True)
def test_as_a_training_step(case: Case, device: torch.device) -> None:
    """The same numbers from the whole net as one function, as training runs it."""
    if case.name in NO_STEP:
        pytest.skip(NO_STEP[case.name])
    backward = case.options.get("backward", True)
    face = open_net(case, as_a_loss(case) if backward else case.text("prototxt"))
    net = face._net
    fill(face, case)
    for i in range(len(net.layers)):
        for blob in net.layer_blobs(i):
            blob.data_memory.put(torch.from_numpy(blob.data.copy()))  # to where the net runs
    step = Autograd(net, keep_blobs=True)
    for _ in range(case.options.get("n_forward", 1) - backward):
        step.forward()
    inputs = {
        name: torch.tensor(case.values[f"in/{name}"], device=device) for name in net.graph.inputs
    }
    wanted = {b for p in net.places
              for b, w in zip(p.node.bottoms, p.marks.bottoms, strict=True) if w}  # fmt: skip
    for _ in range(case.options.get("n_backward", 1) if backward else 0):
        for name, tensor in inputs.items():
            tensor.grad = None
            net.blobs[name].data_memory = Memory(tuple(tensor.shape), device=net.device)
            net.blobs[name].data_memory.put(tensor.requires_grad_(name in wanted))
        step.forward_backward()
    for name in case.group("out"):
        case.check(f"out/{name}", face.blobs[name].data)
    check_params(face, case, "param_diff", "diff")
    for name in case.group("in_diff").keys() & inputs:
        grad = inputs[name].grad
        zeros = torch.zeros_like(inputs[name])
        case.check(f"in_diff/{name}", (zeros if grad is None else grad).cpu())
        case.check(f"in_diff/{name}", face.blobs[name].diff)
