from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.engine.autograd import Autograd
from moka.errors import NetError, SolverError
from moka.report.caffe_log import lines
from moka.report.records import ClassesTested, Output, TestCompleted
from moka.schema import parse_text
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.average_precision import (
    VERSIONS,
    ScoredDetections,
    check_evaluation,
    mean_precisions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NetMaker
    from tests.training_runs import SolverMaker

    from moka.report.caffe_log import lines
from moka.report.records import Record

COUNT, RIGHT, WRONG, DIFFICULT = (-1, -1), (1, 0), (0, 1), (0, 0)


def by_steps(version: str, hits: list[bool], count: int) -> float:
    """Average precision detection by detection, as SSD's loops compute it."""
    recall, precision = [], []
    for k in range(len(hits)):
        right = sum(hits[: k + 1])
        recall.append(float(np.float32(right / count)))
        precision.append(float(np.float32(right / (k + 1))))
    pairs = list(zip(recall, precision, strict=True))
    if version.endswith("point"):
        n = int(version.removesuffix("point"))
        best_each = (max([p for r, p in pairs if r >= j / (n - 1)], default=0.0) for j in range(n))
        return sum(best_each) / n
    total = 0.0
    if version in ("Integral", "integral"):
        before = 0.0
        for r, p in pairs:
            total += p * (r - before)
            before = r
        return total
    now, best = pairs[-1]
    for r, p in reversed(pairs[:-1]):
        best = max(best, p)
        total += best * (now - r)
        now = r
    return total + now * best


@pytest.mark.parametrize("version", sorted(VERSIONS))
@pytest.mark.parametrize(
    ("hits", "count"),
    [
        ([True], 1),
        ([False], 1),
        ([True, False, True, True, False, False, True], 5),
        ([False, False, True, True], 10),
        ([True] * 7 + [False] * 3, 10),
        ([bool(k % 3) for k in range(40)], 30),
    ],
)
def test_average_precision(version: str, hits: list[bool], count: int) -> None:
    found = ScoredDetections()
    rows: list[tuple[float, ...]] = [(-1, 4, count, *COUNT)]
    rows += [(0, 4, 1 - k / 100, *(RIGHT if hit else WRONG)) for k, hit in enumerate(hits)]
    found.add(np.array(rows))
    wanted = by_steps(version, hits, count)
    assert found.mean_precision(version) == pytest.approx(wanted, rel=1e-12)  # double precision


def test_labels_and_batches_are_collected() -> None:
    found = ScoredDetections()
    found.add(np.array([(-1, 1, 1, *COUNT), (-1, 2, 1, *COUNT), (-1, 3, 0, *COUNT)]))
    found.add(np.array([(0, 1, 0.5, *WRONG), (0, 1, 0.9, *RIGHT), (0, 2, 0.9, *WRONG)]))
    found.add(np.array([(-1, 1, 1, *COUNT), (1, 1, 0.7, *RIGHT), (1, 1, 0.99, *DIFFICULT)]))
    assert found.boxes == {1: 2, 2: 1, 3: 0}
    assert found.mean_precision("Integral") == pytest.approx(1 / 3)
    assert ScoredDetections().mean_precision("Integral") == 0


ROWS = """
layer {{ name: "d" type: "DummyData" top: "{top}" dummy_data_param {{
  shape {{ dim: 1 dim: 1 dim: 1 dim: {width} }} data_filler {{ value: {value} }} }} }}
"""


def test_each_output_has_a_mean(make_net: NetMaker) -> None:
    # Rows of ones: image 1, label 1, score 1, right and wrong at once; nothing says that label 1
    # has true boxes. Rows of -1 say that label -1 has -1 of them.
    net = make_net(
        ROWS.format(top="a", width=5, value=1) + ROWS.format(top="b", width=10, value=-1)
    )
    scored = mean_precisions(Autograd(net), 2, "Integral", lambda: False)
    assert scored == ((Output("a", 0.0, 0.0), Output("b", 0.0, 0.0)), 0.0)
    assert mean_precisions(Autograd(net), 2, "Integral", lambda: True) is None


def test_other_outputs_are_refused(make_net: NetMaker) -> None:
    net = make_net(ROWS.format(top="a", width=4, value=1))
    with pytest.raises(NetError, match="output 'a' has 4 numbers, no rows of five"):
        mean_precisions(Autograd(net), 1, "Integral", lambda: False)


OWN_LAYER = """
import caffe

class Rows(caffe.Layer):
    def setup(self, bottom, top):
        self.passes = 0
    def reshape(self, bottom, top):
        top[0].reshape(1, 1, 3, 5)
    def forward(self, bottom, top):
        self.passes += 1
        right = self.passes % 2
        top[0].data[0, 0] = [
            (-1, 1, 1, -1, -1), (0, 1, 0.9 - self.passes / 10, right, 1 - right), (0, 1, 0.95, 0, 0)
        ]
    def backward(self, top, propagate_down, bottom):
        pass
"""


def test_a_solver_reports_it(
    make_solver: SolverMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows_layer.py").write_text(OWN_LAYER)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = (
        'layer { name: "rows" type: "Python" top: "detection_eval"'
        ' python_param { module: "rows_layer" layer: "Rows" } }'
    )
    records: list[Record] = []
    solver = make_solver(
        'test_iter: 4 test_interval: 1 eval_type: "detection" ap_version: "11point"'
        f" test_net_param {{ {net} }}",
        records=records,
    )
    solver.test_all()
    (result,) = (r for r in records if isinstance(r, TestCompleted))
    # Right, wrong, right, wrong of four true boxes.
    wanted = by_steps("11point", [True, False, True, False], 4)
    (output,) = result.outputs
    assert output.name == "detection_eval"
    assert output.value == pytest.approx(wanted)
    assert not any(isinstance(r, ClassesTested) for r in records)
    solver.config.show_per_class_result = True
    solver.test_all()
    (classes,) = (r for r in records if isinstance(r, ClassesTested))
    assert (classes.output, classes.net_index) == ("detection_eval", 0)
    assert list(lines(classes)) == [f"class1: {classes.precisions[0][1]:g}"]
    after = [type(r) for r in records]
    assert after.index(ClassesTested) < len(after) - 1 - after[::-1].index(TestCompleted)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('eval_type: "detect"', r"Unknown eval_type: detect \(known: classification, detection\)"),
        ('ap_version: "11points"', "Unknown ap_version: 11points .*11point"),
    ],
)
def test_refused(text: str, says: str) -> None:
    good = parse_text('eval_type: "detection" ap_version: "MaxIntegral"', SolverParameter)
    check_evaluation(good)
    with pytest.raises(SolverError, match=says):
        check_evaluation(parse_text(text, SolverParameter))
