"""A small net that is trained and run here, and a database that is written and read."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.data.store import open_store
from moka.doctor.facts import BROKEN, Fact
from moka.errors import MokaError
from moka.inference.engines import BACKENDS, LAYERWISE, engine_is
from moka.inference.module import speed_up
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver

TOPIC = "trial"
ADVICE = "See the packages above, or report it as a bug."
TOLERANCE = 1e-4  # of an output's scale
LAYERS = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
DEPLOY = f"""
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 2 dim: 3 dim: 16 dim: 16 }} }} }}
{LAYERS}"""
SOLVER = f"""
base_lr: 0.01 lr_policy: "fixed" max_iter: 3 random_seed: 1 snapshot_after_train: false
net_param {{
layer {{ name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param {{ shape {{ dim: 2 dim: 3 dim: 16 dim: 16 }} shape {{ dim: 2 }}
    data_filler {{ type: "gaussian" }} data_filler {{ type: "constant" value: 1 }} }} }}
{LAYERS}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }} }}
"""


def trial() -> Iterator[Fact]:
    """Yield a fact for training, for each engine, and for LMDB."""
    yield _tried("training", _train)
    for backend in BACKENDS:
        if backend.is_installed():
            yield _tried(f"engine {backend.name}", partial(_run, backend.name))
    yield _tried("LMDB", _store)


def _tried(name: str, work: Callable[[], str]) -> Fact:
    start_s = time.perf_counter()
    try:
        found = work()
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        said = (str(error).splitlines() or [type(error).__name__])[0]
        advice = (isinstance(error, MokaError) and error.advice) or ADVICE
        return Fact(TOPIC, name, f"fails: {said.removesuffix(advice).strip()}", BROKEN, advice)
    return Fact(TOPIC, name, f"{found} ({time.perf_counter() - start_s:.2f} s)")


def _train() -> str:
    solver = Solver(parse_text(SOLVER, caffe_pb2.SolverParameter))
    try:
        solver.solve()
    finally:
        solver.close()
    return f"{solver.iteration} iterations of a small net"


def _run(engine: str) -> str:
    """Run a net by an engine and compare it with the layers."""
    net = speed_up(build_net(parse_text(DEPLOY, caffe_pb2.NetParameter), caffe_pb2.TEST))
    x = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
    with torch.inference_mode():
        with engine_is(LAYERWISE):
            wanted = net(x)["ip"]
        with engine_is(engine):
            found = net(x)["ip"]
    error = float((found - wanted).abs().max() / wanted.abs().max())
    if not error <= TOLERANCE:
        raise ArithmeticError(f"its numbers differ by {error:.1e} of their scale from the layers'.")
    return "gives the layers' numbers"


def _store() -> str:
    record = datum.encode(torch.arange(12, dtype=torch.uint8).view(1, 3, 4).numpy(), 7)
    value = record.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "db")
        with LmdbWriter(path) as writer:
            writer.put(b"key", value)
        if list(open_store(path).read()) != [(b"key", value)]:
            raise OSError("what was read is not what was written.")
    return "a record written and read"
