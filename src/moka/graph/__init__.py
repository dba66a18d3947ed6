"""A net's structure as plain data: filtering, splits, wiring, sharing, backward marks."""

from moka.graph.backward import BackwardMarks, mark_backward
from moka.graph.chains import in_place_tails
from moka.graph.graph import Graph, build_graph
from moka.graph.sharing import LearnableBlob, Sharing
from moka.graph.wiring import Node

__all__ = [
    "BackwardMarks",
    "Graph",
    "LearnableBlob",
    "Node",
    "Sharing",
    "build_graph",
    "in_place_tails",
    "mark_backward",
]
