from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe

TIME = ("time", "-model", "net.prototxt")
MS = re.compile(r"([-+.\de]+) ms")


@pytest.mark.parametrize(
    ("flags", "layers"),
    [
        ((), ["data", "conv", "relu", "ip", "loss"]),
        (("-phase", "TRAIN"), ["data", "conv", "relu", "ip", "loss"]),
        (
            ("-phase", "TEST"),
            [
                "data",
                "label_data_1_split",
                "conv",
                "relu",
                "ip",
                "ip_ip_0_split",
                "loss",
                "accuracy",
            ],
        ),
    ],
)
def test_every_layer_is_timed(
    workspace: Path, caffe: Caffe, flags: tuple[str, ...], layers: list[str]
) -> None:
    run = caffe(*TIME, "-iterations", "2", *flags)
    assert run.code == 0
    messages = run.messages("I")
    each = messages[messages.index("Average time per layer: ") + 1 :]
    wanted = [f"{name:>10}\t{way}: # ms." for name in layers for way in ("forward", "backward")]
    assert [MS.sub("# ms", m) for m in each[: len(wanted)]] == wanted
    times = [float(MS.findall(m)[0]) for m in each if "ms" in m]
    assert all(ms >= 0 for ms in times)
    assert "Testing for 2 iterations." in messages
    assert [MS.sub("# ms", m) for m in messages if m.startswith("Iteration: ")] == [
        "Iteration: 1 forward-backward time: # ms.",
        "Iteration: 2 forward-backward time: # ms.",
    ]
    totals = ["Average Forward pass", "Average Backward pass", "Average Forward-Backward", "Total"]
    for message, start in zip(each[len(wanted) :], totals, strict=False):
        assert message.startswith(start)
    assert messages[-1] == "*** Benchmark ends ***"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("time",), "Need a model definition to time. Give --model=FILE."),
        ((*TIME, "-phase", "train"), 'phase must be "TRAIN" or "TEST", found train.'),
    ],
)
def test_what_is_needed(workspace: Path, caffe: Caffe, argv: tuple[str, ...], says: str) -> None:
    run = caffe(*argv)
    assert (run.code, run.messages("F")) == (1, [says])


LAYERS = ["data", "conv", "relu", "ip", "loss"]


def test_json(workspace: Path, caffe: Caffe) -> None:
    run = caffe(*TIME, "-iterations", "2", "--json", "--quiet")
    assert (run.code, run.err) == (0, "")
    found = json.loads(run.out)
    layers = found.pop("layers")
    assert [layer["name"] for layer in layers] == LAYERS
    assert layers[1]["type"] == "Convolution"
    for way in ("forward_ms", "backward_ms"):
        assert found.pop(way) == pytest.approx(sum(layer[way] for layer in layers))
    assert found.pop("total_ms") == pytest.approx(2 * found.pop("forward_backward_ms"))
    assert found == {
        "net": "small",
        "phase": "TRAIN",
        "device": "cpu",
        "engine": "layerwise",
        "warm_up_passes": 1,
        "iterations": 2,
    }
    loud = caffe(*TIME, "-iterations", "2", "--json", "-phase", "TEST")
    assert json.loads(loud.out)["phase"] == "TEST"
    assert "Average time per layer: " in loud.messages("I")


def test_quiet_leaves_the_averages_on_standard_output(workspace: Path, caffe: Caffe) -> None:
    run = caffe(*TIME, "-iterations", "1", "--quiet")
    assert run.err == ""
    first, *lines = MS.sub("# ms", run.out).splitlines()
    assert first == "Average time per layer: "
    assert lines[:2] == ["      data\tforward: # ms.", "      data\tbackward: # ms."]
    assert lines[-1] == "Total Time: # ms."


def test_a_table_on_a_terminal(
    workspace: Path, caffe: Caffe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    run = caffe(*TIME, "-iterations", "2")
    assert run.out == ""
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", run.err)
    assert "small, TRAIN, cpu: milliseconds, mean of 2 passes" in shown
    assert "Average" not in shown
    shares = re.findall(r"│ (\w+) +│ \w+ +│ +[\d.]+ │ +[\d.]+ │ +([\d.]+)% │", shown)
    assert [name for name, _ in shares] == LAYERS
    assert sum(float(share) for _, share in shares) == pytest.approx(100, abs=0.3)
    assert re.search(r"│ all layers │ +│ +[\d.]+ │ +[\d.]+ │ of [\d.]+ │", shown)


def test_the_debug_info_of_a_net_is_logged_once(workspace: Path, caffe: Caffe) -> None:
    net = Path("net.prototxt")
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 } convolution_param"
    net.write_text("debug_info: true " + net.read_text().replace("convolution_param", frozen))
    with net.open("a") as file:
        file.write(
            'layer { name: "aside" type: "InnerProduct" bottom: "ip" top: "aside"'
            " inner_product_param { num_output: 1 } }"
            ' layer { name: "sink" type: "Silence" bottom: "aside" }'
        )
    run = caffe(*TIME, "-iterations", "2")
    assert run.code == 0
    # The feed reads ahead and says so when it comes to the end of the data.
    messages = [m for m in run.messages("I") if not m.startswith("Restarting data")]
    first = messages.index("Performing Forward")
    assert messages[first + 1].startswith("    [Forward] Layer data, top blob data data: ")
    assert len([m for m in messages if m.startswith("    [Forward] Layer ip, top")]) == 1
    backward = [m.split()[2:5] for m in messages if m.startswith("    [Backward]")]
    # Not of aside, conv and relu, which run only because all layers are timed.
    assert [layer for layer, *_ in backward] == ["loss,", "ip_ip_0_split,", "ip,", "ip,"]
    (summary,) = run.messages("E")
    assert summary.startswith("    [Backward] All net params (data, diff): L1 norm = (")
