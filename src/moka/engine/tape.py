"""The operators of some work on a CPU, noted while it runs, and run again as one function.

A training step finds out the same things each time: which layer comes next, what its gradient
needs, where a gradient goes. For a small net that takes longer than the arithmetic. A tape holds
what comes of it: the operators in their order, those of the backward pass among them. Run in a row,
they also leave the threads of OpenMP less time to fall asleep in between.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from moka.engine.captured import CannotRecordError, Inputs
from moka.engine.host_reads import OperatorMode, why_it_waits

T = TypeVar("T")

# What an operator takes as it is; all else is handed to the function each time it runs.
PLAIN = (bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
MEMORY = (torch.UntypedStorage, torch.TypedStorage)
ADD, ADD_IN_PLACE = torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor
_NUMBERS = count()  # of tapes


class Place(NamedTuple):
    """Where a value lies. Shape and strides belong to it: two views of a memory are two values.

    Attributes:
        memory: its number if an input or an operator has brought it, else less than 0.
        form: shape, strides, type, and whether it is read as conjugate or negative.
        start: its first number in the memory.
    """

    memory: int
    form: tuple[Any, ...]
    start: int


class OperatorRecorder:
    """Records work on a CPU as a tape (`moka.engine.captured.Recorder`)."""

    def warm_up(self, work: Callable[[], T], *, is_first: bool) -> T:
        return work()

    def record(self, work: Callable[[Inputs], T], inputs: Inputs) -> Callable[[Inputs], T]:
        """Do the work and record it; the first call of what is returned gives this run's result."""
        with Tape(inputs) as tape:
            done = [work(inputs)]
        run = tape.function(done[0])

        def replay(given: Inputs) -> T:
            return done.pop() if done else run(given)

        return replay


