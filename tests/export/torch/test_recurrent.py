from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import NetMaker

from moka.export.torch.export import export_torch


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("exposed", [False, True])
def test_layers_with_a_state(
    kind: str, static: bool, exposed: bool, make_net: NetMaker, tmp_path: Path
) -> None:
    names, shapes = ["x", "cont"], [[4, 3, 2, 2], [4, 3]]
    if static:
        names, shapes = [*names, "static"], [*shapes, [3, 5]]
    states = (["h", "c"] if kind == "LSTM" else ["h"]) if exposed else []
    names, shapes = names + states, shapes + [[1, 3, 6]] * len(states)
    given = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}"'
        f" input_param {{ shape {{ dim: {shape} }} }} }}\n"
        for name, shape in zip(names, shapes, strict=True)
    )
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    tops = " ".join(f'top: "{name}_last"' for name in states)
    net = make_net(
        f'{given} layer {{ name: "step" type: "{kind}" {bottoms} top: "y" {tops}'
        f" recurrent_param {{ num_output: 6 expose_hidden: {str(exposed).lower()}"
        ' weight_filler { type: "gaussian" std: 0.5 }'
        ' bias_filler { type: "gaussian" } } }'
    )
    for _ in range(2):  # the check of the first leaves the net's state alone
        assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_a_step_of_single_numbers(kind: str, make_net: NetMaker, tmp_path: Path) -> None:
    net = make_net(f"""
layer {{ name: "in" type: "Input" top: "x" top: "cont" top: "static" input_param {{
  shape {{ dim: [4, 3] }} shape {{ dim: [4, 3] }} shape {{ dim: 3 }} }} }}
layer {{ name: "step" type: "{kind}" bottom: "x" bottom: "cont" bottom: "static" top: "y"
  recurrent_param {{ num_output: 6 weight_filler {{ type: "gaussian" std: 0.5 }} }} }}
""")
    assert export_torch(net, tmp_path / "model.py").difference.relative < 1e-5
