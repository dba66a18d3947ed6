"""Frames of videos: clips from lists of video files or folders of frames, and running frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from moka.data.batches import Batch, Drawing, ImageBatches, Loaded
from moka.data.decode import Decoder, Image, resize
from moka.data.images import IMAGE_SUFFIXES, decode_file, read_file, read_image_lines
from moka.data.order import example_indices
from moka.data.transform import Draw
from moka.errors import DataError, MokaError
from moka.types import PathLike, Shape

CLIP_LIST_ADVICE = (
    "It is a text file with a video on each line: the path of its file or of a folder of frames,"
    " perhaps the number of the first frame, from 1, and its label."
)


class VideoClip(NamedTuple):
    """A part of a video, as written in its list, and the number of the line.

    Attributes:
        start: the first frame; the video's is 1.
    """

    path: str
    start: int
    label: int
    line: int


def read_clips(source: PathLike) -> list[VideoClip]:
    """The clips in a list: on each line a path, perhaps the first frame, and a label.

    Raises:
        DataError: missing or empty; a line of another form.
    """
    clips = []
    for number, line in enumerate(read_image_lines(source, advice=CLIP_LIST_ADVICE), 1):
        words = line.split()
        if not words:
            continue
        try:
            path, *numbers = words
            start, label = map(int, numbers if len(numbers) == 2 else ["1", *numbers])
        except ValueError:
            raise DataError(
                f'line {number}, "{line}", is not a path, the first frame and a label.',
                file=source,
                advice=CLIP_LIST_ADVICE,
            ) from None
        if start < 1:
            raise DataError(f"line {number}: the first frame is 1, got {start}.", file=source)
        clips.append(VideoClip(path, start, label, number))
    return clips


@contextmanager
def opened_video(video: str | int) -> Iterator[cv2.VideoCapture]:
    """A video file, or a camera by its number. Raises DataError if it cannot be opened."""
    capture = cv2.VideoCapture(video)
    try:
        if not capture.isOpened():
            what = f"camera {video}" if isinstance(video, int) else f"the video {video}"
            raise DataError(f"Could not open {what}.")
        yield capture
    finally:
        capture.release()


def frames_of(video: str | int) -> Iterator[Image]:
    """The frames (3, H, W) uint8 of a video file or camera, in BGR order, once through."""
    with opened_video(video) as capture:
        while True:
            found, pixels = capture.read()
            if not found:
                return
            yield np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_frames(
    path: str, start: int, length: int, decode: Decoder, *, step: int = 1
) -> list[Image]:
    """Frames of a video file, or of a folder of images in the order of their names.

    Args:
        start: the first frame; the video's is 1.
        length: how many.
        decode: makes an image of a file's bytes.
        step: from one frame to the next.

    Raises:
        DataError: the video cannot be read, or is shorter.
    """
    last = start + (length - 1) * step
    window = slice(start - 1, last, step)
    if os.path.isdir(path):
        names = sorted(
            name for name in os.listdir(path) if name.rpartition(".")[2].lower() in IMAGE_SUFFIXES
        )
        files = [os.path.join(path, name) for name in names[window]]
        frames = [decode_file(read_file(name), name, decode) for name in files]
    else:
        frames = [decode.converted(f) for f in islice(frames_of(path), start - 1, last, step)]
    if len(frames) < length:
        raise DataError(
            f"{path} ends before frame {last}: a clip has {length} frames from frame {start} on."
        )
    return frames


class ClipFiles:
    """Clips and their labels, over and over.

    Args:
        path: the list.
        length: frames in a clip.
        decode: makes an image of a frame; it may resize.
        root_folder: prefix of each path; no slash is added.
        shuffle: a new order in each epoch, by the seed.
        step: from one frame of a clip to the next.
    """

    noun = "clip"

    def __init__(
        self,
        path: PathLike,
        length: int,
        decode: Decoder,
        *,
        root_folder: str,
        shuffle: bool,
        step: int,
    ) -> None:
        self.path = path
        self.clips = read_clips(path)
        self.length = length
        self.decode = decode
        self.root_folder = root_folder
        self.shuffle = shuffle
        self.step = step

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, record: VideoClip) -> str:
        return self.root_folder + record.path

    def later_files(self) -> list[str]:
        """The videos: a list may name missing files."""
        return [self.name(clip) for clip in self.clips]

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[VideoClip]:
        order = example_indices(len(self), start, step, shuffle=self.shuffle, seed=seed)
        return (self.clips[i] for i in order)

    def load(self, records: Sequence[VideoClip]) -> Loaded:
        """The clips (frames, C, H, W) and their labels."""
        return Loaded([self._read(r) for r in records], [r.label for r in records])

    def _read(self, record: VideoClip) -> Image:
        try:
            frames = read_frames(
                self.name(record), record.start, self.length, self.decode, step=self.step
            )
            if any(f.shape != frames[0].shape for f in frames):
                raise DataError(f"{self.name(record)} has frames of different sizes.")
        except MokaError as error:
            error.message = f"line {record.line}: {error.message}"
            raise error.at(file=self.path) from None
        return np.stack(frames)


class ClipBatches(ImageBatches[VideoClip]):
    """Batches of clips (N, C, frames, H, W); the frames of a clip are cropped and mirrored
    alike."""

    def _batch(self, records: list[VideoClip], drawing: Drawing, *, on_device: bool) -> Batch:
        clips, labels = self.examples.load(records)
        self._check(records, [clip.shape for clip in clips])
        draw = drawing.draw(self.transform, [clip.shape[1:] for clip in clips])
        length = clips[0].shape[0]
        of_frames = Draw(
            draw.top.repeat(length),
            draw.left.repeat(length),
            draw.mirror.repeat(length),
            [change for change in draw.changes for _ in range(length)],
        )
        frames = self.transform.apply([frame for clip in clips for frame in clip], of_frames)
        by_clip = frames.reshape(len(clips), length, *frames.shape[1:])
        data = np.ascontiguousarray(by_clip.transpose(0, 2, 1, 3, 4))
        return Batch(data, np.array(labels, np.float32))

    def _out_shape(self, record: VideoClip, shape: Shape) -> Shape:
        length, *frame = shape
        channels, *size = super()._out_shape(record, tuple(frame))
        return (channels, length, *size)


class RunningFrames:
    """The frames of a video file or camera as images, over and over; their label is 0.

    Args:
        video: the file, or the number of a camera.
        skip: frames left out after each one.
        size: height and width to resize to; None: as they are.
    """

    noun = "frame"

    def __init__(self, video: str | int, *, skip: int, size: tuple[int, int] | None) -> None:
        self.path = str(video)
        self.video = video
        self.skip = skip
        self.size = size

    def name(self, record: tuple[int, Image]) -> str:
        return f"{self.path} {record[0]}"

    def later_files(self) -> list[str]:
        """No files: the video is open."""
        return []

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[tuple[int, Image]]:
        """Numbered frames, from 0."""
        return islice(enumerate(self._kept()), start, None, step)

    def load(self, records: Sequence[tuple[int, Image]]) -> Loaded:
        images = [image for _, image in records]
        if self.size is not None:
            images = [resize(image, *self.size) for image in images]
        return Loaded(images, [0] * len(images))

    def _kept(self) -> Iterator[Image]:
        while True:
            count = 0
            for image in islice(frames_of(self.video), 0, None, self.skip + 1):
                count += 1
                yield image
            if not count:
                raise DataError("there is no frame in this video.", file=self.path)