class Tape(OperatorMode):
    """Notes the operators of the work that is done inside of it.

    A value is known by its place in memory. Memory that neither the inputs nor the work itself have
    brought is constant: parameters, buffers, gradients that are added to. Operators read it, and
    write to it, where it lies.

    Args:
        inputs: what may be another tensor in each run, by name.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._graph = Graph()
        self._names = list(inputs)
        self._constants: list[Any] = []
        self._nodes: dict[Place, Node] = {}
        self._places: dict[Node, Place] = {}  # of what operators have made
        self._number = next(_NUMBERS)
        self._memories = count()
        self._last_parameter: Node | None = None
        self._fault: str | None = None
        for name, tensor in inputs.items():
            if self._memory(tensor) is not None:
                self._fault = f"{name} lies in the memory of another input"
            self._bring(tensor, self._new_parameter())

    def function(self, result: T) -> Callable[[Inputs], T]:
        """What does the work again.

        Args:
            result: of the work: tensors, and whatever else, in tuples, lists and dicts. Tensors are
                made anew in each run; the rest stays what it is.

        Raises:
            CannotRecordError: the operators do not say all that the work does.
        """
        if self._fault is not None:
            raise CannotRecordError(self._fault, result)
        tensors: list[Node] = []

        def numbered(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            tensors.append(self._node_of(leaf))
            return _Number(len(tensors) - 1)

        form = _mapped(numbered, result)
        self._graph.output(tuple(tensors))
        self._add_in_place()
        run = GraphModule({}, self._graph).forward
        names, constants = self._names, self._constants

        def again(given: Inputs) -> T:
            with torch.no_grad():
                made = run(*[given[name] for name in names], *constants)
            whole: T = _mapped(lambda leaf: made[leaf] if type(leaf) is _Number else leaf, form)
            return whole

        return again

    def _add_in_place(self) -> None:
        """Let sums take the memory of a term that nobody reads any more and that is not an input's.
        Autograd adds up gradients in this way, but not while it is watched."""
        memories = {
            node: place.memory
            for node, place in self._places.items()
            if place.memory >= len(self._names)  # the first numbers are the inputs'
        }
        last = {memories[read]: node for node in self._graph.nodes for read in node.all_input_nodes
                if read in memories}  # fmt: skip
        taken: dict[int, int] = {}  # by a sum that would have had this memory

        def memory_of(value: object) -> int | None:
            found = memories.get(value)  # type: ignore[call-overload]
            while found in taken:
                found = taken[found]
            return found

        for node in self._graph.nodes:
            if node.target is not ADD or len(node.args) != 2 or node.kwargs:
                continue
            for term, other in (node.args, node.args[::-1]):
                memory = memory_of(term)
                if (
                    memory is not None
                    and last[memory] is node
                    and memory_of(other) != memory
                    and self._places[term][1:] == self._places[node][1:]
                ):
                    node.target, node.args = ADD_IN_PLACE, (term, other)
                    taken[memories[node]] = memory
                    last[memory] = last.get(memories[node], node)
                    break

    def run_operator(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._fault is not None:
            return func(*args, **kwargs)
        taken = [x for x in (*_leaves(args), *_leaves(kwargs)) if isinstance(x, Tensor)]
        if not all(map(_has_memory, taken)):
            self._fault = f"{func.name()} takes a tensor that is no array"
            return func(*args, **kwargs)
        constant = {x.untyped_storage()._cdata for x in taken if self._memory(x) is None}
        given = self._as_argument(tuple(args)), self._as_argument(dict(kwargs))
        result = func(*args, **kwargs)
        self._note(func, given, constant, result)
        if why := why_it_waits(func, args, result):
            self._fault = f"{func.name()} {why}"
        return result

    def _note(self, func: Any, given: tuple[Any, Any], constant: set[int], result: Any) -> None:
        """Note an operator with its arguments.

        Args:
            constant: memory that it takes and no operator has made.
        """
        made = [x for x in _leaves(result) if isinstance(x, Tensor)]
        if not all(map(_has_memory, made)):
            self._fault = f"{func.name()} makes a tensor that is no array"
            return
        new = [
            x
            for x in made
            if x.untyped_storage()._cdata not in constant and self._place(x) not in self._nodes
        ]
        if not new and not func._schema.is_mutable:
            return  # it only looks at constants, or gives a value another name
        node = self._graph.call_function(func, *given)
        several = not isinstance(result, Tensor)
        for k, x in enumerate(result if several and result is not None else [result]):
            if any(x is each for each in new):
                get = self._graph.call_function(operator.getitem, (node, k)) if several else node
                self._bring(x, get)
                self._places[get] = self._place(x)

    def _bring(self, tensor: Tensor, node: Node) -> None:
        """Note that a value is what a node gives."""
        if self._memory(tensor) is None:
            mark = self._number, next(self._memories)
            tensor.untyped_storage().recorded_memory = mark  # type: ignore[attr-defined]
        self._nodes.setdefault(self._place(tensor), node)

    def _memory(self, tensor: Tensor) -> int | None:
        """The number of a memory that an input or an operator has brought; None: it is constant.

        The memory itself bears the number, for its address is another one's as soon as it is freed.
        """
        tape, number = getattr(tensor.untyped_storage(), "recorded_memory", (None, None))
        return number if tape == self._number else None

    def _place(self, tensor: Tensor) -> Place:
        number = self._memory(tensor)
        memory = -tensor.untyped_storage()._cdata if number is None else number
        read_as = tensor.is_conj(), tensor.is_neg()
        form = tuple(tensor.shape), tensor.stride(), tensor.dtype, *read_as
        return Place(memory, form, int(tensor.storage_offset()))

    def _as_argument(self, value: Any) -> Any:
        """What an operator takes, as the graph has it."""
        return _mapped(self._leaf_as_argument, value)

    def _leaf_as_argument(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._node_of(value)
        if value is None or isinstance(value, PLAIN):
            return value
        if isinstance(value, MEMORY):
            self._fault = "an operator takes memory that is no tensor"
        return self._constant(value)

    def _node_of(self, tensor: Tensor) -> Node:
        place = self._place(tensor)
        if place not in self._nodes:
            if self._memory(tensor) is not None:
                self._fault = "a value has come to be without an operator"
            self._nodes[place] = self._constant(tensor)
        return self._nodes[place]

    def _constant(self, value: Any) -> Node:
        self._constants.append(value)
        return self._new_parameter()

    def _new_parameter(self) -> Node:
        """One more of the function's parameters, behind those that there are."""
        graph, last = self._graph, self._last_parameter
        with graph.inserting_before() if last is None else graph.inserting_after(last):
            self._last_parameter = graph.placeholder(f"given_{len(graph.nodes)}")
        return self._last_parameter


class _Number(int):
    """Stands for a tensor of a result: its place in the tuple that the function returns."""


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """A value of tuples, lists and dicts, with each leaf changed."""
    if isinstance(value, (tuple, list)):
        parts = [_mapped(change, each) for each in value]
        if isinstance(value, list):
            return parts
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {name: _mapped(change, each) for name, each in value.items()}
    return change(value)


def _has_memory(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for each in value for leaf in _leaves(each)]
    if isinstance(value, Mapping):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [value]
