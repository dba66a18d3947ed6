"""Images with a map of class labels as large as they are, from lists of both files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.data.batches import Batch, Drawing, ImageBatches, Loaded
from moka.data.decode import Decoder, Image, resize
from moka.data.images import ImageFiles, Labeled, decode_file, read_file, read_image_lines
from moka.data.place import CursorState
from moka.data.transform import Transform
from moka.errors import DataError
from moka.types import PathLike, Shape

PATH_LIST_ADVICE = "It is a text file with a path on each line."
PAIR_LIST_ADVICE = (
    "It is a text file with the path of an image and of its label image on each line."
)

WHITE = 255
UNLABELED = 255


class Pair(NamedTuple):
    """An image file and what the list says of its labels, and the number of the line."""

    path: str
    labels: str
    line: int


def read_pairs(source: PathLike, *, alone: bool = False) -> list[Pair]:
    """The pairs in a list: on each line the path of an image and its labels, a blank between them.

    Args:
        alone: a line may also be one path.

    Raises:
        DataError: missing or empty; a line that is not a pair.
    """
    pairs = []
    for number, line in enumerate(read_image_lines(source, advice=PAIR_LIST_ADVICE), 1):
        words = line.split()
        if len(words) == 2 or (len(words) == 1 and alone):
            pairs.append(Pair(words[0], words[-1], number))
        elif words:
            raise DataError(
                f'line {number}, "{line}", is not the paths of an image and of its label image.',
                file=source,
                advice=PAIR_LIST_ADVICE,
            )
    return pairs


def join_lists(images: PathLike, labels: PathLike, folders: tuple[str, str]) -> list[Pair]:
    """The pairs of two lists, of images and of label images, a path on each line.

    Args:
        folders: put before the paths of each list, as they are.

    Raises:
        DataError: missing or empty; lists of different lengths.
    """
    lists = [read_image_lines(source, advice=PATH_LIST_ADVICE) for source in (images, labels)]
    found = [
        [(k, line.strip()) for k, line in enumerate(lines, 1) if line.strip()] for lines in lists
    ]
    if len(found[0]) != len(found[1]):
        raise DataError(
            f"names {len(found[1])} label images for {len(found[0])} images.", file=labels
        )
    return [
        Pair(folders[0] + image, folders[1] + label, line)
        for (line, image), (_, label) in zip(*found, strict=True)
    ]


@dataclass(frozen=True)
class LabeledPixels:
    """The label map (1, H, W) of one image, and the height and width of the image."""

    labels: Image
    size: tuple[int, int]


class LabelMapFiles(ImageFiles):
    """Images and their label maps, over and over.

    Args:
        path: the list.
        pairs: its lines, at least one.
        decode: makes an image of a file's bytes; it may resize.
        kind: PIXEL: the list names label images; IMAGE: it gives one label for all pixels of an
            image; NONE: all pixels have the label `ignored`.
        resized: bring label images to the size of their image, without mixing labels; else they
            have it.
        divide: labels are divided by it, rounding down.
        root_folder, shuffle: see ImageFiles.
    """

    interpolation = cv2.INTER_NEAREST  # of a label image that is resized

    def __init__(
        self,
        path: PathLike,
        pairs: Sequence[Pair],
        decode: Decoder,
        *,
        kind: str = "PIXEL",
        ignored: int = 0,
        resized: bool = False,
        divide: int = 1,
        root_folder: str = "",
        shuffle: bool = False,
    ) -> None:
        files = [Labeled(pair.path, k, pair.line) for k, pair in enumerate(pairs)]
        super().__init__(path, files, decode, root_folder=root_folder, shuffle=shuffle)
        self.pairs = pairs
        self.kind = kind
        self.ignored = ignored
        self.resized = resized
        self.divide = divide
        self.decode_labels = Decoder(color=False)

    def load(self, records: Sequence[Labeled]) -> Loaded:
        """The images, and for each a LabeledPixels."""
        images = [self._read(r) for r in records]
        return Loaded(images, [self._labels(*pair) for pair in zip(records, images, strict=True)])

    def notes(self) -> list[str]:
        """No lines beyond Caffe's own."""
        return []

    def later_files(self) -> list[str]:
        """The images and the label images: a list may name missing files."""
        names = [pair.path for pair in self.pairs]
        if self.kind == "PIXEL":
            names += [pair.labels for pair in self.pairs]
        return [self.root_folder + name for name in names]

    def _labels(self, record: Labeled, image: Image) -> LabeledPixels:
        size = (image.shape[1], image.shape[2])
        pair = self.pairs[record.label]
        try:
            if self.kind == "PIXEL":
                labels = self._map(self.root_folder + pair.labels, size)
            else:
                label = self.ignored if self.kind == "NONE" else _whole(pair.labels)
                labels = np.full((1, *size), label, np.int32)
        except DataError as error:
            error.message = f"line {record.line}: {error.message}"
            raise error.at(file=self.path) from None
        return LabeledPixels(labels // self.divide if self.divide > 1 else labels, size)

    def _map(self, name: str, size: tuple[int, int]) -> Image:
        labels = decode_file(read_file(name), name, self.decode_labels)
        if self.resized:
            labels = cv2.resize(labels[0], size[::-1], interpolation=self.interpolation)[None]
        if labels.shape[1:] != size:
            raise DataError(
                f"{name} has {labels.shape[1]} x {labels.shape[2]} labels, its image"
                f" {size[0]} x {size[1]} pixels."
            )
        return labels


class EdgeMapFiles(LabelMapFiles):
    """Images and gray images of their edges, over and over: white, 255, is an edge.

    Args:
        fractions: a label is the gray of its pixel divided by 255; else 1 from 128 on, and 0 below.
        path, pairs, decode, resized, root_folder, shuffle: see LabelMapFiles; edges are resized as
            images are, by bilinear interpolation.
    """

    interpolation = cv2.INTER_LINEAR

    def __init__(
        self,
        path: PathLike,
        pairs: Sequence[Pair],
        decode: Decoder,
        *,
        fractions: bool,
        resized: bool,
        root_folder: str,
        shuffle: bool,
    ) -> None:
        super().__init__(
            path, pairs, decode, resized=resized, root_folder=root_folder, shuffle=shuffle
        )
        self.fractions = fractions

    def _map(self, name: str, size: tuple[int, int]) -> Image:
        gray = super()._map(name, size)
        return gray / np.float32(WHITE) if self.fractions else gray // (WHITE // 2 + 1)


def _whole(text: str) -> int:
    """A label. Raises DataError if it is no whole number."""
    try:
        return int(text)
    except ValueError:
        raise DataError(
            f'the label "{text}" is not a whole number.',
            advice="label_type: PIXEL is for lists of label images.",
        ) from None


class Cut(NamedTuple):
    """How an image and its labels are cut to one size.

    Attributes:
        height, width: of the part, at a random place in training and in the center in testing; 0:
            all of it.
        fill: labels of what is added below and on the right of an image that is smaller; None:
            smaller images are an error.
        factors: in training both are first resized by one of these, drawn by chance.
    """

    height: int
    width: int
    fill: int | None = None
    factors: tuple[float, ...] = ()


class LabelMapBatches(ImageBatches[Labeled]):
    """Batches of images and their label maps, which are cut and mirrored alike.

    Labels are (N, 1, H, W), and the third top the sizes (N, 1, 1, 2) of the images before cutting.

    Args:
        cut: how both are cut.
        examples, batch_size, start: see ImageBatches.
        transform: what happens to each image after that; it does not crop.
    """

    def __init__(
        self,
        examples: LabelMapFiles,
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        cut: Cut,
    ) -> None:
        self.cut = cut
        super().__init__(examples, transform, batch_size=batch_size, start=start)
        self.label_shape = (1, *self.image_shape[1:])

    @property
    def _is_cut(self) -> bool:
        return bool(self.cut.height)

    def _batch(self, records: list[Labeled], drawing: Drawing, *, on_device: bool) -> Batch:
        images, found = self.examples.load(records)
        sizes = np.array([each.size for each in found], np.float32).reshape(-1, 1, 1, 2)
        parts = [
            self._part(record, image, each.labels, rng)
            for record, image, each, rng in zip(
                records, images, found, drawing.of_items(), strict=False
            )
        ]
        pixels = [part for part, _ in parts]
        self._check(records, [p.shape for p in pixels])
        draw = drawing.draw(self.transform, [p.shape for p in pixels])
        labels = self.transform.pixels([part for _, part in parts], draw)
        return Batch(self.transform.apply(pixels, draw), labels.astype(np.float32), None, [sizes])

    def _out_shape(self, record: Labeled, shape: Shape) -> Shape:
        if self._is_cut:
            shape = (shape[0], self.cut.height, self.cut.width)
        return super()._out_shape(record, shape)

    def _part(
        self, record: Labeled, image: Image, labels: Image, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        """The part of an image and of its labels that both are cut to."""
        if self.cut.factors and self.transform.training:
            factor = self.cut.factors[rng.integers(len(self.cut.factors))]
            height, width = (max(1, int(n * factor)) for n in image.shape[1:])
            image = resize(image, height, width)
            labels = cv2.resize(labels[0], (width, height), interpolation=cv2.INTER_NEAREST)[None]
        if not self._is_cut:
            return image, labels
        height, width, fill, _ = self.cut
        below, right = max(0, height - image.shape[1]), max(0, width - image.shape[2])
        if below or right:
            if fill is None:
                raise DataError(
                    f'line {record.line}: the image "{record.path}" is'
                    f" {image.shape[1]} x {image.shape[2]}, smaller than the crop"
                    f" {height} x {width}.",
                    file=self.examples.path,
                )
            image = _extended(image, below, right, self.transform.mean_values)
            labels = _extended(labels, below, right, np.array([fill]))
        room = np.array(image.shape[1:]) - np.array([height, width])
        top, left = rng.integers(0, room + 1) if self.transform.training else room // 2
        window = np.s_[:, top : top + height, left : left + width]
        return image[window], labels[window]


class LabelSlice(NamedTuple):
    """Which labels of a map are kept, along rows and columns: every `stride`-th from `offset` on,
    `dim` of them."""

    dim: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[int, int]

    def of(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The labels kept of maps (..., H, W)."""
        rows, columns = (
            slice(first, first + step * (dim - 1) + 1, step)
            for dim, step, first in zip(*self, strict=True)
        )
        return labels[..., rows, columns]


class ContextBatches(LabelMapBatches):
    """Batches for nets that see more of an image than they label.

    An image is first resized by a factor, drawn by chance, then extended by the slice's offset on
    all sides, and where it is still smaller than the cut up to that, around its center; then both
    are cut and mirrored alike, and of the labels a slice is kept.

    Args:
        kept: which labels of the cut.
        reflect: extend images by their mirror image; else by zeros. Labels are extended by 255.
        factors: the least and the largest factor; None: images keep their size.
        examples, transform, batch_size, start, cut: see LabelMapBatches.
    """

    def __init__(
        self,
        examples: LabelMapFiles,
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        cut: Cut,
        kept: LabelSlice,
        reflect: bool,
        factors: tuple[float, float] | None,
    ) -> None:
        self.kept = kept
        self.reflect = reflect
        self.factors = factors
        super().__init__(examples, transform, batch_size=batch_size, start=start, cut=cut)
        self.label_shape = (1, *kept.dim)

    def _batch(self, records: list[Labeled], drawing: Drawing, *, on_device: bool) -> Batch:
        batch = super()._batch(records, drawing, on_device=on_device)
        return batch._replace(labels=np.ascontiguousarray(self.kept.of(batch.labels)))

    def _part(
        self, record: Labeled, image: Image, labels: Image, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        if self.factors:
            factor = rng.uniform(*self.factors)
            shrinks = factor <= 1
            image = _scaled(image, factor, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
            labels = _scaled(labels, factor, cv2.INTER_NEAREST)
        margins = [(0, 0), *((n, n) for n in self.kept.offset)]
        image, labels = self._padded(image, labels, margins)
        rows, columns = (
            max(0, side - n)
            for side, n in zip((self.cut.height, self.cut.width), labels.shape[1:], strict=True)
        )
        # Of an odd number the larger half comes below, and on the left.
        rest = [(0, 0), (rows // 2, rows - rows // 2), (columns - columns // 2, columns // 2)]
        image, labels = self._padded(image, labels, rest)
        return super()._part(record, image, labels, rng)

    def _padded(
        self, image: Image, labels: Image, widths: Sequence[tuple[int, int]]
    ) -> tuple[Image, Image]:
        image = np.pad(image, widths, mode="reflect") if self.reflect else np.pad(image, widths)
        return image, np.pad(labels, widths, constant_values=UNLABELED)


def _scaled(image: Image, factor: float, interpolation: int) -> Image:
    """An image (C, H, W) resized by a factor, at least to one pixel."""
    height, width = (max(1, round(n * factor)) for n in image.shape[1:])
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    resized = cv2.resize(pixels, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, -1).transpose(2, 0, 1)


def _extended(image: Image, below: int, right: int, values: NDArray[Any]) -> Image:
    """An image (C, H, W) with more pixels below and on the right: a value for each channel, or one
    for all; 0 if none is given."""
    channels = [
        np.pad(plane, ((0, below), (0, right)), constant_values=value)
        for plane, value in zip(
            image, np.resize(values.ravel() if values.size else [0], len(image)), strict=True
        )
    ]
    return np.stack(channels)
