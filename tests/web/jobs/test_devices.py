"""The processes and GPUs of a job, from the fields of a form."""

from __future__ import annotations

import pytest
import torch

from moka.errors import UsageError
from moka.web.jobs.devices import described, devices_of, fields_of


def test_one_process_by_default() -> None:
    devices = devices_of({"workers": "", "gpu": " ", "strong": ""})
    assert (devices.flags, devices.batches) == ([], 1)


@pytest.mark.parametrize(
    ("values", "flags", "batches"),
    [
        ({"workers": "3"}, ["--workers=3"], 3),
        ({"workers": "3", "strong": "true"}, ["--workers=3", "--strong=true"], 1),
        ({"workers": "1"}, ["--workers=1"], 1),
        ({"gpu": "1"}, ["--gpu=1"], 1),
        ({"gpu": "0,2"}, ["--gpu=0,2"], 2),
        ({"gpu": "all"}, ["--gpu=all"], 4),
    ],
)
def test_processes(
    values: dict[str, str], flags: list[str], batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    devices = devices_of(values)
    assert (devices.flags, devices.batches) == (flags, batches)
    assert fields_of(devices.flags) == values


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        ({"workers": "two"}, "illegal value 'two' specified for int32 flag 'workers'"),
        ({"workers": "-1"}, "--workers must be >= 0"),
        ({"workers": "65"}, "workers has to be at most 64, got 65"),
        ({"gpu": "1,x"}, "--gpu takes ids joined by commas, or all; found 'x'"),
        ({"gpu": "7"}, "there is no GPU 7: 4 found"),
        ({"gpu": "1", "workers": "2"}, "give it or --gpu, not both"),
    ],
)
def test_what_is_refused(
    values: dict[str, str], fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UsageError, match=fact):
        devices_of(values)


def test_the_form_describes_them() -> None:
    told = {each["name"]: each["help"] for each in described()}
    assert set(told) == {"workers", "gpu", "strong"}
    assert all(told.values())
