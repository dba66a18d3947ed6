"""Layers that read images: from databases, lists, folders, tar shards, and windows of images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor

from moka.data.batches import Batch, Batches, ImageBatches
from moka.data.decode import Decoder
from moka.data.delivery import Delivered, delivered
from moka.data.feed import Feed
from moka.data.images import ImageList
from moka.data.place import CursorState, draw_seed, first_state
from moka.data.records import DatumRecords
from moka.data.sources import Images, open_images
from moka.data.store import open_store
from moka.data.window_batches import WindowBatches
from moka.errors import NetError
from moka.free_memory import gigabytes, most_memory
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import DrawStyle, layer
from moka.layers.stream import StreamSource
from moka.schema import caffe_pb2
from moka.types import Shape

B = TypeVar("B", bound=Batches)


class ImageSource(StreamSource[B]):
    """Base of all sources of images: batches are made ahead in threads.

    Tops: data (batch_size, C, H, W) float, after the transformation, and labels (batch_size,).
    """

    source: str = option(default="")
    batch_size: int = option(positive, required=True)
    prefetch: int = option(positive, of="data_param")

    def setup(self) -> None:
        super().setup()
        self._feed: Feed[tuple[Batch | Delivered, CursorState]] | None = None
        if not self.source:
            home = next(o.of for o in self.options if o.name == "source") or self.entry.message
            raise NetError(f"{home} has no source: name the file or folder.")

    def top_shapes(self) -> list[Shape]:
        shapes = [
            (self.batch_size, *self.batches.image_shape),
            (self.batch_size, *self.batches.label_shape),
        ]
        return shapes[: self.top_count]

    @property
    def feed(self) -> Feed[tuple[Batch | Delivered, CursorState]]:
        """The threads that make batches, from `state()` on. A forked process starts its own."""
        if self._feed is None or self._feed.left_behind:
            batches, after, share, device = self.batches, self.state(), self.share, self.device

            # The threads must not keep this layer alive, so they know its parts only.
            def items() -> Iterator[tuple[Batch | Delivered, CursorState]]:
                made = batches.stream(after, share, on_device=device.type != "cpu")
                is_cuda = device.type == "cuda"
                return delivered(made, batches.transform, device) if is_cuda else made

            self._check_ahead()
            self._feed = Feed(items, self.prefetch)
        return self._feed

    def _check_ahead(self) -> None:
        """Raises NetError if all batches that are made ahead do not fit into any memory."""
        size = 4 * sum(prod(shape) for shape in self.top_shapes())
        if self.prefetch * size > (most := most_memory()):
            raise NetError(
                f"prefetch: {self.prefetch} batches of {size:,} bytes take"
                f" {gigabytes(self.prefetch * size)}, and there are {gigabytes(most)} in all."
            )

    def prepare(self) -> None:
        self.feed.start()

    def forward(self) -> list[Tensor]:
        batch, self._after = self.feed.next()
        self.waited_s = self.feed.waited_s
        if isinstance(batch, Delivered):
            return batch.received()[: self.top_count]
        data, labels = torch.from_numpy(batch.data), torch.from_numpy(batch.labels)
        if batch.draw is not None:  # bytes travel, the device does the arithmetic
            data = self.batches.transform.normalize_tensor(data.to(self.device), batch.draw)
        more = [torch.from_numpy(each) for each in batch.more]
        return [data, labels, *more][: self.top_count]

    def stop(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._feed = None

    def close(self) -> None:
        self._feed = self._feed or Feed(lambda: iter(()), 1)  # a closed one says that it is closed
        self._feed.close()

    def size_note(self) -> str:
        return "output data size: " + ",".join(str(n) for n in self.top_shapes()[0])


class DatabaseSource(ImageSource[B]):
    """What the sources of images in a database have in common."""

    source: str = option(of="data_param", default="")
    batch_size: int = option(positive, of="data_param", required=True)
    backend: str = option(of="data_param")
    rand_skip: int = option(not_negative, of="data_param")

    @cached_property
    @abstractmethod
    def records(self) -> DatumRecords:
        """The database, opened."""

    def decoder(self) -> Decoder:
        """Decodes its images, in color or gray if transform_param says so."""
        fields = self.config.transform_param
        return Decoder(color=True if fields.force_color else False if fields.force_gray else None)

    def opened_notes(self) -> list[str]:
        return [*self.records.notes(), *self.mean_note(self.batches.transform), self.size_note()]


class ResizedImages(ImageSource[ImageBatches[Any]]):
    """Sources of images that forks resize and cut in their ways."""

    crop_h: int = option(of="transform_param")
    crop_w: int = option(of="transform_param")
    center_crop: bool = option(of="transform_param")
    resize_param: tuple[caffe_pb2.ResizeParameter, ...] = option(of="transform_param")
    random_resize_param: caffe_pb2.RandomResizeParameter = option(of="transform_param")
    random_aspect_ratio_param: caffe_pb2.RandomAspectRatioParameter = option(of="transform_param")
    img_rand_resize_lower: int = option(of="transform_param")
    img_rand_resize_upper: int = option(of="transform_param")
    rand_resize_ratio_lower: float = option(of="transform_param")
    rand_resize_ratio_upper: float = option(of="transform_param")
    vertical_stretch_lower: float = option(of="transform_param")
    vertical_stretch_upper: float = option(of="transform_param")
    horizontal_stretch_lower: float = option(of="transform_param")
    horizontal_stretch_upper: float = option(of="transform_param")
    interpolation_algo_down: str = option(of="transform_param")
    interpolation_algo_up: str = option(of="transform_param")
    allow_upscale: bool = option(of="transform_param")
    multi_scale: bool = option(of="transform_param")
    scale_ratios: tuple[float, ...] = option(of="transform_param")
    max_distort: int = option(not_negative, of="transform_param")
    fix_crop: bool = option(of="transform_param")
    more_fix_crop: bool = option(of="transform_param")
    is_flow: bool = option(of="transform_param")


class ListedImages(ResizedImages):
    """Sources that read labeled images in the order of a database, list or folder."""

    rand_skip: int = option(not_negative)
    shuffle: bool = option()

    @property
    def images(self) -> Images:
        """The data, opened."""
        raise NotImplementedError

    def open(self) -> ImageBatches[Any]:
        transform = self.make_transform()
        return ImageBatches(
            self.images,
            transform,
            batch_size=self.batch_size,
            start=first_state(
                rand_skip=self.rand_skip, is_random=transform.is_random or self.shuffle
            ),
        )


@layer("Data", bottoms=0, tops=(1, 2), source="files", drawn=DrawStyle(edge="Batch {batch_size}"))
class Data(ListedImages):
    """Images and labels from a database of Datum records, in key order, over and over.

    Beyond BVLC Caffe `source` may be a folder with a subfolder of image files for each class, which
    are labeled 0, 1, ... in the order of their names (the log says which is which), or tar shards
    in WebDataset's form, shards/train-{000..127}.tar or shards/*.tar, each example an image such
    as 0001.jpg with its label in 0001.cls, or in 0001.json as "label" or "cls". Such images come
    as they are stored, class after class in a folder: ImageData shuffles them.

    Tops: data (batch_size, C, H, W) float, after the transformation; optionally labels
    (batch_size,), or (batch_size, n) from records or examples that hold n labels each (made by
    `convert_imageset -label_count`; BVLC Caffe sees the first of them alone; in a .cls blanks
    stand between them, in a .json they are a list). Messages: data_param (`source`, `batch_size`,
    `backend`, `rand_skip`, `prefetch`: how many batches are made ahead; `shuffle` of NVCaffe and
    Intel Caffe: a new order in each epoch, if the database is LMDB's), transform_param. The images
    of a batch have one size, that of another batch may differ.

    Of the transformations of forks there are `crop_h` and `crop_w`; `center_crop` (caffe-windows:
    in training, too); `resize_param` (SSD: WARP, FIT_SMALL_SIZE); `random_resize_param` (Intel: a
    shorter side from min_size to max_size) and `random_aspect_ratio_param` (Intel: a part of
    min_area_ratio to max_area_ratio of the image, times and by up to aspect_ratio_change as high
    and wide); and NVCaffe's `img_rand_resize_lower`, `img_rand_resize_upper` (the shorter side),
    `rand_resize_ratio_` (the longer side, as a multiple of it), `vertical_stretch_`,
    `horizontal_stretch_`, `interpolation_algo_` and `allow_upscale`. As in these forks they apply
    in training and testing. In training alone there are yjxiong's `multi_scale` (the crop's height
    and width are each one of `scale_ratios` times the shorter side, at most `max_distort` apart in
    their order, and it is resized to crop_size) and `fix_crop`, `more_fix_crop` (the crop lies at
    one of 5 or 13 places). With `is_flow` mirrored images turn every other channel, x to 255 - x.

    Errors: a database that is missing, empty, or holds something else (the record's key is
    named); a folder without subfolders, or a class without images; a shard that is broken or
    compressed, an example in it without an image or a label; images that differ in size, or have
    other numbers of labels, within a batch; what the transformation refuses.
    """

    backend: str = option()
    prefetch: int = option(positive)

    @cached_property
    def images(self) -> Images:
        """The data, opened."""
        fields = self.config.transform_param
        color = True if fields.force_color else False if fields.force_gray else None
        decode = Decoder(color=color)
        found = open_images(self.source, decode, shuffle=self.shuffle)
        if found is None:
            store = open_store(self.source, self.backend)
            return DatumRecords(store, decode, shuffle=self.shuffle)
        return found

    def opened_notes(self) -> list[str]:
        return [*self.images.notes(), *self.mean_note(self.batches.transform), self.size_note()]


@layer("ImageData", bottoms=0, tops=2, source="files")
class ImageData(ListedImages):
    """Images and labels from a list of image files, over and over.

    Beyond BVLC Caffe `source` may be a folder of classes or tar shards instead of a list: see Data.

    Tops: data (batch_size, C, H, W) float, after the transformation; labels (batch_size,), or
    (batch_size, n) from shards with n labels an example. Messages: image_data_param (`source`: the
    list, a path and a label on each line, split at the last blank; `root_folder`: put before each
    path as it is, and before a folder or shards; `new_height`, `new_width`: resize to this, both or
    none; `short_side` of NVCaffe: resize so that the shorter side is so long; `is_color`: three
    channels in BGR order, else one; `shuffle`: a new order in each epoch, in which groups of
    `pair_size` lines of the list stay together; `rand_skip`, `batch_size`), transform_param,
    data_param (`prefetch`). The images of a batch have one size, that of another batch may differ.

    Errors: a list or an image that is missing or cannot be read (its line and path are named); what
    is wrong with a folder or shards, see Data; images that differ in size within a batch; what the
    transformation refuses.
    """

    root_folder: str = option()
    new_height: int = option()
    new_width: int = option()
    short_side: int = option()
    is_color: bool = option()
    pair_size: int = option(positive)

    def setup(self) -> None:
        super().setup()
        if bool(self.new_height) != bool(self.new_width):
            raise NetError(
                "new_height and new_width go together: "
                f"got new_height={self.new_height}, new_width={self.new_width}."
            )
        if self.short_side and self.new_height:
            raise NetError("give either short_side or new_height and new_width, not both.")

    @cached_property
    def images(self) -> Images:
        """The data, opened."""
        size = (self.new_height, self.new_width) if self.new_height else None
        decode = Decoder(color=self.is_color, size=size, short_side=self.short_side)
        root, shuffle = self.root_folder, self.shuffle
        found = open_images(self.source, decode, root_folder=root, shuffle=shuffle)
        if found is None:
            group = self.pair_size
            return ImageList(self.source, decode, root_folder=root, shuffle=shuffle, group=group)
        if self.pair_size > 1:
            raise NetError(f"pair_size needs a list of images: {self.source} is none.")
        return found

    def later_files(self) -> list[str]:
        return self.images.later_files()

    def opened_notes(self) -> list[str]:
        skipped = self.batches.start.records_read
        return [
            *self.mean_note(self.batches.transform),
            f"Opening file {self.source}",
            *(["Shuffling data"] if self.shuffle else []),
            f"A total of {len(self.images)} images.",
            *self.images.notes(),
            *([f"Skipping first {skipped} data points."] if self.rand_skip else []),
            self.size_note(),
        ]


@layer("WindowData", bottoms=0, tops=2, source="files", channels=3)
class WindowData(ImageSource[WindowBatches]):
    """Windows of images, cut out and stretched to one size, drawn by chance: R-CNN's data.

    Tops: data (batch_size, 3, crop_size, crop_size) float, BGR: first the background windows,
    then int(batch_size * fg_fraction) foreground ones; labels (batch_size,): the class, 0 for
    background. Messages: window_data_param (`source`: see moka/data/windows.py; `batch_size`,
    `fg_fraction`; `fg_threshold`: foreground has this overlap or more; `bg_threshold`: background
    has less; `context_pad`: pixels of context on each side of the crop; `crop_mode`: warp, or
    square; `root_folder`, `cache_images`), transform_param, data_param (`prefetch`). Where a
    window with its context leaves the image the crop is 0. The mean file is cut in its center.

    Errors: no crop_size; a file that is missing or not of this form; windows beyond their image;
    no window of a kind that a batch needs.

    BVLC Caffe reads `scale` from window_data_param alone and leaves that of transform_param
    aside; here both count.
    """

    root_folder: str = option()
    fg_threshold: float = option()
    bg_threshold: float = option()
    fg_fraction: float = option()
    context_pad: int = option()
    crop_mode: str = option()
    cache_images: bool = option()
    scale: float = option()

    def setup(self) -> None:
        super().setup()
        if self.crop_mode not in ("warp", "square"):
            raise NetError(f'crop_mode is "warp" or "square", got "{self.crop_mode}".')
        if not 0 <= self.fg_fraction <= 1:
            raise NetError(f"fg_fraction must be between 0 and 1, got {self.fg_fraction:g}.")

    def open(self) -> WindowBatches:
        return WindowBatches(
            self.source,
            self.make_transform(),
            batch_size=self.batch_size,
            fg_fraction=self.fg_fraction,
            fg_threshold=self.fg_threshold,
            bg_threshold=self.bg_threshold,
            context_pad=self.context_pad,
            square=self.crop_mode == "square",
            scale=self.scale,
            root_folder=self.root_folder,
            cache_images=self.cache_images,
            seed=draw_seed(),
        )

    def later_files(self) -> list[str]:
        return [self.root_folder + path for path in self.batches.file.images]

    def opened_notes(self) -> list[str]:
        counts = self.batches.class_counts()
        return [
            *self.mean_note(self.batches.transform),
            f"Number of images: {len(self.batches.file.images)}",
            *(f"class {label} has {count} samples" for label, count in counts.items()),
            f"Amount of context padding: {self.context_pad}",
            f"Crop mode: {self.crop_mode}",
            self.size_note(),
        ]
