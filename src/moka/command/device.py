"""Which device a command runs on: `--gpu`, or what a solver says."""

from __future__ import annotations

import logging

import torch

from moka import context
from moka.errors import UsageError

log = logging.getLogger("moka")


def gpu_ids(text: str) -> list[int]:
    """Ids in `--gpu 0,1` or `--gpu all`.

    Raises:
        UsageError: no number, or a GPU that is not there.
    """
    count = torch.cuda.device_count()
    if text == "all":
        if not count:
            raise UsageError("there is no GPU here.", advice="Leave --gpu out to run on the CPU.")
        return list(range(count))
    ids = []
    for part in filter(None, text.split(",")):
        if not part.strip().isdigit():
            raise UsageError(f"--gpu takes ids joined by commas, or all; found '{part}'.")
        ids.append(int(part))
    for i in ids:
        if i >= count:
            raise UsageError(
                f"there is no GPU {i}: {count} found.",
                advice="Leave --gpu out to run on the CPU.",
            )
    return ids


def use(gpu: str, *, wanted_id: int | None = None) -> torch.device:
    """Set the mode for a command and say so.

    Args:
        gpu: the flag; only one id can be used.
        wanted_id: a GPU to take if the flag is empty and there is one (a solver's device_id);
            None: the CPU.
    """
    ids = gpu_ids(gpu)
    if len(ids) > 1:
        raise UsageError(
            f"one GPU can be used, {len(ids)} were asked for.", advice="Give one id with --gpu."
        )
    if not ids and wanted_id is not None:
        if torch.cuda.is_available():
            context.set_device(wanted_id)
            ids = [wanted_id]
        else:
            log.warning("The solver asks for a GPU and none is available: running on the CPU.")
    if not ids:
        context.set_mode_cpu()
        log.info("Use CPU.")
    else:
        context.set_device(ids[0])
        context.set_mode_gpu()
        log.info("Use GPU with device ID %d", ids[0])
        log.info("GPU device name: %s", torch.cuda.get_device_name(ids[0]))
    return context.device()
