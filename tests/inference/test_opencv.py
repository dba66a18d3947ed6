"""`moka.opencv` runs programs too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.conftest import random_weights
from tests.inference.test_profile import TEXT

from moka.inference.engines import engine_is
from moka.inference.program import Program
from moka.net import build_net
from moka.opencv import readNetFromCaffe
from moka.weights import save_weights


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_forward(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    run = Program.run

    def counted(program: Program, given: Any) -> Any:
        runs.append(program.backend)
        return run(program, given)

    monkeypatch.setattr(Program, "run", counted)
    file = tmp_path / "net.prototxt"
    file.write_text(TEXT)
    save_weights(random_weights(build_net(file)), tmp_path / "net.caffemodel")
    net: Any = readNetFromCaffe(str(file), str(tmp_path / "net.caffemodel"))
    draw = np.random.default_rng(0)
    for side in (8, 10, 8):
        net.setInput(draw.random((2, 3, side, side), np.float32))
        for wanted in ("pool", "conv2", "pool"):
            with engine_is("layerwise"):
                expected = net.forward(wanted)
            with engine_is(engine):
                found = net.forward(wanted)
            np.testing.assert_allclose(found, expected, rtol=1e-4)
            total, ticks = net.getPerfProfile()
            assert total == ticks.sum() > 0
        net.setParam("conv", 0, draw.random((4, 3, 3, 3), np.float32))
    assert set(runs) == {engine}
