"""What every layer is: declared options, shapes, parameters, and one pure tensor function.

A layer says four things: which options it reads (`option`), the shapes of its tops
(`top_shapes`), the shape and filler of its parameters (`blob_specs`), and `forward`. It knows
nothing of nets, solvers, devices or files. Autograd computes its gradient. The facts that hold for
all layers of a type stand in its entry (`moka.layers.registry`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from moka.blob import Blob, BlobVec
from moka.errors import NetError
from moka.fillers import fill
from moka.graph.wiring import state_indices
from moka.layers.options import Option
from moka.layers.parameters import Parameters
from moka.layers.registry import BFloat16, Entry
from moka.layers.shapes import shape_text
from moka.memory import check_shape
from moka.schema import blobproto, caffe_pb2
from moka.schema.fields import is_repeated
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.types import Array, Shape

FIRST_OWN_NUMBER = 20000  # of fields that BVLC Caffe does not know
DEFAULT_NAMES = ("weight", "bias")


class BlobSpec(NamedTuple):
    """Shape, filler and name of one parameter.

    The name is its key in a `state_dict`; by default a layer's parameters are called weight,
    bias, blob2, blob3 and so on.
    """

    shape: Shape
    filler: caffe_pb2.FillerParameter
    name: str = ""


class BoxColumns(NamedTuple):
    """Where a top that lists the boxes found in one image has what of a box. A row whose box has no
    area stands for none.

    Attributes:
        row: how many columns there are.
        corner: the first of x1, y1, x2, y2, in pixels of the net's image.
        label: None: a top holds boxes of one class, whose number is that of the top.
        top: the only one that lists them; None: each does.
        are_regions: where there may be something. They are what a net finds only if it gives out
            nothing else, which would tell what lies in them.
    """

    row: int
    corner: int
    score: int
    label: int | None = None
    top: int | None = None
    are_regions: bool = False


class Way(Protocol):
    """Another way to run a layer, with the same numbers; it is called as the layer is."""

    def __call__(self, *bottoms: Any) -> Tensor | Sequence[Tensor]: ...

    def again(self, *bottoms: Any) -> Tensor | Sequence[Tensor]:
        """As `Layer.again`."""
        ...


class Layer(nn.Module):
    """Base of all layers.

    Args:
        config: the layer's message, with its phase set.
        bottom_shapes: the shapes of its bottoms.

    Attributes:
        entry: the facts of its type.
        options: the options that it reads.
        top_count: how many tops the net wants of it.
        first_top_shapes: the shapes of the tops for these bottoms.
        parameter_names: the names of its parameters, in Caffe's order.
        blob_shapes: the shapes of its parameters.
        makes_views: whether its tops lie in the memory of its first bottom (`Entry.views`).
        spares_top: whether the layer that reads its top may write over it (`Entry.spares_top`).
        kept_for_gradient: what its gradient needs beside bottoms and tops: of the size of its tops,
            so many times.
        precision: what it does in mixed precision (`Entry.bfloat16`).
        state_blobs: the indices of its parameters that no solver trains (`Entry.state_blobs`).
        on_host: whether it computes on the CPU, wherever the net runs (`Entry.on_host`).
        gather_statistics: how a layer that normalizes with the statistics of its batch hears those
            of the other processes that train this net, if they are to be put together; a solver
            sets it. None: its own batch counts.
        always_gathers: whether that is so without being asked for.
        keeps_state_in_place: of a type that hands something on from pass to pass (`run_state`):
            whether all of it lies in tensors where the net runs, and passes write into these very
            tensors. Then a recorded pass can be run again and again (`moka.engine.captured`).
        exposures: how often somebody has got hold of its parameters as one does in PyTorch, and may
            write to them from then on.
        box_columns: of tops that list boxes; None: they do not, or their rows are SSD's, (1, 1, K,
            7).
        mode_changes: how often the way in which some layer runs has been changed: it was given a
            hook, or another training mode.

    Raises:
        NetError: one fact about this layer; the net adds the names of file and layer.
    """

    entry: ClassVar[Entry]
    options: ClassVar[tuple[Option, ...]] = ()
    fork_values: ClassVar[frozenset[str]] = frozenset()  # enum values of forks that it understands
    users_object: Any = None  # the object behind a layer that runs a class of the user
    kept_for_gradient = 0
    gather_statistics: Callable[[Tensor], Tensor] | None = None
    always_gathers = False
    keeps_state_in_place: ClassVar[bool] = False
    box_columns: ClassVar[BoxColumns | None] = None
    mode_changes: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Option] = {}
        for base in reversed(cls.__mro__):
            found.update({k: v for k, v in vars(base).items() if isinstance(v, Option)})
        cls.options = tuple(found.values())

    def __init__(self, config: caffe_pb2.LayerParameter, *bottom_shapes: Shape) -> None:
        super().__init__()
        self.__dict__["_parameters"] = Parameters()
        self.config = config
        self.top_count = len(config.top) or int(self.entry.is_loss)  # a loss needs no named top
        self.makes_views = self.entry.views
        self.spares_top = self.entry.spares_top
        self.precision = self.default_precision()
        self.on_host = self.entry.on_host
        self.state_blobs = state_indices(self.entry.state_blobs, config)
        self._read_options()
        self.train(config.phase == caffe_pb2.TRAIN)
        self.setup(*bottom_shapes)
        self.first_top_shapes = [tuple(top) for top in self.top_shapes(*bottom_shapes)]
        self._check_tops()
        parameters = self.make_parameters(*bottom_shapes)
        self.parameter_names = tuple(parameters)
        self._register(parameters)
        self.blob_shapes = [tuple(w.shape) for w in self.weights_unseen()]
        if config.blobs:
            self._take_given_blobs()
        self._detached: set[int] = set()
        self._adapted = False  # whether `blobs` differs from `weights`

    def _read_options(self) -> None:
        given = [name for name in self.entry.messages if self.config.HasField(name)]
        if len(given) > 1:
            raise NetError(f"give either {given[0]} or {given[1]}, not both.")
        for option in self.options:
            setattr(self, option.attribute, option.read(self.config, self.entry.messages))
        # Moka's own fields of the message that all losses share belong to some of them only.
        read = {option.name for option in self.options}
        for field, _ in self.config.loss_param.ListFields():
            if field.number >= FIRST_OWN_NUMBER and field.name not in read:
                raise NetError(f"{field.name} is not an option of this layer type.")
        for name in (*given, "transform_param", "loss_param"):
            self._refuse_options_of_forks(name, read)

    def _refuse_options_of_forks(self, message: str, read: set[str]) -> None:
        """Raise NetError if a message says what only a fork's layer understands, and not this."""
        for field, value in getattr(self.config, message).ListFields():
            if field.number >= FIRST_FORK_NUMBER:
                known, what = field.name in read or value == field.default_value, field.name
            elif field.enum_type and not is_repeated(field) and value >= FIRST_FORK_NUMBER:
                chosen = field.enum_type.values_by_number[value].name
                known = chosen in self.fork_values or field.name == "engine"
                what = f"{field.name}: {chosen}"
            else:
                continue
            if not known:
                raise NetError(
                    f"{message} {{ {what} }} is an option of a fork that this layer does not have."
                )

    def _check_tops(self) -> None:
        for shape in self.first_top_shapes:
            check_shape(shape)
        made = len(self.first_top_shapes)
        if made != self.top_count:
            raise NetError(
                f"makes {made} top{'s' * (made != 1)} with these options, got {self.top_count}."
            )

    def _register(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def _take_given_blobs(self) -> None:
        """Copy the blobs that lie in the layer's message over the values of the fillers."""
        given = self.config.blobs
        weights = self.weights_unseen()
        if len(given) != len(weights):
            raise NetError(
                f"Incorrect number of weight blobs: {len(given)} are given, the layer has"
                f" {len(weights)}."
            )
        for k, (blob, weight) in enumerate(zip(given, weights, strict=True)):
            values, shape = blobproto.to_array(blob), self.blob_shapes[k]
            if not blobproto.fits(values.shape, shape, legacy=blobproto.is_legacy(blob)):
                raise NetError(
                    f"the blob given for parameter {k} has shape {shape_text(values.shape)}, the"
                    f" layer's is {shape_text(shape)}."
                )
            weight.data.copy_(torch.from_numpy(values).view_as(weight))

    @classmethod
    def default_precision(cls) -> BFloat16:
        """How layers of this class compute in mixed precision.

        Unless the entry says otherwise, a class that counts multiply-adds multiplies in bfloat16,
        one whose tops are views keeps what it gets, and any other is given float32: that is never
        wrong, and slower only where matrices are multiplied.
        """
        if cls.entry.bfloat16 is not None:
            return cls.entry.bfloat16
        if cls.multiply_adds is not Layer.multiply_adds:
            return "multiplies"
        return "keeps" if cls.entry.views else "float32"

    # What a layer type defines.

    def setup(self, *bottom_shapes: Any, **_: Any) -> None:
        """Work out once what `top_shapes` and `forward` need beyond the options."""

    def top_shapes(self, *bottom_shapes: Any, **_: Any) -> Sequence[Shape]:
        """Shapes of the tops; raises NetError if the bottoms do not fit. No data, no memory."""
        return bottom_shapes

    def blob_specs(self, *bottom_shapes: Any, **_: Any) -> Iterable[BlobSpec]:
        """Shape and filler of each parameter, in Caffe's order."""
        return ()

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiplications with weights, each with its addition, in a forward pass of these shapes.

        Counted as papers do: zeros of the padding count, biases and elementwise work do not.
        """
        return 0

    def again(self, *bottoms: Any, **_: Any) -> Tensor | Sequence[Tensor]:
        """Repeat the last forward pass, to have its gradient, and leave no trace behind.

        A layer that hands something from pass to pass starts from where that pass started.
        """
        return self(*bottoms)

    def overwriting(self, index: int) -> Way | None:
        """A way to run that leaves the top in the memory of bottom `index`; None if there is none.

        Whoever takes it knows that nobody needs that bottom any more.
        """
        return None

    def merged_with(self, reader: Layer) -> Way | None:
        """A way to run the layer that reads this one's top, from this one's bottoms, that does the
        work of both; None if there is none."""
        return None

    def run_state(self) -> list[Tensor]:
        """State carried from pass to pass, beside parameters; snapshots keep it."""
        return []

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        """Go on from a `run_state`."""

    @property
    def can_be_recorded(self) -> bool:
        """Whether a pass is the same work on a device each time: no code of the user's, nothing on
        the host, no shape that depends on values, no state that passes exchange."""
        entry, hands_on = self.entry, type(self).run_state is not Layer.run_state
        acts = entry.runs_user_code or entry.writes_files or entry.shapes_from_data or self.on_host
        return not acts and (self.keeps_state_in_place or not hands_on)

    @property
    def is_pure(self) -> bool:
        """Whether a pass only computes tops from bottoms and parameters: it draws nothing and
        leaves no trace, so it may be repeated or left out."""
        made, base = type(self), Layer
        keeps_state = made.run_state is not base.run_state or made.again is not base.again
        acts = self.entry.runs_user_code or self.entry.writes_files
        return not (self.training or keeps_state or acts)

    def notes(self) -> list[str]:
        """The lines of Caffe's log about this layer's setup."""
        return []

    def expect_final_blob(self) -> None:
        """Called once if later layers work in-place on this in-place layer's blob.

        Only for types with `Entry.gradient_of_final_blob`.
        """

    def see_final_blob(self, blob: Tensor) -> None:
        """Called in each pass with what the last in-place layer on the blob has left there."""

    # Parameters.

    def make_parameters(self, *bottom_shapes: Shape) -> dict[str, nn.Parameter]:
        """The parameters by name, filled."""
        specs = enumerate(self.blob_specs(*bottom_shapes))
        return {
            spec.name or default_name(k): nn.Parameter(fill(spec.filler, spec.shape))
            for k, spec in specs
        }

    writes_results = True  # of detections, where `save_output_param` asks for files of them

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """Stored parameters, by index, in this layer's order and shapes, for types that can convert
        other forms; also some that are not stored. Where only shapes are asked for, all values are
        0."""
        return stored

    @property
    def weights(self) -> list[nn.Parameter]:
        """The parameters, in Caffe's order."""
        if not torch.compiler.is_compiling():
            self._parameters.expose()  # type: ignore[attr-defined]
        return self.weights_unseen()

    def weights_unseen(self) -> list[nn.Parameter]:
        """`weights`, for a reader that neither keeps nor changes them; no `exposures` count."""
        stored = self._parameters
        return [dict.__getitem__(stored, name) for name in self.parameter_names]  # type: ignore[misc]

    @property
    def exposures(self) -> int:
        parameters: Parameters = self._parameters  # type: ignore[assignment]
        return parameters.exposures

    @exposures.setter
    def exposures(self, count: int) -> None:
        self._parameters.exposures = count  # type: ignore[attr-defined]

    if not TYPE_CHECKING:  # else any attribute would seem to exist

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ("training", "forward", "again"):
                Layer.mode_changes += 1
            super().__setattr__(name, value)

    @property
    def blobs(self) -> list[Tensor]:
        """The parameters in this layer's shapes (a shared one may be stored in another).

        For what the layer computes; others read `weights`.
        """
        if not torch.compiler.is_compiling():
            Parameters.exposures_of_all += 1
        stored: list[Tensor] = self.weights_unseen()  # type: ignore[assignment]
        if not self._adapted:
            return stored
        views = [w.view(shape) for w, shape in zip(stored, self.blob_shapes, strict=True)]
        return [w.detach() if k in self._detached else w for k, w in enumerate(views)]

    def make_blobs(self) -> BlobVec:
        """The parameters as blobs, for users."""
        return BlobVec(
            Blob.of_parameter(w, shape)
            for w, shape in zip(self.weights_unseen(), self.blob_shapes, strict=True)
        )

    def detach_weight(self, index: int) -> None:
        """Detach shared parameter `index` here; other layers train it."""
        self._detached.add(index)
        self._adapted = True

    def share_weight(self, index: int, weight: nn.Parameter) -> None:
        """Use another layer's parameter, of the same count, as parameter `index`."""
        self._parameters[self.parameter_names[index]] = weight
        self._adapted |= tuple(weight.shape) != self.blob_shapes[index]


def default_name(index: int) -> str:
    """The name of a layer's parameter number `index`, unless the layer names it."""
    return DEFAULT_NAMES[index] if index < len(DEFAULT_NAMES) else f"blob{index}"


def refuse_in_place(layer: Layer) -> None:
    """Raises NetError if one of a layer's tops is one of its bottoms."""
    if set(layer.config.bottom) & set(layer.config.top):
        raise NetError("does not allow in-place computation: give its top a new name.")


def _count_hooks() -> None:
    """Let all methods that give a layer a hook count in `Layer.mode_changes`."""
    for name in (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_backward_hook",
    ):
        setattr(Layer, name, _counted(getattr(nn.Module, name)))


def _counted(register: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(register)
    def counted(layer: Layer, *args: Any, **kwargs: Any) -> Any:
        Layer.mode_changes += 1
        return register(layer, *args, **kwargs)

    return counted


_count_hooks()
