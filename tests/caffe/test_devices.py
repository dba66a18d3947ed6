from __future__ import annotations

import pytest
import torch

import caffe


def test_programs_of_the_opencl_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    caffe.enumerate_devices(False)
    caffe.set_devices((0,))
    caffe.select_device(0, False)
    with pytest.raises(Exception, match="there is no GPU -1"):
        caffe.select_device(-1, True)
