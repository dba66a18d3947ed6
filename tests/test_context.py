"""Choices of a thread are its own."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest
import torch

from moka import context
from moka.errors import UsageError


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_context", context._Context())


def test_another_thread_starts_from_the_defaults() -> None:
    context.set_mode_gpu()
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(context.device().type))
    thread.start()
    thread.join()
    assert seen == ["cpu"]


@pytest.mark.parametrize(
    ("gpus", "device_id", "refused"), [(0, 3, False), (2, 1, False), (2, 2, True), (0, -1, True)]
)
def test_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device_id: int, refused: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    of_pytorch: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", of_pytorch.append)
    with (
        pytest.raises(UsageError, match=r"there is no GPU .*set_mode_cpu")
        if refused
        else nullcontext()
    ):
        context.set_device(device_id)
    assert of_pytorch == ([device_id] if gpus and not refused else [])


def test_a_device_is_a_number() -> None:
    with pytest.raises(TypeError, match="'str' object cannot be interpreted as an integer"):
        context.set_device("0")  # type: ignore[arg-type]
