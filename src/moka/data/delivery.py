"""Batches on their way to a GPU, while it computes with earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from moka.data.batches import Batch
from moka.data.place import CursorState
from moka.data.transform import Transform
from moka.types import Array


class Delivered(NamedTuple):
    """A batch on a GPU.

    Attributes:
        tops: data, labels, and what follows them.
        arrived: the event after which they are there.
    """

    tops: Sequence[Tensor]
    arrived: torch.cuda.Event

    def received(self) -> list[Tensor]:
        """The tops, for the current stream, which waits for them; the host does not."""
        stream = torch.cuda.current_stream(self.tops[0].device)
        stream.wait_event(self.arrived)
        for top in self.tops:
            top.record_stream(stream)
        return list(self.tops)


def delivered(
    batches: Iterable[tuple[Batch, CursorState]], transform: Transform, device: torch.device
) -> Iterator[tuple[Delivered, CursorState]]:
    """Copy batches to a GPU on a stream of their own, and finish their transformation there.

    The copies start from pinned memory, so that the GPU fetches them by itself.

    Args:
        batches: made for a device (`Batches.stream`).
        transform: whose second half is missing where a batch has a `draw`.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch, after in batches:
        with torch.cuda.stream(stream):
            data = _sent(batch.data, device)
            if batch.draw is not None:
                data = transform.normalize_tensor(data, batch.draw)
            tops = [data, *(_sent(array, device) for array in (batch.labels, *batch.more))]
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        yield Delivered(tops, arrived), after


def _sent(array: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(array).pin_memory().to(device, non_blocking=True)
