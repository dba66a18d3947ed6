from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch

from moka import context
from moka.command import device
from moka.errors import UsageError

Pretend = Callable[[int], None]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """pretend(2): as if there were two GPUs."""

    def make(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU number {i}")
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)

    return make


@pytest.fixture(autouse=True)
def _mode() -> Iterator[None]:
    yield
    context.set_mode_cpu()
    context._context.device_id = 0


@pytest.mark.parametrize(
    ("text", "wanted"), [("", []), ("0", [0]), ("1,0", [1, 0]), ("all", [0, 1]), ("0,", [0])]
)
def test_gpu_ids(pretend: Pretend, text: str, wanted: list[int]) -> None:
    pretend(2)
    assert device.gpu_ids(text) == wanted


@pytest.mark.parametrize(
    ("count", "text", "says"),
    [
        (0, "all", "there is no GPU here. Leave --gpu out"),
        (0, "0", "there is no GPU 0: 0 found. Leave --gpu out"),
        (2, "2", "there is no GPU 2: 2 found"),
        (2, "first", "--gpu takes ids joined by commas, or all; found 'first'"),
        (2, "-1", "found '-1'"),
        (2, "²", "found '²'"),
    ],
)
def test_ids_that_are_none(pretend: Pretend, count: int, text: str, says: str) -> None:
    pretend(count)
    with pytest.raises(UsageError, match=says):
        device.gpu_ids(text)


@pytest.mark.parametrize(
    ("count", "flag", "wanted_id", "chosen"),
    [
        (0, "", None, "cpu"),
        (2, "", None, "cpu"),
        (2, "1", None, "cuda:1"),
        (2, "", 1, "cuda:1"),
        (2, "0", 1, "cuda:0"),  # the flag counts more than the solver
    ],
)
def test_use(
    pretend: Pretend,
    caplog: pytest.LogCaptureFixture,
    count: int,
    flag: str,
    wanted_id: int | None,
    chosen: str,
) -> None:
    pretend(count)
    with caplog.at_level(logging.INFO, "moka"):
        assert device.use(flag, wanted_id=wanted_id) == torch.device(chosen)
    assert context.device() == torch.device(chosen)
    number = chosen.partition(":")[2]
    wanted = [f"Use GPU with device ID {number}", f"GPU device name: GPU number {number}"]
    assert caplog.messages == (wanted if number else ["Use CPU."])


def test_a_solver_that_wants_a_gpu_where_there_is_none(
    pretend: Pretend, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(0)
    assert device.use("", wanted_id=0) == torch.device("cpu")
    assert [r.levelname for r in caplog.records].count("WARNING") == 1


def test_one_gpu_at_a_time(pretend: Pretend) -> None:
    pretend(2)
    with pytest.raises(UsageError, match="one GPU can be used, 2 were asked for"):
        device.use("all")
