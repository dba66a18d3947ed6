"""`caffe_fp16`: the actions of `caffe` on nets whose blobs are kept in half precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from tests.cli.training import SOLVER, replace

from moka.cli.main import half_precision, main
from moka.command.flags import Flag
from moka.command.processes import in_processes
from moka.command.table import COMMANDS, flags_of
from moka.schema import caffe_pb2
from moka.schema.upgrade.forms import nets_in_half
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "snap_iter_4.caffemodel"
TYPES = "default_forward_type: FLOAT16 default_backward_type: FLOAT16\n"


@pytest.fixture(autouse=True)
def _workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests here run in it."""
    monkeypatch.setenv("MOKA_ENGINE", "layerwise")


def trained(program: Callable[[list[str]], int], net: str = "") -> bytes:
    """The model that a run of a program leaves, with this text before its net."""
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(net + text)
    assert program([*SOLVER]) == 0
    Path("net.prototxt").write_text(text)
    return Path(MODEL).read_bytes()


def test_it_trains_as_a_net_that_asks_for_half_precision() -> None:
    plain, half = trained(main), trained(half_precision)
    assert half == trained(main, TYPES) == trained(lambda words: main([*words, "--half"]))
    assert half != plain


def test_what_a_net_says_counts_more() -> None:
    single = "default_forward_type: FLOAT default_backward_type: FLOAT\n"
    found = [
        caffe_pb2.NetParameter.FromString(model)
        for model in (trained(half_precision, single), trained(main))
    ]
    blobs = [[blob.data for layer in net.layer for blob in layer.blobs] for net in found]
    assert blobs[0] == blobs[1]


def test_a_solver_on_a_gpu_multiplies_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class StopError(Exception):
        """The run has come far enough."""

    def look(config: tuple[object, str], **_: object) -> Solver:
        asked.append(config[0].precision)  # type: ignore[attr-defined]
        raise StopError

    monkeypatch.setattr("moka.cli.train.Solver", look)
    monkeypatch.setattr("moka.command.device.use", lambda *_, **__: torch.device("cuda", 0))
    for words in ([*SOLVER], [*SOLVER, "--half"]):
        with pytest.raises(StopError):
            main(words)
    replace("solver.prototxt", "solver_mode: CPU", "precision: TF32")
    with pytest.raises(StopError):
        half_precision([*SOLVER])
    assert asked == [0, 2, 3]  # FLOAT, FP16, TF32


def test_it_scores_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    trained(main)
    capsys.readouterr()
    words = ["test", "--model=net.prototxt", f"--weights={MODEL}", "--iterations=2", "--json"]
    found = []
    for program in (main, half_precision):
        assert program(words) == 0
        found.append(json.loads(capsys.readouterr().out)["outputs"]["loss"])
    assert found[0] == pytest.approx(found[1], rel=5e-3)
    assert found[0] != found[1]
    assert half_precision(["time", "--model=net.prototxt", "--iterations=1", "--phase=TRAIN"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: caffe <command>"),
        (["help", "train"], "caffe train: "),
        (["-help"], "usage: caffe <command>"),
        (["compute_image_mean", "--help"], "compute_image_mean: "),
    ],
)
def test_help_and_tools_are_those_of_caffe(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert half_precision(words) == 0
    assert said in capsys.readouterr().out


def test_processes_are_started_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Launched(NamedTuple):
        words: list[str]

    launched: list[Launched] = []
    monkeypatch.setattr(
        "moka.command.processes.launch_this_program",
        lambda words, *_, **__: launched.append(Launched(words)),
    )
    train = COMMANDS["train"]
    known: dict[str, Flag] = flags_of(train)
    flags = {name: flag.default for name, flag in known.items()} | {"half": True, "workers": 2}
    in_processes(train, known, (), flags, lambda *_: None)
    assert "--half=true" in launched[0].words


def test_it_ends_with_the_program(make_net: Callable[..., object]) -> None:
    net = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" } input: "x" input_dim: 1'
    net += " input_dim: 1 input_dim: 1 input_dim: 1"

    def halves() -> list[bool]:
        made = make_net(net)
        return [place.half is not None for place in made.places]  # type: ignore[attr-defined]

    with nets_in_half():
        assert any(halves())
    assert not any(halves())
