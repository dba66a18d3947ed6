from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.importer.onnx_models import imported, random, types, write

from moka.errors import MokaError, NetError
from moka.importer.onnx_file import read_onnx
from moka.importer.onnx_net import import_onnx

RELU: list[Any] = [("Relu", "x", "y", {})]


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    nodes: list[Any] = [("Conv", "x w", "a", {}), ("Relu", "a", "y", {})]
    whole = write(tmp_path / "x.onnx", nodes, {"w": random(3, 4, 2, 2)}).read_bytes()
    import_onnx(tmp_path / "x.onnx")
    cut = tmp_path / "cut.onnx"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(NetError) as error:
            import_onnx(cut)
        assert str(error.value).startswith(f"{cut}: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4 and more", b"PK\x03\x04" * 9, b"\x0a\x03abc"])
def test_other_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(NetError, match="no ONNX file"):
        import_onnx(tmp_path / "x.onnx")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        import_onnx(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("shape", "given", "says"),
    [
        (
            ("n", 3, "h", "w"),
            {},
            "its input x has the shape (1, 3, ?, ?), and Caffe needs every size. Give them with"
            " --input_shape, such as 1,3,224,224.",
        ),
        (
            ("n", 3, "h", "w"),
            {"": (1, 4, 8, 8)},
            "its input x has the shape (?, 3, ?, ?), asked for is (1, 4, 8, 8).",
        ),
        ((1, 3), {"": (1, 3, 3)}, "its input x has the shape (1, 3), asked for is (1, 3, 3)."),
        ((1, 3), {"a": (1, 3)}, "has no input named a; its inputs are x."),
        (("n", 3), {"x": (0, 3)}, "its input x has the shape (?, 3), asked for is (0, 3)."),
    ],
)
def test_shapes_that_do_not_fit(
    shape: tuple[Any, ...], given: dict[str, Any], says: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "x.onnx", RELU, shape=shape)
    with pytest.raises(NetError) as error:
        import_onnx(file, shapes=given)
    assert str(error.value) == f"{file}: {says}"


