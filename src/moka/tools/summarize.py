"""The layers of a net as a table, from its description alone: `caffe summarize NET`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from moka.checks.layer_table import layer_table, table_console
from moka.command.phase import phase_of
from moka.command.run import run
from moka.draw.net_shapes import blob_shapes
from moka.graph.filter import filter_net
from moka.net import read_net
from moka.net.summary import described_rows
from moka.schema import caffe_pb2
from moka.types import PathLike


def summarize(net_file: PathLike, phase: caffe_pb2.Phase | None = None) -> Table:
    """The table of a prototxt's layers, with the shapes of its blobs as far as its text tells them.

    Args:
        phase: only the layers of this phase; None: all.

    Raises:
        MokaError: the prototxt cannot be read.
    """
    net, _ = read_net(net_file)
    sizes = blob_shapes(net, phase)
    if phase is not None:
        net = filter_net(net, caffe_pb2.NetState(phase=phase))
    return layer_table(f"{net.name}: {len(net.layer)} layers", described_rows(net, sizes))


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe summarize NET [--phase PHASE]`."""
    return run("summarize", _summarize, argv)


def _summarize(words: list[str], flags: dict[str, Any]) -> None:
    phase = phase_of(flags["phase"])
    table = summarize(words[0], phase)
    table_console().print(table)
