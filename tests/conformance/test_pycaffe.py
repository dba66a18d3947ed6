"""Programs that use pycaffe find what they found with BVLC Caffe; README.md tells how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import caffe
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.conformance.conftest import Case

FOLDER = Path(__file__).parent / "pycaffe"


def agrees(got: Any, want: Any) -> bool:
    """Whether two results are the same, numbers within the tolerance."""
    if isinstance(want, list):
        return len(got) == len(want) and all(map(agrees, got, want))
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(agrees(got[k], want[k]) for k in want)
    if isinstance(want, float):
        return got == pytest.approx(want, rel=1e-4, abs=1e-8)
    return got == want


@pytest.mark.parametrize("case", sorted(FOLDER.glob("*.npz")), ids=lambda p: p.stem, indirect=True)
def test_program(case: Case) -> None:
    outputs: dict[str, Any] = {}
    names = {"caffe": caffe, "np": np, "inputs": case.group("input"), "outputs": outputs}
    program = FOLDER / f"{case.name}.py"
    exec(compile(program.read_text(), program, "exec"), names)
    recorded = case.json("output_json")
    assert outputs.keys() == recorded.keys() | case.group("output").keys()
    for name, got in outputs.items():
        if name not in recorded:
            case.check(f"output/{name}", got)
        elif name.endswith("__prototxt"):
            mine, theirs = (parse_text(t, caffe_pb2.NetParameter) for t in (got, recorded[name]))
            assert mine == theirs
        else:
            assert agrees(got, recorded[name]), name
