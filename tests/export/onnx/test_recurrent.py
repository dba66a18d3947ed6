from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.onnx.conftest import Export, one_layer

T, N, K, D = 4, 3, 5, 2
X, CONT = f"{T} {N} {K}", f"{T} {N}"
STATES = {"RNN": 1, "LSTM": 2}


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("static", [[], [f"{N} 6"]])
@pytest.mark.parametrize("exposed", [False, True])
def test_sequences(export: Export, kind: str, static: list[str], exposed: bool) -> None:
    states = [f"1 {N} {D}"] * STATES[kind] if exposed else []
    tops = " ".join(f'top: "t{k}"' for k in range(1 + len(states)))
    options = f"num_output: {D} expose_hidden: {str(exposed).lower()}"
    layer = f'type: "{kind}" recurrent_param {{ {options} }}'
    text = one_layer(layer, X, CONT, *static, *states, tops=tops)
    done = export(text)
    assert not done.free_batch
    draw = np.random.default_rng(0)
    inputs = {"x0": draw.standard_normal((T, N, K)), "x1": np.zeros((T, N))}
    inputs["x1"][1:, 1] = 0.5
    for k, shape in enumerate([*static, *states], 2):
        inputs[f"x{k}"] = draw.standard_normal(tuple(map(int, shape.split())))
    export(text, check_inputs=inputs)


def test_one_timestep(export: Export) -> None:
    export(one_layer('type: "LSTM" recurrent_param { num_output: 2 }', "1 3 5", "1 3"))


def test_lstm_unit(export: Export) -> None:
    text = one_layer('type: "LSTMUnit"', "1 3 2", "1 3 8", "1 3", tops='top: "c" top: "h"')
    export(text)


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize(
    ("filler", "is_one"), [("", True), ("value: 1", True), ("value: 0.5", False)]
)
def test_one_sequence_is_onnx_own_lstm(
    export: Export, tmp_path: Path, exposed: bool, filler: str, is_one: bool
) -> None:
    if filler:
        cont = f"""type: "DummyData" dummy_data_param {{ shape {{ dim: {T} dim: {N} }}
          data_filler {{ {filler} }} }}"""
    else:
        param = f"continuation_indicator_param {{ time_step: {T} batch_size: {N} }}"
        cont = f'type: "ContinuationIndicator" {param}'
    states = "".join(
        f"""layer {{ name: "{name}" type: "Input" top: "{name}"
          input_param {{ shape {{ dim: 1 dim: {N} dim: {D} }} }} }}"""
        for name in ("h", "c") * exposed
    )
    more = 'bottom: "h" bottom: "c" top: "h1" top: "c1"' if exposed else ""
    options = f"num_output: {D} expose_hidden: {str(exposed).lower()}"
    export(f"""
    layer {{ name: "x" type: "Input" top: "x"
      input_param {{ shape {{ dim: {T} dim: {N} dim: {K} }} }} }}
    {states}
    layer {{ name: "cont" top: "cont" {cont} }}
    layer {{ name: "it" type: "LSTM" bottom: "x" bottom: "cont" top: "y" {more}
      recurrent_param {{ {options} }} }}""")
    nodes = onnx.load(tmp_path / "net.onnx").graph.node
    goes_on = exposed and filler == "value: 1"  # from the state that is given
    assert ("LSTM" in [node.op_type for node in nodes]) == (is_one and not goes_on)
