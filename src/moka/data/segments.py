"""Snippets of videos that lie as folders of images, as yjxiong's Caffe reads them.

A video is divided into segments of the same length, and a snippet of frames is taken of each: in
training at a random place, else from the middle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from moka.data.batches import Drawing, ImageBatches, Loaded
from moka.data.decode import Decoder, Image
from moka.data.images import decode_file, read_file, read_image_lines
from moka.data.order import example_indices
from moka.data.place import CursorState
from moka.data.transform import Transform
from moka.errors import DataError, MokaError
from moka.types import PathLike

RGB, FLOW = "RGB", "FLOW"
PATTERNS = {RGB: "image_%04d.jpg", FLOW: "flow_%c_%04d.jpg"}
LIST_ADVICE = (
    "It is a text file with a video on each line: a folder of images, how many frames it has, and"
    " its label."
)


class Video(NamedTuple):
    """A folder of frames, as written in its list, and the number of the line."""

    path: str
    frames: int
    label: int
    line: int


def read_videos(source: PathLike) -> list[Video]:
    """The videos in a list: on each line a folder, its number of frames, and a label.

    Raises:
        DataError: missing or empty; a line of another form.
    """
    videos = []
    for number, line in enumerate(read_image_lines(source, advice=LIST_ADVICE), 1):
        words = line.split()
        if not words:
            continue
        try:
            path, frames, label = words
            videos.append(Video(path, int(frames), int(label), number))
        except ValueError:
            raise DataError(
                f'line {number}, "{line}", is not a folder, its number of frames and a label.',
                file=source,
                advice=LIST_ADVICE,
            ) from None
    return videos


class Snippets(NamedTuple):
    """What is taken of a video.

    Attributes:
        segments: how many.
        length: frames of each.
        modality: RGB, or FLOW: of each frame two images, the x and the y of the motion.
        pattern: name of a frame's file, as printf: of its number from 1; for FLOW of "x" or "y" and
            the number.
        is_gray: whether frames have one channel.
    """

    segments: int
    length: int
    modality: str
    pattern: str
    is_gray: bool = False

    @property
    def channels(self) -> int:
        """Of all frames."""
        each = 3 if self.modality == RGB and not self.is_gray else 1
        return each * len(self.files(0)) * self.segments

    def starts(self, frames: int, rng: np.random.Generator | None) -> list[int]:
        """The frame before each snippet, by chance if a generator is given. A segment that is
        shorter than a snippet gives the second frame of the video and those after it."""
        each = frames // self.segments
        if each < self.length:
            return [1] * self.segments
        room = each - self.length + 1
        places = [rng.integers(room) if rng else room // 2 for _ in range(self.segments)]
        return [int(place) + i * each for i, place in enumerate(places)]

    def files(self, start: int) -> list[str]:
        """The files of the snippet after a frame."""
        numbers = range(start + 1, start + 1 + self.length)
        if self.modality == RGB:
            return [self.pattern % number for number in numbers]
        return [self.pattern % (axis, number) for number in numbers for axis in "xy"]


class SegmentFiles:
    """Videos and their labels, over and over. `load` reads the labels alone: see SegmentBatches.

    Args:
        path: the list.
        snippets: what is taken of each video.
        size: height and width to resize to; None: as they are.
        root_folder: prefix of each path; no slash is added.
        shuffle: a new order in each epoch, by the seed.
    """

    noun = "video"

    def __init__(
        self,
        path: PathLike,
        snippets: Snippets,
        *,
        size: tuple[int, int] | None,
        root_folder: str,
        shuffle: bool,
    ) -> None:
        self.path = path
        self.videos = read_videos(path)
        self.snippets = snippets
        self.decode = Decoder(color=snippets.modality == RGB and not snippets.is_gray, size=size)
        self.root_folder = root_folder
        self.shuffle = shuffle

    def __len__(self) -> int:
        return len(self.videos)

    def name(self, record: Video) -> str:
        return self.root_folder + record.path

    def later_files(self) -> list[str]:
        """The folders: a list may name missing ones."""
        return [self.name(video) for video in self.videos]

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[Video]:
        order = example_indices(len(self), start, step, shuffle=self.shuffle, seed=seed)
        return (self.videos[i] for i in order)

    def load(self, records: Sequence[Video]) -> Loaded:
        return Loaded([], [r.label for r in records])

    def frames(self, record: Video, rng: np.random.Generator | None) -> Image:
        """The frames of a video's snippets, one after the other: (channels of all, H, W).

        Raises:
            DataError: one is missing, broken, or of another size.
        """
        try:
            folder = self.name(record)
            images = []
            for start in self.snippets.starts(record.frames, rng):
                for name in self.snippets.files(start):
                    file = os.path.join(folder, name)
                    images.append(decode_file(read_file(file), file, self.decode))
            if any(image.shape != images[0].shape for image in images):
                raise DataError(f"{folder} has frames of different sizes.")
        except MokaError as error:
            error.message = f"line {record.line}: {error.message}"
            raise error.at(file=self.path) from None
        return np.concatenate(images)


class SegmentBatches(ImageBatches[Video]):
    """Batches of snippets (N, channels of all frames, H, W).

    Args:
        examples, transform, batch_size, start: see ImageBatches.
        by_chance: whether the places of the snippets are drawn.
    """

    examples: SegmentFiles

    def __init__(
        self,
        examples: SegmentFiles,
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        by_chance: bool,
    ) -> None:
        self.by_chance = by_chance
        super().__init__(examples, transform, batch_size=batch_size, start=start)

    def prepared(self, records: Sequence[Video], loaded: Loaded, drawing: Drawing) -> Loaded:
        chances = drawing.of_items() if self.by_chance else repeat(None)
        frames = [self.examples.frames(*each) for each in zip(records, chances, strict=False)]
        return Loaded(frames, loaded.labels)
