"""Sliding windows: kernel, stride, pad and dilation along each spatial axis, and output sizes.

Convolution rounds its output size down, pooling rounds up (and clips).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import NamedTuple

from moka.errors import NetError


class Window(NamedTuple):
    """The window along one axis, in elements."""

    kernel: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    end_pad: int | None = None  # behind the image; None: as before it, `pad`

    @property
    def after(self) -> int:
        """The padding behind the image."""
        return self.pad if self.end_pad is None else self.end_pad

    @property
    def sides(self) -> tuple[int, int]:
        """The padding before and behind the image."""
        return self.pad, self.after

    @property
    def unpadded(self) -> Window:
        """The same window without padding."""
        return self._replace(pad=0, end_pad=None)

    @property
    def extent(self) -> int:
        """Number of elements from the window's first to its last, both included."""
        return self.dilation * (self.kernel - 1) + 1

    def convolved(self, size: int) -> int:
        """Output size of a convolution (rounds down)."""
        return (size + sum(self.sides) - self.extent) // self.stride + 1

    def deconvolved(self, size: int) -> int:
        """Output size of a deconvolution: the smallest that `convolved` maps back to `size`."""
        return self.stride * (size - 1) + self.extent - sum(self.sides)


def covering(windows: Sequence[Window], size: Sequence[int]) -> list[Window]:
    """The windows of a convolution, padded behind the image where they reach beyond it.

    A window larger than the padded image by less than its stride has one place: the size of the
    output, (size - extent) / stride + 1, is rounded towards 0. It reads zeros behind the image.
    """
    found = []
    for n, w in zip(size, windows, strict=True):
        beyond = w.extent - n - sum(w.sides)
        found.append(w._replace(end_pad=w.after + beyond) if 0 < beyond < w.stride else w)
    return found


def padding_of(windows: Sequence[Window]) -> list[int]:
    """The padding of all sides as PyTorch's `pad` takes it, from the last axis on."""
    return [side for w in reversed(windows) for side in w.sides]


def pooled_sizes(
    size: Sequence[int],
    windows: Sequence[Window],
    *,
    round_up: bool = True,
    clips: bool = True,
) -> tuple[int, ...]:
    """Output sizes of a pooling.

    Args:
        clips: if any axis is padded, then along no axis a window starts at or beyond `size + pad`.
    """
    clip = clips and any(any(w.sides) for w in windows)
    sizes = []
    for n, w in zip(size, windows, strict=True):
        steps = (n + sum(w.sides) - w.kernel) / w.stride
        out = (ceil(steps) if round_up else floor(steps)) + 1
        sizes.append(out - 1 if clip and (out - 1) * w.stride >= n + w.pad else out)
    return tuple(sizes)


def per_axis(
    name: str,
    values: tuple[int, ...],
    h: int | None,
    w: int | None,
    axes: int,
    default: int | None,
) -> tuple[int, ...]:
    """The value of a window option along each spatial axis, from its plain or its _h/_w form.

    Args:
        name: the option, for error messages.
        values: the plain form: none, one for all axes, or one for each.
        h, w: the form for two axes; None if not given. Only one form may be given.
        axes: the number of spatial axes.
        default: the value if nothing is given; None if the option is required.
    """
    stem = name.removesuffix("_size")
    if h is not None or w is not None:
        if axes != 2:
            raise NetError(f"{stem}_h and {stem}_w are for two spatial axes, here are {axes}.")
        if values:
            raise NetError(f"give either {name} or {stem}_h and {stem}_w, not both.")
        if default is None and (h is None or w is None):
            raise NetError(f"give both {stem}_h and {stem}_w.")
        return tuple((default or 0) if value is None else value for value in (h, w))
    if not values:
        if default is None:
            if not axes:
                return ()
            raise NetError(f"{name} is missing.")
        return (default,) * axes
    if len(values) not in (1, axes):
        raise NetError(
            f"{name} is given once or once for each of the {axes} spatial axes, got"
            f" {len(values)} values."
        )
    return values if len(values) == axes else values * axes
