from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest
import torch

from moka.inference.best import best_program
from moka.inference.engines import engine_is
from moka.inference.flow import flow_of
from moka.inference.make import Maker

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
ALONE = {"onnxruntime": 9.0, "openvino": 9.0, "torch": 1.2}  # the machine was busy at first
IN_TURNS = {"onnxruntime": 1.0, "openvino": 1.1, "torch": 1.2}


def test_programs_are_compared_in_turns(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_turns(runs: list[partial[object]]) -> list[float]:
        return [IN_TURNS[run.func.__self__.backend] for run in runs]  # type: ignore[attr-defined]

    monkeypatch.setattr(Maker, "_seconds", lambda _, program: ALONE[program.backend])
    monkeypatch.setattr("moka.inference.make.seconds_in_turns", in_turns)
    monkeypatch.setattr("moka.inference.best.SMALLEST_S", -1.0)
    monkeypatch.setattr("moka.inference.make.perf_counter", count(0, 10).__next__)  # layers: 10 s
    net = make_net(TEXT)
    with engine_is("auto"):
        best = best_program(net, flow_of(net), {"data": torch.randn(2, 3)}, ["prob"])
    assert best is not None
    assert best.backend == "onnxruntime"
