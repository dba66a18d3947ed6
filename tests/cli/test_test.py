from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.net import build_net
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


def test_the_debug_info_of_a_net(caffe: Caffe) -> None:
    net = Path("net.prototxt")
    net.write_text("debug_info: true " + net.read_text())
    messages = caffe(*TEST, "-iterations", "2").messages()
    assert len([m for m in messages if m.startswith("    [Forward] Layer ip, top blob ip")]) == 2
    assert not [m for m in messages if m.startswith("    [Backward]")]
