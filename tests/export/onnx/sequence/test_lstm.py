from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.onnx.conftest import Export, one_layer

T, N, K, D = 4, 3, 5, 2


@pytest.mark.parametrize(
    ("options", "shape"),
    [(f"batch_size: {N}", f"{T * N} {K}"), ("", f"{T} {N} {K}"), ("batch_size: 1", f"{T} {K} 2")],
)
def test_without_clip_it_is_one_operator(
    export: Export, tmp_path: Path, options: str, shape: str
) -> None:
    done = export(one_layer(f'type: "Lstm" lstm_param {{ num_output: {D} {options} }}', shape))
    nodes = onnx.load(tmp_path / "net.onnx").graph.node
    assert "LSTM" in [node.op_type for node in nodes]
    assert done.free_batch == (options != f"batch_size: {N}")  # any number of timesteps


@pytest.mark.parametrize(
    ("options", "shape", "clip"),
    [
        (f"batch_size: {N}", f"{T * N} {K}", f"{T * N}"),
        ("", f"{T} {N} {K}", f"{T} {N}"),
        ("batch_size: 1", f"{T} {K}", f"{T} 1"),
        (f"batch_size: {N}", f"{N} {K}", f"{N}"),
    ],
)
def test_sequences_that_start_inside_a_batch(
    export: Export, options: str, shape: str, clip: str
) -> None:
    layer = f'type: "Lstm" lstm_param {{ num_output: {D} {options} }}'
    text = one_layer(layer, shape, clip)
    export(text)
    draw = np.random.default_rng(0)
    sizes = [tuple(map(int, s.split())) for s in (shape, clip)]
    marks = draw.integers(0, 3, sizes[1])  # any number but 0 goes on
    export(text, check_inputs={"x0": draw.standard_normal(sizes[0]), "x1": marks})
