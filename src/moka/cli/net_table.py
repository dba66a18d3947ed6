"""A net as a table for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from moka.net import Net, parameter_count
from moka.net.cost import multiply_adds
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
    for node, (_, layer) in zip(net.graph.nodes, net.named_layers(), strict=True):
        if node.entry.is_plumbing:
            continue
        tops = ", ".join(
            f"{top} {'x'.join(map(str, net.blobs[top].shape)) or 'scalar'}" for top in node.tops
        )
        count = sum(w.numel() for w in layer.weights)
        cells = (node.name, node.type, tops, f"{count:,}" if count else "")
        table.add_row(*map(Text, cells))
    return table
