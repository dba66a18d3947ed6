"""Layers without bottoms: what a net starts from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor

from moka.data.batches import CursorState
from moka.errors import NetError
from moka.fillers import fill
from moka.layers.base import BlobSpec, Layer, Shape, not_negative, param
from moka.layers.registry import layer
from moka.schema import caffe_pb2

T = TypeVar("T")


class Source(Layer):
    """A layer that makes its tops from nothing. Calling it is not pure: data moves on."""

    is_source = True
    waited_s = 0.0  # how long it let its caller wait for data, in all

    def state(self) -> CursorState | None:
        """Where the data stands after the last batch handed out; None: nothing to say."""
        return None

    def load_state(self, state: CursorState) -> None:
        """Go on from a state."""

    def close(self) -> None:
        """Release files and threads."""

    def once_or_per_top(self, name: str, values: list[T]) -> list[T]:
        """One value for each top. Raises NetError unless there is one, or one for each."""
        count = len(self.config.top)
        if len(values) not in (1, count):
            raise NetError(
                f"Must specify '{name}' once, or once per top blob: {len(values)} for {count} tops."
            )
        return values * count if len(values) == 1 else values


@layer("Input", bottoms=0, tops=(1, None))
class Input(Source):
    """Blobs that the caller fills before each forward pass.

    Tops: the shapes of `input_param { shape { dim ... } }`, one for all tops or one for each.

    Errors: another number of shapes.
    """

    shape = param()

    def top_shapes(self) -> list[Shape]:
        return self.once_or_per_top("shape", [tuple(s.dim) for s in self.shape])

    def forward(self) -> list[Tensor]:
        raise NetError(
            f"no data given for {', '.join(self.config.top)}.",
            advice="Pass a tensor for each input by its name.",
        )


@layer("DummyData", bottoms=0, tops=(1, None))
class DummyData(Source):
    """Blobs filled by fillers: constants once, random numbers anew for each pass.

    Tops: `shape` (or the older num, channels, height, width), each once for all tops or once for
    each; data_filler likewise, constant 0 by default. Message: dummy_data_param.

    Errors: another number of shapes or fillers.
    """

    data_filler = param()
    shape = param()
    num = param(not_negative)
    channels = param(not_negative)
    height = param(not_negative)
    width = param(not_negative)

    def setup(self) -> None:
        fillers = list(self.data_filler) or [caffe_pb2.FillerParameter()]
        self.fillers = self.once_or_per_top("data_filler", fillers)
        self.constants: dict[int, Tensor] = {}

    def top_shapes(self) -> list[Shape]:
        if self.shape:
            shapes = [tuple(s.dim) for s in self.shape]
        else:
            legacy = (self.num, self.channels, self.height, self.width)
            longest = max(len(v) for v in legacy)
            if not longest or any(len(v) not in (1, longest) for v in legacy):
                raise NetError(
                    "give shape, or num, channels, height and width, once or once for each top."
                )
            shapes = [tuple(v[k if len(v) > 1 else 0] for v in legacy) for k in range(longest)]
        return self.once_or_per_top("shape", shapes)

    def forward(self) -> list[Tensor]:
        return [self._fill(k, shape) for k, shape in enumerate(self.top_shapes())]

    def _fill(self, k: int, shape: Shape) -> Tensor:
        if self.fillers[k].type != "constant":
            return fill(self.fillers[k], shape)
        if k not in self.constants:
            self.constants[k] = fill(self.fillers[k], shape)
        return self.constants[k]


@layer("Parameter", bottoms=0, tops=1)
class Parameter(Source):
    """A learned blob as a top, for other layers to compute with.

    Top: `shape`. Blob: the same, zeros at first. Message: parameter_param.
    """

    shape = param()

    def top_shapes(self) -> list[Shape]:
        return [tuple(self.shape.dim)]

    def blob_specs(self) -> Iterable[BlobSpec]:
        yield BlobSpec(tuple(self.shape.dim), caffe_pb2.FillerParameter())

    def forward(self) -> list[Tensor]:
        return self.blobs
