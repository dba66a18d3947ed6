from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from tests.training_runs import NETS

from moka.checks import runs as dry_run
from moka.checks.runs import (
    RunTimes,
    count_tests,
    expected_s,
    history_bytes,
    measure_run,
    problems_of,
    snapshot_bytes,
    writing_layer,
)
from moka.schema import caffe_pb2, parse_text, read_binary
from moka.solver.config import read_solver
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker

CPU = torch.device("cpu")
BASE = 'base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "snap" max_iter: 4 '


def config(net: str, more: str = "") -> caffe_pb2.SolverParameter:
    made = parse_text(f"{BASE} net_param {{ {NETS.get(net, net)} }}", caffe_pb2.SolverParameter)
    made.MergeFrom(parse_text(more, caffe_pb2.SolverParameter))
    return made


def problems(net: str, more: str = "", state: str = "") -> list[str]:
    found, solver = problems_of(read_solver(config(net, more), "s.prototxt"), state, CPU)
    if solver is not None:
        solver.close()
    return found


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_without_problems(database: str) -> None:
    before = sorted(os.walk("."))
    found, solver = problems_of(
        read_solver(config("random", "momentum: 0.9"), "s.prototxt"), "", CPU
    )
    assert found == []
    assert solver is not None
    timing = measure_run(solver)
    assert timing.iteration_s > 0
    assert 1 <= timing.timed <= dry_run.TIMED
    solver.close()
    assert sorted(os.walk(".")) == before


ALL_WRONG = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "gone_db" batch_size: 4 }
  transform_param { mean_file: "gone.binaryproto" } include { phase: TRAIN } }
layer { name: "images" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 1 root_folder: "./" }
  include { phase: TEST } }
layer { name: "rows" type: "HDF5Data" top: "x"
  hdf5_data_param { source: "gone.txt" batch_size: 1 } }
layer { name: "loss" type: "InfogainLoss" bottom: "data" bottom: "label" top: "loss"
  infogain_loss_param { source: "gone.h" } }
layer { name: "sink" type: "Silence" bottom: "x" }
"""


def test_all_problems_at_once() -> None:
    write_image("there.png")
    Path("list.txt").write_text("there.png 0\ngone1.png 1\nthere.png 2\ngone2.png 0\n")
    found = problems(
        ALL_WRONG,
        'test_iter: 1 test_interval: 2 weights: "a.caffemodel,b.caffemodel"'
        ' snapshot_prefix: "nowhere/snap"',
        state="gone.solverstate",
    )
    wanted = [
        'layer "data" (Data): File not found: gone.binaryproto',
        "gone_db: layer",
        'layer "rows" (HDF5Data): Failed to open source file: gone.txt',
        'layer "loss" (InfogainLoss): gone.h: No such file',
        'layer "images" (ImageData): 2 files of its list are missing, first "./gone1.png".',
        "Cannot write to snapshot prefix 'nowhere/snap': its folder does not exist.",
        "a.caffemodel",
        "b.caffemodel",
        "gone.solverstate",
    ]
    assert len(found) == len(wanted), found  # each once, though two nets have them
    for sentence, part in zip(found, wanted, strict=True):
        assert part in sentence


def write_image(name: str) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(name, np.zeros((4, 4, 3), np.uint8))


def test_problems_of_the_solver_and_of_both_nets() -> None:
    test_net = 'test_net_param { layer { name: "t" type: "Relu" } } test_iter: 1 test_interval: 1'
    broken = 'layer { name: "a" type: "Convolutoin" }'
    found = problems(broken, f'lr_policy: "sometimes" {test_net}')
    assert len(found) == 3
    for sentence, part in zip(found, ("sometimes", 'layer "a"', 'layer "t"'), strict=True):
        assert part in sentence
    found, _ = problems_of(read_solver(parse_text(BASE, caffe_pb2.SolverParameter), "s"), "", CPU)
    assert [f for f in found if "must specify a train net" in f]


def test_a_net_whose_shapes_do_not_fit() -> None:
    wrong = NETS["linear"].replace("num_output: 1", "num_output: 2")
    (sentence,) = problems(wrong)
    assert 'layer "loss" (EuclideanLoss): Inputs must have the same dimension' in sentence


def test_weights_and_states_are_held_against_the_net(
    make_solver: SolverMaker, database: str
) -> None:
    solver = make_solver("momentum: 0.9")
    solver.step(2)
    model, state = solver.snapshot()
    assert problems("linear", f'weights: "{model}" momentum: 0.9') == []
    assert problems("linear", "momentum: 0.9", state) == []
    assert problems("linear", "momentum: 0.9", "auto") == []
    wrong = NETS["linear"].replace("dim: 4 dim: 3", "dim: 4 dim: 5")
    (sentence,) = problems(wrong, f'weights: "{model}"')
    assert model in sentence
    (sentence,) = problems("linear", 'type: "Adam" momentum: 0.9', state)
    assert "state of a solver of type SGD, not of Adam" in sentence
    os.unlink(model)
    (sentence,) = problems("linear", "momentum: 0.9", state)
    assert model in sentence


DETECTOR = """
layer { name: "x" type: "DummyData" top: "loc" top: "conf" top: "priors" dummy_data_param {
  shape { dim: 1 dim: 8 } shape { dim: 1 dim: 4 } shape { dim: 1 dim: 2 dim: 8 } } }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors"
  top: "found" include { phase: TEST }
  detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "loc" top: "y"
  inner_product_param { num_output: 1 } }
