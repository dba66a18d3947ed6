"""From a net to the nodes, constants, inputs and outputs of an ONNX graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from moka.errors import MokaError, NetError, did_you_mean
from moka.export.onnx.builder import GraphBuilder, NewNode, Site, Value
from moka.export.onnx.dims import Dims, fixed_dims, free_dims, name_of, require_fixed
from moka.export.onnx.layers import EXPORTERS
from moka.export.onnx.table import rows_axis, sizes_to_know
from moka.net import Net, Place
from moka.net.assemble import located
from moka.rewrite.model import is_given

log = logging.getLogger("moka")

INPUT = "input:"  # before the names of inputs while the graph grows


@dataclass(frozen=True)
class OnnxGraph:
    """A graph, ready to be written.

    Attributes:
        builder: its nodes and constants.
        inputs: named as the blobs of the net.
        outputs: by blob; the values are named as the blobs if no input has that name.
        blobs: the last value of each blob that a layer makes, in the order of the layers, with
            the layer that makes it.
        free_batch: whether the batch may have any size.
        bytes_inputs: inputs that take bytes instead of float32 numbers.
        free_names: names of axes of any size other than the batch, by input and axis.
        unread: inputs of the net whose values nothing needs, so that the graph lacks them.
    """

    builder: GraphBuilder
    inputs: list[Value]
    outputs: dict[str, Value]
    blobs: dict[str, tuple[Value, str]]
    free_batch: bool
    bytes_inputs: frozenset[str] = frozenset()
    free_names: Mapping[tuple[str, int], str] = field(default_factory=dict)
    unread: Sequence[Value] = ()

    def sizes(self, value: Value) -> list[str]:
        """The shape of an input or output as texts: "3", or a name where any size will do."""
        names = self.free_names
        return [names.get((value.name, k)) or name_of(d) for k, d in enumerate(value.dims)]


def emit(
    net: Net,
    opset: int,
    *,
    half: bool = False,
    fix_batch: bool = False,
    outputs: Sequence[str] | None = None,
) -> OnnxGraph:
    """The graph of a net that computes what the net computes.

    Args:
        net: its layers are all exportable.
        opset: the version of ONNX's operators.
        half: store parameters as float16.
        fix_batch: keep the batch size of the net's inputs. Else the batch may have any size, if
            the net runs with another one.
        outputs: blobs to give out; None: the blobs that no layer reads.

    Raises:
        NetError: a layer that cannot be exported, or an output that does not exist.
    """
    names = wanted_outputs(net, outputs)
    if not fix_batch:
        try:
            return _emit(net, free_dims(net), opset, half, names, True)
        except MokaError as error:
            log.info("The batch size of the exported model is fixed: %s", error)
    return _emit(net, fixed_dims(net), opset, half, names, False)


def wanted_outputs(net: Net, outputs: Sequence[str] | None) -> list[str]:
    """The blobs to give out, checked.

    Raises:
        NetError: a blob that does not exist, or none to give out.
    """
    made = [top for place in net.places if place.node.bottoms for top in place.node.tops]
    known = list(dict.fromkeys(made))
    if outputs is None:
        outputs = [name for name in net.graph.outputs if name in known]
    for name in outputs:
        if name not in known:
            raise NetError(
                f'no layer makes a blob "{name}" to give out.',
                file=net.graph.file,
                advice=did_you_mean(name, known),
            )
    if not outputs:
        raise NetError("nothing is left to export: no blob is an output.", file=net.graph.file)
    return list(dict.fromkeys(outputs))


def _emit(
    net: Net, dims: list[list[Dims]], opset: int, half: bool, outputs: list[str], free: bool
) -> OnnxGraph:
    builder = GraphBuilder(opset, half=half)
    values: dict[str, Value] = {}
    inputs: list[Value] = []
    makers: dict[str, str] = {}
    for place, tops in zip(net.places, dims, strict=True):
        names = place.node.tops
        if is_given(place.layer.entry):
            made = [
                Value(builder.unique(f"{INPUT}{n}"), d) for n, d in zip(names, tops, strict=True)
            ]
            inputs += made
        else:
            bottoms = [values[name] for name in place.node.bottoms]
            made = _emit_layer(net, builder, place, bottoms, tops)
        for name, value in zip(names, made, strict=True):
            values.pop(name, None)  # so that the last value stands in its layer's place
            values[name] = value
            makers[name] = place.node.name
    _prune(builder, [values[name].name for name in outputs])
    read = {name for node in builder.nodes for name in node.inputs}
    read |= {values[name].name for name in outputs}
    used_inputs = [value for value in inputs if value.name in read]
    graph = OnnxGraph(builder, used_inputs, {n: values[n] for n in outputs}, {}, free)
    graph = _with_names_of_blobs(graph, values, makers)
    unread = [Value(x.name.removeprefix(INPUT), x.dims) for x in inputs if x.name not in read]
    return replace(graph, free_names=_names_of_row_counts(net, graph), unread=unread)


def _emit_layer(
    net: Net, builder: GraphBuilder, place: Place, bottoms: Sequence[Value], tops: Sequence[Dims]
) -> list[Value]:
    site = Site(builder, place.layer, tops)
    try:
        for bottom in bottoms:
            require_fixed(*sizes_to_know(place.layer, bottom.dims))
        made = EXPORTERS[type(place.layer)](site, place.layer, *bottoms)
    except MokaError as error:
        raise located(error, place.node, net.graph) from None
    site.close()
    names = [made] if isinstance(made, str) else made
    return [Value(name, d) for name, d in zip(names, tops, strict=True)]


def _prune(builder: GraphBuilder, wanted: Sequence[str]) -> None:
    """Drop nodes and constants that no wanted value needs."""
    needed, kept = set(wanted), []
    for node in reversed(builder.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    builder.nodes = kept[::-1]
    builder.constants = {k: v for k, v in builder.constants.items() if k in needed}


def _with_names_of_blobs(
    graph: OnnxGraph, values: dict[str, Value], makers: dict[str, str]
) -> OnnxGraph:
    """The graph with inputs, outputs and last values named as their blobs.

    An output that is an input, a constant or another output under a second name is copied. One
    that was computed in the place of an input is called `<blob>/<layer>`.
    """
    builder = graph.builder
    made = {name for node in builder.nodes for name in node.outputs}
    renamed = {value.name: value.name.removeprefix(INPUT) for value in graph.inputs}
    values = values | {blob: _own(builder, value, made) for blob, value in graph.outputs.items()}
    made |= {values[blob].name for blob in graph.outputs}
    taken = set(renamed.values())
    for blob in [*graph.outputs, *values]:
        name = values[blob].name
        if name in made and name not in renamed:
            label = blob
            if blob in taken and blob in graph.outputs:
                label = builder.unique(f"{blob}/{makers[blob]}")
            if label not in taken:
                renamed[name] = label
                taken.add(label)
    _rename(builder, renamed)
    final = {
        blob: value._replace(name=renamed.get(value.name, value.name))
        for blob, value in values.items()
    }
    return replace(
        graph,
        inputs=[value._replace(name=renamed[value.name]) for value in graph.inputs],
        outputs={blob: final[blob] for blob in graph.outputs},
        blobs={blob: (final[blob], makers[blob]) for blob in values if values[blob].name in made},
    )


def _names_of_row_counts(net: Net, graph: OnnxGraph) -> dict[tuple[str, int], str]:
    """Names for the free axes of outputs, if these may be something else than the batch."""
    if all(rows_axis(layer) is None for layer in net.layers):
        return {}
    outputs = graph.outputs.values()
    return {
        (value.name, k): f"{value.name}_{k}"
        for value in outputs
        for k, d in enumerate(value.dims)
        if d < 0
    }


def _own(builder: GraphBuilder, value: Value, made: set[str]) -> Value:
    """A value for one output alone, whose name it may have: a copy of an input, of a constant and
    of another output."""
    if value.name in made:
        made.remove(value.name)  # the next output with this value gets a copy
        return value
    copy = builder.unique(f"{value.name}/copy")
    node = NewNode("Identity", builder.unique(f"{copy}/Identity"), [value.name], [copy])
    builder.nodes.append(node)
    return value._replace(name=copy)


def _rename(builder: GraphBuilder, renamed: dict[str, str]) -> None:
    """Give values their final names. Other values that already have such a name are renamed."""
    new = set(renamed.values())
    own = [*builder.constants, *(name for node in builder.nodes for name in node.outputs)]
    renamed |= {n: builder.unique(f"{n}/value") for n in own if n in new and n not in renamed}
    for node in builder.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        node.outputs = [renamed.get(name, name) for name in node.outputs]
    builder.constants = {renamed.get(name, name): v for name, v in builder.constants.items()}
