"""Nets whose numbers were recorded from BVLC Caffe: exported, they compute them too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from moka.export.onnx.export import export_onnx
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

FILES = sorted((Path(__file__).parents[2] / "conformance/layers").glob("*.npz"))
KINDS = ("Net__", "Pooling__", "Deconvolution__", "LRN__", "LSTM__test", "RNN__test", "SPP__")
PHASE = {"TEST": caffe_pb2.TEST, "TRAIN": caffe_pb2.TRAIN}


def cases() -> list[Path]:
    """Recorded in TEST, or of layers that do the same in both phases."""
    wanted = [file for file in FILES if file.name.startswith(KINDS)]
    return [file for file in wanted if "train" not in file.name and "stochastic" not in file.name]


@pytest.mark.parametrize("file", cases(), ids=lambda file: file.stem)
def test_recorded_numbers(file: Path, tmp_path: Path) -> None:
    with np.load(file) as stored:
        case = {key: stored[key] for key in stored.files}
    options = json.loads(str(case["options"])) if "options" in case else {}
    net = build_net(
        parse_text(str(case["prototxt"]), caffe_pb2.NetParameter),
        caffe_pb2.TEST,
        level=options.get("level", 0),
        stages=options.get("stages") or (),
    )
    layers = dict(net.named_layers())
    for key, values in case.items():
        kind, _, rest = key.partition("/")
        name, _, index = rest.rpartition("/")
        if kind == "param":
            weight = layers[name].weights[int(index)]
            weight.data.copy_(torch.from_numpy(values).view_as(weight))
    inputs = {key[3:]: case[key] for key in case if key.startswith("in/")}
    done = export_onnx(net, tmp_path / "net.onnx", check_inputs=inputs)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    found = session.run(list(done.outputs), {name: inputs[name] for name in done.inputs})
    compared = 0
    for blob, values in zip(done.outputs, found, strict=True):
        expected = case.get(f"out/{blob}", case.get(f"mid/{blob}"))
        if expected is not None:
            scale = np.abs(expected).max(initial=0)
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=2e-5 * scale + 1e-8)
            compared += 1
    assert compared or not any(key.startswith("out/") for key in case) or "loss" in case
