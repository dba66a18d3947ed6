"""The data layer that reads videos."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from moka.data.batches import ImageBatches
from moka.data.decode import Decoder
from moka.data.place import first_state
from moka.data.segments import FLOW, PATTERNS, SegmentBatches, SegmentFiles, Snippets
from moka.data.transform import Transform
from moka.data.videos import ClipBatches, ClipFiles, RunningFrames
from moka.errors import NetError
from moka.layers.data import ResizedImages
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import Shape

OF_SEGMENTS = ("num_segments", "modality", "name_pattern")
ELSEWHERE = ("encoded", "scale", "mean_file", "crop_size", "mirror")


def _stand_in(config: caffe_pb2.LayerParameter, images: Shape) -> list[Shape]:
    count, channels, *size = images
    of_videos, of_images = config.video_data_param, config.image_data_param
    if _is_of_segments(config):
        modality = "FLOW" if of_videos.modality == of_videos.FLOW else "RGB"
        shape = (
            Snippets(
                of_videos.num_segments,
                of_videos.new_length,
                modality,
                PATTERNS[modality],
                is_gray=of_videos.grayscale,
            ).channels,
            *size,
        )
    elif of_videos.source or of_images.source:
        length = of_videos.new_length if of_videos.source else of_images.new_length
        shape = (channels, length, *size)
    else:
        shape = images[1:]
    return [(count, *shape), (count,)]


def _is_of_segments(config: caffe_pb2.LayerParameter) -> bool:
    return any(config.video_data_param.HasField(name) for name in OF_SEGMENTS)


@layer(
    "VideoData",
    bottoms=0,
    tops=(1, 2),
    source="files",
    message="video_data_param",
    other_messages=("image_data_param",),
    stand_in=_stand_in,
    fork="SSD",
    drawn=DrawStyle(edge="Batch {batch_size}"),
)
class VideoData(ResizedImages):
    """Frames of a video, or clips of many.

    With `source` (video-caffe, C3D) it is a list with a video on each line: the path of a video
    file or of a folder of frames, perhaps the number of the first frame, from 1, and a label. Tops:
    data (batch_size, C, new_length, H, W) float, labels (batch_size,). `new_height`, `new_width`:
    the size of frames before a crop; `root_folder`, `is_color`, `shuffle` and `rand_skip` as in
    ImageData. C3D writes the same in image_data_param, with `sampling_rate`, the step from one
    frame of a clip to the next, and with scale, mean_file, crop_size and mirror beside it.

    Without (SSD) it gives the frames of `video_file` over and over, with `video_type: VIDEO`, or
    those of the camera `device_id`; `skip_frames` are left out after each one. Tops: data
    (batch_size, 3, H, W) float; optionally labels (batch_size,), which are 0.

    With `num_segments`, `modality` or `name_pattern` (yjxiong, temporal segment networks) the list
    has on each line a folder of images, how many frames it has, and a label. Of each of the
    segments, which are equally long, new_length frames in a row are taken, in training from a
    random place on, else from the middle. `modality` RGB: images named by `name_pattern`, by
    default image_%04d.jpg, gray with `grayscale`; FLOW (default): for each frame one of x and one
    of y, flow_%c_%04d.jpg. Tops: data (batch_size, channels of all frames, H, W) float, segment
    after segment; labels (batch_size,). Fewer mean_value than channels repeat.

    Messages: video_data_param or image_data_param, data_param (`batch_size` of frames,
    `prefetch`), transform_param with forks' ways to resize and cut (see Data). OpenCV reads the
    videos.

    Errors: a video or a list that cannot be read; a video that ends before its clip; frames of
    different sizes.
    """

    source: str = option(default="")
    batch_size: int | None = option(positive)  # type: ignore[assignment]
    video_type: str = option()
    device_id: int = option(not_negative)
    video_file: str = option(default="")
    skip_frames: int = option()
    rand_skip: int = option()
    shuffle: bool = option()
    new_length: int = option(positive)
    new_height: int = option()
    new_width: int = option()
    is_color: bool = option()
    root_folder: str = option(default="")
    num_segments: int = option(positive)
    modality: str = option()
    name_pattern: str = option(default="")
    grayscale: bool = option()
    use_image: bool = option(of="image_data_param")  # a path shows whether it is a folder
    sampling_rate: int = option(positive, of="image_data_param")
    use_temporal_jitter: bool = option(of="image_data_param")

    def setup(self) -> None:
        for field, _ in self.config.video_data_param.ListFields():
            if field.name in ELSEWHERE:
                raise NetError(
                    f"video_data_param {{ {field.name} }} is not supported.",
                    advice="What transform_param has, such as mirror, write there.",
                )
        if self.use_temporal_jitter:
            raise NetError("use_temporal_jitter draws clips by chance, which is not supported.")
        if bool(self.new_height) != bool(self.new_width):
            raise NetError(
                "new_height and new_width go together: "
                f"got new_height={self.new_height}, new_width={self.new_width}."
            )
        self.of_segments = _is_of_segments(self.config)
        self.of_clips = bool(self.source) and not self.of_segments
        if self.of_segments:
            self.snippets = self._snippets()
        elif not self.source:
            if self.video_type == "VIDEO" and not self.video_file:
                raise NetError("video_file is missing: name the video.")
            self.source = self.video_file or f"camera {self.device_id}"
        if not self.batch_size:
            self.batch_size = self.config.data_param.batch_size or 1
        super().setup()

    def _snippets(self) -> Snippets:
        pattern = self.name_pattern or PATTERNS[self.modality]
        snippets = Snippets(
            self.num_segments, self.new_length, self.modality, pattern, is_gray=self.grayscale
        )
        try:
            snippets.files(0)
        except (TypeError, ValueError):
            names = "x or y and a number" if self.modality == FLOW else "a number"
            raise NetError(
                f'name_pattern "{pattern}" is no pattern of {names}, such as'
                f' "{PATTERNS[self.modality]}".'
            ) from None
        return snippets

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that frames are resized to; None: they keep their size."""
        return (self.new_height, self.new_width) if self.new_height else None

    @cached_property
    def examples(self) -> ClipFiles | SegmentFiles | RunningFrames:
        """The list, read, or the running video."""
        if self.of_segments:
            return SegmentFiles(
                self.source,
                self.snippets,
                size=self.size,
                root_folder=self.root_folder,
                shuffle=self.shuffle,
            )
        if self.of_clips:
            return ClipFiles(
                self.source,
                self.new_length,
                Decoder(color=self.is_color, size=self.size),
                root_folder=self.root_folder,
                shuffle=self.shuffle,
                step=self.sampling_rate,
            )
        video = self.video_file if self.video_type == "VIDEO" else self.device_id
        return RunningFrames(video, skip=self.skip_frames, size=self.size)

    def make_transform(self) -> Transform:
        fields = caffe_pb2.TransformationParameter()
        fields.CopyFrom(self.config.transform_param)
        beside = self.config.image_data_param
        for name in ("scale", "mean_file", "crop_size", "mirror"):
            if beside.HasField(name):
                setattr(fields, name, getattr(beside, name))
        if self.of_segments and len(fields.mean_value) > 1:
            times = max(1, self.snippets.channels // len(fields.mean_value))
            fields.mean_value.extend(list(fields.mean_value) * (times - 1))
        return Transform(fields, training=self.config.phase == caffe_pb2.TRAIN)

    def open(self) -> ImageBatches[Any]:
        transform = self.make_transform()
        if isinstance(self.examples, SegmentFiles):
            by_chance = self.config.phase == caffe_pb2.TRAIN
            random = transform.is_random or self.shuffle or by_chance
            return SegmentBatches(
                self.examples,
                transform,
                batch_size=self.batch_size or 1,
                start=first_state(rand_skip=self.rand_skip, is_random=random),
                by_chance=by_chance,
            )
        make = ClipBatches if self.of_clips else ImageBatches
        return make(
            self.examples,  # type: ignore[arg-type]
            transform,
            batch_size=self.batch_size or 1,
            start=first_state(
                rand_skip=self.rand_skip, is_random=transform.is_random or self.shuffle
            ),
        )

    def later_files(self) -> list[str]:
        return self.examples.later_files()

    def opened_notes(self) -> list[str]:
        return [
            *self.mean_note(self.batches.transform),
            f"Opening file {self.source}",
            *(["Shuffling data"] if self.shuffle else []),
            self.size_note(),
        ]
