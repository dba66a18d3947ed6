from __future__ import annotations

import torch

from moka.engine.late_read import LateRead


def test_the_numbers_arrive_as_they_were_when_they_were_sent(device: torch.device) -> None:
    values = torch.arange(3, dtype=torch.float64, device=device)
    read = LateRead(values.clone())
    values.zero_()
    assert read.wait() == [0, 1, 2]
