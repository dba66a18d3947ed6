from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.export.conftest import random_weights
from tests.export.onnx.conftest import Export, one_layer

import moka
from moka.errors import MokaError, NetError, UsageError
from moka.export.difference import Difference
from moka.export.onnx import builder, verify
from moka.export.onnx.export import export_onnx
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 40 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""


def test_folded(export: Export) -> None:
    assert export(NET).nodes == 4
    assert export(NET, fold=False).nodes == 6


@pytest.mark.parametrize("opset", [13, 14, 17, 18, 21])
def test_opsets(export: Export, tmp_path: Path, opset: int) -> None:
    export(NET, opset=opset)
    model = onnx.load(tmp_path / "net.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]


@pytest.mark.parametrize("opset", [12, 999])
def test_an_opset_that_does_not_exist(export: Export, opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset} is not supported: the oldest is 13"):
        export(NET, opset=opset)


def test_metadata(export: Export, tmp_path: Path) -> None:
    export(NET, labels=["cat", "dog"], metadata={"weights": "w.caffemodel"})
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.producer_name, model.producer_version) == ("Moka", moka.__version__)
    facts = {fact.key: fact.value for fact in model.metadata_props}
    assert facts == {
        "source": "(given message)",
        "weights": "w.caffemodel",
        "labels": "cat\ndog",
    }


@pytest.mark.parametrize("fold", [True, False])
def test_half_weights(export: Export, tmp_path: Path, fold: bool) -> None:
    whole = export(NET, fold=fold).files[0].stat().st_size
    done = export(NET, half=True, fold=fold)
    assert done.files[0].stat().st_size < 0.75 * whole
    model = onnx.load(tmp_path / "net.onnx")
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert types["conv.weight.half"] == onnx.TensorProto.FLOAT16
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_half_of_weights_that_are_changed(export: Export) -> None:
    """Arrays that are made for the file and then gone do not pass for each other."""
    chain = "".join(
        f'layer {{ name: "l{k}" type: "Lstm" bottom: "{bottom}" top: "y{k}" lstm_param {{'
        " num_output: 8 } }"
        for k, bottom in enumerate(["x", "y0", "y1", "y2"])
    )
    export(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 8 } } }'
        + chain,
        half=True,
    )


def test_the_nets_own_state_stays(tmp_path: Path) -> None:
    text = one_layer('type: "LSTM" recurrent_param { num_output: 2 }', "3 2 4", "3 2")
    net = random_weights(build_net(parse_text(text, caffe_pb2.NetParameter)))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = [s.clone() for s in net.layers[-1].run_state()]
    export_onnx(net, tmp_path / "net.onnx")
    assert all((v == before[k]).all() for k, v in net.state_dict().items())
    assert all((a == b).all() for a, b in zip(state, net.layers[-1].run_state(), strict=True))


