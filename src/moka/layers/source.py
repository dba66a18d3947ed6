"""Layers without bottoms, which a net starts from: the base of all, and those without files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from moka.data import datum
from moka.data.place import CursorState, Share, draw_seed
from moka.data.transform import Transform
from moka.errors import DataError, NetError
from moka.fillers import fill
from moka.layers.base import BlobSpec, Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.schema import caffe_pb2
from moka.types import Array, Shape

T = TypeVar("T")


class Source(Layer):
    """Base of layers without bottoms. Calling one is not pure: it moves on to the next batch."""

    waited_s = 0.0  # total time its caller has waited for data

    def attach(self, device: torch.device, share: Share) -> None:
        """Choose, before the first batch, where the tops go and which part of the data to read."""

    def prepare(self) -> None:
        """Open files and start threads now; without this call the first batch does."""

    def state(self) -> CursorState | None:
        """Where the data stands after the last batch; None: this source has no position."""
        return None

    def load_state(self, state: CursorState) -> None:
        """Continue from a state."""

    def record_count(self) -> int | None:
        """How many records its files hold; None: it has no files, or that is not known."""
        return None

    def batch_names(self) -> list[str]:
        """Names of the records of the last batch, in order; empty where records have no names.

        Raises:
            DataError: the data has disappeared.
        """
        return []

    def later_files(self) -> list[str]:
        """Files that batches will need and that opening the data does not check."""
        return []

    def set_arrays(self, data: Array, labels: Array) -> None:
        """Use these arrays as the data, in types whose source is "arrays"."""
        raise DataError("takes no arrays.")

    def made_once(self) -> dict[int, Tensor]:
        """By index, the tops that are filled once, when the net is made; the user may overwrite
        them."""
        return {}

    def close(self) -> None:
        """Release files and threads."""

    def once_or_per_top(self, name: str, values: list[T]) -> list[T]:
        """Spread an option over the tops: one value for all, or one for each.

        Raises:
            NetError: another number of values.
        """
        count = self.top_count
        if len(values) not in (1, count):
            raise NetError(
                f"Must specify '{name}' once, or once per top blob: {len(values)} for {count} tops."
            )
        return values * count if len(values) == 1 else values


@layer("Input", bottoms=0, tops=(1, None), source="caller")
class Input(Source):
    """Blobs that the caller fills before each forward pass.

    Tops: the shapes of `input_param { shape { dim ... } }`, one for all tops or one for each.

    Errors: a number of shapes other than 1 and the number of tops.
    """

    shape: tuple[caffe_pb2.BlobShape, ...] = option()

    def top_shapes(self) -> list[Shape]:
        return self.once_or_per_top("shape", [tuple(s.dim) for s in self.shape])

    def forward(self) -> list[Tensor]:
        tops = ", ".join(self.config.top)
        raise NetError(
            f"no data given for {tops}.", advice=f"Pass a tensor for each of {tops}, by its name."
        )


def given_source(config: caffe_pb2.LayerParameter, shapes: Iterable[Sequence[int]]) -> Source:
    """An Input with the name and tops of another source, whose data the caller gives.

    Args:
        config: the other source's message.
        shapes: one for each top.
    """
    made = caffe_pb2.LayerParameter(name=config.name, type="Input", phase=config.phase)
    made.top.extend(config.top)
    for shape in shapes:
        made.input_param.shape.add(dim=shape)
    return Input(made)


@layer("DummyData", bottoms=0, tops=(1, None), source="fillers")
class DummyData(Source):
    """Blobs filled by fillers. Random values are new in each pass; constants are filled once, when
    the net is made, and values that a user writes over them stay.

    Tops: `shape` (or the older num, channels, height, width), each once for all tops or once for
    each; data_filler likewise, constant 0 by default. Message: dummy_data_param.

    Errors: a number of shapes or fillers other than 1 and the number of tops.
    """

    data_filler: tuple[caffe_pb2.FillerParameter, ...] = option()
    shape: tuple[caffe_pb2.BlobShape, ...] = option()
    num: tuple[int, ...] = option(not_negative)
    channels: tuple[int, ...] = option(not_negative)
    height: tuple[int, ...] = option(not_negative)
    width: tuple[int, ...] = option(not_negative)

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

    def set_arrays(self, data: Array, labels: Array) -> None:
        """Use these arrays as the data, in types whose source is "arrays"."""
        raise DataError("takes no arrays.")

    def made_once(self) -> dict[int, Tensor]:
        tops = enumerate(zip(self.fillers, self.top_shapes(), strict=True))
        return {k: self._fill(k, shape) for k, (f, shape) in tops if f.type == "constant"}

    def _fill(self, k: int, shape: Shape) -> Tensor:
        if self.fillers[k].type != "constant":
            return fill(self.fillers[k], shape)
        if k not in self.constants:
            self.constants[k] = fill(self.fillers[k], shape)
        return self.constants[k]


@layer("MemoryData", bottoms=0, tops=(1, 2), source="arrays")
class MemoryData(Source):
    """Batches from arrays that the caller hands over, in order, again and again.

    Tops: data (batch_size, channels, height, width); labels (batch_size,), from the first pass on
    (batch_size, 1, 1, 1), as in BVLC Caffe; with `label_type: NONE` (MyCaffe) data alone. Message:
    memory_data_param. Arrays are used as they
    are. Datum records are transformed as transform_param says; height and width are those of the
    transformed image.

    Errors: a missing size; a pass before `set_arrays` or `add_datums`; arrays of other sizes, or
    with a number of items that is not a multiple of batch_size.
    """

    batch_size: int = option(positive, required=True)
    channels: int = option(positive, required=True)
    height: int = option(positive, required=True)
    width: int = option(positive, required=True)
    label_type: str = option()

    def setup(self) -> None:
        self.data: Tensor | None = None
        self.labels = torch.empty(0)
        self.position = 0  # of the next batch's first item
        self.label_shape: Shape = (self.batch_size,)

    @property
    def item_shape(self) -> Shape:
        """(C, H, W) of one image."""
        return (self.channels, self.height, self.width)

    @cached_property
    def transform(self) -> Transform:
        """The transformation of Datum records; its mean file is read here."""
        is_training = self.config.phase == caffe_pb2.TRAIN
        return Transform(self.config.transform_param, training=is_training)

    def top_shapes(self) -> list[Shape]:
        self.transform  # noqa: B018 - a missing mean file shows while the net is built
        tops = [(self.batch_size, *self.item_shape), self.label_shape]
        return tops[:1] if self.label_type == "NONE" else tops

    def set_arrays(self, data: Array, labels: Array) -> None:
        """Use these arrays from now on; they are not copied.

        Args:
            data: (N, C, H, W) float32, N a multiple of batch_size.
            labels: N numbers.

        Raises:
            DataError: another shape, or not one label per item.
        """
        count = len(data)
        if data.shape[1:] != self.item_shape:
            raise DataError(f"items have shape {data.shape[1:]}, not {self.item_shape}.")
        if labels.size != count:
            raise DataError(f"{count} items need as many labels, found {labels.size}.")
        if not count or count % self.batch_size:
            raise DataError(
                f"{count} items are not a multiple of the batch size, {self.batch_size}."
            )
        self.data = torch.from_numpy(np.asarray(data, np.float32))
        self.labels = torch.from_numpy(np.asarray(labels, np.float32)).reshape(-1)
        self.position = 0

    def add_datums(self, datums: Sequence[caffe_pb2.Datum]) -> None:
        """Use these records, transformed, from now on.

        Raises:
            DataError: as in `set_arrays`, or a record cannot be decoded or transformed.
        """
        images = [datum.decode(record) for record in datums]
        shapes = [image.shape for image in images]
        for shape in set(shapes):
            self.transform.out_shape(shape)
        draw = self.transform.draw(shapes, np.random.default_rng(draw_seed()))
        self.set_arrays(
            self.transform.apply(images, draw), np.array([d.label for d in datums], np.float32)
        )

    def forward(self) -> list[Tensor]:
        if self.data is None:
            raise NetError(
                "has no data yet.", advice="Give it arrays first (pycaffe: net.set_input_arrays)."
            )
        here = slice(self.position, self.position + self.batch_size)
        self.position = here.stop % len(self.data)
        self.label_shape = (self.batch_size, 1, 1, 1)
        if self.label_type == "NONE":
            return [self.data[here]]
        return [self.data[here], self.labels[here].reshape(self.label_shape)]

    def state(self) -> CursorState:
        return CursorState(self.position)

    def load_state(self, state: CursorState) -> None:
        self.position = state.records_read


@layer("Parameter", bottoms=0, tops=1, source="parameters")
class Parameter(Source):
    """A learned blob, as a top for other layers.

    Top and blob: `shape`, zeros at first. Message: parameter_param.

    The gradients of several backward passes (iter_size) add up; BVLC Caffe keeps only the last
    pass's.
    """

    shape: caffe_pb2.BlobShape = option()

    def top_shapes(self) -> list[Shape]:
        return [tuple(self.shape.dim)]

    def blob_specs(self) -> Iterable[BlobSpec]:
        yield BlobSpec(tuple(self.shape.dim), caffe_pb2.FillerParameter(), "value")

    def forward(self) -> list[Tensor]:
        return self.blobs
