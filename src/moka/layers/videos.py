"""The data layer that reads videos."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from moka.data.batches import ImageBatches
from moka.data.decode import Decoder
from moka.data.place import first_state
from moka.data.transform import Transform
from moka.data.videos import ClipBatches, ClipFiles, RunningFrames
from moka.errors import NetError
from moka.layers.data import ImageSource
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2

OF_SEGMENTS = (
    *("num_segments", "modality", "name_pattern", "encoded", "grayscale"),
    *("scale", "mean_file", "crop_size", "mirror"),
)


@layer(
    "VideoData",
    bottoms=0,
    tops=(1, 2),
    source="files",
    message="video_data_param",
    other_messages=("image_data_param",),
    fork="SSD",
    drawn=DrawStyle(edge="Batch {batch_size}"),
)
class VideoData(ImageSource[ImageBatches[Any]]):
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

    Messages: video_data_param or image_data_param, data_param (`batch_size` of frames,
    `prefetch`), transform_param. OpenCV reads the videos.

    Errors: a video or a list that cannot be read; a video that ends before its clip; frames of
    different sizes. yjxiong's form, over segments of videos, is not supported.
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
    use_image: bool = option(of="image_data_param")  # a path shows whether it is a folder
    sampling_rate: int = option(positive, of="image_data_param")
    use_temporal_jitter: bool = option(of="image_data_param")

    def setup(self) -> None:
        for field, _ in self.config.video_data_param.ListFields():
            if field.name in OF_SEGMENTS:
                raise NetError(
                    f"{field.name} belongs to yjxiong's form of this type, which is not supported.",
                    advice="What transform_param has, such as mirror, write there.",
                )
        if self.use_temporal_jitter:
            raise NetError("use_temporal_jitter draws clips by chance, which is not supported.")
        if bool(self.new_height) != bool(self.new_width):
            raise NetError(
                "new_height and new_width go together: "
                f"got new_height={self.new_height}, new_width={self.new_width}."
            )
        self.of_clips = bool(self.source)
        if not self.of_clips:
            if self.video_type == "VIDEO" and not self.video_file:
                raise NetError("video_file is missing: name the video.")
            self.source = self.video_file or f"camera {self.device_id}"
        if not self.batch_size:
            self.batch_size = self.config.data_param.batch_size or 1
        super().setup()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that frames are resized to; None: they keep their size."""
        return (self.new_height, self.new_width) if self.new_height else None

    @cached_property
    def examples(self) -> ClipFiles | RunningFrames:
        """The list, read, or the running video."""
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
        return Transform(fields, training=self.config.phase == caffe_pb2.TRAIN)

    def open(self) -> ImageBatches[Any]:
        transform = self.make_transform()
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
