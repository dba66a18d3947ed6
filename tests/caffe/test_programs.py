"""What well-known programs do with pycaffe, each with a net of a few layers."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.caffe.programs import opened, random

import caffe
from caffe import layers as L
from moka.types import Array

CLASSIFIER = """
name: "classifier" force_backward: true
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_deep_dream() -> None:
    """Images of any size go to the layers before the first InnerProduct."""
    net = opened(CLASSIFIER)
    source, target = net.blobs["data"], net.blobs["pool"]
    for height, width in ((8, 8), (12, 18), (6, 10), (8, 8)):
        source.reshape(1, 3, height, width)
        source.data[0] = random(3, height, width)
        energies = []
        for _ in range(3):
            net.forward(end="pool")
            energies.append(float((target.data**2).sum()))
            target.diff[:] = target.data
            net.backward(start="pool")
            slope = source.diff[0]
            assert slope.shape == (3, height, width)
            source.data[:] += 0.1 / np.abs(slope).mean() * slope
        assert energies == sorted(energies)
        assert target.data.shape == (1, 4, (height - 2) // 2, (width - 2) // 2)
    assert net.forward()["prob"].shape == (1, 5)


def test_a_layer_that_cannot_take_the_new_size_says_so_when_it_runs() -> None:
    net = opened(CLASSIFIER)
    net.blobs["data"].reshape(1, 3, 12, 12)
    net.forward(end="pool")
    for run in (net.forward, net.reshape, lambda: net.forward(start="fc")):
        with pytest.raises(Exception, match=r'layer "fc" .* take 36 inputs, .* 1 4 5 5 \(100\)'):
            run()
    net.blobs["data"].reshape(1, 3, 8, 8)
    assert net.forward()["prob"].shape == (1, 5)


def test_style_transfer() -> None:
    """Gradients of two layers, added up on the way down."""
    net = opened(CLASSIFIER)
    x = random(1, 3, 8, 8)
    weights = {"conv": 0.5, "pool": 2.0}

    def loss_and_slope(image: Array) -> tuple[float, Array]:
        net.blobs["data"].data[...] = image
        net.forward(end="pool")
        loss = 0.0
        net.blobs["pool"].diff[:] = 0
        for layer, stop in (("pool", "pool"), ("conv", None)):
            blob, weight = net.blobs[layer], weights[layer]
            loss += weight * float((blob.data.astype(float) ** 2).sum()) / 2
            blob.diff[0] += weight * blob.data[0]
            net.backward(start="pool" if stop else "relu", end=stop)
        return loss, net.blobs["data"].diff[0].flatten().astype(float)

    _, slope = loss_and_slope(x)
    step = 1e-3 * random(1, 3, 8, 8)
    rise = loss_and_slope(x + step)[0] - loss_and_slope(x - step)[0]
    # float32 sums, and a ReLU that may bend between the two points
    assert rise == pytest.approx(2 * float(slope @ step.ravel()), rel=2e-2)


def test_grad_cam() -> None:
    net = opened(CLASSIFIER)
    net.forward(data=random(1, 3, 8, 8))
    one_hot = np.zeros(net.blobs["fc"].shape)
    one_hot[0, 3] = 1
    net.blobs["fc"].diff[...] = one_hot
    diffs = net.backward(diffs=["pool"], start="fc", end="fc")
    want = net.params["fc"][0].data[3].reshape(1, 4, 3, 3)
    np.testing.assert_array_equal(diffs["pool"], want)


def test_fcn_surgery() -> None:
    """Weights go into another net as they lie in memory; upsampling is bilinear."""
    spec = caffe.NetSpec()
    spec.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    spec.fc6 = L.Convolution(spec.data, num_output=4, kernel_size=8)
    spec.score = L.Convolution(spec.fc6, num_output=2, kernel_size=1)
    spec.up = L.Deconvolution(
        spec.score,
        convolution_param=dict(num_output=2, kernel_size=4, stride=2, bias_term=False),
        param=[dict(lr_mult=0)],
    )
    old = opened(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'
        'layer { name: "fc6" type: "InnerProduct" bottom: "data" top: "fc6"'
        ' inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }'
    )
    net = opened(str(spec.to_proto()))
    for name in old.params:
        for new_blob, blob in zip(net.params[name], old.params[name], strict=True):
            new_blob.data.flat = blob.data.flat  # type: ignore[misc]
    x = random(1, 3, 8, 8)
    want = old.forward(data=x)["fc6"]
    # Sums of 192 terms in float32, in another order.
    np.testing.assert_allclose(
        net.forward(data=x, end="fc6")["fc6"].ravel(), want.ravel(), rtol=1e-4, atol=1e-5
    )
    m, k, size, _ = net.params["up"][0].data.shape
    rows, columns = np.ogrid[:size, :size]
    bilinear = (1 - abs(rows - 1.5) / 2) * (1 - abs(columns - 1.5) / 2)
    net.params["up"][0].data[range(m), range(k), :, :] = bilinear
    net.blobs["data"].reshape(1, *(3, 13, 9))
    net.blobs["score"].data  # noqa: B018 (an array from before the reshape)
    net.forward()
    net.blobs["score"].data[...] = 1
    up = net.forward(start="up")["up"]
    assert up.shape == (1, 2, 14, 6)
    assert (up[:, :, 2:-2, 2:-2] == 1).all()
    assert not net.params["up"][0].data[0, 1].any()


def test_a_captioner_changes_its_batch() -> None:
    steps = 4
    n = caffe.NetSpec()
    n.cont = L.Input(shape=dict(dim=[steps, 3]))
    n.words = L.Input(shape=dict(dim=[steps, 3]))
    n.image = L.Input(shape=dict(dim=[3, 5]))
    n.embedded = L.Embed(
        n.words, input_dim=9, num_output=6, bias_term=False, weight_filler=dict(type="uniform")
    )
    n.lstm = L.LSTM(
        n.embedded,
        n.cont,
        n.image,
        recurrent_param=dict(num_output=7, weight_filler=dict(type="uniform")),
    )
    n.predict = L.InnerProduct(n.lstm, num_output=9, axis=2, weight_filler=dict(type="xavier"))
    n.probs = L.Softmax(n.predict, axis=2)
    net = opened(str(n.to_proto()))
    cont = np.ones((steps, 3))
    cont[0] = 0
    words, image = np.arange(12).reshape(steps, 3) % 9, random(3, 5)
    all_three = net.forward(cont=cont, words=words, image=image)["probs"].copy()
    for item in range(3):
        one = slice(item, item + 1)
        net.blobs["cont"].reshape(steps, 1)
        net.blobs["words"].reshape(steps, 1)
        net.blobs["image"].reshape(1, 5)
        got = net.forward(cont=cont[:, one], words=words[:, one], image=image[one])["probs"]
        np.testing.assert_allclose(got, all_three[:, one], rtol=1e-4, atol=1e-6)


def test_pruning_saves_a_smaller_net() -> None:
    net = opened(CLASSIFIER)
    kept = [0, 2]
    for blob in net.params["conv"]:
        values = blob.data[kept].copy()
        blob.reshape(*values.shape)
        blob.data[...] = values
    weight = net.params["conv"][0].data.copy()
    net.params["fc"][0].reshape(5, 18)
    net.save("small.caffemodel")
    text = CLASSIFIER.replace("num_output: 4", "num_output: 2")
    small = opened(text)
    small.copy_from("small.caffemodel")
    np.testing.assert_array_equal(small.params["conv"][0].data, weight)


@pytest.mark.parametrize(
    "value",
    [
        np.full((1, 3, 8, 8), 2.0),
        np.full((3, 8, 8), 2, dtype=np.uint8),
        2,
        np.full((1, 3, 8, 8), 2).tolist(),
        torch.full((1, 3, 8, 8), 2.0, dtype=torch.float64),
    ],
    ids=["float64", "bytes", "number", "list", "tensor"],
)
def test_what_a_blob_takes(value: Any) -> None:
    blob = opened(CLASSIFIER).blobs["data"]
    blob.data[...] = value
    assert (blob.data == 2).all()
    blob.data[...] = 0
    blob.data[0] = value[0] if np.ndim(value) == 4 else value
    assert blob.data.sum() == 2 * 3 * 8 * 8
    np.copyto(blob.data, np.zeros(blob.data.shape))
    blob.diff[...] = 0
    blob.data.flat = range(192)  # type: ignore[misc, assignment]
    assert blob.data[0, 0, 0, :3].tolist() == [0, 1, 2]


def test_a_blob_is_reshaped_by_numpys_numbers() -> None:
    blob = opened(CLASSIFIER).blobs["data"]
    blob.reshape(*np.array([2, 3, 9, 8]))
    blob.reshape(np.uint8(2), np.int64(3), 9, 8)
    assert blob.shape == (2, 3, 9, 8)
    with pytest.raises(TypeError, match="float"):
        blob.reshape(2.0, 3, 9, 8)  # type: ignore[arg-type]


def test_names_of_files_are_any_text() -> None:
    folder = Path("Möbel ünd Brühe")
    folder.mkdir()
    file = folder / "nétz.prototxt"
    file.write_text(CLASSIFIER, encoding="utf-8")
    net = caffe.Net(str(file), caffe.TEST)
    for name, save in (("é.caffemodel", net.save), ("é.h5", net.save_hdf5), ("é", net.save_hdf5)):
        weights = str(folder / name)
        save(weights)
        net.params["fc"][0].data[...] = 7
        net.copy_from(weights)
        assert not (net.params["fc"][0].data == 7).any()


def test_a_script_for_a_gpu_runs_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    try:
        caffe.set_device(0)
        caffe.set_mode_gpu()
        assert opened(CLASSIFIER).forward()["prob"].shape == (1, 5)
    finally:
        caffe.set_mode_cpu()


def test_nets_and_solvers_go_when_they_are_let_go() -> None:
    """At once, without the garbage collector: a program may make thousands."""
    net, solver = opened(CLASSIFIER), caffe.SGDSolver("solver.prototxt")
    net.forward()
    net.backward()
    net.layers, net.layer_dict, net.params  # noqa: B018
    solver.step(1)
    gone = [weakref.ref(x) for x in (net, net._net, solver, solver.net, solver.test_nets[0])]
    gc.collect()
    gc.disable()
    try:
        del net, solver
        assert [ref() for ref in gone] == [None] * 5
    finally:
        gc.enable()


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Python's answer to SIGINT, which a shell's background jobs do not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_an_interrupt_in_a_step() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    main = threading.get_ident()
    solver.net.after_forward(
        lambda i: signal.pthread_kill(main, signal.SIGINT) if solver.iter == 2 else None
    )
    with pytest.raises(KeyboardInterrupt):
        solver.step(5)
    assert solver.iter == 2
    assert torch.is_grad_enabled()
    solver._solver.engine.layerwise.callbacks.after_forward.clear()
    solver.step(3)
    assert solver.iter == 5
