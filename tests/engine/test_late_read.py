from __future__ import annotations

import pytest
import torch
from tests.played_gpu import playing_a_gpu

from moka.engine.late_read import LateRead


def test_the_numbers_arrive_as_they_were_when_they_were_sent(device: torch.device) -> None:
    values = torch.arange(3, dtype=torch.float64, device=device)
    read = LateRead(values.clone())
    values.zero_()
    assert read.wait() == [0, 1, 2]


def test_it_waits_for_the_device_of_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which need not be the one that is PyTorch's own in this thread."""
    waited: list[object] = []
    with playing_a_gpu() as gpu:
        monkeypatch.setattr(torch.cuda, "current_stream", lambda *device: device)
        monkeypatch.setattr(torch.cuda.Event, "record", lambda _, *stream: waited.extend(stream))
        assert LateRead(torch.ones(2, device=gpu)).wait() == [1, 1]
    assert waited == [(gpu,)]
