"""Numbers on their way from a device to the host, while the device works on."""

from __future__ import annotations

import torch
from torch import Tensor


class LateRead:
    """A copy of some numbers that is queued behind the work so far.

    Args:
        values: 1-D, on the device.
    """

    def __init__(self, values: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._values = values
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            # Of this device, which need not be the thread's own.
            self._arrived.record(torch.cuda.current_stream(values.device))

    def wait(self) -> list[float]:
        """The numbers, as soon as they are here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found: list[float] = self._values.tolist()
        return found
