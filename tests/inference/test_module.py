"""`moka.load(...)(x)` on programs: PyTorch's users notice nothing but the time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import moka
from moka.export.difference import difference_of
from moka.inference import parameters
from moka.inference.engines import chosen, engine_is
from moka.inference.module import ModuleRunner
from moka.inference.program import Program
from moka.net import Net
from moka.schema import caffe_pb2, parse_text

TEXT = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
layer { name: "best" type: "ArgMax" bottom: "ip" top: "best" }
"""
Change = Callable[[Any], object]


@pytest.fixture(params=["torch", "onnxruntime"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    with engine_is(request.param):
        yield request.param


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends of the programs that have run."""
    found: list[str] = []
    run = Program.run

    def counted(program: Program, given: dict[str, Tensor]) -> dict[str, Tensor]:
        found.append(program.backend)
        return run(program, given)

    monkeypatch.setattr(Program, "run", counted)
    return found


def make() -> Any:
    torch.manual_seed(3)
    net = moka.load(parse_text(TEXT, caffe_pb2.NetParameter))
    with torch.no_grad():
        for layer in net.layers:
            for weight in layer.weights:
                weight.copy_(torch.rand_like(weight) + 0.1)
    return net


def truth(net: Net, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return net.propagate({"data": x}, net.graph.outputs)


def is_true(net: Net, x: Tensor) -> bool:
    """Compare a call with the layers."""
    with torch.no_grad():
        found = net(x)
    wanted = truth(net, x)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        difference = difference_of(found[name].detach().numpy(), values.numpy(), name)
        assert difference.is_small, difference
    return True


def settle(net: Net, x: Tensor) -> None:
    """Calls until the next one may go as the last one went; with layers that ask for their own
    parameters nobody knows."""
    assert net.runner is not None
    with torch.no_grad():
        for _ in range(5):
            net(x)
        knows = chosen() != "torch" and parameters.USERS_OF_MEMORY is not None
        assert (net.runner.again((x,)) is not None) == knows


def test_calls_run_programs(engine: str, runs: list[str]) -> None:
    net = make()
    for batch in (2, 1, 2):
        assert is_true(net, torch.randn(batch, 3, 8, 8))
    assert set(runs) == {engine}
    assert is_true(net, torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last))


def write_by_numpy(net: Any) -> None:
    net.ip.weight.detach().numpy()[...] *= 2


def write_by_blob(net: Net) -> None:
    net.layer_blobs(1)[0].data[...] += 1


CHANGES: dict[str, Change] = {
    "in place": lambda net: net.conv.weight.requires_grad_(False).mul_(-1),
    "data": lambda net: net.conv.weight.data.mul_(-1),
    "other data": lambda net: setattr(net.ip.weight, "data", -net.ip.weight.data),
    "numpy": write_by_numpy,
    "another parameter": lambda net: setattr(net.ip, "bias", nn.Parameter(torch.ones(5))),
    "weights": lambda net: net.layers[1].weights[0].data.mul_(-1),
    "all parameters": lambda net: [p.data.mul_(0.5) for p in net.parameters()],
    "state dict, in place": lambda net: net.state_dict()["scale.weight"].numpy().fill(3),
    "load_state_dict": lambda net: net.load_state_dict(
        {name: value + 1 for name, value in net.state_dict().items()}
    ),
    "blob": write_by_blob,
    "apply": lambda net: net.apply(
        lambda m: m.weight.data.zero_() if isinstance(m, moka.Net) is False and "bias" in
        dict(m.named_parameters()) else None
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_parameter_is_noticed(engine: str, runs: list[str], change: Change) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    before = net(x)["prob"].detach().clone()
    assert is_true(net, x)
    settle(net, x)
    for _ in range(3):
        change(net)
        assert is_true(net, x)
    assert runs
    with torch.no_grad():
        assert not torch.allclose(net(x)["prob"], before)


def test_a_parameter_that_somebody_keeps(engine: str) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    weight, array = net.ip.weight.data, net.conv.weight.detach().numpy()
    for _ in range(3):
        assert is_true(net, x)
        assert is_true(net, x)
        weight *= 1.5
        assert is_true(net, x)
        array[0] += 1
    parameter = net.ip.bias
    assert is_true(net, x)
    del weight, array
    assert is_true(net, x)
    parameter.data += 1
    assert is_true(net, x)


def test_looking_at_parameters_makes_no_new_program(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    is_true(net, x)
    (case,) = net.runner._fast._cases.values()
    program = case.program
    assert sum(p.numel() for p in net.parameters())
    assert net.conv.weight.shape
    is_true(net, x)
    (case,) = net.runner._fast._cases.values()
    assert case.program is program
    if parameters.USERS_OF_MEMORY is not None:  # else nobody can tell that they are held no more
        assert not any(x.exposures for x in net.layers if x.parameter_names)


def gradients(net: Net, x: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    outputs = net(x)
    assert outputs["prob"].requires_grad
    assert not outputs["best"].requires_grad
    outputs["prob"].square().sum().backward()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_outputs_have_gradients_as_ever(engine: str, runs: list[str]) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    with engine_is("layerwise"):
        wanted = gradients(net, x)
        net.zero_grad(set_to_none=True)
    net(x)
    settle(net, x)
    runs.clear()
    found = gradients(net, x)
    assert runs == [engine]
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    runs.clear()
    torch.testing.assert_close(gradients(net, x), wanted, rtol=1e-4, atol=1e-6)
    assert not runs  # somebody trains


def test_gradients_of_inputs(engine: str, runs: list[str]) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    settle(net, x)
    runs.clear()
    x.requires_grad_()
    net(x)["prob"][:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not runs


def test_hooks_see_every_layer(engine: str, runs: list[str]) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    settle(net, x)
    seen: list[str] = []
    handle = net.conv.register_forward_hook(lambda *_: seen.append("conv"))
    with torch.no_grad():
        net(x)
    handle.remove()
    assert seen == ["conv"]
    runs.clear()
    assert is_true(net, x)
    assert runs == [engine]


def test_hooks_on_all_modules_see_every_layer(engine: str, runs: list[str]) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    settle(net, x)
    runs.clear()
    seen: list[str] = []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        with torch.no_grad():
            net(x)
    finally:
        handle.remove()
    assert "Convolution" in seen
    assert not runs


def test_a_net_in_training_mode(engine: str, runs: list[str]) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    settle(net, x)
    runs.clear()
    net.train()
    before = net.bn.mean.detach().clone()
    with torch.no_grad():
        net(x)
    net.eval()
    net.bn.training = True
    with torch.no_grad():
        net(x)
    assert not runs
    assert not torch.equal(net.bn.mean, before)


def test_transforms_tracers_and_autocast_see_layers(engine: str, runs: list[str]) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    settle(net, x)
    runs.clear()
    given = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    with torch.no_grad():
        found = torch.func.functional_call(net, given, (x,))["prob"]
        torch.testing.assert_close(found, torch.full((2, 5), 0.2))
        assert is_true(net, x)
        runs.clear()
        mapped = torch.func.vmap(lambda one: net(one)["prob"])(x[:, None])
        torch.testing.assert_close(mapped[:, 0], truth(net, x)["prob"])
        with torch.autocast("cpu", torch.bfloat16):
            assert net(x)["prob"].shape == (2, 5)
    torch.export.export(net, (x,), strict=False)
    assert not runs


def test_a_copy_has_programs_of_its_own(engine: str) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    is_true(net, x)
    twin = copy.deepcopy(net)
    assert isinstance(twin.runner, ModuleRunner)
    with torch.no_grad():
        twin.conv.weight.zero_()
    assert is_true(twin, x)
    assert is_true(net, x)


def test_two_threads_call_one_module(engine: str) -> None:
    net = make()
    xs = [torch.randn(2, 3, 8, 8) for _ in range(2)]
    faults: list[BaseException] = []

    def call(x: Tensor) -> None:
        try:
            for _ in range(50):
                assert is_true(net, x)
        except BaseException as fault:  # noqa: BLE001 - shown by the test
            faults.append(fault)

    threads = [threading.Thread(target=call, args=(x,)) for x in xs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_an_error_is_the_layers(engine: str) -> None:
    net, x = make(), torch.randn(2, 3, 8, 8)
    settle(net, x)
    with torch.no_grad():
        with pytest.raises(moka.MokaError, match='layer "ip"'):
            net(torch.randn(2, 3, 9, 9))
        with pytest.raises(moka.MokaError, match="no data given"):
            net()
        with pytest.raises(moka.MokaError, match="got 2 tensors"):
            net(x, x)


def test_arrays_of_double_numbers(engine: str) -> None:
    net, x = make(), np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    settle(net, torch.from_numpy(x).float())
    with torch.no_grad():
        found = net(torch.from_numpy(x))["prob"]
    torch.testing.assert_close(found, truth(net, torch.from_numpy(x).float())["prob"])
