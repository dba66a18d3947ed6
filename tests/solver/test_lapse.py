from __future__ import annotations

from moka.schema import caffe_pb2, parse_text
from moka.solver.lapse import Lapse


def test_time_and_iterations_since_the_last_on_display() -> None:
    config = parse_text('display: 2 lr_policy: "multistep" stepvalue: 3', caffe_pb2.SolverParameter)
    lapse = Lapse(1)
    found = [
        lapse.record(
            config, i, loss=1, rate=0.1, outputs=(), plateau=None, clipped=None, waited_s=0
        )
        for i in range(1, 7)
    ]
    assert [r.displayed for r in found] == [False, True] * 3
    assert [r.lapse_iterations for r in found] == [0, 1, 1, 2, 1, 2]
    assert [r.stage for r in found] == [None, None, 1, None, None, None]
    assert all(r.lapse_s >= 0 for r in found)
    assert found[1].lapse_s >= found[0].lapse_s
