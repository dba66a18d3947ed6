"""`caffe test`: score a model."""

from __future__ import annotations

import logging
from typing import Any

import torch

from moka.cli import device
from moka.engine.training import TrainingStep
from moka.errors import UsageError
from moka.net import build_net
from moka.report.caffe_log import output_text
from moka.report.records import Output
from moka.schema import caffe_pb2
from moka.solver.solver import outputs_of
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
    where = device.use(flags["gpu"])
    stages = flags["stage"].split(",")
    net = build_net(
        flags["model"], caffe_pb2.TEST, level=flags["level"], stages=stages, device=where
    )
    load_weights(net, flags["weights"])
    log.info("Running for %d iterations.", flags["iterations"])
    means, loss = score(TrainingStep(net), flags["iterations"])
    log.info("Loss: %g", loss)
    for mean in means:
        log.info(output_text(mean))
    net.close()


def score(step: TrainingStep, iterations: int) -> tuple[list[Output], float]:
    """Mean of every output value and of the loss over some batches."""
    sums: list[float] = []
    outputs: tuple[Output, ...] = ()
    loss = 0.0
    with torch.no_grad():
        for i in range(iterations):
            loss += float(step.forward())
            outputs = outputs_of(step.net)
            sums = sums or [0.0] * len(outputs)
            for k, output in enumerate(outputs):
                sums[k] += output.value
                detail.info("Batch %d, %s = %g", i, output.name, output.value)
    means = [
        Output(o.name, total / iterations, o.loss_weight)
        for o, total in zip(outputs, sums, strict=True)
    ]
    return means, loss / iterations
