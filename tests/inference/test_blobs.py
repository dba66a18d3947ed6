"""`caffe.Net` on programs shows what it shows layer by layer, whatever is done to it."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe
from moka.inference import blobs
from moka.inference.blobs import FastBlobs
from moka.inference.engines import engine_is
from moka.types import Array

# In-place layers of all kinds, a Split, branches, folding that must not happen when "conv" is read.
BRANCHES = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 1 } }
layer { name: "left" type: "Convolution" bottom: "norm" top: "left"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "pool" top: "sum" }
layer { name: "sigmoid" type: "Sigmoid" bottom: "sum" top: "sum" }
layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" }
layer { name: "mean" type: "Pooling" bottom: "sum" top: "mean"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "mean" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
# A constant that users may overwrite, a layer no backend takes in the middle, a loss and a score.
LOSS = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 3 dim: 4 dim: 5 dim: 5 } shape { dim: 3 } } }
layer { name: "shift" type: "DummyData" top: "shift" dummy_data_param {
  shape { dim: 3 dim: 4 dim: 5 dim: 5 } data_filler { value: 0.25 } } }
layer { name: "add" type: "Eltwise" bottom: "data" bottom: "shift" top: "add" }
layer { name: "conv" type: "Convolution" bottom: "add" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "elu" type: "ELU" bottom: "conv" top: "conv" }
layer { name: "pick" type: "BatchReindex" bottom: "conv" bottom: "label" top: "pick" }
layer { name: "ip" type: "InnerProduct" bottom: "pick" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "right" type: "Accuracy" bottom: "ip" bottom: "label" top: "right" }
"""
NETS = {"branches": BRANCHES, "loss": LOSS}


def close(name: str, found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape, name
    scale = float(np.abs(wanted).max(initial=0.0))
    atol = max(2e-5 * scale, 1e-6)  # a loss near 0 is a difference of numbers near 1
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=atol, err_msg=name)


