from __future__ import annotations

from tests.export.onnx.conftest import Export


def test_a_constant(export: Export) -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 5 } } }
    layer { name: "cont" type: "ContinuationIndicator" top: "cont"
      continuation_indicator_param { time_step: 4 batch_size: 3 } }
    layer { name: "y" type: "LSTM" bottom: "x" bottom: "cont" top: "y"
      recurrent_param { num_output: 2 } }
    """
    assert list(export(text).inputs) == ["x"]
