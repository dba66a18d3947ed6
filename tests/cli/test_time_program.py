from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.inference.test_profile import TEXT

from moka.cli.main import main


@pytest.fixture
def file(tmp_path: Path) -> str:
    net = tmp_path / "net.prototxt"
    net.write_text(f'name: "small" {TEXT}')
    return str(net)


@pytest.fixture(autouse=True)
def _engine_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moka.inference.engines._chosen", "auto")


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_folded_layers_are_named_together(
    engine: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--model={file}", f"--engine={engine}", "--iterations=2", "--json"]
    assert main(["time", *flags]) == 0
    found = capsys.readouterr()
    result = json.loads(found.out)
    assert [part["layers"] for part in result["parts"]] == ["conv + bn", "conv2", "pool"]
    assert result["engine"] == engine
    assert result["ms"] > 0
    assert result["peak_gflops"] > 0
    assert 0 < result["share"] < 1
    assert "conv + bn\tforward: " in found.err
    assert "Forward pass: " in found.err


def test_an_engine_for_training(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["time", f"--model={file}", "--engine=torch", "--phase=TRAIN"]) == 1
    assert "runs nets for testing only" in capsys.readouterr().err


def test_a_net_that_no_program_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(TEXT.replace('type: "BatchNorm"', 'type: "Dropout" dropout_param {'
                   " sample_weights_test: true }"))  # fmt: skip
    assert main(["time", f"--model={net}", "--engine=torch"]) == 1
    assert "no program runs this net" in capsys.readouterr().err


def test_the_layerwise_engine_times_layers(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--model={file}", "--engine=layerwise", "--iterations=1", "--phase=TEST"]
    assert main(["time", *flags]) == 0
    assert "Average Forward-Backward" in capsys.readouterr().err
