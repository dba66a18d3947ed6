"""Windows of images, cut out and stretched to one size: the training data of R-CNN.

A window file has a block for each image: `# index`, the path, channels, height, width, the number
of windows, and for each window its class, overlap with an object (0 to 1), and corners x1 y1 x2 y2
in pixels, which belong to the window.

Girshick et al., Rich feature hierarchies for accurate object detection, 2014 (section 2.3 and
appendix A: context padding, warp and square).
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.data.ahead import map_ahead
from moka.data.batches import Batch
from moka.data.decode import Decoder, Image, resize
from moka.data.images import decode_file, read_file
from moka.data.place import EVERYTHING, WINDOWS, CursorState, Share, generator
from moka.data.transform import Transform
from moka.errors import DataError, MokaError, NetError
from moka.files import read_text_file
from moka.memory import check_shape
from moka.types import PathLike, Shape

CHANNELS = 3  # images are read in color
LARGEST = 2**24  # below it float32 holds every whole number
f32 = np.float32  # BVLC's precision, which decides where a border is rounded to


class Box(NamedTuple):
    """Corners of a rectangle in pixels; both belong to it."""

    x1: int
    y1: int
    x2: int
    y2: int


class WindowFile(NamedTuple):
    """Paths of images, and the windows in all of them, one entry of each array a window.

    Attributes:
        image: index into `images`.
        label: class.
        overlap: with an object.
        boxes: (windows, 4), x1 y1 x2 y2.
    """

    images: list[str]
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    overlap: NDArray[np.float32]
    boxes: NDArray[np.int32]


def read_windows(source: PathLike) -> WindowFile:
    """Read a window file.

    Raises:
        DataError: missing, empty, or not of this form; the image's block is named.
    """
    images: list[str] = []
    tables = []
    try:
        text = read_text_file(source)
        words = (word for line in re.finditer(".+", text) for word in line[0].split())
        for mark in words:
            path, table = _read_block(mark, words, len(images))
            images.append(path)
            tables.append(table)
    except OSError as error:
        raise DataError(
            f"{error.strerror}.",
            file=source,
            advice="`source` is a text file with the images and their windows.",
        ) from None
    except DataError as error:
        raise error.at(file=source) from None
    if not images:
        raise DataError("Window file is empty.", file=source)
    table = np.concatenate(tables)
    whole = table[:, [0, 2, 3, 4, 5]].astype(np.int32)
    counts = [len(t) for t in tables]
    of_image = np.repeat(np.arange(len(images), dtype=np.int32), counts)
    return WindowFile(images, of_image, whole[:, 0], table[:, 1], whole[:, 1:])


def _read_block(mark: str, words: Iterator[str], number: int) -> tuple[str, NDArray[np.float32]]:
    """Path of an image and its windows (n, 6): class, overlap, x1, y1, x2, y2."""
    head = list(islice(words, 6))
    try:
        if mark != "#":
            raise ValueError(f'"{mark}" where "#" was expected')
        if len(head) < 6:
            raise ValueError("the file ends within it")
        _, _, _, _, count = (int(word) for word in (head[0], *head[2:]))
        if count < 0:
            raise ValueError(f"{count} windows")
        with np.errstate(over="ignore"):
            values = np.array(list(islice(words, 6 * count)), f32)
        if len(values) < 6 * count:
            raise ValueError("the file ends within it")
        if not (abs(values) < LARGEST).all():  # which no NaN is, either
            raise ValueError(f"numbers have to be finite and below {LARGEST}")
        table = values.reshape(-1, 6)
        if (table[:, [0, 2, 3, 4, 5]] % 1).any():
            raise ValueError("classes and corners are whole numbers")
    except ValueError as error:
        raise DataError(
            f"the block of image {number} cannot be read: {error}.",
            advice="A block is: # index, path (without blanks), channels, height, width, number of"
            " windows, then for each window class overlap x1 y1 x2 y2.",
        ) from None
    return head[1], table


class Placement(NamedTuple):
    """The part to cut out of an image, and its place in the crop.

    Attributes:
        cut: the part of the image.
        height, width: what it is resized to.
        top, left: where its corner lies in the crop.
    """

    cut: Box
    height: int
    width: int
    top: int
    left: int


def place_window(
    window: Box,
    size: Shape,
    crop: int,
    *,
    context_pad: int = 0,
    square: bool = False,
    mirror: bool = False,
) -> Placement:
    """Where a window of an image of `size` (height, width) goes in a crop, `crop` pixels square.

    The window is stretched to the crop. With `context_pad` it first grows about its center, so that
    this many pixels of context surround it in the crop; with `square` its shorter side first grows
    to the longer one. The part that then lies outside the image stays empty in the crop; with
    `mirror`, on the other side.

    Raises:
        DataError: the window, as far as it may not be clipped, is not inside the image.
    """
    if not context_pad and not square:
        return Placement(_inside(window, window, size), crop, crop, 0, 0)
    grown = _grow(window, crop, context_pad, square)
    before = max(0, -grown.x1), max(0, -grown.y1)
    after = max(0, grown.x2 - size[1] + 1), max(0, grown.y2 - size[0] + 1)
    cut = Box(grown.x1 + before[0], grown.y1 + before[1], grown.x2 - after[0], grown.y2 - after[1])
    _inside(cut, window, size)
    scale_x, scale_y = (f32(crop) / f32(n) for n in _size(grown))
    cut_width, cut_height = _size(cut)
    left = _round(f32(after[0] if mirror else before[0]) * scale_x)
    top = _round(f32(before[1]) * scale_y)
    return Placement(
        cut,
        min(_round(f32(cut_height) * scale_y), crop - top),
        min(_round(f32(cut_width) * scale_x), crop - left),
        top,
        left,
    )


def _grow(window: Box, crop: int, context_pad: int, square: bool) -> Box:
    scale = f32(crop) / f32(crop - 2 * context_pad)
    half_width, half_height = (f32(n) / f32(2) for n in _size(window))
    center_x, center_y = f32(window.x1) + half_width, f32(window.y1) + half_height
    if square:
        half_width = half_height = max(half_width, half_height)
    return Box(
        _round(center_x - half_width * scale),
        _round(center_y - half_height * scale),
        _round(center_x + half_width * scale),
        _round(center_y + half_height * scale),
    )


def _size(box: Box) -> tuple[int, int]:
    """Width and height."""
    return box.x2 - box.x1 + 1, box.y2 - box.y1 + 1


def _round(value: np.float32) -> int:
    """To the nearest integer, halves away from zero, as C does."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


