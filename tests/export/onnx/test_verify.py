"""Models that ONNX Runtime refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from moka.errors import MokaError
from moka.export.onnx.verify import Session


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An ONNX file of a Relu over (2, 3)."""
    ends = [onnx.helper.make_tensor_value_info(name, 1, (2, 3)) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    found = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), found)
    return found


def test_a_model_that_cannot_be_loaded(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"Relu", b"Rexu"))
    with pytest.raises(MokaError, match=r"cannot load the exported model: .*Rexu"):
        Session(file)


@pytest.mark.parametrize("inputs", [{"x": np.zeros((3, 3), np.float32)}, {}])
def test_inputs_that_do_not_fit(file: Path, inputs: dict[str, np.ndarray]) -> None:
    session = Session(file)
    assert session.run({"x": -np.ones((2, 3), np.float32)})["y"].sum() == 0
    with pytest.raises(MokaError, match="ONNX Runtime cannot run the exported model: "):
        session.run(inputs)
