from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import MokaError

TEXT = one_layer('type: "InnerProduct" inner_product_param { num_output: 50 }', "2 30")


def test_other_programs_read_the_streamed_file(export: Export, tmp_path: Path) -> None:
    export(TEXT)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    (weight,) = (t for t in model.graph.initializer if t.name == "it.weight")
    assert onnx.numpy_helper.to_array(weight).shape == (50, 30)
    again = onnx.load_from_string(model.SerializeToString())
    assert again == model


def test_large_parameters_lie_beside_the_model(export: Export, tmp_path: Path) -> None:
    done = export(TEXT, most_in_one_file=1000)
    assert [file.name for file in done.files] == ["net.onnx", "net.onnx.data"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert (tmp_path / "net.onnx.data").stat().st_size == 50 * 30 * 4
    onnxruntime.InferenceSession(tmp_path / "net.onnx")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)


def test_parameters_beside_the_model_begin_on_pages(export: Export, tmp_path: Path) -> None:
    export(TEXT.replace("num_output: 50", "num_output: 500"), most_in_one_file=1000)
    model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    places = [{e.key: int(e.value) for e in t.external_data if e.value.isdigit()}
              for t in model.graph.initializer if t.external_data]  # fmt: skip
    assert [place["length"] for place in places] == [500 * 30 * 4, 500 * 4]
    assert [place["offset"] for place in places] == [0, 15 * 4096]


def test_nothing_is_left_beside_a_model_that_fails(export: Export, tmp_path: Path) -> None:
    with pytest.raises(MokaError):
        export(TEXT, most_in_one_file=1000, check_inputs={"x1": np.zeros((2, 30))})
    assert list(tmp_path.iterdir()) == []
