"""Layers that copy, join, cut and reshape blobs without computing new values."""

from __future__ import annotations

import itertools
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer, refuse_in_place
from moka.layers.labels import indices
from moka.layers.options import Check, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import canonical_axis, require_axes
from moka.schema import caffe_pb2
from moka.types import Shape

at_least_minus_one = Check(lambda v: v >= -1, ">= 0, or -1 for all")


@layer("Split", bottoms=1, tops=(1, None), coordinates="same", views=True, is_plumbing=True)
class Split(Layer):
    """One blob under several names, so that each reader of the blob writes a gradient of its own.

    Bottom: any shape. Tops: the bottom, in the same memory; their gradients add up. Nets insert
    this layer where a blob is used more than once; a prototxt may contain it too.
    """

    def top_shapes(self, x: Shape) -> list[Shape]:
        return [x] * self.top_count

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.view_as(x) for _ in range(self.top_count)]


@layer(
    "Concat",
    bottoms=(1, None),
    tops=1,
    bfloat16="keeps",
    spares_top=True,
    coordinates="first",
)
class Concat(Layer):
    """Join blobs along one axis.

    Bottoms: shapes that are equal except at `axis`. Top: their sizes at `axis` add up. Message:
    concat_param (`concat_dim` is an older name of `axis`).

    Errors: shapes that differ at another axis; both names given, with different numbers.
    """

    axis: int | None = option(unset_is_none=True)
    concat_dim: int | None = option(unset_is_none=True)

    def setup(self, *bottom_shapes: Shape) -> None:
        if None not in (self.axis, self.concat_dim) and self.axis != self.concat_dim:
            raise NetError("give either axis or concat_dim, not both.")
        self.makes_views = len(bottom_shapes) == 1
        self.spares_top = not self.makes_views
        axis = self.concat_dim if self.axis is None else self.axis
        self.join = 1 if axis is None else axis

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        first, k = bottom_shapes[0], canonical_axis(self.join, bottom_shapes[0])
        for x in bottom_shapes:
            if (x[:k], x[k + 1 :]) != (first[:k], first[k + 1 :]) or len(x) != len(first):
                raise NetError(
                    f"All inputs must have the same shape, except at concat_axis {k}: {first}"
                    f" vs. {x}."
                )
        return [(*first[:k], sum(x[k] for x in bottom_shapes), *first[k + 1 :])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return torch.cat(bottoms, self.join) if len(bottoms) > 1 else bottoms[0].view_as(bottoms[0])


@layer("Flatten", bottoms=1, tops=1, views=True)
class Flatten(Layer):
    """Merge the axes from `axis` to `end_axis` into one, in the same memory.

    Bottom: (..., a, ..., z, ...). Top: (..., a * ... * z, ...). With `end_axis` right before `axis`
    the top has a new axis of size 1 there. Message: flatten_param.

    Errors: end_axis further before axis; in-place use.
    """

    axis: int = option()
    end_axis: int = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        first, last = canonical_axis(self.axis, x), canonical_axis(self.end_axis, x)
        if last < first - 1:
            raise NetError(f"end_axis {self.end_axis} lies before axis {self.axis}.")
        return [(*x[:first], prod(x[first : last + 1]), *x[last + 1 :])]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.top_shapes(tuple(x.shape))[0])


@layer("Squeeze", bottoms=1, tops=1, views=True, fork="Synopsys Caffe")
class Squeeze(Layer):
    """Remove axes of size 1, in the same memory.

    Bottom: any shape. Top: its shape without the axes in `axis`, or, if none is given, without all
    axes of size 1. Message: squeeze_param.

    Errors: an axis of another size; in-place use.
    """

    axis: tuple[int, ...] = option()

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)

    def top_shapes(self, x: Shape) -> list[Shape]:
        removed = {canonical_axis(axis, x) for axis in self.axis}
        for axis in removed:
            if x[axis] != 1:
                raise NetError(f"axis {axis} cannot be removed, its size is {x[axis]}: {x}.")
        if not self.axis:
            removed = {axis for axis, size in enumerate(x) if size == 1}
        return [tuple(size for axis, size in enumerate(x) if axis not in removed)]

    def forward(self, x: Tensor) -> Tensor:
        return x.view(self.top_shapes(tuple(x.shape))[0])


@layer("Silence", bottoms=(1, None), tops=0, aliases=("BlackHole",), differentiable=False)
class Silence(Layer):
    """Consume blobs that no other layer reads, so that they are not outputs of the net.

    Bottoms: any shapes; their gradient is zero.
    """

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        return []


@layer("Debug", bottoms=(1, 2), tops=1, views=True, fixed_bottoms=(1,), fork="MyCaffe")
class Debug(Layer):
    """Passes its first bottom on. MyCaffe shows what goes through; here nothing is shown.

    Bottoms: any shapes; only the first has a gradient. Top: as the first. Message: debug_param has
    no effect.
    """

    def top_shapes(self, x: Shape, *others: Shape) -> list[Shape]:
        return [x]

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x


