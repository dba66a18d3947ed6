"""Write the values of a trained net's blobs, for each image, to databases of Datum records."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import torch

from moka.command.processes import in_processes
from moka.command.run import run
from moka.command.table import COMMANDS, flags_of
from moka.data import datum
from moka.data.store import check_backend, make_store
from moka.data.writer import RecordWriter
from moka.errors import NetError, UsageError, did_you_mean
from moka.inference.evaluation import Inference
from moka.net import Net, build_net
from moka.parallel.launched import Run
from moka.parallel.share import share_batches
from moka.parallel.team import Alone, Team
from moka.report.progress import progress
from moka.schema import caffe_pb2
from moka.types import Floats, PathLike
from moka.weights import load_weights

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

ALONE = Alone()
SAY_EVERY = 1000  # records
AXES = 4  # that a blob may have, for a Datum to hold an image of it: image, C, H, W


def extract_features(
    net: Net,
    blobs: Sequence[str],
    databases: Sequence[PathLike],
    batches: int,
    *,
    backend: str = "lmdb",
    team: Team = ALONE,
) -> int:
    """Run a net over its own data and write a record of each image for each blob.

    Keys are 0000000000, 0000000001, ... A record holds the values as float_data of shape
    (channels, height, width), with 1 for an axis that the blob lacks, and no label.

    Args:
        net: has a data layer, and its weights loaded.
        blobs: names of blobs; their first axis counts images.
        databases: a new database for each blob.
        batches: how many passes to run.
        team: the processes that share the passes (`share_batches`); the first one writes.

    Returns:
        The number of images.

    Raises:
        NetError: an unknown blob, or one of more than four axes; a net without a data layer.
        UsageError: another number of databases than of blobs.
        DataError: a database exists, or cannot be written.
    """
    _check(net, blobs, databases)
    check_backend(backend)
    counts = dict.fromkeys(databases, 0)
    with ExitStack() as stack, progress("batches", batches) as show:
        writers: Sequence[RecordWriter | None] = [
            stack.enter_context(make_store(path, backend)) if team.is_first else None
            for path in databases
        ]
        log.info("Extracting Features")
        engine = Inference(net, blobs)
        engine.layerwise.debug_info = False
        for first in range(0, batches, team.size):
            features = _run_batch(engine, blobs) if first + team.rank < batches else None
            of_round = team.gather_messages(pickle.dumps(features))
            for batch in range(first, min(first + team.size, batches)):
                values = pickle.loads(of_round[batch - first])
                for name, path, writer in zip(blobs, databases, writers, strict=True):
                    for image in values[name]:
                        if writer is not None:
                            record = datum.encode(image).SerializeToString()
                            writer.put(b"%010d" % counts[path], record)
                        counts[path] += 1
                        if counts[path] % SAY_EVERY == 0:
                            _say(detail, counts[path], name)
                show(batch + 1)
    for name, path in zip(blobs, databases, strict=True):
        if counts[path] % SAY_EVERY:
            _say(log, counts[path], name)
    log.info("Successfully extracted the features!")
    return counts[databases[0]]


def _check(net: Net, blobs: Sequence[str], databases: Sequence[PathLike]) -> None:
    """Raise what `extract_features` raises for its arguments."""
    if len(blobs) != len(databases):
        raise UsageError(
            "the number of blob names and dataset names must be equal, got"
            f" {len(blobs)} and {len(databases)}."
        )
    if net.graph.inputs:
        raise NetError(
            f"the net waits for {', '.join(net.graph.inputs)} to be given, but features are"
            " extracted from the data of a net that reads its own.",
            file=net.graph.file,
            advice="Put a data layer in the place of its inputs.",
        )
    if len(set(databases)) < len(databases):
        raise UsageError("each blob needs a dataset of its own; one is named twice.")
    known = dict.fromkeys(t for n in net.graph.nodes if not n.entry.is_plumbing for t in n.tops)
    for name in blobs:
        if name not in known:
            raise NetError(
                f"Unknown feature blob name {name} in the network.",
                file=net.graph.file,
                advice=did_you_mean(name, known) or f"It has {', '.join(known)}.",
            )
        shape = tuple(net.blobs[name].shape)
        if len(shape) > AXES:
            raise NetError(
                f"blob {name} has shape {shape}, but a record holds no more than the (channels,"
                " height, width) of an image.",
                file=net.graph.file,
            )


def _run_batch(engine: Inference, blobs: Sequence[str]) -> dict[str, Floats]:
    """The images of some blobs after the next pass."""
    engine.forward()
    return {name: _as_images(engine.net.blobs[name].data_memory.tensor()) for name in blobs}


def _as_images(blob: torch.Tensor) -> Floats:
    """The values as (N, C, H, W), with 1 for each axis that the blob lacks at the end."""
    return blob.cpu().numpy().reshape(*blob.shape, *[1] * (AXES - blob.dim()))


def _say(where: logging.Logger, count: int, name: str) -> None:
    where.info("Extracted features of %d query images for feature blob %s", count, name)


def main(argv: Sequence[str] | None = None) -> int:
    """`extract_features WEIGHTS NET BLOB[,BLOB...] DB[,DB...] BATCHES DB_TYPE [CPU|GPU] [...]`."""
    return run("extract_features", _extract, argv)


def _extract(words: list[str], flags: dict[str, Any]) -> None:
    weights, net_file, blobs, databases, batches, backend, *where = words
    if not batches.isdecimal() or not int(batches):
        raise UsageError(f"num_mini_batches has to be a number > 0, got '{batches}'.")
    check_backend(backend)
    own = {**flags, "gpu": gpu_of(*where)}

    def work(team: Team, where: torch.device, _: Run | None) -> None:
        net = build_net(net_file, caffe_pb2.TEST, device=where)
        load_weights(net, weights)
        if not share_batches(net, team):
            if not team.is_first:
                return
            team = ALONE
        with closing(net):
            names, paths = blobs.split(","), databases.split(",")
            extract_features(net, names, paths, int(batches), backend=backend, team=team)

    command = COMMANDS["extract_features"]
    in_processes(command, flags_of(command), words, own, work)


def gpu_of(mode: str = "CPU", device_id: str = "DEVICE_ID=0") -> str:
    """The id of the GPU that the last two arguments name, or "" for the CPU.

    BVLC Caffe reads `DEVICE_ID=1` as a number and so takes GPU 0; a number alone works there, and
    works here too.

    Raises:
        UsageError: the arguments say something else.
    """
    found = re.fullmatch(r"(?:DEVICE_ID=)?(\d+)", device_id)
    if mode not in ("CPU", "GPU") or not found:
        raise UsageError(
            f"the last arguments are CPU, GPU, or GPU DEVICE_ID=n, got '{mode} {device_id}'."
        )
    if mode == "CPU":
        return ""
    if int(found[1]) >= (count := torch.cuda.device_count()):
        raise UsageError(
            f"there is no GPU {found[1]}: {count} found.", advice="Give CPU in place of GPU."
        )
    return found[1]
