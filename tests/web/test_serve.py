"""The command `caffe serve`."""

from __future__ import annotations

import pytest

from moka.web import serve


@pytest.mark.parametrize(
    ("given", "workers", "threads", "alone"),
    [
        ({}, 6, 1, 6),  # an image that is alone has all cores
        ({"workers": 2}, 2, 3, 6),
        ({"workers": 1}, 1, 6, 6),
        ({"threads": 2}, 3, 2, 2),
        ({"workers": 9}, 9, 1, 6),
    ],
)
def test_workers_and_threads(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, int], workers: int, threads: int, alone: int
) -> None:
    monkeypatch.setattr(serve, "usable_cores", lambda: 6)
    flags = {"batch": 8, "delay_ms": 2.0, "queue": 64, "workers": 0, "threads": 0, **given}
    pace = serve._pace(flags)
    assert (pace.workers, pace.threads, pace.threads_alone) == (workers, threads, alone)