def test_shapes_that_are_given(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", RELU, shape=("n", 3, "h", "w"))
    for given in ({"": (2, 3, 8, 6)}, {"x": (2, 3, 8, 6)}):
        assert list(import_onnx(file, shapes=given).net.layer[0].input_param.shape[0].dim) == [
            2, 3, 8, 6,
        ]  # fmt: skip


def test_operators_of_others(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", RELU)
    model = onnx.load(file)
    model.graph.node[0].domain = "com.example"
    onnx.save(model, file)
    with pytest.raises(NetError) as error:
        import_onnx(file)
    assert str(error.value) == (
        f'{file}: node "node_y" (com.example.Relu, opset 1) has no form in Caffe: there is no layer'
        " for this operator."
    )


def test_a_model_that_breaks_the_rules(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", RELU)
    model = onnx.load(file)
    model.graph.node[0].input[0] = "nobody"
    onnx.save(model, file)
    with pytest.raises(NetError, match=r"breaks the rules of ONNX: .*nobody"):
        import_onnx(file)


def test_inputs_of_other_types(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", [("Cast", "x", "y", {"to": 1})])
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, file)
    with pytest.raises(NetError, match="its input x holds no floats, as the blobs of Caffe do"):
        import_onnx(file)


def test_weights_that_cannot_be_found(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", [("Conv", "x w", "y", {})], {"w": random(3, 4, 2, 2)})
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert types(import_onnx(file)) == "Convolution"
    (tmp_path / "w.bin").unlink()
    with pytest.raises(NetError, match="the file with its weights cannot be read"):
        import_onnx(file)


def test_half_precision_and_double(tmp_path: Path) -> None:
    """They are computed in float32, as Caffe computes."""
    for dtype, number in ((np.float16, 10), (np.float64, 11)):
        weight = random(3, 4, 2, 2).astype(dtype)
        nodes: list[Any] = [("Cast", "x", "h", {"to": number}), ("Conv", "h w", "y", {})]
        file = write(tmp_path / "x.onnx", nodes, {"w": weight})
        model = onnx.load(file)
        model.graph.output[0].type.tensor_type.elem_type = number
        onnx.save(model, file)
        assert types(import_onnx(file)) == "Convolution"


def test_functions_are_unfolded(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", RELU)
    model = onnx.load(file)
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Sigmoid", ["r"], ["b"])]
    made = helper.make_function(
        "com.example", "Both", ["a"], ["b"], body, [helper.make_opsetid("", 17)]
    )
    model.functions.append(made)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Both", "com.example"
    onnx.save(model, file)
    assert types(import_onnx(file)) == "ReLU Sigmoid"


def test_an_output_that_is_constant(tmp_path: Path) -> None:
    with pytest.raises(NetError, match='its output "y" does not depend on the input'):
        imported(tmp_path, [("Relu", "c", "y", {})], {"c": random(3)})


def test_records(tmp_path: Path) -> None:
    model = read_onnx(write(tmp_path / "x.onnx", RELU, {"w": random(2)}))
    assert model.inputs == {"x": (1, 4, 6, 5)}
    assert model.uses == {"x": 1, "y": 1}
    assert model.makers["y"].name == "node_y"
    assert model.parameters == {"w"}


def test_nodes_without_a_name_have_their_outputs(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", RELU)
    model = onnx.load(file)
    model.graph.node[0].name = ""
    onnx.save(model, file)
    assert import_onnx(file).net.layer[1].name == "y"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_packages_that_are_missing(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "x.onnx", RELU)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MokaError, match=rf"Importing an ONNX file needs the package {package}\."):
        import_onnx(file)


def test_stored_weights_may_be_inputs_too(tmp_path: Path) -> None:
    """As files of ONNX's first years have them."""
    file = write(tmp_path / "x.onnx", [("Mul", "x w", "y", {})], {"w": random(5)})
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [5]))
    onnx.save(model, file)
    assert types(import_onnx(file)) == "Scale"
    assert numpy_helper.to_array(model.graph.initializer[0]).shape == (5,)


def changed(folder: Path, nodes: list[Any], change: Any, **options: Any) -> Path:
    """A file of these nodes after a change of its message."""
    file = write(folder / "x.onnx", nodes, **options)
    model = onnx.load(file)
    change(model)
    file.write_bytes(model.SerializeToString())
    return file


def test_a_model_without_outputs(tmp_path: Path) -> None:
    file = changed(tmp_path, RELU, lambda model: model.graph.ClearField("output"))
    with pytest.raises(NetError, match="has no output: nothing of what it computes"):
        import_onnx(file)


def test_an_output_without_a_shape(tmp_path: Path) -> None:
    """The checker of ONNX asks for one, ONNX Runtime does not."""
    file = changed(tmp_path, RELU, lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"))
    assert types(import_onnx(file)) == "ReLU"


def test_an_output_that_is_the_input(tmp_path: Path) -> None:
    file = write(tmp_path / "x.onnx", RELU, outputs="y x")
    with pytest.raises(NetError, match=r'x\.onnx: its output "x" is its input itself'):
        import_onnx(file)


@pytest.mark.parametrize("opset", [1, 6])
def test_operators_older_than_onnx_runtime_knows(opset: int, tmp_path: Path) -> None:
    with pytest.raises(NetError) as error:
        import_onnx(write(tmp_path / "x.onnx", RELU, opset=opset))
    assert str(error.value) == (
        f"{tmp_path / 'x.onnx'}: opset {opset} is too old: ONNX Runtime, to which the net is held,"
        " runs 7 and newer. Export the model anew."
    )


@pytest.mark.parametrize("name", ["graph", "node"])
def test_names_that_are_no_text(tmp_path: Path, name: str) -> None:
    """protobuf reads them, and fails at each look."""
    file = write(tmp_path / "m.onnx", RELU)
    model = onnx.load(file)
    (model.graph if name == "graph" else model.graph.node[0]).name = "Nonsense"
    file.write_bytes(model.SerializeToString().replace(b"Nonsense", b"\xff\x83nsense"))
    with pytest.raises(NetError, match=r"m\.onnx: holds a name that is no text in UTF-8"):
        import_onnx(file)
