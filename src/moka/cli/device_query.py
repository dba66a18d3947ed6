"""`caffe device_query`: what GPUs there are."""

from __future__ import annotations

import logging
from typing import Any

import torch

from moka.command.device import gpu_ids

log = logging.getLogger("moka")


def device_query(flags: dict[str, Any]) -> None:
    """Print the properties of each GPU of `-gpu`, by default of all; say so if there is none."""
    say = print if flags["quiet"] else log.info
    log.info("Querying GPUs %s", flags["gpu"])
    if flags["gpu"] in ("", "all") and not torch.cuda.device_count():
        say("There is no GPU here: nets run on the CPU.")
        return
    for i in gpu_ids(flags["gpu"] or "all"):
        properties = torch.cuda.get_device_properties(i)
        for name, value in (
            ("Device id", i),
            ("Major revision number", properties.major),
            ("Minor revision number", properties.minor),
            ("Name", properties.name),
            ("Total global memory", properties.total_memory),
            ("Number of multiprocessors", properties.multi_processor_count),
        ):
            say(f"{f'{name}:':<31}{value}")
