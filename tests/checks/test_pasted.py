"""A pasted net: what is wrong and where, its layers, and that nothing of it runs or is opened."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from moka.checks.pasted import check_text

GOOD = """name: "Small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 8 mean_file: "mean.binaryproto" }
  data_param { source: "train_lmdb" batch_size: 4 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }
  data_param { source: "test_lmdb" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 7 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def test_layers_with_their_numbers() -> None:
    found = check_text(GOOD)
    assert found.problem is None
    assert [str(state) for state in found.states] == ["TEST", "TRAIN"]
    assert str(found.state) == "TEST"
    by_name = {facts.row.name: facts for facts in found.layers}
    assert list(by_name) == ["data", "conv", "relu", "ip", "loss"]
    conv = by_name["conv"]
    assert conv.line == 8
    assert conv.row.texts()[2:] == ("conv 2x5x6x6", "weight 5x3x3x3, bias 5", "140")
    assert conv.multiply_adds == 2 * 5 * 36 * 27
    assert conv.output_bytes == 4 * 2 * 5 * 36
    assert by_name["relu"].output_bytes == 0  # in-place


def test_another_phase() -> None:
    found = check_text(GOOD, "TRAIN")
    assert found.layers[1].row.tops[0].sizes == (4, 5, 6, 6)


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "layer", "words", "advice"),
    [
        ("kernel_size", "kernel_siz", 9, 37, None, 'no field named "kernel_siz"',
         'Did you mean "kernel_size"?'),
        ("num_output: 5", "num_output: five", 9, 35, None, "five", None),
        ('type: "ReLU"', 'type: "Relu"', 10, None, None, "Unknown layer type: Relu",
         'Did you mean "ReLU"?'),
        ('bottom: "ip"', 'bottom: "ipp"', 13, None, None, "Unknown bottom blob 'ipp'", None),
        ("kernel_size: 3", "kernel_size: 30", 8, None, "conv", "the kernel .30. is larger", None),
        ("num_output: 7", "", 11, None, "ip", "num_output", None),
    ],
)  # fmt: skip
def test_where_a_fault_is(
    old: str, new: str, line: int, column: int | None, layer: str | None, words: str,
    advice: str | None,
) -> None:  # fmt: skip
    problem = check_text(GOOD.replace(old, new)).problem
    assert problem is not None
    assert (problem.line, problem.column, problem.layer) == (line, column, layer)
    assert re.search(words, problem.message)
    if advice:
        assert problem.advice == advice


def test_a_net_that_cannot_be_built_still_has_a_table() -> None:
    found = check_text(GOOD.replace('type: "ReLU"', 'type: "Relu"'))
    assert [facts.row.name for facts in found.layers][-3:] == ["relu", "ip", "loss"]
    assert found.net is None


@pytest.mark.parametrize("text", ["", "layer {", "]", "x: 1", "\0", "layer { name: '\\377' }"])
def test_texts_that_are_no_nets(text: str) -> None:
    found = check_text(text)
    assert found.problem is not None
    assert found.layers == () or found.net is None


def test_no_program_of_a_pasted_net_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "evil_layer.py").write_text(f"open({str(ran)!r}, 'w')\nclass L: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    python = (
        'layer { name: "evil" type: "Python" top: "x"'
        ' python_param { module: "evil_layer" layer: "L" } }'
    )
    for text in (python, f"{GOOD}{python}", python.replace("evil_layer", "rpn.proposal_layer")):
        problem = check_text(text).problem
        assert problem is not None
        assert problem.layer == "evil"
        assert "a pasted net runs no programs" in problem.message
    assert not ran.exists()
    assert "evil_layer" not in sys.modules


def test_no_file_of_a_pasted_net_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"opened: {args}")

    check_text(GOOD)  # everything is imported
    names = ("open", "os.stat", "os.path.exists")
    for name in names:
        monkeypatch.setattr(f"builtins.{name}" if "." not in name else name, refuse)
    found = check_text(GOOD, "TRAIN")
    monkeypatch.undo()
    assert found.problem is None


def test_bounds() -> None:
    problem = check_text("#" * 5_000_000).problem
    assert problem is not None
    assert "at most 4,000,000 are read" in problem.message
    problem = check_text('layer { name: "a" type: "Silence" }\n' * 5001).problem
    assert problem is not None
    assert "5,001 layers" in problem.message
