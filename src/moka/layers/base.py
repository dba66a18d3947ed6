"""What every layer is: declared fields, shapes, parameters, and one pure tensor function.

A layer says four things: which fields of its message it reads (`param`), the shapes of its tops
(`top_shapes`), the shape and filler of its parameters (`blob_specs`), and `forward`. It knows
nothing of nets, solvers, devices or files. Its gradient is autograd's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, ClassVar, NamedTuple

import torch
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from torch import Tensor, nn

from moka.blob import Blob, BlobVec, check_shape
from moka.errors import NetError
from moka.fillers import fill
from moka.layers.registry import Entry
from moka.schema import blobproto, caffe_pb2
from moka.types import Shape

FIRST_OWN_NUMBER = 20000  # of fields that BVLC Caffe does not know


class BlobSpec(NamedTuple):
    """Shape and filler of one parameter."""

    shape: Shape
    filler: caffe_pb2.FillerParameter


class Check(NamedTuple):
    """A condition on a field's value, and how to say it."""

    holds: Callable[[Any], bool]
    text: str


positive = Check(lambda v: v > 0, "> 0")
not_negative = Check(lambda v: v >= 0, ">= 0")


class Param:
    """A field of the layer's message, read once when the layer is made.

    Enums become their names, repeated fields tuples; a field that is not set and has no default
    in the schema becomes None. See `param`.
    """

    name: str

    def __init__(
        self, check: Check | None, of: str | None, unset_is_none: bool, required: bool
    ) -> None:
        self.check = check
        self.of = of
        self.unset_is_none = unset_is_none
        self.required = required

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def read(self, config: caffe_pb2.LayerParameter, own_message: str | None) -> Any:
        """The value of this field in a layer's configuration, checked."""
        message_name = self.of or own_message
        message = config if message_name is None else getattr(config, message_name)
        value = _field_value(message, self.name, self.unset_is_none)
        if value is None and self.required:
            raise NetError(f"{self.name} is missing.")
        if self.check and value is not None:
            for item in value if isinstance(value, tuple) else (value,):
                if not self.check.holds(item):
                    raise NetError(f"{self.name} must be {self.check.text}, got {item:g}.")
        return value


def param(
    check: Check | None = None,
    *,
    of: str | None = None,
    unset_is_none: bool = False,
    required: bool = False,
) -> Any:
    """Declare a field that the layer reads.

    Args:
        check: a condition every value has to meet.
        of: the field of LayerParameter it lies in, where it is not the layer's own message.
        unset_is_none: None when the user did not set it, even if the schema has a default.
        required: the user has to set it.
    """
    return Param(check, of, unset_is_none, required)


