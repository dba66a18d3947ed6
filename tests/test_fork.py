"""A process that has run nets forks; the child runs nets, trains and reads data."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fresh import run_program

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")

# A program of its own: in the tests' process PyTorch uses one thread, and nothing hangs.
PROGRAM = '''
import os, signal, sys, warnings
import numpy as np
import torch
import moka
from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.solver.solver import Solver
from moka.solver.config import read_solver

torch.set_num_threads(2)
NET = """
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 8 dim: 3 dim: 32 dim: 32 } } }
layer { name: "c" type: "Convolution" bottom: "d" top: "c"
        convolution_param { num_output: 64 kernel_size: 3 weight_filler { type: "xavier" } } }
"""
SOLVER = """
base_lr: 0.01 lr_policy: "fixed" max_iter: 6 snapshot_after_train: false random_seed: 7
net_param {
  layer { name: "data" type: "Data" top: "data" top: "label"
          data_param { source: "lmdb" batch_size: 4 } transform_param { mirror: true scale: 0.01 } }
  layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
  layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
          inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
}
"""

def write_database():
    rng = np.random.default_rng(3)
    with LmdbWriter("lmdb") as writer:
        for i in range(40):
            image = rng.integers(0, 256, (3, 16, 16), np.uint8)
            writer.put(b"%08d" % i, datum.encode(image, i % 3).SerializeToString())

def solver(iterations):
    from moka.schema import caffe_pb2, parse_text
    made = Solver(parse_text(SOLVER, caffe_pb2.SolverParameter))
    made.step(iterations)
    return made

def weights(made):
    return b"".join(w.detach().numpy().tobytes() for _, w in made.net.named_parameters())

def forward():
    from moka.schema import caffe_pb2, parse_text
    torch.manual_seed(1)
    net = moka.load(parse_text(NET, caffe_pb2.NetParameter))
    x = torch.arange(8 * 3 * 32 * 32).reshape(8, 3, 32, 32) / 25000
    with torch.no_grad():
        return net(d=x)["c"].numpy().tobytes()

def in_child(work):
    """The result of a function in a forked process, or None if it gave none within 60 s."""
    read, write = os.pipe()
    with warnings.catch_warnings():  # from Python 3.12 on of any process that has threads
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            with os.fdopen(write, "wb") as out:
                out.write(work())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as result:
        found = result.read()
    assert os.waitpid(pid, 0)[1] == 0, "the child failed or hung"
    return found
'''


def run(tmp_path: Path, text: str) -> None:
    done = run_program(PROGRAM + text, tmp_path)
    assert done.returncode == 0, done.stderr.decode()


def test_a_net_runs_in_the_child(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
here = forward()
assert in_child(forward) == here
assert in_child(lambda: in_child(forward)) == here  # and in a child of it
assert in_child(lambda: b"%d" % torch.get_num_threads()) == b"2"
assert forward() == here
""",
    )


def test_the_child_trains(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
write_database()
here = weights(solver(4))
assert in_child(lambda: weights(solver(4))) == here
""",
    )


def test_the_child_goes_on_with_the_parents_solver(tmp_path: Path) -> None:
    """The parent's feed thread runs while it forks; parent and child read the same next records."""
    run(
        tmp_path,
        """
write_database()
wanted = weights(solver(6))
made = solver(3)

def go_on():
    made.step(3)
    made.close()
    return weights(made)

assert in_child(go_on) == wanted
assert go_on() == wanted
""",
    )


def test_many_children_while_a_feed_runs(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
write_database()
made = solver(1)
for _ in range(10):
    made.step(1)
    assert in_child(lambda: (made.step(1), b"done")[1]) == b"done"
    in_child(lambda: (made.close(), b"")[1])
""",
    )


def test_without_a_way_to_end_the_threads_the_child_has_one(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
import ctypes
here = forward()
ctypes.CDLL = lambda name: object()  # an OpenMP without omp_pause_resource_all
assert len(in_child(forward)) == len(here)
assert in_child(lambda: b"%d" % torch.get_num_threads()) == b"1"
""",
    )
