"""The layers of a net as a table, from its description alone: `caffe summarize NET`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moka.command.run import run
from moka.errors import UsageError
from moka.graph.filter import filter_net
from moka.schema import caffe_pb2, read_text
from moka.schema.upgrade import upgrade_net
from moka.types import PathLike

PHASES = {"ALL": None, "TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}
WIDTH = 140  # columns of a table that is not shown on a terminal


def summary_table(net: caffe_pb2.NetParameter) -> Table:
    """A row for each layer: name, type, bottoms, tops with their loss weights, parameters with
    their learning rate and decay multipliers."""
    title = f"{net.name}: {len(net.layer)} layers"
    table = Table(title=Text(title), title_justify="left")
    for heading in ("layer", "type", "bottoms", "tops", "parameters"):
        table.add_column(heading)
    for layer in net.layer:
        phases = {
            caffe_pb2.Phase.Name(rule.phase) for rule in layer.include if rule.HasField("phase")
        }
        kind = f"{layer.type} ({', '.join(sorted(phases))})" if phases else layer.type
        cells = (
            layer.name,
            kind,
            ", ".join(layer.bottom),
            tops(layer),
            "; ".join(parameters(layer)),
        )
        table.add_row(*map(Text, cells))
    return table


def tops(layer: caffe_pb2.LayerParameter) -> str:
    """`loss * 0.3, accuracy`: the tops; a loss weight that the layer names follows its top."""
    weights = dict(enumerate(layer.loss_weight))
    return ", ".join(
        f"{top} * {weights[i]:g}" if i in weights else top for i, top in enumerate(layer.top)
    )


def parameters(layer: caffe_pb2.LayerParameter) -> Iterator[str]:
    """`lr 1 decay 1` for each parameter that the layer says something of, after its name."""
    for param in layer.param:
        name = f"{param.name} " if param.name else ""
        yield f"{name}lr {param.lr_mult:g} decay {param.decay_mult:g}"


def summarize(net_file: PathLike, phase: caffe_pb2.Phase | None = None) -> Table:
    """The table of a prototxt's layers.

    Args:
        phase: only the layers of this phase; None: all.

    Raises:
        MokaError: the prototxt cannot be read.
    """
    net = upgrade_net(read_text(net_file, caffe_pb2.NetParameter), net_file)
    if phase is not None:
        net = filter_net(net, caffe_pb2.NetState(phase=phase))
    return summary_table(net)


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe summarize NET [--phase PHASE]`."""
    return run("summarize", _summarize, argv)


def _summarize(words: list[str], flags: dict[str, Any]) -> None:
    if flags["phase"] not in PHASES:
        raise UsageError(f"--phase is TRAIN, TEST or ALL, found '{flags['phase']}'.")
    table = summarize(words[0], PHASES[flags["phase"]])
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