layer { name: "loss" type: "SmoothL1Loss" bottom: "y" bottom: "y" top: "loss" }
"""


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_detections_that_are_not_scored(kind: str) -> None:
    found = problems(DETECTOR, f'test_iter: 1 test_interval: 2 eval_type: "{kind}"')
    told = [sentence for sentence in found if '(DetectionOutput): its output "found"' in sentence]
    assert len(told) == (kind == "classification")
    assert all('scored by a solver with eval_type: "detection".' in each for each in told)


def test_weights_that_are_missing_hide_nothing_else() -> None:
    weights = 'weights: "gone.caffemodel" weights: "lost.caffemodel,gone.caffemodel"'
    found, solver = problems_of(read_solver(config("linear", weights), "s"), "", CPU)
    assert [sentence.split(" (")[0] for sentence in found] == [
        "File not found: gone.caffemodel",
        "File not found: lost.caffemodel",
    ]
    assert solver is not None


def test_it_stands_where_the_run_would_begin(make_solver: SolverMaker) -> None:
    solver = make_solver()
    solver.step(3)
    _, state = solver.snapshot()
    _, resumed = problems_of(read_solver(config("linear"), "s"), state, CPU)
    assert resumed is not None
    assert resumed.iteration == 3


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (sentence,) = problems("linear")
    assert sentence == "Cannot write to snapshot prefix 'snap': its folder cannot be written."
    assert problems("linear", "snapshot_after_train: false") == []


def test_room_for_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=31)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    (sentence,) = problems("linear", "momentum: 0.9")
    assert sentence == "A snapshot takes 0.0 MB, and in . 0.0 MB are free."
    usage.free = 32
    assert problems("linear", "momentum: 0.9") == []


@pytest.mark.parametrize(
    ("more", "histories", "snapshot"),
    [
        ("momentum: 0.9", 16, 32),
        ('type: "Adam" momentum: 0.9', 32, 48),
        ("momentum: 0.9 snapshot_diff: true", 16, 48),
        ("momentum: 0.9 ema_decay: 0.9", 16, 48),
    ],
)
def test_bytes(make_solver: SolverMaker, more: str, histories: int, snapshot: int) -> None:
    solver = make_solver(more)  # of 4 parameters
    assert history_bytes(solver) == histories
    assert snapshot_bytes(solver) == snapshot


def test_measuring_takes_no_test_and_no_snapshot(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Solver, "test_all", lambda _: pytest.fail("a test"))
    monkeypatch.setattr(Solver, "snapshot", lambda _: pytest.fail("a snapshot"))
    more = "snapshot: 1 test_iter: 3 test_interval: 1 test_initialization: true"
    found, solver = problems_of(read_solver(config("linear", more), "s"), "", CPU)
    assert found == []
    assert solver is not None
    timing = measure_run(solver)
    assert len(timing.test_batch_s) == 1
    assert timing.test_batch_s[0] > 0


def test_nothing_is_kept_of_an_iteration_that_breaks() -> None:
    broken = NETS["linear"].replace("value: 0.5", "value: nan")
    found, solver = problems_of(read_solver(config(broken), "s"), "", CPU)
    assert found == []
    assert solver is not None
    with pytest.raises(Exception, match="the loss is nan at iteration 0"):
        measure_run(solver)
    assert os.listdir() == []


def test_a_layer_that_writes(make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert writing_layer(make_solver()) is None
    output = (
        'layer { name: "out" type: "HDF5Output" bottom: "x" bottom: "t"'
        ' hdf5_output_param { file_name: "rows.h5" } }'
    )
    monkeypatch.setitem(NETS, "writing", NETS["linear"] + output)
    assert writing_layer(make_solver(net="writing")) == "out"


@pytest.mark.parametrize(
    ("more", "first", "tests"),
    [
        ("test_interval: 0", 0, 0),
        ("test_interval: 5", 0, 3),  # before 0 and 5, and after 10
        ("test_interval: 5 test_initialization: false", 0, 2),
        ("test_interval: 5 test_initialization: false", 4, 2),
        ("test_interval: 4", 0, 3),
        ("test_interval: 4", 5, 1),
        ("test_interval: 20", 3, 0),
    ],
)
def test_how_often_a_run_tests(make_solver: SolverMaker, more: str, first: int, tests: int) -> None:
    made = config("linear", f"max_iter: 10 {more}")
    assert count_tests(made, first, 10) == tests


def test_expected_time() -> None:
    made = config("linear", "max_iter: 10 test_interval: 5 test_iter: 3 test_iter: 1")
    assert expected_s(made, RunTimes(0.5, [0.1, 2.0], 5), 4) == pytest.approx(6 * 0.5 + 2 * 2.3)


def test_the_weights_are_those_of_the_file(make_solver: SolverMaker) -> None:
    model, _ = make_solver("random_seed: 11").snapshot()
    wanted = [
        list(b.data) for x in read_binary(model, caffe_pb2.NetParameter).layer for b in x.blobs
    ]
    text = f'weights: "{model}" test_iter: 1 test_interval: 2'
    _, solver = problems_of(read_solver(config("linear", text), "s"), "", CPU)
    assert solver is not None
    for net in (solver.net, *solver.test_nets):
        assert [w.flatten().tolist() for x in net.layers for w in x.weights] == wanted
