from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.examples.conftest import ChangeSolver, CopyExamples, LoadScript


def test_the_net_is_as_good_as_scikit_learn(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    change_solver: ChangeSolver,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = copy_examples("hdf5_classification")
    for net in ("logreg", "two_layers"):
        file = example / f"{net}_solver.prototxt"
        change_solver(file, max_iter=1000, stepsize=700, test_interval=1000)
    load_script("hdf5_classification/classify.py").main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Accuracy on 2500 rows:"
    found = re.findall(r"  (\S.*\S) +(\d+\.\d)%", "\n".join(lines[1:]))
    assert [name for name, _ in found] == [
        "logistic regression, scikit-learn",
        "logistic regression, Moka",
        "hidden layer of 40, Moka",
    ]
    peer, line, bent = (float(percent) for _, percent in found)
    assert line == pytest.approx(peer, abs=1)
    assert bent > peer + 4
