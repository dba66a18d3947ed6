"""examples/pycaffe/train.py: processes of the CPU, as a user starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from moka.data.datum import encode
from moka.data.lmdb import LmdbWriter

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples, LoadScript

SCRIPT = Path(__file__).parents[3] / "examples" / "pycaffe" / "train.py"
SOURCE = Path(__file__).parents[3] / "src"

NET = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "lmdb" batch_size: BATCH backend: LMDB }
  transform_param { scale: 0.004 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 8 display: 2
snapshot: 4 snapshot_prefix: "PREFIX" random_seed: 1
"""


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with LmdbWriter("lmdb") as writer:
        for i in range(24):
            image = rng.integers(0, 256, (1, 4, 4), dtype=np.uint8)
            writer.put(f"{i:04}".encode(), encode(image, i % 3).SerializeToString())


def run(*flags: str, batch: int = 4, prefix: str = "made", more: str = "", net: str = NET) -> str:
    """Train; returns what was printed, and the log."""
    Path("net.prototxt").write_text(net.replace("BATCH", str(batch)))
    Path("solver.prototxt").write_text(SOLVER.replace("PREFIX", prefix) + more)
    command = [sys.executable, str(SCRIPT), "--solver", "solver.prototxt", *flags]
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}.", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    if done.returncode:
        raise ChildProcessError(done.stderr)
    return done.stdout + done.stderr


def weights(model: str) -> NDArray[np.float32]:
    Path("net.prototxt").write_text(NET.replace("BATCH", "1"))
    net = caffe.Net("net.prototxt", caffe.TEST, weights=model)
    return net.params["ip"][0].data.copy()


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch() -> None:
    log = run("--cpus", "2", batch=4, prefix="two")
    assert len(re.findall(r"\] Iteration 6\b.*, loss = ", log)) == 1  # one of them speaks
    run(batch=8, prefix="one")
    one, two = (weights(f"{name}_iter_8.caffemodel") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)  # sums in another order
    assert np.abs(one - weights("one_iter_4.caffemodel")).max() > 0.01

    Path("two_iter_8.caffemodel").unlink()
    resumed = ("--cpus", "2", "--snapshot", "two_iter_4.solverstate", "--timing")
    printed = run(*resumed, prefix="two", more="layer_wise_reduce: false")
    np.testing.assert_allclose(weights("two_iter_8.caffemodel"), two, rtol=1e-5, atol=1e-7)
    for name in ("data", "ip", "loss"):
        found = re.findall(rf"^  {name} +(\S+) forward +(\S+) backward$", printed, re.MULTILINE)
        assert len(found) == 2  # iterations 4 and 6, by one process
        assert all(float(ahead) > 0 for ahead, _ in found)
    for name in ("passes", "averaging gradients"):
        assert len(re.findall(rf"^  {name} +[\d.]*[1-9]", printed, re.MULTILINE)) == 2


LAYER = """
import caffe

class SecondFails(caffe.Layer):
    def setup(self, bottom, top):
        if caffe.solver_rank() == 1:
            raise RuntimeError("the disk is full")
    def reshape(self, bottom, top): pass
    def forward(self, bottom, top): pass
    def backward(self, top, wanted, bottom): pass
"""


def test_a_process_that_fails_ends_the_others() -> None:
    Path("failing.py").write_text(LAYER)
    layer = (
        'layer { name: "py" type: "Python" bottom: "data"'
        ' python_param { module: "failing" layer: "SecondFails" } }'
    )
    with pytest.raises(ChildProcessError, match=r"train\.py: process 1: the disk is full"):
        run("--cpus", "2", net=NET + layer)


class Ending:
    """A process whose exit code is known only some looks after it has ended."""

    def __init__(self, exit_codes: list[int | None]) -> None:
        self.sentinel = object()
        self.is_terminated = False
        self._exit_codes = exit_codes

    @property
    def exitcode(self) -> int | None:
        codes = self._exit_codes
        return codes.pop(0) if len(codes) > 1 else codes[0]

    def start(self) -> None: ...

    def terminate(self) -> None:
        self.is_terminated = True
        self._exit_codes = [-15]


@pytest.mark.parametrize("looks", range(5))
def test_a_failure_that_is_known_late_ends_the_others(
    looks: int,
    load_script: LoadScript,
    copy_examples: CopyExamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy_examples("pycaffe")
    script = load_script("pycaffe/train.py")
    processes = [Ending([None]), Ending([*[None] * looks, 1])]
    waiting = iter(processes)
    monkeypatch.setattr(
        script, "get_context", lambda _: SimpleNamespace(Process=lambda **_: next(waiting))
    )

    def wait(sentinels: list[object]) -> None:
        assert processes[1].sentinel in sentinels, "the others would be waited for without an end"

    monkeypatch.setattr(script, "connection", SimpleNamespace(wait=wait))
    job = script.Job("solver.prototxt", "", [None, None], timing=False, uid=b"")
    assert script.train(job) == 1
    assert processes[0].is_terminated


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--snapshot", "gone"], r"train\.py: there is no file gone"),
        (["--cpus", "0"], "--cpus is at least 1, found 0"),
        (["--cpus", "1", "--gpus", "0"], "not allowed with argument"),
    ],
)
def test_what_is_wrong_is_said(
    flags: list[str],
    says: str,
    load_script: LoadScript,
    copy_examples: CopyExamples,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy_examples("pycaffe")
    Path("solver.prototxt").touch()
    with pytest.raises(SystemExit) as ended:
        load_script("pycaffe/train.py").main(["--solver", "solver.prototxt", *flags])
    assert re.search(says, f"{ended.value} {capsys.readouterr().err}")
