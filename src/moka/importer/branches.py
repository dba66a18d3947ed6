"""Branches that a model takes whatever its input is, as exporters write them for odd shapes."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any

from moka.export.onnx.library import load_onnx
from moka.importer.onnx_file import OnnxModel, OnnxNode
from moka.importer.trace import Trace, trace_model

BRANCH = "If"


def is_chosen(node: OnnxNode, variable: Container[str]) -> bool:
    """Whether a node is a branch whose condition does not depend on the net's inputs."""
    return node.op == BRANCH and node.inputs[0] not in variable


def trace_with_branches(model: OnnxModel) -> tuple[OnnxModel, Trace]:
    """The model with the nodes of the branches that it takes in the place of each If whose
    condition is a constant, and its trace. The given model is used up.

    Raises:
        NetError: ONNX Runtime cannot run it.
    """
    seen = trace_model(model)
    while any(is_chosen(node, seen.variable) for node in model.nodes):
        graph = model.proto.graph
        nodes = list(_flattened(graph, model, seen))
        del graph.node[:]
        graph.node.extend(nodes)
        model = replace(model)  # whose nodes are read anew
        seen = trace_model(model)
    return model, seen


def _flattened(graph: Any, model: OnnxModel, seen: Trace) -> Iterator[Any]:
    """Copies of the nodes of a graph; for a branch those of the side that is taken."""
    onnx = load_onnx("Importing")
    for message, node in zip(graph.node, model.nodes, strict=True):
        copy = onnx.NodeProto()
        copy.CopyFrom(message)
        if not is_chosen(node, seen.variable):
            yield copy
            continue
        name = "then_branch" if seen.values[node.inputs[0]].all() else "else_branch"
        side = next(a.g for a in copy.attribute if a.name == name)
        graph.initializer.extend(side.initializer)
        yield from side.node
        for k, (inner, outer) in enumerate(zip(side.output, node.outputs, strict=True)):
            title = f"{node.name}/{name}{k or ''}"
            yield onnx.helper.make_node("Identity", [inner.name], [outer], title)