class Twins:
    """The same net twice: `fast` on programs, `slow` layer by layer; what is done is done to both,
    and what is read is compared."""

    def __init__(self, text: str, folder: Path, engine: str, seed: int) -> None:
        self.file, self.folder, self.engine = folder / "net.prototxt", folder, engine
        self.file.write_text(text)
        self.random = random.Random(seed)
        self.draw = np.random.default_rng(seed)
        self.fast, self.slow = self.make(), self.make()
        self.held: list[tuple[str, Array, Array]] = []
        self.params: list[tuple[Array, Array]] = []
        self.has_run = False
        self.fill_parameters()
        self.write_inputs()

    def make(self) -> caffe.Net:
        return caffe.Net(str(self.file), caffe.TEST)

    def both(self, do: Callable[[caffe.Net], object]) -> None:
        with engine_is(self.engine):
            do(self.fast)
        with engine_is("layerwise"):
            do(self.slow)

    def normal(self, shape: tuple[int, ...]) -> Array:
        return self.draw.standard_normal(shape).astype(np.float32)

    def any_blob(self) -> str:
        return self.random.choice(list(self.fast.blobs))

    def any_parameter(self) -> tuple[str, int]:
        name = self.random.choice(list(self.fast.params))
        return name, self.random.randrange(len(self.fast.params[name]))

    def compare(self, name: str, side: str = "data") -> None:
        found, wanted = (getattr(net.blobs[name], side) for net in (self.fast, self.slow))
        close(f"{name} {side}", found, wanted)

    def check(self) -> None:
        """What holds after each step, and looks at no blob anew."""
        for name in self.fast.blobs:
            assert self.fast.blobs[name].shape == self.slow.blobs[name].shape, name
        for name, found, wanted in self.held:
            close(f"held {name}", found, wanted)

    @property
    def engine_of_fast(self) -> FastBlobs:
        engine = self.fast._engine
        assert isinstance(engine, FastBlobs)
        return engine

    # --- steps ----------------------------------------------------------------------------

    def fill_parameters(self) -> None:
        for name, arrays in self.fast.params.items():
            for k, blob in enumerate(arrays):
                values = self.normal(blob.data.shape)
                values = np.abs(values) + 0.5 if name == "bn" else values
                for net in (self.fast, self.slow):
                    net.params[name][k].data[...] = values

    def write_inputs(self) -> None:
        for name in self.fast.inputs:
            shape = tuple(self.fast.blobs[name].shape)
            values = self.normal(shape)
            if name == "label":
                values = self.draw.integers(0, 3, shape).astype(np.float32)
            for net in (self.fast, self.slow):
                net.blobs[name].data[...] = values

    def forward(self) -> None:
        asked = self.random.sample(list(self.fast.blobs), 2) if self.random.random() < 0.3 else None
        outputs: list[dict[str, Array]] = []
        self.both(lambda net: outputs.append(net.forward(blobs=asked)))
        assert outputs[0].keys() == outputs[1].keys()
        for name, array in outputs[0].items():
            close(name, array, outputs[1][name])
        if self.random.random() < 0.3:
            self.held += [(name, array, outputs[1][name]) for name, array in outputs[0].items()]
        self.has_run = True

    def forward_quietly(self) -> None:
        """`forward` without looking at anything."""
        self.both(lambda net: net._forward(0, len(net.layers) - 1))
        self.has_run = True

    def forwards(self) -> None:
        for _ in range(4):
            self.write_inputs()
            self.forward()

    def read(self) -> None:
        self.compare(self.any_blob())

    def read_all(self) -> None:
        for name in self.fast.blobs:
            self.compare(name)

    def hold(self) -> None:
        name = self.any_blob()
        self.held.append((name, self.fast.blobs[name].data, self.slow.blobs[name].data))

    def let_go(self) -> None:
        self.held.clear()
        self.params.clear()

    def write_blob(self) -> None:
        name = self.any_blob()
        if name == "label":
            return
        values = self.normal(tuple(self.fast.blobs[name].shape))
        for net in (self.fast, self.slow):
            net.blobs[name].data[...] = values

    def write_held(self) -> None:
        if self.held:
            name, found, wanted = self.random.choice(self.held)
            if name != "label":
                found += 1
                wanted += 1

    def write_parameter(self) -> None:
        name, k = self.any_parameter()
        for net in (self.fast, self.slow):
            net.params[name][k].data[...] *= 1.5

    def look_at_parameter(self) -> None:
        name, k = self.any_parameter()
        found, wanted = (net.params[name][k].data for net in (self.fast, self.slow))
        close(name, found, wanted)

    def hold_parameter(self) -> None:
        name, k = self.any_parameter()
        found, wanted = (net.params[name][k].data for net in (self.fast, self.slow))
        self.params.append((found, wanted))

    def write_held_parameter(self) -> None:
        for pair in self.params:
            for array in pair:
                array *= 0.75

    def load(self) -> None:
        file = str(self.folder / "other.caffemodel")
        other = self.make()
        for arrays in other.params.values():
            for blob in arrays:
                blob.data[...] = np.abs(self.normal(blob.data.shape)) + 0.1
        other.save(file)
        self.both(lambda net: net.copy_from(file))

    def reshape(self) -> None:
        name = self.fast.inputs[0]
        shape = list(self.fast.blobs[name].shape)
        if "label" in self.fast.inputs:
            return
        shape[0] = self.random.choice([1, 2, 3])
        shape[2] = self.random.choice([7, 9])
        whole = self.random.random() < 0.5
        for net in (self.fast, self.slow):
            net.blobs[name].reshape(*shape)
            if whole:
                net.reshape()
        self.held.clear()  # whose memory may be another blob's by now
        self.write_inputs()
        self.forward()

    def part(self) -> None:
        if not self.has_run:
            return
        names = list(self.fast.layer_dict)
        first = self.random.randrange(1, len(names))
        last = self.random.randrange(first, len(names))
        self.both(lambda net: net.forward(start=names[first], end=names[last]))

    def backward(self) -> None:
        if not self.has_run:
            return
        for net in (self.fast, self.slow):
            net.clear_param_diffs()
        for name in self.fast.outputs:
            values = self.normal(tuple(self.fast.blobs[name].shape))
            for net in (self.fast, self.slow):
                net.blobs[name].diff[...] = values
        self.both(lambda net: net.backward())
        for name, arrays in self.fast.params.items():
            for k, blob in enumerate(arrays):
                close(f"diff of {name}", blob.diff, self.slow.params[name][k].diff)
        self.compare(self.any_blob(), "diff")

    def called_back(self) -> None:
        seen: list[int] = []
        for net in (self.fast, self.slow):
            net.after_forward(seen.append)
        self.forward()
        for net in (self.fast, self.slow):
            net._engine.callbacks.after_forward.clear()
        assert len(seen) == 2 * len(self.fast.layers)


STEPS = [
    *[Twins.forwards] * 6,
    *[Twins.forward] * 6,
    *[Twins.read] * 6,
    *[Twins.write_inputs] * 3,
    *[Twins.hold] * 2,
    *[Twins.let_go] * 3,
    *[Twins.reshape] * 2,
    Twins.read_all,
    Twins.write_blob,
    Twins.write_held,
    Twins.write_parameter,
    Twins.look_at_parameter,
    Twins.hold_parameter,
    Twins.write_held_parameter,
    Twins.load,
    Twins.part,
    Twins.backward,
    Twins.called_back,
]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("engine", ["auto", "torch", "onnxruntime"])
@pytest.mark.parametrize("seed", range(6))
def test_twins(
    tmp_path: Path, net: str, engine: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "PAUSE", [0, 1, 8][seed % 3])
    twins = Twins(NETS[net], tmp_path, engine, seed)
    for _ in range(40):
        step = twins.random.choice(STEPS)
        step(twins)
        twins.check()
    twins.read_all()


# --- each rule by itself ----------------------------------------------------------------------


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    """Twins on PyTorch's programs, after some passes."""
    twins = Twins(BRANCHES, tmp_path, "torch", 0)
    twins.forwards()
    return twins


