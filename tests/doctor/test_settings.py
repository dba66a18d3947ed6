from __future__ import annotations

import pytest

from moka.doctor.facts import BROKEN, FINE, WORTH_KNOWING
from moka.doctor.settings import _more_files, engine, limits, settings
from moka.inference import engines
from moka.waiting import SPINS


def states(**variables: str) -> dict[str, str]:
    return {fact.found: fact.state for fact in settings(variables) if fact.name == "variable"}


def test_variables(tmp_path: object) -> None:
    assert states(HOME="/root") == {}
    assert states(OMP_NUM_THREADS="1") == {"OMP_NUM_THREADS=1": FINE}
    assert states(GOMP_SPINCOUNT="9") == {"GOMP_SPINCOUNT=9": FINE}
    assert states(GOMP_SPINCOUNT=SPINS) == {f"GOMP_SPINCOUNT={SPINS}, which the commands set": FINE}
    assert states(OMP_NUM_THREADS="9999") == {"OMP_NUM_THREADS=9999": WORTH_KNOWING}
    assert states(CUDA_VISIBLE_DEVICES="") == {"CUDA_VISIBLE_DEVICES=": WORTH_KNOWING}
    assert states(PYTHONPATH=str(tmp_path)) == {f"PYTHONPATH={tmp_path}": FINE}
    assert states(PYTHONPATH="/no/where") == {"PYTHONPATH=/no/where": WORTH_KNOWING}


def test_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_chosen", None)
    monkeypatch.setenv("MOKA_ENGINE", "auto")
    assert engine().found.startswith("auto, the fastest of onnxruntime")
    monkeypatch.setattr(engines, "_chosen", None)
    monkeypatch.setenv("MOKA_ENGINE", "onnx")
    assert engine().state == BROKEN
    assert "onnxruntime" in engine().advice


def test_limits() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        (files,) = [fact for fact in limits() if fact.name == "open files"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (files.found, files.state) == ("at most 512", WORTH_KNOWING)
    assert files.advice == f"ulimit -n {min(before[1], 4096)}"


@pytest.mark.parametrize(
    ("most", "advice"),
    [(64, "Only the administrator can allow more than 64"), (2048, "ulimit -n 2048"), (-1, "4096")],
)
def test_more_files(most: int, advice: str) -> None:
    assert advice in _more_files(most)
