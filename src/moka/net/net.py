"""Net: a graph with its layers, as an ordinary `nn.Module`.

Calling a net with tensors for its inputs returns its outputs; nothing else is touched. The blobs
that Caffe's users see (`net.blobs`) are kept by the engines in `moka.engine`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from moka.blob import Blob, BlobVec, ParameterMemory
from moka.context import device as context_device
from moka.context import solver_count, solver_rank
from moka.data.batches import Share
from moka.errors import MokaError, NetError
from moka.graph import (
    BackwardMarks,
    Graph,
    LearnableBlob,
    Node,
    build_graph,
    in_place_tails,
    mark_backward,
    share,
)
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.layers.source import Source
from moka.net import log_lines
from moka.net.memory import data_bytes, memory_use
from moka.schema import caffe_pb2, read_text
from moka.schema.upgrade import upgrade_net
from moka.types import PathLike, Shape

NetLike = PathLike | caffe_pb2.NetParameter
Callback = Callable[[int], object]
log = logging.getLogger("moka.detail")


@dataclass(frozen=True)
class Callbacks:
    """Functions that are called with the index of each layer, before and after it runs."""

    before_forward: list[Callback] = field(default_factory=list)
    after_forward: list[Callback] = field(default_factory=list)
    before_backward: list[Callback] = field(default_factory=list)
    after_backward: list[Callback] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(vars(self).values())


class Net(nn.Module):
    """A neural net.

    Args:
        graph: its structure.
        device: where it runs; None asks the context (`moka.context`).

    Attributes:
        graph: nodes in running order; node i belongs to layer i.
        layers: the layers, in order.
        marks: for each layer, what takes part in the backward pass.
        sources: (name, layer) of the layers that make data.
        learnable: every parameter once, with its owner, sharers and factors.
        blobs: name to Blob, in order; they take no memory before they are used.
        held: blobs that no source fills in a pass, since they are the user's: the inputs, and
            constants, which are filled once.
        passes: of the training step, so that the layerwise engine sees that blobs have changed.
        memory: how many bytes its blobs and parameters take.
        callbacks: what passes over the blobs call for each layer; a training step then goes
            layer by layer too.
        debug_info: whether each pass is logged layer by layer (`moka.engine.debug_info`).

    Raises:
        NetError, DataError: with file and layer.
    """

    def __init__(self, graph: Graph, device: torch.device | None = None) -> None:
        super().__init__()
        self.graph = graph
        self.device = device or context_device()
        self.passes = 0
        self.callbacks = Callbacks()
        self.debug_info = graph.param.debug_info
        shapes: dict[str, Shape] = {}
        self._counted_bytes = 0  # so far, as Caffe's log counts
        log.info(log_lines.opening(graph.filtered))
        made = nn.ModuleList(self._make_layer(node, shapes) for node in graph.nodes)
        self.layers = cast("list[Layer]", made)
        self._running = list(self.layers)  # plain, for its faster access
        try:
            blob_shapes = [layer.blob_shapes for layer in self.layers]
            self.learnable: tuple[LearnableBlob, ...] = share(graph.nodes, blob_shapes)
        except MokaError as error:
            raise error.at(file=graph.file) from None
        self.sources = [(n, s) for n, s in self.named_layers() if isinstance(s, Source)]
        for _, source in self.sources:
            source.attach(self.device, self._share())
        self.marks: tuple[BackwardMarks, ...] = self._mark()
        self._cut = self._cut_bottoms()
        self._tie_shared_weights()
        self._watchers = self._watch_in_place_chains()
        self.to(self.device)
        self.blobs = self._make_blobs(shapes)
        self.held = frozenset(graph.inputs) | self._fill_once()
        self._layer_blobs: dict[int, BlobVec] = {}
        self._last_use = _last_uses(graph)
        self.input_shapes = {name: shapes[name] for name in graph.inputs}
        self._checked_shapes: dict[str, Shape] = {}
        self.memory = memory_use(
            graph.nodes,
            shapes,
            [layer.makes_views for layer in self.layers],
            [tuple(self.parameter_of(blob).shape) for blob in self.learnable],
        )
        need_backward = [marks.layer for marks in self.marks]
        for line in log_lines.closing(graph.nodes, need_backward, graph.outputs, self.memory):
            log.info(line)

    # --- building -------------------------------------------------------------------------

    def _share(self) -> Share:
        """Which part of the data this net reads, if several solvers train one model."""
        count = solver_count()
        together = count > 1 and self.graph.phase == caffe_pb2.TRAIN
        return Share(solver_rank(), count) if together else Share()

    def _make_layer(self, node: Node, shapes: dict[str, Shape]) -> Layer:
        entry = REGISTRY[node.type]
        bottoms = [shapes[b] for b in node.bottoms]
        try:
            layer = entry.make(node.layer, *bottoms)
            _check_in_place(node, bottoms, layer.first_top_shapes)
        except MokaError as error:
            raise error.at(
                file=error.file or self.graph.file, layer=node.name, layer_type=node.type
            ) from None
        tops = layer.first_top_shapes
        shapes.update(zip(node.tops, tops, strict=True))
        for line in log_lines.layer_lines(node, layer, tops, self._counted_bytes):
            log.info(line)
        self._counted_bytes += data_bytes(tops)
        return layer

    def _mark(self) -> tuple[BackwardMarks, ...]:
        mults = [[0.0] * len(layer.blob_shapes) for layer in self.layers]
        for blob in self.learnable:
            for i, k in blob.users:
                # Each user asks for itself, as in Caffe: only the factors are shared. What the net
                # was given counts, not the 0 that BatchNorm adds for its statistics.
                specs = self.graph.param.layer[i].param
                mults[i][k] = specs[k].lr_mult if k < len(specs) else 1.0
        return mark_backward(self.graph.nodes, mults, self.graph.param.force_backward)

    def _cut_bottoms(self) -> list[list[int]]:
        """For each layer the bottoms that take no gradient though what they come from may: those
        with `propagate_down: false`, and with `force_backward`, which overrules that, labels."""
        forced = self.graph.param.force_backward
        return [
            [
                j
                for j, wanted in enumerate(marks.bottoms)
                if not wanted and (forced or not all(node.layer.propagate_down[j : j + 1]))
            ]
            for node, marks in zip(self.graph.nodes, self.marks, strict=True)
        ]

    def _tie_shared_weights(self) -> None:
        for blob in self.learnable:
            owner = self.layers[blob.owner[0]].weights[blob.owner[1]]
            owner.requires_grad_(any(self.marks[i].params[k] for i, k in blob.users))
            for i, k in blob.users[1:]:
                self.layers[i].share_weight(k, owner)
                log.info(
                    "Sharing parameters '%s' owned by layer '%s', param index %d",
                    blob.name,
                    self.graph.nodes[blob.owner[0]].name,
                    blob.owner[1],
                )
            for i, k in blob.users:
                if owner.requires_grad and not self.marks[i].params[k]:
                    self.layers[i].detach_weight(k)

    def _watch_in_place_chains(self) -> dict[int, list[tuple[str, Layer]]]:
        """For the last in-place layer on a blob, those before it that need to see its result."""
        watchers: dict[int, list[tuple[str, Layer]]] = {}
        for i, last in in_place_tails(self.graph.nodes).items():
            layer = self.layers[i]
            if layer.entry.gradient_of_final_blob:
                layer.expect_final_blob()
                watchers.setdefault(last, []).append((self.graph.nodes[i].tops[0], layer))
        return watchers

    def _make_blobs(self, shapes: Mapping[str, Shape]) -> dict[str, Blob]:
        blobs: dict[str, Blob] = {}
        for node in self.graph.nodes:
            for top, weight in zip(node.tops, node.loss_weights, strict=True):
                if top not in blobs or weight:
                    blobs[top] = Blob(shapes[top], weight, self.device)
        return blobs

    def _fill_once(self) -> frozenset[str]:
        """Fill the blobs of data that is made once; returns their names."""
        names: set[str] = set()
        for node, layer in zip(self.graph.nodes, self.layers, strict=True):
            if isinstance(layer, Source):
                for k, values in layer.made_once().items():
                    self.blobs[node.tops[k]].data_memory.put(values.to(self.device))
                    names.add(node.tops[k])
        return frozenset(names)

    # --- what is where --------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.graph.name

    def parameter_of(self, blob: LearnableBlob) -> nn.Parameter:
        """The parameter itself."""
        return self.layers[blob.owner[0]].weights[blob.owner[1]]

    def layer_blobs(self, index: int) -> BlobVec:
        """The parameters of layer `index` as blobs; the same objects each time."""
        if index not in self._layer_blobs:
            self._layer_blobs[index] = self.layers[index].make_blobs()
        return self._layer_blobs[index]

    def take_written_parameters(self) -> None:
        """Copy parameters to the device whose NumPy arrays a user may have written to."""
        for memory in self._handed_out_parameters():
            memory.push()

    def renew_written_parameters(self) -> None:
        """Copy parameters from the device to NumPy arrays that a user holds."""
        for memory in self._handed_out_parameters():
            memory.pull()

    def _handed_out_parameters(self) -> Iterator[ParameterMemory]:
        if self.device.type == "cpu":
            return  # there an array is the parameter's own memory
        for blobs in self._layer_blobs.values():
            for blob in blobs:
                for memory in (blob.data_memory, blob.diff_memory):
                    if isinstance(memory, ParameterMemory) and memory.handed_out:
                        yield memory

    def renew_layer_blobs(self, index: int) -> None:
        """Let the blobs of layer `index` show its parameters, which have been exchanged."""
        layer = self.layers[index]
        for blob, weight in zip(self._layer_blobs.get(index, ()), layer.weights, strict=False):
            blob.show_parameter(weight)

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) in running order; names may repeat."""
        for node, layer in zip(self.graph.nodes, self.layers, strict=True):
            yield node.name, layer

    @property
    def loss_tops(self) -> list[tuple[str, float]]:
        """(blob, weight) of everything that adds to the loss."""
        return [
            (top, weight)
            for node in self.graph.nodes
            for top, weight in zip(node.tops, node.loss_weights, strict=True)
            if weight
        ]

    def close(self) -> None:
        """Stop the threads and close the files of data layers."""
        for _, source in self.sources:
            source.close()

    # --- running --------------------------------------------------------------------------

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by name, for tensors given by the names of the inputs.

        Data layers whose tops are given are not asked for data.

        Raises:
            NetError: a name that is no input, or an input that is missing.
        """
        given = {top for node in self.graph.nodes if not node.bottoms for top in node.tops}
        if unknown := set(inputs) - given:
            raise NetError(
                f"no input is named {', '.join(sorted(unknown))}; inputs are"
                f" {', '.join(sorted(given))}.",
                file=self.graph.file,
            )
        on_device = {
            name: torch.as_tensor(value, dtype=torch.float32, device=self.device)
            for name, value in inputs.items()
        }
        self._check_shapes({name: tuple(value.shape) for name, value in on_device.items()})
        blobs = self.propagate(on_device, keep=self.graph.outputs)
        return {name: blobs[name] for name in self.graph.outputs}

    def propagate(
        self,
        inputs: Mapping[str, Tensor],
        keep: Sequence[str] | None = None,
        see: Callable[[str, Tensor], object] | None = None,
    ) -> dict[str, Tensor]:
        """All blobs by name (in-place ones: their last value), as one differentiable function.

        Args:
            inputs: tensors for tops of source layers; a source that is not given makes its own.
            keep: blobs to return; the others are let go after their last use. None keeps all.
            see: called with the name of each top and its tensor, when a layer has made it.
        """
        blobs: dict[str, Tensor] = {}
        for i, node in enumerate(self.graph.nodes):
            if not node.bottoms and self._given(i, inputs):
                blobs.update((top, inputs[top]) for top in node.tops)
                continue
            bottoms = [blobs[b] for b in node.bottoms]
            for j in self._cut[i]:
                bottoms[j] = bottoms[j].detach()
            tops = self.run_layer(i, bottoms)
            blobs.update(zip(node.tops, tops, strict=True))
            if see is not None:
                for name, top in zip(node.tops, tops, strict=True):
                    see(name, top)
            if keep is not None:
                for name in self._last_use[i]:
                    if name not in keep:
                        del blobs[name]
        return blobs

    def _given(self, index: int, inputs: Mapping[str, Tensor]) -> bool:
        """Whether all tops of a source are given; some of them only is an error."""
        node = self.graph.nodes[index]
        missing = [top for top in node.tops if top not in inputs]
        if missing and (len(missing) < len(node.tops) or node.entry.source == "caller"):
            raise NetError(
                f"no data given for {', '.join(missing)}.",
                file=self.graph.file,
                layer=node.name,
                layer_type=node.type,
                advice=f"Pass a tensor for each of {', '.join(node.tops)}.",
            )
        return not missing

    def run_layer(
        self, index: int, bottoms: Sequence[Tensor], *, again: bool = False
    ) -> Sequence[Tensor]:
        """Tops of one layer; a fault in the data is reported with file and layer.

        Args:
            again: this only repeats the layer's last pass (see `Layer.again`).
        """
        layer = self._running[index]
        try:
            tops = layer.again(*bottoms) if again else layer(*bottoms)
        except MokaError as error:
            node = self.graph.nodes[index]
            raise error.at(
                file=error.file or self.graph.file, layer=node.name, layer_type=node.type
            ) from None
        made = (tops,) if isinstance(tops, Tensor) else tops
        for name, layer in self._watchers.get(index, ()):
            layer.see_final_blob(made[self.graph.nodes[index].tops.index(name)].detach())
        if not bottoms:  # data comes from the host
            return [t.to(self.device, non_blocking=True) for t in made]
        return made

    def reshape(self) -> None:
        """Carry the shapes of the input blobs through the net.

        Raises:
            NetError: a layer that cannot take its new bottoms.
        """
        inputs = {name: self.blobs[name].data_memory.shape for name in self.graph.inputs}
        for name, shape in self._infer_shapes(inputs).items():
            if self.blobs[name].data_memory.shape != shape:
                self.blobs[name].reshape(*shape)
        self.input_shapes = inputs

    def follow_input_shapes(self) -> None:
        """`reshape`, if an input blob has changed its shape since the last pass."""
        for name, shape in self.input_shapes.items():
            if self.blobs[name].data_memory.shape != shape:
                self.reshape()
                return

    def _check_shapes(self, given: dict[str, Shape]) -> None:
        """Raises NetError if inputs of these shapes cannot run; what fits is not checked again."""
        if given != self._checked_shapes and not torch.compiler.is_compiling():
            self._infer_shapes(given)
            self._checked_shapes = given

    def _infer_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Every blob's shape, for given shapes of tops of source layers."""
        shapes = dict(inputs)
        for i, node in enumerate(self.graph.nodes):
            if isinstance(self.layers[i], Source) and all(top in shapes for top in node.tops):
                continue
            tops = self.top_shapes(i, [shapes[b] for b in node.bottoms])
            shapes.update(zip(node.tops, tops, strict=True))
        return shapes

    def top_shapes(self, index: int, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the tops of one layer.

        Raises:
            NetError: it cannot take these bottoms.
        """
        try:
            return [tuple(top) for top in self.layers[index].top_shapes(*bottoms)]
        except MokaError as error:
            node = self.graph.nodes[index]
            raise error.at(file=self.graph.file, layer=node.name, layer_type=node.type) from None


def _check_in_place(node: Node, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> None:
    """Raises NetError if an in-place layer changes how many elements its blob has."""
    for j, (bottom, top) in enumerate(zip(bottoms, tops, strict=False)):
        if node.in_place(j) and prod(bottom) != prod(top):
            raise NetError(
                f"cannot run in-place: it makes {top} of the {bottom} in '{node.tops[j]}'.",
                advice="Give its top a name of its own.",
            )


def _last_uses(graph: Graph) -> list[list[str]]:
    """For each node, the blobs nobody reads after it."""
    last: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        last.update((name, i) for name in (*node.bottoms, *node.tops))
    freed: list[list[str]] = [[] for _ in graph.nodes]
    for name, i in last.items():
        freed[i].append(name)
    return freed


def read_net(net: NetLike) -> tuple[caffe_pb2.NetParameter, PathLike]:
    """A net in today's form, and the file to name in messages."""
    if isinstance(net, caffe_pb2.NetParameter):
        return upgrade_net(net), "(given message)"
    return upgrade_net(read_text(net, caffe_pb2.NetParameter), net), net


def build_net(
    net: NetLike,
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
    *,
    level: int = 0,
    stages: Sequence[str] = (),
    device: torch.device | None = None,
) -> Net:
    """Read a net and make it ready to run.

    Args:
        net: a prototxt file, or a message.
        phase: caffe_pb2.TRAIN or caffe_pb2.TEST.
        level, stages: what the rules of its layers are held against.
        device: where it runs; None asks the context.

    Raises:
        SchemaError, NetError, DataError: see the message.
    """
    param, file = read_net(net)
    graph = build_graph(param, REGISTRY, phase=phase, level=level, stages=stages, file=file)
    return Net(graph, device)


def parameter_count(net: Net) -> int:
    """Learnable numbers in the net, shared ones once."""
    return sum(net.parameter_of(blob).numel() for blob in net.learnable)