@layer("Reshape", bottoms=1, tops=1, views=True)
class Reshape(Layer):
    """Give the same values another shape, in the same memory.

    Bottom: any shape. Top: the axes from `axis` on (`num_axes` of them; -1: all) replaced by
    `shape`, in which 0 copies the bottom's size at that place and one -1 takes the rest. A
    negative `axis` counts from the end: -1 is after the last axis. Message: reshape_param.

    Errors: other negative numbers; another count than the bottom's; more than one -1; in-place use.
    """

    shape: caffe_pb2.BlobShape = option()
    axis: int = option()
    num_axes: int = option(at_least_minus_one)

    def setup(self, x: Shape) -> None:
        refuse_in_place(self)
        self.dims = tuple(self.shape.dim)
        if min(self.dims, default=0) < -1:
            raise NetError(f"a dim of shape is a size, 0 or -1, got {min(self.dims)}.")
        if self.dims.count(-1) > 1:
            raise NetError("new shape contains multiple -1 dims; at most a single (1) value of -1"
                           " may be specified.")  # fmt: skip

    def top_shapes(self, x: Shape) -> list[Shape]:
        start = self.axis if self.axis >= 0 else len(x) + self.axis + 1
        if not 0 <= start <= len(x):
            raise NetError(f"axis {self.axis} does not exist in a blob of shape {x}.")
        end = len(x) if self.num_axes == -1 else start + self.num_axes
        if end > len(x):
            raise NetError(f"axis {self.axis} and {self.num_axes} axes reach past shape {x}.")
        middle = [self._copied(x, start + k) if d == 0 else d for k, d in enumerate(self.dims)]
        if -1 in middle:
            known = prod(d for d in middle if d != -1)
            inside = prod(x[start:end])
            if not known:  # an axis of size 0 is copied; leave it out on both sides
                known, inside = (prod(n for n in s if n > 0) for s in (middle, x[start:end]))
            if inside % known:
                raise NetError(
                    f"bottom count must be divisible by the product of the specified dimensions:"
                    f" {inside} by {known}."
                )
            middle[middle.index(-1)] = inside // known
        top = (*x[:start], *middle, *x[end:])
        if prod(top) != prod(x):
            raise NetError(f"output count must match input count: {x} into {top}.")
        return [top]

    def _copied(self, x: Shape, axis: int) -> int:
        if axis >= len(x):
            raise NetError(f"new shape contains a 0, but there is no corresponding bottom axis"
                           f" {axis} to copy in shape {x}.")  # fmt: skip
        return x[axis]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.top_shapes(tuple(x.shape))[0])


@layer("Slice", bottoms=1, tops=(1, None), views=True, coordinates="first")
class Slice(Layer):
    """Cut a blob along one axis, the opposite of Concat.

    Bottom: any shape. Tops: parts along `axis`, cut at each slice_point, or equal parts if there is
    none.
    Message: slice_param (`slice_dim` is an older name of `axis`).

    Errors: not one slice_point less than tops; slice_points that do not increase; a size that does
    not divide into equal parts; both names given, with different numbers.
    """

    axis: int | None = option(unset_is_none=True)
    slice_dim: int | None = option(unset_is_none=True)
    slice_point: tuple[int, ...] = option()

    def setup(self, x: Shape) -> None:
        if None not in (self.axis, self.slice_dim) and self.axis != self.slice_dim:
            raise NetError("give either axis or slice_dim, not both.")
        axis = self.slice_dim if self.axis is None else self.axis
        self.cut = 1 if axis is None else axis

    def _sizes(self, x: Shape) -> list[int]:
        size, parts = x[canonical_axis(self.cut, x)], self.top_count
        if not self.slice_point:
            if size % parts:
                raise NetError(f"Number of top blobs ({parts}) should evenly divide input slice"
                               f" axis ({size}).")  # fmt: skip
            return [size // parts] * parts
        if len(self.slice_point) != parts - 1:
            raise NetError(f"{parts} tops need {parts - 1} slice_points, got"
                           f" {len(self.slice_point)}.")  # fmt: skip
        edges = [0, *self.slice_point, size]
        sizes = [b - a for a, b in itertools.pairwise(edges)]
        if min(sizes) < 1:
            raise NetError(f"slice_points {self.slice_point} must rise within the axis ({size}).")
        return sizes

    def top_shapes(self, x: Shape) -> list[Shape]:
        cut = canonical_axis(self.cut, x)
        return [(*x[:cut], n, *x[cut + 1 :]) for n in self._sizes(x)]

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(torch.split(x, self._sizes(tuple(x.shape)), self.cut))


@layer("Tile", bottoms=1, tops=1)
class Tile(Layer):
    """Repeat a blob `tiles` times along one axis, as numpy.tile does.

    Bottom: any shape. Top: tiles times as long along `axis`. Message: tile_param.

    Errors: no `tiles`.
    """

    axis: int = option()
    tiles: int = option(positive, required=True)

    def top_shapes(self, x: Shape) -> list[Shape]:
        along = canonical_axis(self.axis, x)
        return [(*x[:along], x[along] * self.tiles, *x[along + 1 :])]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.tiles, self.axis)


