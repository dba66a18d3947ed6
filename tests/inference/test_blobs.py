"""`caffe.Net` on programs shows what it shows layer by layer, whatever is done to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.twins import BRANCHES, Twins

from moka.inference import blobs, parameters
from moka.inference.fast import Fast
from moka.inference.program import Program

# A constant that users may overwrite, a layer no backend takes in the middle, a loss and a score.
LOSS = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 3 dim: 4 dim: 5 dim: 5 } shape { dim: 3 } } }
layer { name: "shift" type: "DummyData" top: "shift" dummy_data_param {
  shape { dim: 3 dim: 4 dim: 5 dim: 5 } data_filler { value: 0.25 } } }
layer { name: "add" type: "Eltwise" bottom: "data" bottom: "shift" top: "add" }
layer { name: "conv" type: "Convolution" bottom: "add" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "elu" type: "ELU" bottom: "conv" top: "conv" }
layer { name: "pick" type: "BatchReindex" bottom: "conv" bottom: "label" top: "pick" }
layer { name: "ip" type: "InnerProduct" bottom: "pick" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "right" type: "Accuracy" bottom: "ip" bottom: "label" top: "right" }
"""
NETS = {"branches": BRANCHES, "loss": LOSS}


STEPS = [
    *[Twins.forwards] * 6,
    *[Twins.forward] * 6,
    *[Twins.read] * 6,
    *[Twins.write_inputs] * 3,
    *[Twins.hold] * 2,
    *[Twins.let_go] * 3,
    *[Twins.reshape] * 2,
    Twins.read_all,
    Twins.write_blob,
    Twins.write_held,
    Twins.write_parameter,
    Twins.look_at_parameter,
    Twins.hold_parameter,
    Twins.write_held_parameter,
    Twins.load,
    Twins.part,
    Twins.backward,
    Twins.called_back,
]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("engine", ["auto", "torch", "onnxruntime"])
@pytest.mark.parametrize("seed", range(6))
def test_twins(
    tmp_path: Path, net: str, engine: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "PAUSE", [0, 1, 8][seed % 3])
    monkeypatch.setattr(blobs, "MOST_KEPT", [0, blobs.MOST_KEPT][seed % 2])
    twins = Twins(NETS[net], tmp_path, engine, seed)
    for _ in range(40):
        step = twins.random.choice(STEPS)
        step(twins)
        twins.check()
    twins.read_all()


@pytest.mark.parametrize("net", NETS)
def test_settled_passes(tmp_path: Path, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twins' passes take the short way, too."""
    monkeypatch.setattr(blobs, "PAUSE", 0)
    found: list[Program | None] = []
    settled = Fast.settled

    def noted(fast: Fast, given: Any, wanted: Any) -> Program | None:
        found.append(settled(fast, given, wanted))
        return found[-1]

    monkeypatch.setattr(Fast, "settled", noted)
    twins = Twins(NETS[net], tmp_path, "onnxruntime", 1)
    for _ in range(8):
        twins.write_inputs()
        twins.forward_quietly()
    twins.read_all()
    assert any(found) or parameters.USERS_OF_MEMORY is None


def test_small_inputs_of_a_pass_in_inference_mode(tmp_path: Path) -> None:
    """The copies that were made there are written to by passes outside."""
    twins = Twins(BRANCHES, tmp_path, "onnxruntime", 1)
    with torch.inference_mode():
        twins.forward_quietly()
    for _ in range(3):
        twins.write_inputs()
        twins.forward()
    twins.read_all()


def test_the_loss_of_a_pass_on_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loss with its weight."""
    monkeypatch.setattr(blobs, "PAUSE", 0)
    more = 'layer { name: "sum" type: "Reduction" bottom: "conv" top: "sum" loss_weight: 0.5 }'
    twins = Twins(LOSS + more, tmp_path, "torch", 3)
    twins.fill_parameters()
    twins.write_inputs()
    losses: list[float] = []
    for _ in range(3):
        twins.both(lambda net: losses.append(net._forward(0, len(net.layers) - 1)))
    program, layers = losses[-2:]
    assert program == pytest.approx(layers, rel=1e-4)
    assert abs(layers) > 0.1
