"""Solvers and nets of the examples fit together; their data need not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, read_text
from moka.solver import config as solver_config

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SOLVERS = [
    file
    for file in sorted(EXAMPLES.glob("**/*solver*.prototxt"))
    if "data" not in file.relative_to(EXAMPLES).parts  # what the examples have made
]


@pytest.mark.parametrize("file", SOLVERS, ids=lambda f: f.relative_to(EXAMPLES))
def test_a_solver_and_its_nets(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = read_text(file, caffe_pb2.SolverParameter)
    solver_config.check_solver(config, file)
    assert config.snapshot_prefix.startswith("examples/")
    nets = (solver_config.train_net(config, file), *solver_config.test_nets(config, file))
    for net in nets:
        graph = build_graph(net.param, REGISTRY, file=net.file)
        assert "loss" in graph.outputs
        assert sum("Data" in node.type for node in graph.nodes) == 1
