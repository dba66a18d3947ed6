from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("options", ["", "axis: 1", "axis: -1", "axis: 0"])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("values", ["true", "false"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 6, 3)])
def test_argmax(
    export: Export, options: str, top_k: int, values: str, shape: tuple[int, ...]
) -> None:
    layer = f"argmax_param {{ {options} top_k: {top_k} out_max_val: {values} }}"
    ties = np.random.default_rng(0).integers(0, 3, shape).astype(np.float32)
    text = one_layer(f'type: "ArgMax" {layer}', " ".join(map(str, shape)))
    export(text, check_inputs={"x0": ties})


def test_losses_and_scores_are_left_out(export: Export) -> None:
    text = """
    layer { name: "data" type: "Input" top: "data" top: "label"
      input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
      inner_product_param { num_output: 5 } }
    layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
    """
    done = export(text)
    assert done.inputs == {"data": "(N, 3)"}
    assert done.outputs == {"ip": "(N, 5)"}
