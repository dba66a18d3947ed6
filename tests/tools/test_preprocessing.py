from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moka.command.table import COMMANDS
from moka.command.tools import ILSVRC12_MEAN
from moka.errors import DataError, NetError, UsageError
from moka.net import build_net
from moka.schema.blobproto import from_array
from moka.tools import preprocessing
from moka.tools.preprocessing import integers, open_net_for_images, read_mean
from moka.weights import save_weights


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


MEAN = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_a_mean_in_both_forms() -> None:
    np.save("mean.npy", MEAN)
    Path("mean.binaryproto").write_bytes(from_array(MEAN[None]).SerializeToString())
    for file in ("mean.npy", "mean.binaryproto"):
        np.testing.assert_array_equal(read_mean(file), MEAN)


def test_the_mean_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path / package)
    with pytest.raises(
        DataError,
        match=r"the mean image of ImageNet is not there: .*_mean\.npy.*caffe download ilsvrc12",
    ):
        read_mean(ILSVRC12_MEAN)
    Path("data/ilsvrc12").mkdir(parents=True)
    fetched = Path(preprocessing.FETCHED_MEAN)  # by `caffe download ilsvrc12`
    fetched.write_bytes(from_array(MEAN[None] + 1).SerializeToString())
    np.testing.assert_array_equal(read_mean(ILSVRC12_MEAN), MEAN + 1)
    Path("caffe/imagenet").mkdir(parents=True)
    np.save(ILSVRC12_MEAN, MEAN)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(read_mean(ILSVRC12_MEAN), MEAN)


def test_means_that_cannot_be_read() -> None:
    with pytest.raises(DataError, match=r"gone\.npy: No such file"):
        read_mean("gone.npy")
    Path("x.npy").write_bytes(b"?")
    with pytest.raises(DataError, match=r"x\.npy: it holds no array"):
        read_mean("x.npy")
    Path("x.binaryproto").write_bytes(from_array(MEAN).SerializeToString())
    with pytest.raises(DataError, match=r"x\.binaryproto: a mean file holds one image"):
        read_mean("x.binaryproto")


def test_integers() -> None:
    assert integers("256,128", "x") == [256, 128]
    with pytest.raises(UsageError, match="--x takes whole numbers joined by commas, found '2,a'"):
        integers("2,a", "x")


NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 10 dim: 2 dim: 3 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
"""


def test_flags_become_a_net_and_a_preparation(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("mean.npy", MEAN)
    Path("net.prototxt").write_text(NET)
    saved = build_net("net.prototxt")
    save_weights(saved, "w.caffemodel")
    flags: dict[str, Any] = {f.name: f.default for f in COMMANDS["detect"].flags}
    flags |= {"model_def": "net.prototxt", "pretrained_model": "w.caffemodel"}
    flags |= {"mean_file": "mean.npy", "raw_scale": 2.0, "channel_swap": "1,0"}
    net, how = open_net_for_images(flags)
    assert torch.equal(net.layers[1].weights[0], saved.layers[1].weights[0])
    assert (how.shape, how.transpose, how.channel_swap) == ((2, 3, 4), (2, 0, 1), [1, 0])
    assert (how.raw_scale, how.input_scale) == (2, 1)
    np.testing.assert_array_equal(how.mean, MEAN)
    _, bare = open_net_for_images(flags | {"mean_file": "", "channel_swap": ""})
    assert bare.mean is None
    assert bare.channel_swap is None
    assert capsys.readouterr().out == "CPU mode\nCPU mode\n"


def test_a_net_that_reads_its_own_data() -> None:
    Path("net.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }'
    )
    save_weights(build_net("net.prototxt"), "w.caffemodel")
    flags = {f.name: f.default for f in COMMANDS["detect"].flags}
    flags |= {"model_def": "net.prototxt", "pretrained_model": "w.caffemodel"}
    with pytest.raises(NetError, match=r"net\.prototxt: the net reads its own data"):
        open_net_for_images(flags)
