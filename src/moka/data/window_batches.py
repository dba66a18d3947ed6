"""Batches of windows, some of objects and some of background: the training data of R-CNN."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.data.ahead import map_ahead
from moka.data.batches import Batch
from moka.data.decode import Decoder, Image, resize
from moka.data.images import decode_file, read_file
from moka.data.place import EVERYTHING, WINDOWS, CursorState, Share, generator
from moka.data.transform import Transform
from moka.data.windows import Box, Placement, f32, place_window, read_windows
from moka.errors import DataError, MokaError, NetError
from moka.memory import check_shape
from moka.types import PathLike, Shape

CHANNELS = 3  # images are read in color


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
