"""Sources that read batches from files, one after the other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, Protocol, TypeVar

import torch

from moka.data.place import EVERYTHING, CursorState, Share
from moka.data.transform import Transform
from moka.layers.source import Source
from moka.schema import caffe_pb2


class Stream(Protocol):
    """What a `StreamSource` needs of the batches that it opens; see `moka.data.batches.Batches`."""

    @property
    def start(self) -> CursorState: ...

    def names(self, after: CursorState, share: Share = EVERYTHING) -> list[str]: ...

    def record_count(self) -> int | None: ...


S = TypeVar("S", bound=Stream)


class StreamSource(Source, Generic[S]):
    """A source whose batches come from files.

    It opens them when it is first asked for the shapes of its tops or for a batch, or by `prepare`.
    """

    def setup(self) -> None:
        self.device = torch.device("cpu")
        self.share = EVERYTHING
        self._opened: S | None = None
        self._after: CursorState | None = None

    @abstractmethod
    def open(self) -> S:
        """Open the files."""

    @abstractmethod
    def stop(self) -> None:
        """End the stream; the next batch starts another one, after `state()`."""

    @property
    def batches(self) -> S:
        """The files' contents, opened when they are first asked for."""
        if self._opened is None:
            self._opened = self.open()
        return self._opened

    def make_transform(self) -> Transform:
        """The transformation of the images. Raises what `Transform` raises."""
        is_training = self.config.phase == caffe_pb2.TRAIN  # whatever mode the net is in by now
        return Transform(self.config.transform_param, training=is_training)

    def notes(self) -> list[str]:
        return self.opened_notes() if self._opened is not None else []

    def opened_notes(self) -> list[str]:
        """Lines of Caffe's log about the opened files."""
        return []

    def mean_note(self, transform: Transform | None) -> list[str]:
        """The line of the log that names a mean file."""
        mean_file = transform.mean_file if transform else ""
        return [f"Loading mean file from: {mean_file}"] if mean_file else []

    def attach(self, device: torch.device, share: Share) -> None:
        self.stop()
        self.device, self.share = device, share

    def state(self) -> CursorState:
        start = self.batches.start
        return self._after.seeded(start.seed) if self._after else start

    def load_state(self, state: CursorState) -> None:
        self.stop()
        self._after = state

    def record_count(self) -> int | None:
        return self.batches.record_count()

    def batch_names(self) -> list[str]:
        return self.batches.names(self.state(), self.share)
