"""Training runs take the path that BVLC Caffe took, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import caffe

if TYPE_CHECKING:
    from tests.conformance.conftest import Case

    from moka.types import Array

FILES = sorted((Path(__file__).parent / "solvers").glob("*.npz"))


@pytest.mark.parametrize("case", FILES, ids=lambda file: file.stem, indirect=True)
def test_step_by_step(case: Case, device: torch.device) -> None:
    Path("solver.prototxt").write_text(case.text("solver_prototxt"))
    Path("net.prototxt").write_text(case.text("net_prototxt"))
    solver = caffe.get_solver("solver.prototxt")
    for name, values in case.group("in").items():
        solver.net.blobs[name].data[...] = values
    for address, values in case.group("param_init").items():
        layer, _, index = address.rpartition("/")
        solver.net.params[layer][int(index)].data[...] = values

    rates: list[float] = []
    losses: dict[str, list[Array]] = {name: [] for name in case.group("loss")}
    for k in range(1, case.options["steps"] + 1):
        rates.append(solver.lr)
        solver.step(1)
        for name, recent in losses.items():
            recent.append(solver.net.blobs[name].data.copy())
        for address in case.group(f"param/{k}"):
            layer, _, index = address.rpartition("/")
            case.check(f"param/{k}/{address}", solver.net.params[layer][int(index)].data)
    assert solver.iter == case.options["steps"]
    case.check("lr", rates)
    for name, recent in losses.items():
        case.check(f"loss/{name}", np.stack(recent))

    batches = case.options["test_net"]
    for k in range(1, batches + 1):
        if k == 1:
            solver.test_nets[0].share_with(solver.net)
        solver.test_nets[0].forward()
        for name in case.group(f"test_out/{k}"):
            case.check(f"test_out/{k}/{name}", solver.test_nets[0].blobs[name].data)