def test_a_net_for_training_is_refused(tmp_path: Path) -> None:
    net = build_net(parse_text(NET, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    with pytest.raises(NetError, match="only a net of phase TEST"):
        export_onnx(net, tmp_path / "net.onnx")


def test_a_model_that_computes_something_else(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the layer from which on the numbers differ; no file is left."""
    add = builder.Site.add

    def wrong(site: builder.Site, op: str, *inputs: str, **attributes: Any) -> str:
        made = add(site, op, *inputs, **attributes)
        return site.scaled(made, 1.01) if op == "Relu" else made

    monkeypatch.setattr(builder.Site, "add", wrong)
    message = r'layer "relu": the exported model differs .* in prob; they part here: by .* in conv'
    with pytest.raises(NetError, match=message):
        export(NET)
    assert list(tmp_path.iterdir()) == []
    export(NET, check=False)


def test_a_detector_that_finds_nothing(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blobs that its rows would be chosen from are compared all the same."""
    chosen = """input: "x" input_shape { dim: 2 dim: 8 }
        input: "prior" input_shape { dim: 1 dim: 2 dim: 8 }
        layer { name: "loc" type: "Exp" bottom: "x" top: "loc" }
        layer { name: "conf" type: "InnerProduct" bottom: "x" top: "conf"
                inner_product_param { num_output: 4 } }
        layer { name: "found" type: "DetectionOutput" top: "found"
                bottom: "loc" bottom: "conf" bottom: "prior"
                detection_output_param { num_classes: 2 confidence_threshold: 9 } }"""
    done = export(chosen)
    assert done.random
    assert done.random.output in ("loc", "conf")
    add = builder.Site.add

    def wrong(site: builder.Site, op: str, *inputs: str, **attributes: Any) -> str:
        made = add(site, op, *inputs, **attributes)
        return site.scaled(made, 1.01) if op == "Exp" else made

    monkeypatch.setattr(builder.Site, "add", wrong)
    with pytest.raises(NetError, match=r'layer "loc": the exported model differs .* in loc'):
        export(chosen)


def test_a_small_difference_is_within_the_tolerance(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "TOLERANCE", 1e-12)
    monkeypatch.setattr(verify, "ROUNDING", 0)
    with pytest.raises(NetError, match="differs"):
        export(NET.replace('type: "Softmax"', 'type: "TanH"'))


def test_an_older_file_stays_if_the_export_fails(export: Export, tmp_path: Path) -> None:
    export(NET)
    before = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(UsageError, match="the inputs to compare on lack x1"):
        export(one_layer('type: "Filter"', "2 3", "2"), check_inputs={"x0": np.zeros((2, 3))})
    assert (tmp_path / "net.onnx").read_bytes() == before


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    net = build_net(parse_text(NET, caffe_pb2.NetParameter))
    with pytest.raises(FileNotFoundError, match=r"net\.onnx"):
        export_onnx(net, tmp_path / "nowhere" / "net.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_package_that_is_not_installed(
    export: Export, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MokaError, match=rf"needs the package {package}\. Install it: pip inst"):
        export(NET)


def test_it_runs_without_moka(export: Export, tmp_path: Path) -> None:
    export(NET)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (prob,) = session.run(["prob"], {"data": np.zeros((5, 3, 6, 6), np.float32)})
    np.testing.assert_allclose(prob.sum(1), 1, rtol=1e-5)


def test_lines_for_people(export: Export) -> None:
    lines = list(export(NET).lines())
    assert lines[0].endswith("net.onnx: 4 nodes, 0.0 MB.")
    assert lines[1:3] == ["Input data (N, 3, 6, 6)", "Output prob (N, 40, 1, 1)"]
    assert lines[3].startswith("ONNX Runtime and Moka differ on random input by ")


@pytest.mark.parametrize(("wrong", "passes"), [(1, True), (2, True), (3, False)])
def test_other_inputs_where_scores_choose_the_rows(
    export: Export, monkeypatch: pytest.MonkeyPatch, wrong: int, passes: bool
) -> None:
    """Two scores that are as good as equal may come in another order in one draw, not in all."""
    compare, draws = verify.Checker.compare_on, []

    def now_and_then_wrong(checker: verify.Checker, inputs: Any) -> Difference:
        draws.append(inputs["x0"])
        if len(draws) <= wrong:
            raise NetError("they part.")
        return compare(checker, inputs)

    monkeypatch.setattr(verify.Checker, "compare_on", now_and_then_wrong)
    chosen = one_layer('type: "Filter"', "4 2", "4")
    if passes:
        export(chosen)
        assert (draws[0] != draws[1]).any()
    else:
        with pytest.raises(NetError, match="they part"):
            export(chosen)
    draws.clear()
    with pytest.raises(NetError, match="they part"):
        export(one_layer('type: "ReLU"', "4 2"))


def test_what_cancels_out_is_rounding(export: Export) -> None:
    """The mean of values whose mean was subtracted is 0 but for the last digits."""
    mean = """layer { name: "mean" type: "Reduction" bottom: "y" top: "mean"
      reduction_param { operation: MEAN axis: 1 } }
    layer { name: "relu" type: "ReLU" bottom: "mean" top: "mean" }"""
    done = export(one_layer('type: "MVN" mvn_param { across_channels: true }', "2 3 11 10") + mean)
    assert done.random is not None
    assert done.random.absolute < 1e-6