@layer("Crop", bottoms=2, tops=1, fixed_bottoms=(1,), views=True, coordinates="crop")
class Crop(Layer):
    """Cut a blob to the size of another one, along all axes from `axis` on.

    Bottoms: x; a reference with at least as many axes, of which only the sizes from `axis` on count
    (no gradient). Top: x cut to these sizes, in the same memory, beginning at `offset` (one for all
    axes or one for each, 0 by default) or, with `center_align`, in the middle of each axis, rounded
    down. Message: crop_param.

    Errors: a reference with fewer axes than x; another number of offsets; a part that reaches
    outside x.
    """

    axis: int = option()
    offset: tuple[int, ...] = option()
    center_align: bool = option()

    def offsets(self, x: Shape, reference: Shape) -> dict[int, int]:
        """Where the crop begins, by axis."""
        first = canonical_axis(self.axis, x)
        if self.center_align:
            return {k: max(x[k] - reference[k], 0) // 2 for k in range(first, len(x))}
        cropped = len(x) - first
        if len(self.offset) not in (0, 1, cropped):
            raise NetError(
                f"number of offset values specified must be equal to the number of dimensions"
                f" following axis: {len(self.offset)} for {cropped}."
            )
        offsets = (self.offset or (0,)) * (1 if len(self.offset) == cropped else cropped)
        return dict(enumerate(offsets, first))

    def top_shapes(self, x: Shape, reference: Shape) -> list[Shape]:
        if len(reference) < len(x):
            raise NetError(f"the reference must have as many axes as the blob: {reference} for"
                           f" {x}.")  # fmt: skip
        offsets = self.offsets(x, reference)
        for axis, offset in offsets.items():
            if offset + reference[axis] > x[axis]:
                raise NetError(
                    f"the crop for dimension {axis} is out-of-bounds: offset {offset} and size"
                    f" {reference[axis]} in {x[axis]}."
                )
        return [(*x[: -len(offsets)], *reference[len(x) - len(offsets) : len(x)])]

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        for axis, offset in self.offsets(x.shape, reference.shape).items():
            x = x.narrow(axis, offset, reference.shape[axis])
        return x


@layer(
    "AutoCrop",
    bottoms=2,
    tops=1,
    message="crop_param",
    fork="RCF, and the Crop of 2015 (FCN, HED, CRF-RNN)",
    fixed_bottoms=(1,),
    views=True,
    coordinates="aligned crop",
)
class AutoCrop(Crop):
    """Cut out of a blob what lies on another one.

    Bottoms, top and message as in Crop. Without `offset` the crop begins where the windows of the
    layers between both blobs say (`moka.graph.coordinates`). V1's CROP is this layer.

    Errors: as in Crop; no whole offset >= 0 aligns the blobs.
    """


@layer("BatchReindex", bottoms=2, tops=1, fixed_bottoms=(1,))
class BatchReindex(Layer):
    """Pick, repeat or leave out items of a batch by their index.

    Bottoms: x (N, ...); indices (M,), whole numbers in [0, N) (no gradient). Top: (M, ...).
    The gradients of an item's copies add up. No message.

    Errors: indices with more than one axis, or outside [0, N).
    """

    def top_shapes(self, x: Shape, index: Shape) -> list[Shape]:
        require_axes(1, x)
        if len(index) != 1:
            raise NetError(f"the indices must have one axis, got shape {index}.")
        return [(index[0], *x[1:])]

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        items = indices(
            index, x.shape[0], of="items of the batch", advice="Check the blob of indices."
        )
        return x.index_select(0, items)


@layer("Filter", bottoms=(2, None), tops=(1, None), fixed_bottoms=(-1,), shapes_from_data=True)
class Filter(Layer):
    """Keep the items of several blobs where a selector is not 0.

    Bottoms: blobs (N, ...) and, last, the selector (N,) or (N, 1) (no gradient). Tops: one for each
    blob, (kept, ...), or (N, ...) before the first pass. The gradient of the other items is zero.
    No message.

    Errors: another number of tops; blobs with different N; a selector with more than one value per
    item.
    """

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        *blobs, selector = bottom_shapes
        if self.top_count != len(blobs):
            raise NetError(f"makes one top for each blob it filters: {len(blobs)} blobs,"
                           f" {self.top_count} tops.")  # fmt: skip
        require_axes(1, *bottom_shapes)
        if prod(selector[1:]) != 1:
            raise NetError(f"the selector has one value an item, got shape {selector}.")
        for blob in blobs:
            if blob[0] != selector[0]:
                raise NetError(f"Each bottom should have the same 0th dimension as the selector"
                               f" blob: {blob} and {selector}.")  # fmt: skip
        return list(blobs)

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        *blobs, selector = bottoms
        kept = selector.detach().flatten().nonzero().flatten()
        return [blob.index_select(0, kept) for blob in blobs]