def _inside(cut: Box, window: Box, size: Shape) -> Box:
    height, width = size
    if not (0 <= cut.x1 <= cut.x2 < width and 0 <= cut.y1 <= cut.y2 < height):
        corners = " ".join(str(n) for n in window)
        raise DataError(f"window {corners} is not inside the image ({height} x {width}).")
    return cut


class _Picked(NamedTuple):
    """The windows of a batch, by index, their labels, and which are mirrored."""

    windows: NDArray[np.int64]
    labels: NDArray[np.float32]
    mirror: NDArray[np.bool_]


class WindowBatches:
    """Batches of windows, drawn by chance: background first, then foreground.

    Args:
        source: the window file.
        transform: crop_size, the windows' size; mirror; mean; scale. Nothing else of it is used.
        batch_size: windows a batch.
        fg_fraction: int(batch_size * fg_fraction) of them are foreground.
        fg_threshold: windows of this overlap or more are foreground, with their class as label.
        bg_threshold: those of less overlap than this are background, with label 0.
        context_pad, square: see `place`.
        scale: multiplies that of the transformation.
        root_folder: prefix of each path; no slash is added.
        cache_images: keep the files that were read in memory.
        seed: of a new run.

    Raises:
        NetError: a transformation that does not go with windows.
        DataError: a file that cannot be read; too few windows.
    """

    def __init__(
        self,
        source: PathLike,
        transform: Transform,
        *,
        batch_size: int,
        fg_fraction: float,
        fg_threshold: float,
        bg_threshold: float,
        context_pad: int,
        square: bool,
        scale: float,
        root_folder: str,
        cache_images: bool,
        seed: int,
    ) -> None:
        if not transform.crop:
            raise NetError("transform_param has no crop_size: the size of a window in the batch.")
        self.side = transform.crop[0]
        if 2 * context_pad >= self.side:
            raise NetError(
                f"context_pad {context_pad} leaves no room for the window in crop_size {self.side}."
            )
        self.source = source
        self.transform = transform
        self.batch_size = batch_size
        self.context_pad = context_pad
        self.square = square
        self.scale = f32(scale) * transform.scale
        self.root_folder = root_folder
        self.decode = Decoder(color=True)
        self.file = read_windows(source)
        self.foreground = np.flatnonzero(self.file.overlap >= f32(fg_threshold))
        below = (self.file.overlap < f32(fg_threshold)) & (self.file.overlap < f32(bg_threshold))
        self.background = np.flatnonzero(below)
        self.fg_fraction = fg_fraction
        self._check_windows(batch_size)
        self.label_shape: Shape = ()
        self.image_shape: Shape = (CHANNELS, self.side, self.side)
        check_shape((batch_size, *self.image_shape))
        self.mean = np.broadcast_to(self._mean(), self.image_shape)
        self.read = functools.cache(read_file) if cache_images else read_file
        self.start = CursorState(0, seed)

    def _counts(self, windows: int) -> tuple[int, int]:
        """How many of so many windows are background, and how many foreground."""
        foreground = int(f32(windows) * f32(self.fg_fraction))
        return windows - foreground, foreground

    def _check_windows(self, count: int) -> None:
        groups = {"background": self.background, "foreground": self.foreground}
        for (name, found), wanted in zip(groups.items(), self._counts(count), strict=True):
            if wanted and not len(found):
                raise DataError(
                    f"a batch wants {wanted} {name} windows, and there are none.",
                    file=self.source,
                    advice="Check fg_threshold, bg_threshold and fg_fraction.",
                )
        classes = self.file.label[self.foreground]
        if len(classes) and classes.min() <= 0:
            raise DataError(
                f"a foreground window has class {classes.min()}; 0 is the background.",
                file=self.source,
            )

    def _mean(self) -> NDArray[np.float32]:
        """The mean to subtract, (3, crop, crop) or (1 or 3, 1, 1)."""
        mean, crop = self.transform.mean_image, self.side
        if mean is None:
            values = self.transform.mean_values
            if len(values) not in (0, 1, CHANNELS):
                raise NetError(
                    "Specify either 1 mean_value or as many as channels: "
                    f"{len(values)} values for {CHANNELS} channels."
                )
            return values if len(values) else np.zeros((1, 1, 1), f32)
        at = (mean.shape[2] - crop) // 2  # the width decides both, as in BVLC Caffe
        if mean.shape[0] != CHANNELS or at < 0 or at + crop > mean.shape[1]:
            raise DataError(
                f"a mean of shape {mean.shape} does not cover {CHANNELS} channels of {crop} x"
                f" {crop} pixels.",
                file=self.transform.mean_file,
            )
        return mean[:, at : at + crop, at : at + crop]

    def class_counts(self) -> dict[int, int]:
        """How many windows of each class there are; 0 is the background."""
        labels, counts = np.unique(self.file.label[self.foreground], return_counts=True)
        return {0: len(self.background)} | dict(zip(labels.tolist(), counts.tolist(), strict=True))

    def stream(
        self, after: CursorState, share: Share = EVERYTHING, *, on_device: bool = False
    ) -> Iterator[tuple[Batch, CursorState]]:
        """As `Batches.stream`, but resizing needs the arithmetic on the host in any case."""
        stride = share.stride(self.batch_size)
        self._check_windows(stride)

        def make(begin: CursorState) -> tuple[Batch, CursorState]:
            return self._batch(self._pick(begin, share)), begin.moved(stride)

        begin = after.seeded(self.start.seed)
        return map_ahead(make, (begin.moved(i * stride) for i in itertools.count()), ahead=1)

    def record_count(self) -> None:
        """Windows are drawn by chance, so their number does not count."""

    def names(self, after: CursorState, share: Share = EVERYTHING) -> list[str]:
        """The images that the windows of the batch before a state were cut from."""
        begin = share.last_batch(after, self.batch_size)
        picked = self._pick(begin, share).windows if begin else ()
        return [self.root_folder + self.file.images[self.file.image[i]] for i in picked]

    def _pick(self, begin: CursorState, share: Share) -> _Picked:
        """The windows of this process's part of a round."""
        place, count, part = share.drawn_for(begin, self.batch_size)
        rng = generator(begin.seed, WINDOWS, place)
        below, above = self._counts(count)
        picked = [
            rng.choice(group, wanted) if wanted else group[:0]
            for group, wanted in ((self.background, below), (self.foreground, above))
        ]
        windows = np.concatenate(picked)
        labels = self.file.label[windows].astype(f32)
        labels[:below] = 0
        mirror = (rng.random(count) < 0.5) & self.transform.mirror
        return _Picked(windows[part], labels[part], mirror[part])

    def _batch(self, picked: _Picked) -> Batch:
        pairs = zip(picked.windows, picked.mirror.tolist(), strict=True)
        return Batch(np.stack([self.crop(i, flip) for i, flip in pairs]), picked.labels)

    def crop(self, number: int, mirror: bool) -> NDArray[np.float32]:
        """Window `number` of the file as (3, crop, crop), transformed."""
        block = self.file.image[number]
        path = self.root_folder + self.file.images[block]
        try:
            image = decode_file(self.read(path), path, self.decode)
            placed = place_window(
                Box(*self.file.boxes[number].tolist()),
                image.shape[1:],
                self.side,
                context_pad=self.context_pad,
                square=self.square,
                mirror=mirror,
            )
        except MokaError as error:
            if path not in error.message:
                error.message = f"{path}: {error.message}"
            error.message = f"the block of image {block}: {error.message}"
            raise error.at(file=self.source) from None
        return self._fill(image, placed, mirror)

    def _fill(self, image: Image, placed: Placement, mirror: bool) -> NDArray[np.float32]:
        """The crop: the resized part less the mean, times the scale; 0 where there is no image."""
        crop = np.zeros(self.image_shape, f32)
        cut, height, width, top, left = placed
        if height > 0 and width > 0:
            part = image[:, cut.y1 : cut.y2 + 1, cut.x1 : cut.x2 + 1]
            part = resize(part, height, width)[:, :, :: -1 if mirror else 1]
            spot = np.s_[:, top : top + height, left : left + width]
            crop[spot] = (part - self.mean[spot]) * self.scale
        return crop
