from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.cli.test import by_name
from moka.net import build_net
from moka.report.records import Output
from moka.schema import caffe_pb2
from moka.weights import save_weights

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe

TEST = ("test", "-model", "net.prototxt", "-weights", "w.caffemodel")


@pytest.fixture(autouse=True)
def _weights(workspace: Path) -> None:
    torch.manual_seed(11)
    net = build_net("net.prototxt", caffe_pb2.TEST)
    save_weights(net, "w.caffemodel")
    net.close()


def scores(iterations: int) -> list[dict[str, float]]:
    """Outputs batch by batch, by an ordinary call of the net."""
    torch.manual_seed(11)
    net = build_net("net.prototxt", caffe_pb2.TEST)
    with torch.no_grad():
        found = [{k: v.item() for k, v in net().items()} for _ in range(iterations)]
    net.close()
    return found


@pytest.mark.parametrize("iterations", [1, 5])
def test_every_batch_and_the_means_are_printed(caffe: Caffe, iterations: int) -> None:
    run = caffe(*TEST, "-iterations", str(iterations))
    assert run.code == 0
    batches = scores(iterations)
    # The feed reads ahead and says so when it comes to the end of the data.
    messages = [m for m in run.messages("I") if not m.startswith("Restarting data")]
    start = messages.index(f"Running for {iterations} iterations.")
    wanted = [
        f"Batch {i}, {name} = {batch[name]:g}"
        for i, batch in enumerate(batches)
        for name in ("accuracy", "loss")
    ]
    assert messages[start + 1 : start + 1 + len(wanted)] == wanted
    means = {name: np.mean([batch[name] for batch in batches]) for name in batches[0]}
    assert messages[start + 1 + len(wanted) :] == [
        f"Loss: {means['loss']:g}",
        f"accuracy = {means['accuracy']:g}",
        f"loss = {means['loss']:g} (* 1 = {means['loss']:g} loss)",
    ]


def test_fifty_batches_unless_told_otherwise(caffe: Caffe) -> None:
    assert "Running for 50 iterations." in caffe(*TEST).messages("I")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("test",), "Need a model definition to score. Give --model=FILE."),
        (
            ("test", "-model", "net.prototxt"),
            "Need model weights to score. Give --weights=FILE.",
        ),
    ],
)
def test_what_is_needed(caffe: Caffe, argv: tuple[str, ...], says: str) -> None:
    run = caffe(*argv)
    assert (run.code, run.messages("F")) == (1, [says])


def test_json(caffe: Caffe) -> None:
    run = caffe(*TEST, "-iterations", "3", "--json")
    batches = scores(3)
    means = {name: np.mean([batch[name] for batch in batches]) for name in batches[0]}
    assert json.loads(run.out) == {
        "iterations": 3,
        "loss": pytest.approx(means["loss"]),
        "outputs": {name: pytest.approx(value) for name, value in means.items()},
    }
    assert len(run.out.splitlines()) == 1
    assert "Running for 3 iterations." in run.messages("I")
    quiet = caffe(*TEST, "-iterations", "3", "--json", "--quiet")
    assert (quiet.out, quiet.err) == (run.out, "")


def test_quiet_leaves_the_means_on_standard_output(caffe: Caffe) -> None:
    run = caffe(*TEST, "-iterations", "2", "--quiet")
    assert run.err == ""
    assert re.fullmatch(r"Loss: (\S+)\naccuracy = \S+\nloss = \1 \(\* 1 = \1 loss\)\n", run.out)
    assert caffe(*TEST, "-iterations", "2").out == ""


def test_by_name() -> None:
    outputs = [Output(name, value, 0.0) for name, value in (("a", 1.0), ("b", 2.0), ("a", 3.0))]
    assert by_name(outputs) == {"a": [1.0, 3.0], "b": 2.0}


def test_the_debug_info_of_a_net(caffe: Caffe) -> None:
    net = Path("net.prototxt")
    net.write_text("debug_info: true " + net.read_text())
    messages = caffe(*TEST, "-iterations", "2").messages()
    assert len([m for m in messages if m.startswith("    [Forward] Layer ip, top blob ip")]) == 2
    assert not [m for m in messages if m.startswith("    [Backward]")]
