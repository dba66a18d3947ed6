"""Layer types by name, and everything that is known of a type without making a layer.

`Entry` is the one home of these facts. Whoever needs one (the graph, an engine, a picture, the
docs) asks the entry; nobody else keeps a list of layer types. A class is registered by its entry:

    @layer("ReLU", bottoms=1, tops=1, coordinates="same", bfloat16="keeps")
    class ReLU(Layer): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar

from moka.graph.wiring import Arity, StateBlobs
from moka.schema import caffe_pb2
from moka.types import Shape

if TYPE_CHECKING:
    from moka.layers.base import Layer

    LayerClass = type[Layer]

L = TypeVar("L", bound="type[Layer]")

SourceKind = Literal["caller", "arrays", "files", "fillers", "parameters"]
StandIn = Callable[[caffe_pb2.LayerParameter, Shape], Sequence[Shape]]
BFloat16 = Literal["multiplies", "keeps", "float32"]
Coordinates = Literal["same", "window", "transposed window", "crop", "aligned crop", "first"]


@dataclass(frozen=True)
class DrawStyle:
    """How pictures of nets show a layer type. `{name}` stands for an option of the layer.

    Attributes:
        color: #RRGGBB.
        kind: what the label says after the type.
        edge: what stands on the edges to the tops.
        window: whether the label lists kernel size, stride and pad.
        rates: whether the label may list the lr_mult of weight and bias.
    """

    color: str = "#6495ED"
    kind: str = ""
    edge: str = ""
    window: bool = False
    rates: bool = False


@dataclass(frozen=True)
class Entry:
    """The facts of a layer type. Calling an entry with a class registers it.

    Attributes:
        type: its name in a prototxt.
        make: its class.
        bottoms, tops: how many; n, or (least, most) with None for "no limit".
        message: the field of LayerParameter that configures it; found by itself where it is the
            snake_case type plus `_param`, None if there is none.
        other_messages: other names of that field, in other forks. The one that is set counts.
        aliases: other names of the type, in other forks.
        fork: the fork of Caffe that it comes from; None: BVLC Caffe.
        one_top_each: makes one top for each bottom.
        is_loss: its first top has a loss weight of 1 unless the net says otherwise.
        prediction: of a loss: the type of the layer that makes a prediction of its first bottom.
        differentiable: whether a gradient reaches its bottoms.
        fixed_bottoms: indices of bottoms that never take a gradient (labels); -1 is the last.
        state_blobs: which of its parameters are state that no solver trains: how many, the first
            ones; or a function from a layer's message to their indices, for a type whose forms
            differ.
        other_counts: what lies behind a model with another number of parameters than the net's, by
            (number in the file, number in the net): a sentence that says what to do.
        source: where its tops come from, for a type without bottoms: the caller gives them before
            each pass; arrays handed over beforehand; files; fillers; its own parameters. None:
            not a source.
        stand_in: of a source from files, the shapes of its tops where these are missing: a function
            of its message and the shape of a batch of images; None: images, then a label for each.
        any_shapes: a source whose tops are arrays of any shape.
        channels: of a source of images, how many channels they have; None: its options or its data
            decide.
        views: its tops lie in the memory of its first bottom.
        spares_top: its tops have memory of their own, and its gradient does not look at them, so
            the layer that reads a top may write over it.
        is_plumbing: it only gives its bottom other names; tables of a net leave it out.
        coordinates: how the pixels of its top lie in those of its bottom: the "same"; each from a
            "window", or a "transposed window" from each; a "crop" of it, or an "aligned crop",
            which finds its offset; as those of the "first" bottom, though not for pycaffe's
            `coord_map`. None: they do not.
        shapes_from_data: the shapes of its tops depend on values; `top_shapes` is a first guess.
        on_host: it computes on the CPU, with NumPy or files, wherever the net runs.
        runs_user_code: its class runs code of the user, which may do anything.
        writes_files: it writes files when it runs.
        gradient_of_final_blob: in-place, its gradient depends on what later in-place layers leave
            in the blob (`Layer.see_final_blob`).
        bfloat16: what it does in mixed precision: "multiplies" matrices in bfloat16; "keeps" the
            precision that it gets; is given "float32". None: see `Layer.default_precision`.
        drawn: how pictures of nets show it.
    """

    type: str
    _: KW_ONLY
    bottoms: Arity
    tops: Arity
    message: str | None = None
    other_messages: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    fork: str | None = None
    one_top_each: bool = False
    is_loss: bool = False
    prediction: str | None = None
    differentiable: bool = True
    fixed_bottoms: tuple[int, ...] = ()
    state_blobs: StateBlobs = 0
    other_counts: Mapping[tuple[int, int], str] = field(default_factory=dict)
    source: SourceKind | None = None
    stand_in: StandIn | None = None
    any_shapes: bool = False
    channels: int | None = None
    views: bool = False
    spares_top: bool = False
    is_plumbing: bool = False
    coordinates: Coordinates | None = None
    shapes_from_data: bool = False
    on_host: bool = False
    runs_user_code: bool = False
    writes_files: bool = False
    gradient_of_final_blob: bool = False
    bfloat16: BFloat16 | None = None
    drawn: DrawStyle = DrawStyle()
    make: LayerClass = field(init=False)

    def __post_init__(self) -> None:
        if self.message is None:
            object.__setattr__(self, "message", _message_of(self.type))

    def __call__(self, cls: L) -> L:
        """Register a layer class under its names. A second registration is refused."""
        for name in (self.type, *self.aliases):
            if name in _entries:
                raise ValueError(f"layer type {name} is registered twice")
        object.__setattr__(self, "make", cls)
        cls.entry = self
        _entries.update(dict.fromkeys((self.type, *self.aliases), self))
        return cls

    @property
    def messages(self) -> tuple[str, ...]:
        """The fields of LayerParameter that may configure it."""
        return (*((self.message,) if self.message else ()), *self.other_messages)


layer = Entry  # as a decorator

_entries: dict[str, Entry] = {}
REGISTRY: Mapping[str, Entry] = MappingProxyType(_entries)


def all_entries() -> list[Entry]:
    """Each layer type once, whatever its aliases, in alphabetical order."""
    return [_entries[name] for name in sorted(_entries) if _entries[name].type == name]


def _message_of(type_name: str) -> str | None:
    """The LayerParameter field whose message is named after the type, if there is one."""
    wanted = f"{type_name}Parameter"
    for field_ in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field_.message_type is not None and field_.message_type.name == wanted:
            return field_.name
    return None
