"""Layers that read and write HDF5 files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from moka.data.hdf5 import Hdf5Batches, Hdf5Rows, append_rows
from moka.data.place import CursorState, first_state
from moka.errors import NetError
from moka.files import check_writable
from moka.layers.base import Layer
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.stream import StreamSource
from moka.types import Floats, Shape

log = logging.getLogger("moka.detail")


@layer(
    "HDF5Data",
    bottoms=0,
    tops=(1, None),
    message="hdf5_data_param",
    source="files",
    any_shapes=True,
)
class HDF5Data(StreamSource[Hdf5Batches]):
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
        super().setup()
        self._stream: Iterator[tuple[list[Floats], CursorState]] | None = None

    def open(self) -> Hdf5Batches:
        rows = Hdf5Rows(self.source, list(self.config.top), shuffle=self.shuffle)
        transform = self.make_transform() if self.config.HasField("transform_param") else None
        is_random = self.shuffle or (transform is not None and transform.is_random)
        return Hdf5Batches(
            rows,
            transform,
            batch_size=self.batch_size,
            start=first_state(is_random=is_random),
        )

    def top_shapes(self) -> list[Shape]:
        return [(self.batch_size, *shape) for shape in self.batches.row_shapes]

    def prepare(self) -> None:
        if self._stream is None:
            self._stream = self.batches.stream(self.state(), self.share)

    def forward(self) -> list[Tensor]:
        self.prepare()
        assert self._stream is not None
        arrays, self._after = next(self._stream)
        return [torch.from_numpy(array) for array in arrays]

    def stop(self) -> None:
        self._stream = None

    def opened_notes(self) -> list[str]:
        return [
            f"Loading list of HDF5 filenames from: {self.source}",
            f"Number of HDF5 files: {len(self.batches.rows.files)}",
            *self.mean_note(self.batches.transform),
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
            try:
                check_writable(self.file_name)
            except OSError as error:
                raise NetError(
                    f"Failed to open HDF5 file{self.file_name}: {folder} cannot be written:"
                    f" {error.strerror}."
                ) from None
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
