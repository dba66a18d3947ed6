"""Net: a graph with its layers, as an ordinary `nn.Module`.

Calling a net with tensors for its inputs returns its outputs; nothing else is touched. The blobs
that Caffe's users see (`net.blobs`) are filled by the engines in `moka.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from moka.blob import BlobVec
from moka.context import device as context_device
from moka.context import with_index
from moka.data.place import Share
from moka.errors import NetError
from moka.graph import Graph, LearnableBlob
from moka.layers.base import Layer, Way
from moka.layers.late_checks import collected_checks
from moka.layers.source import Source
from moka.memory import (
    ParameterMemory,
    memories_of,
    parameters_in_users_hands,
    parameters_on_device,
)
from moka.net import summary
from moka.net.arguments import by_name
from moka.net.assemble import EXPLAINED, assemble, explained, make_blobs, naming, parameter_of
from moka.net.module_names import module_names
from moka.net.place import Place
from moka.net.runner import Runner
from moka.types import Shape

FLOAT = torch.float32
ALL_DATA = Share()
NONE_GIVEN: Mapping[str, Shape] = MappingProxyType({})
# Empty dicts, which torch.compile of torch 2.6 can read.
NOTHING_BEGUN: Mapping[str, Tensor] = {}
LAYERS_OWN_WAYS: Mapping[int, Way] = {}
NOTHING_TO_COPY: AbstractContextManager[None] = nullcontext()


class Net(nn.Module):
    """A neural net.

    Its layers are its child modules, under their own names (`moka.net.module_names` says what
    becomes of names that PyTorch refuses), so that `state_dict()` has keys such as `conv1.weight`.

    Args:
        graph: its structure.
        device: where it runs; None asks the context (`moka.context`).
        share: which part of the data its sources read.
        given_shapes: shapes of tops whose data the caller will give. Sources whose tops are all
            among them are not made, so that their files need not be there.
        silent: do not log what is made.

    Attributes:
        graph: nodes in running order.
        places: the layers in running order, each with all that running it needs to know.
        learnable: every parameter once, with its owner, sharers and factors.
        blobs: name to Blob, in order; they take no memory before they are used.
        user_filled: blobs that no source fills in a pass, since they are the user's: the inputs,
            and constants, which are filled once.
        memory: how many bytes its blobs and parameters take.
        made_layer_blobs: those parameters that somebody has asked for as blobs, by layer.
        shares_parameters: whether another net has used some of its parameters, or it another's.
        runner: what computes outputs from inputs in place of `propagate`, if it is set; with the
            same numbers.

    Raises:
        NetError, DataError: with file and layer.
    """

    def __init__(
        self,
        graph: Graph,
        device: torch.device | None = None,
        *,
        share: Share = ALL_DATA,
        given_shapes: Mapping[str, Shape] = NONE_GIVEN,
        silent: bool = False,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.device = with_index(device or context_device())
        self.runner: Runner | None = None
        self.shares_parameters = False
        parts = assemble(graph, self.device, share, given_shapes, silent=silent)
        self.places: tuple[Place, ...] = parts.places
        self.learnable: tuple[LearnableBlob, ...] = parts.learnable
        self.memory = parts.memory
        self.blobs = make_blobs(graph, parts.shapes, self.device)
        self.user_filled = frozenset(graph.inputs) | self._fill_once()
        self.input_shapes = {name: parts.shapes[name] for name in graph.inputs}
        self._checked_shapes: dict[str, Shape] = {}
        self.made_layer_blobs: dict[int, BlobVec] = {}
        self._add_children()
        self.to(self.device)
        for layer in self.layers:
            layer.exposures = 0

    # --- building -------------------------------------------------------------------------

    def _fill_once(self) -> frozenset[str]:
        """Fill the blobs of data that is made once; returns their names."""
        names: set[str] = set()
        for place in self.places:
            if isinstance(place.layer, Source):
                for k, values in place.layer.made_once().items():
                    self.blobs[place.node.tops[k]].data_memory.put(values.to(self.device))
                    names.add(place.node.tops[k])
        return frozenset(names)

    def _add_children(self) -> None:
        """Add the layers as children, last: a layer must not have the name of an attribute."""
        names = module_names(((p.node.name, p.node.type) for p in self.places), dir(self))
        for name, place in zip(names, self.places, strict=True):
            self.add_module(name, place.layer)

    # --- its parts ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.graph.name

    @property
    def layers(self) -> list[Layer]:
        """The layers in running order."""
        return [place.layer for place in self.places]

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) in running order; names may repeat."""
        for place in self.places:
            yield place.node.name, place.layer

    @property
    def sources(self) -> list[tuple[str, Source]]:
        """(name, layer) of the layers that make data."""
        return [(name, layer) for name, layer in self.named_layers() if isinstance(layer, Source)]

    @property
    def loss_tops(self) -> list[tuple[str, float]]:
        """(blob, weight) of everything that adds to the loss."""
        return [
            (top, weight)
            for node in self.graph.nodes
            for top, weight in zip(node.tops, node.loss_weights, strict=True)
            if weight
        ]

    def summary(self) -> str:
        """A line for each layer: name, type, tops with shapes, parameters."""
        return summary.summary_text(self)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return summary.as_html(self)

    # --- parameters -----------------------------------------------------------------------

    def parameter_of(self, blob: LearnableBlob) -> nn.Parameter:
        """The parameter itself."""
        return parameter_of(self.places, blob)

    def layer_blobs(self, index: int) -> BlobVec:
        """The parameters of layer `index` as blobs; the same objects each time."""
        if index not in self.made_layer_blobs:
            self.made_layer_blobs[index] = self.places[index].layer.make_blobs()
        return self.made_layer_blobs[index]

    def show_new_parameters(self, index: int) -> None:
        """Let the blobs of layer `index` show its parameters, which have been exchanged."""
        layer = self.places[index].layer
        for blob, weight in zip(
            self.made_layer_blobs.get(index, ()), layer.weights_unseen(), strict=False
        ):
            blob.show_parameter(weight)

    def parameters_in_use(self) -> AbstractContextManager[None]:
        """While an engine or solver works with parameters: take over what users wrote."""
        if self.device.type == "cpu":
            return NOTHING_TO_COPY
        return parameters_on_device(self._parameter_memories())

    def parameters_in_users_hands(self) -> AbstractContextManager[None]:
        """Inside `parameters_in_use`, while a user's function runs: give the arrays back."""
        if self.device.type == "cpu":
            return NOTHING_TO_COPY
        return parameters_in_users_hands(self._parameter_memories())

    def _parameter_memories(self) -> list[ParameterMemory]:
        """Memories (values and gradients) of all parameters that were asked for as blobs."""
        return memories_of(map(self.parameter_of, self.learnable))

    # --- data -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Let the sources start to make batches ahead; otherwise the first pass does."""
        for place in self.places:
            if isinstance(place.layer, Source):
                with naming(place.node, self.graph):
                    place.layer.prepare()

    def close(self) -> None:
        """Stop the threads and close the files of data layers."""
        for _, source in self.sources:
            source.close()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to`, `cuda` and `cpu` do: the blobs go where the parameters go."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        probe = next(self.parameters(), None)
        device = fn(torch.empty(0, device=self.device)).device if probe is None else probe.device
        if device != self.device:
            self.device = device
            for blob in self.blobs.values():
                blob.data_memory.move_to(device)
                blob.diff_memory.move_to(device)
        return self

    # --- running --------------------------------------------------------------------------

    def forward(self, *arrays: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by name.

        Data layers whose tops are given are not asked for data.

        Args:
            arrays: tensors for the net's inputs, in their order (`net(x)` for a net with one).
            inputs: tensors by the names of the inputs.

        Raises:
            NetError: a name that is no input, or an input that is missing.
        """
        if self.runner is not None and not inputs:
            made = self.runner.again(arrays)
            if made is not None:
                return made
        given = by_name(self.graph, arrays, inputs)
        on_device = {name: self._on_device(value) for name, value in given.items()}
        self._check_shapes(on_device)
        run = self.propagate if self.runner is None else self.runner
        if self.device.type == "cpu" or torch.compiler.is_compiling():
            blobs = run(on_device, self.graph.outputs)
        else:
            with self.parameters_in_use():
                blobs = run(on_device, self.graph.outputs)
        return {name: blobs[name] for name in self.graph.outputs}

    def _on_device(self, value: Tensor) -> Tensor:
        if type(value) is Tensor and value.dtype is FLOAT and value.device == self.device:
            return value
        return torch.as_tensor(value, dtype=FLOAT, device=self.device)

    def propagate(
        self,
        inputs: Mapping[str, Tensor],
        keep: Collection[str] | None = None,
        see: Callable[[str, Tensor], object] | None = None,
        *,
        start: int = 0,
        begun: Mapping[str, Tensor] = NOTHING_BEGUN,
        end: int | None = None,
        again: bool = False,
        ways: Mapping[int, Way] = LAYERS_OWN_WAYS,
    ) -> dict[str, Tensor]:
        """All blobs by name (in-place ones: their last value), as one differentiable function.

        Args:
            inputs: tensors for tops of source layers; a source that is not given makes its own.
            keep: blobs to return; the others are freed after their last use. None keeps all.
            see: called with the name of each top and its tensor, when a layer has made it.
            start, begun: the first layer that runs, and the blobs that those before it have made.
            end: one behind the last layer that runs; None: all run.
            again: this only repeats the last pass (see `Layer.again`).
            ways: other ways to run some layers, by index.
        """
        blobs = dict(begun)
        for place in self.places[start:end]:
            node = place.node
            if not node.bottoms and self._is_given(place, inputs):
                blobs.update((top, inputs[top]) for top in node.tops)
                continue
            bottoms = [blobs[name] for name in node.bottoms]
            for j in place.detached:
                bottoms[j] = bottoms[j].detach()
            tops = self.run_layer(place, bottoms, ways.get(place.index), again=again)
            blobs.update(zip(node.tops, tops, strict=True))
            if see is not None:
                for name, top in zip(node.tops, tops, strict=True):
                    see(name, top)
            if keep is not None:
                for name in place.freed:
                    if name not in keep:
                        del blobs[name]
        return blobs

    def _is_given(self, place: Place, inputs: Mapping[str, Tensor]) -> bool:
        """Whether all tops of a source are given. Raises NetError if only some are."""
        tops = place.node.tops
        missing = [top for top in tops if top not in inputs]
        if missing and len(missing) < len(tops):
            raise NetError(
                f"no data given for {', '.join(missing)}.",
                file=self.graph.file,
                layer=place.node.name,
                layer_type=place.node.type,
                advice=f"Pass a tensor for each of {', '.join(tops)}.",
            )
        return not missing

    def run_layer(
        self, place: Place, bottoms: Sequence[Tensor], way: Way | None = None, again: bool = False
    ) -> Sequence[Tensor]:
        """Tops of one layer, or of another way to run it (`again`: see `Layer.again`).

        A fault in the data is reported with file and layer.
        """
        layer = way or place.layer
        try:
            tops = layer.again(*bottoms) if again else layer(*bottoms)
        except EXPLAINED as error:
            if told := explained(error, place.node, self.graph):
                raise told from None
            if not place.layer.entry.runs_user_code:
                # Shapes that follow from values, as rows of detections do, are looked at only now.
                self.top_shapes(place, [tuple(bottom.shape) for bottom in bottoms])
            raise
        if (checks := collected_checks()) is not None:
            checks.locate(lambda e: explained(e, place.node, self.graph) or e)
        made = (tops,) if isinstance(tops, Tensor) else tops
        made = place.half.rounded(made) if place.half else made
        for k, observer in place.observers:
            observer.see_final_blob(made[k].detach())
        if not bottoms:  # data comes from the host
            return [t.to(self.device, non_blocking=True) for t in made]
        return made

    # --- shapes ---------------------------------------------------------------------------

    def reshape(self) -> None:
        """Carry the shapes of the input blobs, and of data that is made once, through the net.

        Raises:
            NetError: a layer that cannot take its new bottoms.
        """
        given = {name: self.blobs[name].data_memory.shape for name in self.user_filled}
        for name, shape in self.infer_shapes(given).items():
            if self.blobs[name].data_memory.shape != shape:
                self.blobs[name].reshape(*shape)
        self.input_shapes = {name: given[name] for name in self.graph.inputs}

    def write_no_results(self) -> None:
        """Leave files of detections (`save_output_param`) as they are, whenever it runs."""
        for layer in self.layers:
            layer.writes_results = False

    def follow_input_shapes(self) -> None:
        """`reshape`, if an input blob has changed its shape since the last pass."""
        for name, shape in self.input_shapes.items():
            if self.blobs[name].data_memory.shape != shape:
                self.reshape()
                return

    def _check_shapes(self, given: Mapping[str, Tensor]) -> None:
        """Raises NetError if inputs of these shapes cannot run; what fits is not checked again.

        A tracer or compiler follows the layers alone.
        """
        if torch.compiler.is_compiling() or torch._C._is_tracing():
            return
        shapes: dict[str, Shape] = {name: value.shape for name, value in given.items()}
        if shapes != self._checked_shapes:
            self.infer_shapes({name: tuple(shape) for name, shape in shapes.items()})
            self._checked_shapes = shapes

    def infer_shapes(
        self, inputs: Mapping[str, Shape], *, end: int | None = None
    ) -> dict[str, Shape]:
        """Every blob's shape, for given shapes of tops of source layers.

        Args:
            end: for the tops of how many layers, the first ones; None: all.

        Raises:
            NetError: a layer that cannot take its bottoms.
        """
        shapes = dict(inputs)
        for place in self.places[:end]:
            node = place.node
            if isinstance(place.layer, Source) and all(top in shapes for top in node.tops):
                continue
            tops = self.top_shapes(place, [shapes[name] for name in node.bottoms])
            shapes.update(zip(node.tops, tops, strict=True))
        return shapes

    def top_shapes(self, place: Place, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the tops of one layer.

        Raises:
            NetError: it cannot take these bottoms.
        """
        with naming(place.node, self.graph):
            return [tuple(top) for top in place.layer.top_shapes(*bottoms)]

    # --- copies ---------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: object) -> Any:
        raise NetError(
            "a Net cannot be pickled: make it in each process.",
            file=self.graph.file,
            advice="Send the names of its files; to keep its weights use save_weights.",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A net of its own, with copies of parameters and blobs."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        parts = {name: part for name, part in vars(self).items() if name != "runner"}
        copied.__dict__.update(deepcopy(parts, memo))
        copied.runner = self.runner and self.runner.for_copy(copied)
        return copied
