from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe


def test_properties_are_listed(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        major=9, minor=0, name="Model X", total_memory=150, multi_processor_count=132
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: properties)
    assert caffe("device_query").err.count("Device id:") == 2  # all, if none is named
    quiet = caffe("device_query", "-gpu", "1", "--quiet")
    run = caffe("device_query", "-gpu", "1")
    assert (run.code, run.out) == (0, "")
    assert (quiet.err, quiet.out.splitlines()) == ("", run.messages("I")[1:])
    assert [" ".join(m.split()) for m in run.messages("I")] == [
        "Querying GPUs 1",
        "Device id: 1",
        "Major revision number: 9",
        "Minor revision number: 0",
        "Name: Model X",
        "Total global memory: 150",
        "Number of multiprocessors: 132",
    ]


def test_where_there_is_none(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = caffe("device_query", "-gpu", "0")
    assert run.code == 1
    assert len(run.messages("F")) == 1
    for of_all in ([], ["-gpu", "all"]):
        run = caffe("device_query", *of_all)
        assert run.code == 0
        assert run.messages("I")[-1] == "There is no GPU here: nets run on the CPU."
    assert caffe("device_query", "--quiet").out == "There is no GPU here: nets run on the CPU.\n"
