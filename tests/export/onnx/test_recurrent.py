from __future__ import annotations

import numpy as np
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