def _field_value(message: Message, name: str, unset_is_none: bool) -> Any:
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if field.is_repeated:
        return tuple(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return value
    if not message.HasField(name) and (unset_is_none or not field.has_default_value):
        return None
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


class Layer(nn.Module):
    """Base of all layers.

    Args:
        config: the layer's message, with its phase set.
        bottom_shapes: what it will be given.

    Attributes:
        first_top_shapes: shapes of the tops for these bottoms.
        weights: the parameters.

    Raises:
        NetError: the local fact only; the net adds file and layer.
    """

    entry: ClassVar[Entry]
    fields: ClassVar[tuple[Param, ...]] = ()
    is_source: ClassVar[bool] = False  # makes its tops from nothing (data, fillers)
    makes_views = False  # its tops lie in the memory of its first bottom
    reshapes_in_forward: ClassVar[bool] = False  # its tops' shapes may hang on data

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Param] = {}
        for base in reversed(cls.__mro__):
            found.update({k: v for k, v in vars(base).items() if isinstance(v, Param)})
        cls.fields = tuple(found.values())

    def __init__(self, config: caffe_pb2.LayerParameter, *bottom_shapes: Shape) -> None:
        super().__init__()
        self.config = config
        for field in self.fields:
            setattr(self, field.name, field.read(config, self.entry.message))
        self._refuse_unread_options()
        self.train(config.phase == caffe_pb2.TRAIN)
        self.setup(*bottom_shapes)
        self.first_top_shapes = [tuple(top) for top in self.top_shapes(*bottom_shapes)]
        for shape in self.first_top_shapes:
            check_shape(shape)
        self.weights = nn.ParameterList(self.make_weights(*bottom_shapes))
        self.blob_shapes = [tuple(w.shape) for w in self.weights]
        if config.blobs:
            self._take_given_blobs()
        self._frozen: set[int] = set()
        self._adapted = False  # whether `blobs` differs from `weights`

    def _refuse_unread_options(self) -> None:
        """Moka's own fields of the message all losses share belong to some of them only."""
        read = {field.name for field in self.fields}
        for field, _ in self.config.loss_param.ListFields():
            if field.number >= FIRST_OWN_NUMBER and field.name not in read:
                raise NetError(f"{field.name} is not an option of this layer type.")

    def _take_given_blobs(self) -> None:
        """Start from the blobs that lie in the layer's message, instead of what fillers made."""
        given = self.config.blobs
        if len(given) != len(self.weights):
            raise NetError(
                f"Incorrect number of weight blobs: {len(given)} are given, the layer has"
                f" {len(self.weights)}."
            )
        for k, (blob, weight) in enumerate(zip(given, self.weights, strict=True)):
            values, shape = blobproto.to_array(blob), self.blob_shapes[k]
            if not blobproto.fits(values.shape, shape, legacy=blobproto.is_legacy(blob)):
                raise NetError(
                    f"the blob given for parameter {k} has shape {shape_text(values.shape)}, the"
                    f" layer's is {shape_text(shape)}."
                )
            weight.data.copy_(torch.from_numpy(values).view_as(weight))

    def freeze(self, index: int) -> None:
        """Take no part in the gradient of parameter `index`, which others share and train."""
        self._frozen.add(index)
        self._adapted = True

    def share_weight(self, index: int, weight: nn.Parameter) -> None:
        """Use another layer's parameter, of the same count, as parameter `index`."""
        self.weights[index] = weight
        self._adapted |= tuple(weight.shape) != self.blob_shapes[index]

    def setup(self, *bottom_shapes: Any, **_: Any) -> None:
        """Work out once what `top_shapes` and `forward` need beyond the declared fields."""

    def top_shapes(self, *bottom_shapes: Any, **_: Any) -> Sequence[Shape]:
        """Shapes of the tops; raises NetError if the bottoms do not fit. No data, no memory."""
        return bottom_shapes

    def blob_specs(self, *bottom_shapes: Any, **_: Any) -> Iterable[BlobSpec]:
        """Shape and filler of each parameter, in Caffe's order."""
        return ()

    def make_weights(self, *bottom_shapes: Shape) -> list[nn.Parameter]:
        """The parameters, filled."""
        specs = self.blob_specs(*bottom_shapes)
        return [nn.Parameter(fill(spec.filler, spec.shape)) for spec in specs]

    def make_blobs(self) -> BlobVec:
        """The parameters as blobs, for users."""
        return BlobVec(
            Blob.of_parameter(w, shape)
            for w, shape in zip(self.weights, self.blob_shapes, strict=True)
        )

    @property
    def blobs(self) -> list[Tensor]:
        """The parameters in this layer's shapes (a shared one may be stored in another)."""
        stored: list[Tensor] = list(self.weights._parameters.values())  # type: ignore[arg-type]
        if not self._adapted:
            return stored
        views = [w.view(shape) for w, shape in zip(stored, self.blob_shapes, strict=True)]
        return [w.detach() if k in self._frozen else w for k, w in enumerate(views)]

    def again(self, *bottoms: Any, **_: Any) -> Tensor | Sequence[Tensor]:
        """The last pass once more, to have its gradient: `forward` that leaves no trace behind.

        A layer that hands something from pass to pass starts from where that pass started.
        """
        return self(*bottoms)

    def overwritten_in_place(self) -> bool:
        """The net says: later in-place layers overwrite this layer's top.

        Returns:
            Whether this layer needs to see what they leave there: `see_blob` in each pass.
        """
        return False

    def see_blob(self, blob: Tensor) -> None:
        """Take notice of what the last in-place layer on this layer's top has left there."""

    def run_state(self) -> list[Tensor]:
        """What this layer hands from pass to pass beside its parameters; snapshots keep it."""
        return []

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        """Go on from a `run_state`."""

    def notes(self) -> list[str]:
        """What Caffe's log says while this layer is set up, line by line."""
        return []


def refuse_in_place(layer: Layer) -> None:
    """Raises NetError if a layer's top is its bottom."""
    if list(layer.config.bottom) == list(layer.config.top):
        raise NetError("does not allow in-place computation: give its top a new name.")


def require_axes(least: int, *shapes: Shape) -> None:
    """Raises NetError if a blob has fewer axes."""
    for shape in shapes:
        if len(shape) < least:
            raise NetError(
                f"takes bottoms of at least {least} ax{'i' if least == 1 else 'e'}s, got shape"
                f" {shape}."
            )


def refuse_empty_axes(x: Shape, *, first: int) -> None:
    """Raises NetError if an axis from `first` on has size 0: only batches may be empty."""
    if 0 in x[first:]:
        raise NetError(f"only the batch may be empty, got a bottom of shape {x}.")


def canonical_axis(axis: int, shape: Shape, *, extra: int = 0) -> int:
    """A possibly negative axis as an index; `extra` allows axes past the last one.

    Raises:
        NetError: there is no such axis.
    """
    axes = len(shape) + extra
    if not -axes <= axis < axes:
        raise NetError(f"axis {axis} does not exist in a blob of shape {shape_text(shape)}.")
    return axis % axes if axes else 0


def shape_text(shape: Sequence[int]) -> str:
    """(64, 1, 28, 28) -> "64 1 28 28 (50176)", as Caffe writes shapes."""
    return "".join(f"{n} " for n in shape) + f"({prod(shape)})"
