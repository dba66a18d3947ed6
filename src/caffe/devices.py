"""The devices of the OpenCL branch, for programs that were written for it."""

from __future__ import annotations

from collections.abc import Sequence

from moka.context import set_device


def select_device(device_id: int, list_id: bool = False) -> None:
    """`set_device`; both ways to number devices agree here."""
    set_device(device_id)


def set_devices(device_ids: Sequence[int]) -> None:
    """Nothing: devices are made ready as they are selected."""


def enumerate_devices(silent: bool = False) -> None:
    """Nothing: `caffe device_query --gpu=all` shows the devices."""
