"""The layers of a net as a table for a terminal: of a net that is built, or of its text alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moka.net import Net, parameter_count
from moka.net.cost import multiply_adds
from moka.net.summary import FULL_HEADINGS, LayerRow, rows
from moka.schema import caffe_pb2

WIDTH = 140  # columns


def table_console() -> Console:
    """Standard output for such tables; where it is no terminal, lines have WIDTH columns."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def layer_table(title: str, layers: Iterable[LayerRow]) -> Table:
    """A row for each layer: name, type with its phases, bottoms, tops with shapes and loss weights,
    parameters with shapes and factors of their training, and how many numbers they are,
    if that is known."""
    layers = list(layers)
    counted = any(row.count is not None for row in layers)
    table = Table(title=Text(title), title_justify="left")
    for heading in FULL_HEADINGS[: None if counted else -1]:
        table.add_column(heading, justify="right" if heading == "count" else "left")
    for row in layers:
        cells = row.full_texts()
        table.add_row(*map(Text, cells if counted else cells[:-1]))
    return table


def net_table(net: Net) -> Table:
    """The layers of a net that is built; the title names its phase, size and memory."""
    memory = net.memory
    return layer_table(
        f"{net.name} ({caffe_pb2.Phase.Name(net.graph.phase)}):"
        f" {parameter_count(net):,} parameters, {memory.parameters / 1e6:,.1f} MB;"
        f" {multiply_adds(net) / 1e6:,.1f} M multiply-adds;"
        f" data {memory.data / 1e6:,.1f} MB in training, {memory.peak / 1e6:,.1f} MB in testing",
        rows(net),
    )