def runs_programs(twins: Twins) -> bool:
    """Whether the next pass is a program's."""
    twins.write_inputs()
    twins.forward_quietly()
    return bool(twins.engine_of_fast.promised)


def test_a_promised_blob_belongs_to_the_pass_whose_inputs_have_been_overwritten(
    twins: Twins,
) -> None:
    twins.forward_quietly()
    twins.write_inputs()
    twins.compare("conv")
    twins.read_all()


def test_a_blob_that_is_read_is_an_output_of_the_next_pass(twins: Twins) -> None:
    assert runs_programs(twins)
    assert twins.engine_of_fast.promised >= {"conv", "pool"}
    twins.compare("conv")
    assert not twins.engine_of_fast.promised
    twins.forward_quietly()
    assert "conv" not in twins.engine_of_fast.promised
    assert "pool" in twins.engine_of_fast.promised
    for _ in range(blobs.REMEMBERED):
        twins.forward_quietly()
    assert runs_programs(twins)


def test_while_an_array_of_a_blob_is_held_it_stays_live(twins: Twins) -> None:
    array = twins.fast.blobs["conv"].data[0, 1:]  # a view counts too
    for _ in range(5):
        twins.write_inputs()
        twins.forward_quietly()
        assert "conv" not in twins.engine_of_fast.promised
        close("conv", array, twins.slow.blobs["conv"].data[0, 1:])


def test_a_parameter_that_is_written_through_an_old_array(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "PAUSE", 0)
    held = [net.params["ip"][0].data for net in (twins.fast, twins.slow)]
    assert not runs_programs(twins)  # nobody knows when it is written to
    for array in held:
        array *= 3
    twins.compare("sum")  # of before
    twins.forward_quietly()
    twins.compare("prob")
    for array in held:
        array += 1
    del held, array
    assert runs_programs(twins)
    twins.compare("prob")


def test_a_parameter_is_read_after_a_pass_and_written_before_a_blob_is_read(twins: Twins) -> None:
    assert runs_programs(twins)
    for net in (twins.fast, twins.slow):
        net.params["conv"][0].data[...] = 0
    twins.read_all()
    twins.forward()
    twins.compare("prob")


def test_a_backward_pass_and_the_next_passes_go_layer_by_layer(twins: Twins) -> None:
    assert runs_programs(twins)
    twins.backward()
    assert not runs_programs(twins)
    for _ in range(blobs.PAUSE):
        twins.forward_quietly()
    assert runs_programs(twins)


def test_nets_that_share_parameters(twins: Twins, tmp_path: Path) -> None:
    other = Twins(BRANCHES, tmp_path, "torch", 1)
    for mine, theirs in ((twins.fast, other.fast), (twins.slow, other.slow)):
        mine.share_with(theirs)
    assert not runs_programs(twins)
    for net in (other.fast, other.slow):
        net.params["conv"][0].data[...] *= 2
    twins.forward_quietly()
    twins.read_all()


def test_nothing_is_kept_twice(twins: Twins) -> None:
    """Promised blobs take no memory, and there are no gradients."""
    assert runs_programs(twins)
    memories = {name: blob.data_memory for name, blob in twins.fast.blobs.items()}
    assert {n for n, m in memories.items() if m._host is not None} == {"data", "prob"}
    assert not twins.fast._engine._records
    assert all(w.grad is None for w in twins.fast._net.parameters())


def test_the_first_passes_of_a_shape_make_no_program(tmp_path: Path) -> None:
    twins = Twins(BRANCHES, tmp_path, "auto", 0)
    twins.forward_quietly()
    assert not twins.engine_of_fast.promised
    for _ in range(2):
        twins.forward_quietly()
    assert twins.engine_of_fast.promised
    for net in (twins.fast, twins.slow):
        net.blobs["data"].reshape(1, 3, 12, 12)
    twins.write_inputs()
    twins.forward_quietly()
    assert not twins.engine_of_fast.promised


TRAINING = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "in" type: "ReLU" bottom: "data" top: "data" }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "rnn" type: "Reshape" bottom: "ip" top: "out" reshape_param { shape { dim: -1 } } }
"""


def test_an_input_that_a_layer_overwrites(tmp_path: Path) -> None:
    twins = Twins(TRAINING, tmp_path, "torch", 0)
    twins.both(lambda net: net.forward())
    assert not twins.engine_of_fast.promised
    twins.both(lambda net: net.forward())
    twins.read_all()


@pytest.mark.parametrize("keep", ["blob", "blobs", "nothing"])
def test_a_blob_that_outlives_its_net(twins: Twins, keep: str) -> None:
    assert runs_programs(twins)
    wanted = twins.slow.blobs["conv"].data.copy()
    thing: Any = None
    if keep != "nothing":
        thing = twins.fast.blobs if keep == "blobs" else twins.fast.blobs["conv"]
    gone = weakref.ref(twins.fast._net)
    gc.collect()
    gc.disable()
    try:
        del twins.fast
        assert (gone() is None) or thing is not None
    finally:
        gc.enable()
    if thing is not None:
        close("conv", (thing if keep == "blob" else thing["conv"]).data, wanted)
