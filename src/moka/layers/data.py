"""Layers that read and write files: databases and HDF5."""

from __future__ import annotations

import logging
import os

import torch
from torch import Tensor

from moka.data.batches import CursorState, RecordBatches
from moka.data.feed import Feed
from moka.data.hdf5 import Hdf5Rows, append_rows
from moka.data.store import open_store
from moka.data.transform import Transform
from moka.errors import NetError
from moka.layers.base import Layer, Shape, not_negative, param, positive
from moka.layers.registry import layer
from moka.layers.source import Source

log = logging.getLogger("moka.detail")


@layer("Data", bottoms=0, tops=(1, 2))
class Data(Source):
    """Images and labels from a database of Datum records, in key order, over and over.

    Tops: data (batch_size, C, H, W) float, after the transformation; optionally labels
    (batch_size,). Messages: data_param (`source`, `batch_size`, `backend`, `rand_skip`,
    `prefetch`: how many batches are made ahead), transform_param. The images of a batch have one
    size, that of another batch may differ.

    Errors: a database that is missing, empty, or holds something else (the record's key is
    named); images that differ in size within a batch; what the transformation refuses.
    """

    source = param()
    batch_size = param(positive, required=True)
    backend = param()
    rand_skip = param(not_negative)
    prefetch = param(positive)

    def setup(self) -> None:
        if not self.source:
            raise NetError("data_param has no source: name the database's folder.")
        self.batches = RecordBatches(
            open_store(self.source, self.backend),
            Transform(self.config.transform_param, training=self.training),
            batch_size=self.batch_size,
            rand_skip=self.rand_skip,
            with_labels=len(self.config.top) > 1,
        )
        self.after = self.batches.start
        self._start()

    def _start(self) -> None:
        self.feed = Feed(self.batches.stream(self.after), self.prefetch)

    def top_shapes(self) -> list[Shape]:
        return [(self.batch_size, *self.batches.image_shape), (self.batch_size,)][
            : len(self.config.top)
        ]

    def forward(self) -> list[Tensor]:
        arrays, self.after = self.feed.next()
        self.waited_s = self.feed.waited_s
        return [torch.from_numpy(a) for a in arrays]

    def state(self) -> CursorState:
        return self.after

    def load_state(self, state: CursorState) -> None:
        self.feed.close()
        self.after = state
        self._start()

    def close(self) -> None:
        self.feed.close()

    def notes(self) -> list[str]:
        mean_file = self.batches.transform.mean_file
        size = ",".join(str(n) for n in self.top_shapes()[0])
        return [
            f"Opened lmdb {self.source}",
            *([f"Loading mean file from: {mean_file}"] if mean_file else []),
            f"output data size: {size}",
        ]


@layer("HDF5Data", bottoms=0, tops=(1, None), message="hdf5_data_param")
class HDF5Data(Source):
    """Rows of the datasets of HDF5 files, named by the tops, over and over.

    Tops: (batch_size, ...), float. Message: hdf5_data_param (`source`: a text file that names one
    HDF5 file a line; `shuffle`: files and the rows in a file are shuffled in each epoch). Batches
    run across files; integers are converted.

    Errors: files or datasets that are missing; a transform_param, which this layer does not use.
    """

    source = param(required=True)
    batch_size = param(positive, required=True)
    shuffle = param()

    def setup(self) -> None:
        if self.config.HasField("transform_param"):
            raise NetError(f"{self.config.type} does not transform data: drop transform_param.")
        seed = int(torch.randint(2**63 - 1, ())) if self.shuffle else None
        self.rows = Hdf5Rows(self.source, list(self.config.top), seed)
        self.load_state(CursorState())

    def top_shapes(self) -> list[Shape]:
        return [(self.batch_size, *shape) for shape in self.rows.row_shapes]

    def forward(self) -> list[Tensor]:
        self.records_read += self.batch_size
        return [torch.from_numpy(array) for array in next(self.batches)]

    def state(self) -> CursorState:
        seed = None if self.rows.seed is None else str(self.rows.seed).encode()
        return CursorState(self.records_read, seed)

    def load_state(self, state: CursorState) -> None:
        if state.random is not None:
            self.rows.seed = int(state.random)
        self.records_read = state.records_read
        self.batches = self.rows.batches(self.batch_size, state.records_read)

    def notes(self) -> list[str]:
        return [
            f"Loading list of HDF5 filenames from: {self.source}",
            f"Number of HDF5 files: {len(self.rows.files)}",
        ]


@layer("HDF5Output", bottoms=2, tops=0, message="hdf5_output_param", fixed_bottoms=(0, 1))
class HDF5Output(Layer):
    """Writes its bottoms to an HDF5 file, as the datasets "data" and "label".

    Bottoms: two blobs of at most 4 axes and the same first one, N; they take no gradient. The
    datasets are (N, C, H, W), missing axes 1. Each pass adds its rows; the first one starts the
    file anew. Message: hdf5_output_param (`file_name`). (BVLC Caffe ends with an error in the
    second pass.)

    Errors: another number of axes or rows; a file that cannot be written.
    """

    file_name = param(required=True)

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
