"""From an ONNX model to a Caffe net with its weights, checked against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from moka.errors import MokaError, NetError
from moka.export.difference import Difference, difference_of, largest
from moka.importer import (
    activation,
    arithmetic,
    compare,
    conv,
    linear,
    normalize,
    pooling,
    reduce,
    resize,
    shape,
    transpose,
)
from moka.importer.branches import is_chosen, trace_with_branches
from moka.importer.builder import MadeBlob, MadeLayer, NetBuilder, NodeSite
from moka.importer.onnx_file import OnnxModel, OnnxNode, names_are_text, read_onnx
from moka.importer.table import IMPORTERS, OPERATOR_REFUSALS
from moka.importer.trace import Trace, run_on_others, variable_tensors
from moka.net import Net
from moka.net.build import build_net
from moka.schema import caffe_pb2
from moka.schema.blobproto import from_array
from moka.types import Array, PathLike, Shape
from moka.weights import copy_weights

_FILLED_LAYERS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
}
FILLED = (  # the table
    activation, arithmetic, compare, conv, linear, normalize, pooling, reduce, resize, shape,
    transpose,
)  # fmt: skip


@dataclass(frozen=True)
class ImportedNet:
    """A net made of an ONNX model.

    Attributes:
        net: the net, without weights.
        weights: the same layers with their parameters, as a .caffemodel holds them.
        differences: from ONNX Runtime's outputs, for each output.
        free_batch: whether batches may have any size: the file leaves it open, and the net runs
            with another one.
    """

    net: caffe_pb2.NetParameter
    weights: caffe_pb2.NetParameter
    differences: tuple[Difference, ...]
    free_batch: bool


def import_onnx(
    file: PathLike,
    *,
    shapes: Mapping[str, Shape] | None = None,
    extra_layers: bool = False,
    only_ceil: bool = False,
) -> ImportedNet:
    """Make a Caffe net of an ONNX file and hold it to ONNX Runtime's values on random input.

    Layers are named after nodes, blobs after tensors.

    Args:
        shapes: of inputs by name, where the file leaves sizes open; "" stands for the only input.
        extra_layers: allow layers that only forks of Caffe have.
        only_ceil: let pooling round sizes up always; older readers do not know `round_mode`.

    Raises:
        NetError: a file that is no ONNX model or breaks ONNX's rules; a node that has no form in
            Caffe; outputs that differ by more than 1e-4 of their scale, with the place where the
            two part.
        MokaError: onnx or onnxruntime is not installed.
        OSError: the file cannot be read.
    """
    model = read_onnx(file, shapes)
    with names_are_text(file):
        return _imported(model, file, extra_layers=extra_layers, only_ceil=only_ceil)


def _imported(
    model: OnnxModel, file: PathLike, *, extra_layers: bool, only_ceil: bool
) -> ImportedNet:
    _check_operators(model)
    model, pass_ = trace_with_branches(model)
    _check_operators(model)
    builder = NetBuilder(model, pass_, extra_layers=extra_layers, only_ceil=only_ceil)
    for name, size in model.inputs.items():
        builder.add_input(name, size)
    for node in model.nodes:
        if not pass_.variable.isdisjoint(node.outputs):
            _convert(NodeSite(builder, node), file)
    layers = _finished(builder, file)
    net, weights = _messages(model, layers)
    built = build_net(net)
    copy_weights(built, weights, file)
    differences = _compared(built, builder, pass_)
    free_batch = model.free_batch and _differs(built, model, 2) is None
    if not free_batch and (fault := _differs(built, model, 1)):
        raise NetError(f"the net differs from ONNX Runtime on a second input: {fault}", file=file)
    for message in (net, weights):
        _add_fillers(message)
    return ImportedNet(net, weights, differences, free_batch)


def _check_operators(model: OnnxModel) -> None:
    """Raise NetError for the first node whose operator has no form in Caffe."""
    variable = variable_tensors(model)
    for node in model.nodes:
        is_known = node.op in IMPORTERS or is_chosen(node, variable)
        if not is_known and not variable.isdisjoint(node.outputs):
            reason = OPERATOR_REFUSALS.get(node.op, "there is no layer for this operator.")
            raise _refused(node, reason, model.file)


def _refused(node: OnnxNode, reason: str, file: PathLike, advice: str | None = None) -> NetError:
    return NetError(f"{node} has no form in Caffe: {reason}", file=file, advice=advice)


def _convert(site: NodeSite, file: PathLike) -> None:
    try:
        IMPORTERS[site.node.op](site)
    except MokaError as error:
        raise _refused(site.node, error.message, file, error.advice) from None
    site.close()


# --- names and borders ----------------------------------------------------------------------


def _finished(builder: NetBuilder, file: PathLike) -> list[MadeLayer]:
    """The layers that the outputs need, with all blobs named and outputs where they belong."""
    for name in builder.model.outputs:
        if name not in builder.values:
            raise NetError(f'its output "{name}" does not depend on the input.', file=file)
    _name_outputs(builder)
    needed = {builder.values[name] for name in builder.model.outputs}
    kept: list[MadeLayer] = []
    for layer in reversed(builder.layers):
        if layer.message.type == "Input" or not needed.isdisjoint(layer.tops):
            kept.append(layer)
            needed.update(layer.bottoms)
    layers = list(_with_silence(builder, kept[::-1], needed))
    _name_blobs(layers)
    return layers


def _name_outputs(builder: NetBuilder) -> None:
    """Give each output a blob of its own, under the output's name, that no layer reads."""
    read = {bottom for layer in builder.layers for bottom in layer.bottoms}
    taken: set[MadeBlob] = set()
    for name in builder.model.outputs:
        value = builder.values[name]
        made_by_input = value.maker is not None and value.maker.message.type == "Input"
        if made_by_input and value.name == name:
            raise NetError(f'its output "{name}" is its input itself.', file=builder.model.file)
        if value in read or value in taken or made_by_input:
            if value.name == name:
                value.name = ""
            message = caffe_pb2.LayerParameter(type="Split", name=builder.unique(f"{name}/output"))
            layer = MadeLayer(message, f'output "{name}"', [value], [])
            value = MadeBlob(value.shape, name, layer)
            layer.tops.append(value)
            builder.layers.append(layer)
            builder.values[name] = value
        value.name = name
        taken.add(value)


