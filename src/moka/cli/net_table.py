"""A net as a table for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from moka.net import Net, parameter_count
from moka.net.cost import multiply_adds
from moka.net.summary import rows
from moka.schema import caffe_pb2


def net_table(net: Net) -> Table:
    """Layers with their shapes and parameters; the title names the phase."""
    memory = net.memory
    title = Text(
        f"{net.name} ({caffe_pb2.Phase.Name(net.graph.phase)}):"
        f" {parameter_count(net):,} parameters, {memory.parameters / 1e6:,.1f} MB;"
        f" {multiply_adds(net) / 1e6:,.1f} M multiply-adds;"
        f" data {memory.data / 1e6:,.1f} MB in training, {memory.peak / 1e6:,.1f} MB in testing"
    )
    table = Table(title=title, title_justify="left")
    for heading in ("layer", "type", "tops", "parameters"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for row in rows(net):
        name, layer_type, tops, _, count = row.texts()
        table.add_row(*map(Text, (name, layer_type, tops, count)))
    return table
