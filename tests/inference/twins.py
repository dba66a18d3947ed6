"""A net on programs and the same net layer by layer, to do the same to both."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

import caffe
from moka.inference.blobs import FastBlobs
from moka.inference.engines import engine_is
from moka.layers.parameters import Parameters
from moka.memory import ParameterMemory
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


def close(name: str, found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape, name
    scale = float(np.abs(wanted).max(initial=0.0))
    atol = max(2e-5 * scale, 1e-6)  # a loss near 0 is a difference of numbers near 1
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=atol, err_msg=name)


@contextmanager
def unseen() -> Iterator[None]:
    """While the layers run only to be compared with: other nets' programs need not notice."""
    counts = Parameters.exposures_of_all, ParameterMemory.changes_of_all
    yield
    Parameters.exposures_of_all, ParameterMemory.changes_of_all = counts


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

    def both(self, do: Callable[[caffe.Net], object], *, is_pass: bool = False) -> None:
        with engine_is(self.engine):
            do(self.fast)
        with engine_is("layerwise"), unseen() if is_pass else nullcontext():
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
        self.both(lambda net: outputs.append(net.forward(blobs=asked)), is_pass=True)
        assert outputs[0].keys() == outputs[1].keys()
        for name, array in outputs[0].items():
            close(name, array, outputs[1][name])
        if self.random.random() < 0.3:
            self.held += [(name, array, outputs[1][name]) for name, array in outputs[0].items()]
        self.has_run = True

    def forward_quietly(self) -> None:
        """`forward` without looking at anything."""
        self.both(lambda net: net._forward(0, len(net.layers) - 1), is_pass=True)
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
