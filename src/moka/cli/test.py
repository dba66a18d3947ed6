"""`caffe test`: score a model."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from moka.command import engine
from moka.command.actions import TEST
from moka.command.processes import in_processes
from moka.command.table import flags_of
from moka.engine.evaluate import evaluate
from moka.errors import UsageError
from moka.inference.evaluation import Inference
from moka.net import build_net
from moka.parallel.launched import Run
from moka.parallel.share import share_batches
from moka.parallel.team import Alone, Team
from moka.report.caffe_log import output_text
from moka.report.json_lines import to_json
from moka.report.records import Output
from moka.schema import caffe_pb2
from moka.weights import load_weights

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")


def test(flags: dict[str, Any]) -> None:
    """Run `-model` with `-weights` over `-iterations` batches; print every output, then means."""
    if not flags["model"]:
        raise UsageError("Need a model definition to score.", advice="Give --model=FILE.")
    if not flags["weights"]:
        raise UsageError("Need model weights to score.", advice="Give --weights=FILE.")
    if flags["iterations"] < 1:
        raise UsageError(f"--iterations must be > 0, got {flags['iterations']}.")
    engine.use(flags["engine"])
    in_processes(TEST, flags_of(TEST), (), flags, partial(_score, flags))


def _score(flags: dict[str, Any], team: Team, where: torch.device, _: Run | None) -> None:
    stages = flags["stage"].split(",")
    net = build_net(
        flags["model"], caffe_pb2.TEST, level=flags["level"], stages=stages, device=where
    )
    load_weights(net, flags["weights"])
    log.info("Running for %d iterations.", flags["iterations"])
    if not share_batches(net, team):
        if not team.is_first:
            return
        team = Alone()
    scored = evaluate(Inference(net), flags["iterations"], _say_batch, team)
    if scored is not None and team.is_first:
        means, loss = scored
        say = print if flags["quiet"] and not flags["json"] else log.info
        say(f"Loss: {loss:g}")
        for mean in means:
            say(output_text(mean))
        if flags["json"]:
            result = {"iterations": flags["iterations"], "loss": loss, "outputs": by_name(means)}
            print(to_json(result))
    net.close()


def by_name(outputs: Iterable[Output]) -> dict[str, float | list[float]]:
    """Output values by name: a number, or a list if the blob has several values."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for output in outputs:
        values[output.name].append(output.value)
    return {name: found if len(found) > 1 else found[0] for name, found in values.items()}


def _say_batch(number: int, outputs: tuple[Output, ...]) -> None:
    for output in outputs:
        detail.info("Batch %d, %s = %g", number, output.name, output.value)
