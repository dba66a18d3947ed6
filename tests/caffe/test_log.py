"""A training script of one's own, as programs for pycaffe are: its standard error is a log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.fresh import run_program

from moka.report.log_file import read_log

NET = """
layer { name: "d" type: "DummyData" top: "d" top: "l"
        dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 }
                           data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "l" top: "loss" }
"""
SOLVER = """
net: "n.prototxt" base_lr: 0.1 lr_policy: "fixed" display: 2 max_iter: 6 snapshot_after_train: false
"""
SOLVE = "caffe.get_solver('s.prototxt').solve()"


def standard_error(program: str, **variables: str) -> str:
    """What a program writes there, with only these variables of glog's."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GLOG_")}
    environment |= {f"GLOG_{name}": value for name, value in variables.items()}
    done = run_program(f"import caffe; {program}", variables=environment)
    assert (done.returncode, done.stdout) == (0, b"")
    return done.stderr.decode()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("n.prototxt").write_text(NET)
    Path("s.prototxt").write_text(SOLVER)


@pytest.mark.parametrize(
    ("program", "variables"),
    [
        (SOLVE, {}),
        (SOLVE, {"logtostderr": "1"}),
        (f"caffe.init_log(0); {SOLVE}", {"logtostderr": "1"}),
        (f"caffe.init_log(0, True); {SOLVE}", {}),
        ("caffe.SGDSolver('s.prototxt').step(6)", {}),
    ],
)
def test_a_run_can_be_plotted(program: str, variables: dict[str, str]) -> None:
    Path("log").write_text(standard_error(program, **variables))
    displays = read_log("log").displays
    assert [(d.iteration, *d.outputs) for d in displays][:3] == [(i, "loss") for i in (0, 2, 4)]


@pytest.mark.parametrize(
    ("program", "variables"),
    [
        (SOLVE, {"minloglevel": "2"}),
        (f"caffe.init_log(0); {SOLVE}", {}),  # glog would write a file
        (f"caffe.init_log(2); {SOLVE}", {"logtostderr": "1"}),
        ("import logging; logging.basicConfig(level='ERROR'); " + SOLVE, {}),
        ("pass", {}),
    ],
)
def test_silence(program: str, variables: dict[str, str]) -> None:
    assert standard_error(program, **variables) == ""


def test_a_net_says_how_it_is_built_and_what_weights_it_ignores() -> None:
    said = standard_error(
        "n = caffe.Net('n.prototxt', caffe.TRAIN); n.save('w.caffemodel');"
        "open('m.prototxt', 'w').write(open('n.prototxt').read().replace('\"ip\"', '\"new\"'));"
        "caffe.Net('m.prototxt', caffe.TRAIN, weights='w.caffemodel'); caffe.log('the end')"
    )
    assert "] Creating layer d\n" in said.replace("Creating Layer", "Creating layer")
    assert "] Ignoring source layer ip\n" in said
    assert said.endswith("] the end\n")
