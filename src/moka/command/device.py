"""Which device a command runs on: `--gpu`, or what a solver says."""

from __future__ import annotations

import logging

import torch

from moka import context
from moka.errors import UsageError

log = logging.getLogger("moka")


def gpu_ids(text: str) -> list[int]:
    """Read the ids in `--gpu 0,1` or `--gpu all`.

    Raises:
        UsageError: a text that is no number, or a GPU that is not there.
    """
    count = torch.cuda.device_count()
    if text == "all":
        if not count:
            raise UsageError("there is no GPU here.", advice="Leave --gpu out to run on the CPU.")
        return list(range(count))
    ids = []
    for part in filter(None, text.split(",")):
        if not part.strip().isdecimal():
            raise UsageError(f"--gpu takes ids joined by commas, or all; found '{part}'.")
        ids.append(int(part))
    for i in ids:
        if ids.count(i) > 1:
            raise UsageError(f"--gpu {text} names GPU {i} twice.", advice="Name each GPU once.")
        if i >= count:
            raise UsageError(
                f"there is no GPU {i}: {count} found.",
                advice="Leave --gpu out to run on the CPU.",
            )
    return ids


def use(gpu: str, *, wanted_id: int | None = None) -> torch.device:
    """Choose the device of a command and log it.

    Args:
        gpu: the flag; only one id can be used.
        wanted_id: the GPU to take if the flag is empty (a solver's device_id), or with a warning
            the CPU where there is none; None: the CPU.

    Raises:
        UsageError: a GPU that is not there, or several.
    """
    ids = gpu_ids(gpu)
    if len(ids) > 1:
        raise UsageError(
            f"one GPU can be used, {len(ids)} were asked for.", advice="Give one id with --gpu."
        )
    where = torch.device("cuda", ids[0]) if ids else torch.device("cpu")
    if not ids and wanted_id is not None:
        where = context.gpu_or_cpu(wanted_id, context.NO_GPU_FOR_SOLVER)
    if where.type == "cpu":
        context.set_mode_cpu()
        log.info("Use CPU.")
    else:
        context.set_device(where.index)
        context.set_mode_gpu()
        log.info("Use GPU with device ID %d", where.index)
        log.info("GPU device name: %s", torch.cuda.get_device_name(where.index))
    return where
