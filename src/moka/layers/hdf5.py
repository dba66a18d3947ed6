"""Layers that read and write HDF5 files."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

import torch
from torch import Tensor

from moka.data.batches import TRANSFORM, CursorState, Share, first_state, generator
from moka.data.hdf5 import Hdf5Rows, append_rows
from moka.data.transform import Transform
from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.source import Source
from moka.types import Shape

log = logging.getLogger("moka.detail")


@layer("HDF5Data", bottoms=0, tops=(1, None), message="hdf5_data_param", source="files")
class HDF5Data(Source):
    """Rows of the datasets of HDF5 files, named by the tops, over and over.

    Tops: (batch_size, ...), float; the first one after the transformation. Messages:
    hdf5_data_param (`source`: a text file that names one HDF5 file a line; `shuffle`: files and the
    rows in a file are shuffled in each epoch), transform_param. Batches run across files; integers
    are converted.

    BVLC Caffe refuses a transform_param. Here it is for a first top of images: rows of three axes
    (channels, height, width), whose numbers are taken as they are, as Data takes raw records.

    Errors: files or datasets that are missing or hold no numbers; datasets with other numbers of
    rows, or rows of another shape than in the first file; a transform_param for rows that are no
    images; what the transformation refuses.
    """

    source: str = option(required=True)
    batch_size: int = option(positive, required=True)
    shuffle: bool = option()

    def setup(self) -> None:
        self.rows = Hdf5Rows(self.source, list(self.config.top), shuffle=self.shuffle)
        self.shapes = list(self.rows.row_shapes)
        self.transform = None
        if self.config.HasField("transform_param"):
            self.transform = Transform(self.config.transform_param, training=self.training)
            self.shapes[0] = self._image_shape(self.transform)
        is_random = self.shuffle or (self.transform is not None and self.transform.is_random)
        self.share = Share()
        self.after = first_state(is_random=is_random)
        self.load_state(self.after)

    def _image_shape(self, transform: Transform) -> Shape:
        """Shape of the first top's images, transformed."""
        name, shape = self.config.top[0], self.shapes[0]
        if transform.force_color or transform.force_gray:
            raise NetError("force_color and force_gray are for encoded images, which HDF5 has not.")
        try:
            if len(shape) != 3:
                raise DataError(
                    "transform_param is for images (channels, height, width), and the rows of"
                    f' "{name}", the first top, have shape {shape}.'
                )
            return transform.out_shape(shape)
        except DataError as error:
            raise error.at(file=self.rows.files[0]) from None

    def top_shapes(self) -> list[Shape]:
        return [(self.batch_size, *shape) for shape in self.shapes]

    def attach(self, device: torch.device, share: Share) -> None:
        self.share = share
        self.load_state(self.after)

    @property
    def stride(self) -> int:
        """Rows that all processes together read for a batch each."""
        return self.batch_size * self.share.size

    def forward(self) -> list[Tensor]:
        rank, size = self.share
        arrays = [array[rank::size] for array in next(self.batches)]
        if self.transform is not None:
            rng = generator(self.after.seed, TRANSFORM, self.after.records_read + rank)
            draw = self.transform.draw([image.shape for image in arrays[0]], rng)
            arrays[0] = self.transform.apply(arrays[0], draw)
        read = self.after.records_read + self.stride
        self.after = replace(self.after, records_read=read)
        return [torch.from_numpy(array) for array in arrays]

    def state(self) -> CursorState:
        return self.after

    def load_state(self, state: CursorState) -> None:
        seed = self.after.seed if state.seed is None else state.seed
        self.after = replace(state, seed=seed)
        self.batches = self.rows.batches(self.stride, self.after)

    def batch_names(self) -> list[str]:
        read = self.after.records_read
        first = max(0, read - self.stride)
        names = self.rows.record_names(replace(self.after, records_read=first), read - first)
        return names[self.share.rank :: self.share.size]

    def notes(self) -> list[str]:
        mean_file = self.transform.mean_file if self.transform else ""
        return [
            f"Loading list of HDF5 filenames from: {self.source}",
            f"Number of HDF5 files: {len(self.rows.files)}",
            *([f"Loading mean file from: {mean_file}"] if mean_file else []),
        ]


@layer(
    "HDF5Output",
    bottoms=2,
    tops=0,
    message="hdf5_output_param",
    fixed_bottoms=(0, 1),
    differentiable=False,
    on_host=True,
    writes_files=True,
)
class HDF5Output(Layer):
    """Writes its bottoms to an HDF5 file, as the datasets "data" and "label".

    Bottoms: two blobs of at most 4 axes and the same first one, N; they take no gradient. The
    datasets are (N, C, H, W), missing axes 1. Each pass adds its rows; the first one starts the
    file anew. Message: hdf5_output_param (`file_name`). (BVLC Caffe ends with an error in the
    second pass.)

    Errors: another number of axes or rows; a file that cannot be written.
    """

    file_name: str = option(required=True)

    def setup(self, data: Shape, label: Shape) -> None:
        folder = os.path.dirname(self.file_name) or "."
        if not os.access(folder, os.W_OK):
            raise NetError(f"Failed to open HDF5 file{self.file_name}: {folder} cannot be written.")
        self.passes = 0

    def top_shapes(self, data: Shape, label: Shape) -> list[Shape]:
        if len(data) > 4 or len(label) > 4:
            raise NetError(f"writes blobs of at most 4 axes, got {data} and {label}.")
        if data[:1] != label[:1] or not data:
            raise NetError(f"needs as many labels as rows of data, got {data} and {label}.")
        return []

    def forward(self, data: Tensor, label: Tensor) -> list[Tensor]:
        log.info("Saving HDF5 file %s", self.file_name)
        columns = {
            name: tensor.detach().cpu().reshape(*tensor.shape, *(1,) * (4 - tensor.dim())).numpy()
            for name, tensor in (("data", data), ("label", label))
        }
        append_rows(self.file_name, columns, afresh=self.passes == 0)
        self.passes += 1
        log.info("Successfully saved %d rows", len(data))
        return []