def _with_silence(
    builder: NetBuilder, layers: list[MadeLayer], needed: set[MadeBlob]
) -> Iterator[MadeLayer]:
    """The layers, with a Silence behind each that makes more blobs than are needed."""
    for layer in layers:
        yield layer
        if rest := [top for top in layer.tops if top not in needed]:
            name = builder.unique(f"{layer.message.name}/unused")
            message = caffe_pb2.LayerParameter(type="Silence", name=name)
            yield MadeLayer(message, layer.origin, rest, [])


def _name_blobs(layers: list[MadeLayer]) -> None:
    """Name the blobs that stand for no tensor after their layers."""
    taken = {top.name for layer in layers for top in layer.tops if top.name}
    for layer in layers:
        for k, top in enumerate(layer.tops):
            if not top.name:
                stem = layer.message.name + (f"/{k}" if len(layer.tops) > 1 else "")
                name, n = stem, 1
                while name in taken:
                    n += 1
                    name = f"{stem}_{n}"
                top.name = name
                taken.add(name)


def _messages(
    model: OnnxModel, layers: list[MadeLayer]
) -> tuple[caffe_pb2.NetParameter, caffe_pb2.NetParameter]:
    """The net without weights, and with them."""
    _share(layers)
    net = caffe_pb2.NetParameter(name=model.proto.graph.name)
    for layer in layers:
        message = net.layer.add()
        message.CopyFrom(layer.message)
        message.bottom.extend(value.name for value in layer.bottoms)
        message.top.extend(value.name for value in layer.tops)
    weights = caffe_pb2.NetParameter()
    weights.CopyFrom(net)
    for message, layer in zip(weights.layer, layers, strict=True):
        message.blobs.extend(map(from_array, layer.blobs))
        layer.blobs.clear()  # weights may be large
    return net, weights


def _share(layers: list[MadeLayer]) -> None:
    """Share parameters between layers that use one tensor of the model."""
    users: dict[object, list[tuple[MadeLayer, int]]] = {}
    for layer in layers:
        if not layer.message.param and layer.message.type != "BatchNorm":
            for k, blob in enumerate(layer.blobs):
                place = blob.__array_interface__["data"], blob.shape, blob.strides
                users.setdefault(place, []).append((layer, k))
    for sharers in users.values():
        if len(sharers) > 1:
            first, index = sharers[0]
            for layer, k in sharers:
                while len(layer.message.param) < len(layer.blobs):
                    layer.message.param.add()
                layer.message.param[k].name = f"{first.message.name}/{index}"


def _add_fillers(net: caffe_pb2.NetParameter) -> None:
    """Add fillers for learned weights, for training without the .caffemodel."""
    for layer in net.layer:
        learned = all(param.lr_mult for param in layer.param)
        if layer.type in _FILLED_LAYERS and learned:
            getattr(layer, _FILLED_LAYERS[layer.type]).weight_filler.type = "msra"


# --- the check ------------------------------------------------------------------------------


def _compared(net: Net, builder: NetBuilder, pass_: Trace) -> tuple[Difference, ...]:
    """How far the net's outputs lie from ONNX Runtime's, on the trace's input.

    Raises:
        NetError: an output lies too far away; names the first node whose blob does.
    """
    model = builder.model
    blobs = _blobs(net, pass_.given)
    found = tuple(difference_of(blobs[n], pass_.values[n], n) for n in model.outputs)
    worst = largest(found)
    if not worst.is_small:
        place = _first_apart(builder, blobs, pass_)
        raise NetError(f"the net differs from ONNX Runtime by {worst}{place}.", file=model.file)
    return found


def _differs(net: Net, model: OnnxModel, batch: int) -> str | None:
    """How the net's outputs differ from the model's on other inputs, of `batch` times the batch;
    None: they do not. Numbers of the first input that were taken for constants would show here."""
    try:
        given, expected = run_on_others(model, batch)
        blobs = _blobs(net, given)
    except MokaError as error:
        return str(error)
    found = largest([difference_of(blobs[name], expected[name], name) for name in expected])
    return None if found.is_small else str(found)


def _blobs(net: Net, given: Mapping[str, Array]) -> dict[str, Array]:
    net.infer_shapes({name: values.shape for name, values in given.items()})
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in given.items()}
    with torch.no_grad():
        return {name: blob.numpy() for name, blob in net.propagate(tensors).items()}


def _first_apart(builder: NetBuilder, blobs: Mapping[str, Array], pass_: Trace) -> str:
    for name, value in builder.values.items():
        if value.name == name and name in blobs:
            here = difference_of(blobs[name], pass_.values[name], name)
            if not here.is_small and value.maker is not None:
                return f"; they part at {value.maker.origin}, by {here}"
    return ""
