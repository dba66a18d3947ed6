"""The net for use of a net that was trained: `caffe make_deploy TRAIN_VAL DEPLOY`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from google.protobuf import text_format

from moka.checks.trained import is_for_use, made_for_use
from moka.command.run import run
from moka.errors import NetError, UsageError
from moka.files import check_writable, write_text_file
from moka.graph import Graph, build_graph
from moka.layers import REGISTRY
from moka.net import read_net
from moka.rewrite.for_use import last_loss
from moka.schema import caffe_pb2, format_text
from moka.tools.export import given_shapes

log = logging.getLogger("moka")


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe make_deploy TRAIN_VAL DEPLOY [flags]`."""
    return run("make_deploy", _make_deploy, argv)


def _make_deploy(words: list[str], flags: dict[str, Any]) -> None:
    source, target = words
    graph = _graph(source)
    if is_for_use(graph):
        _refuse(graph)
    if os.path.exists(target) and os.path.samefile(source, target):
        raise UsageError(f"{target} would be overwritten.", advice="Name another file to write.")
    check_writable(target)
    weights = flags["weights"].split(",") if flags["weights"] else []
    made = made_for_use(graph, weights, given_shapes(graph, flags["input_shape"]))
    for note in made.notes:
        log.log(logging.WARNING if made.is_guess else logging.INFO, "%s", note)
    if made.is_guess:
        log.warning("Give the weights (--weights) or the size (--input_shape=1,3,224,224).")
    prepared = _preparation(made.reads)
    comment = f"# Images are prepared by {prepared}\n" if prepared else ""
    write_text_file(target, comment + format_text(made.net))
    outputs = build_graph(made.net, REGISTRY, phase=caffe_pb2.TEST).outputs
    _tell_loss(graph, outputs)
    print(f"Wrote {target}: {made.inputs_told}; it gives {', '.join(outputs)}.")
    if prepared:
        print(f"Prepare images as its data layer does: {prepared}")


def _graph(source: str) -> Graph:
    """The net for testing; of a file that has none, as SSD's train.prototxt, that for training."""
    param, file = read_net(source)
    try:
        return build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file)
    except NetError:
        with suppress(NetError):
            graph = build_graph(param, REGISTRY, phase=caffe_pb2.TRAIN, file=file)
            log.warning("%s has no net for testing: its net for training is taken.", source)
            return graph
        raise


def _tell_loss(graph: Graph, outputs: Sequence[str]) -> None:
    """Say so if the last loss has no layer that predicts in its place."""
    layers = graph.filtered.layer
    end = last_loss(layers)
    if end is not None and not REGISTRY[layers[end].type].prediction:
        log.warning(
            'No layer predicts in place of the loss "%s" (%s): the net gives what the loss reads,'
            " %s. If there is a net for testing, make the deploy.prototxt of that.",
            layers[end].name,
            layers[end].type,
            ", ".join(outputs),
        )


def _preparation(layer: caffe_pb2.LayerParameter) -> str:
    """How a data layer prepares images, on one line; "": as they are."""
    if not layer.HasField("transform_param"):
        return ""
    text = text_format.MessageToString(layer.transform_param, as_one_line=True)
    return f"transform_param {{ {text.strip()} }}"


def _refuse(graph: Graph) -> None:
    """Raises UsageError for a net that reads no data of its own."""
    file = graph.file
    if graph.inputs:
        raise UsageError(
            f"{file} has inputs already ({', '.join(graph.inputs)}): it is a net for use."
        )
    for node in graph.nodes:
        if REGISTRY[node.type].runs_user_code and not node.bottoms:
            raise UsageError(
                f'{file}: the data comes from the {node.type} layer "{node.name}", whose shapes'
                " nothing tells.",
                advice="Write an Input layer in its place.",
            )
    raise UsageError(f"{file} reads no data: it is a net for use already.")
