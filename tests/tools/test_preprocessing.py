from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moka.command.table import COMMANDS
from moka.command.tools import ILSVRC12_MEAN
from moka.errors import DataError, UsageError
from moka.schema.blobproto import from_array
from moka.tools import preprocessing
from moka.tools.preprocessing import errors_of_pycaffe, integers, open_net, read_mean


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


@pytest.mark.parametrize("kind", [Exception, ValueError, RuntimeError])
def test_mistakes_of_users_are_told_in_a_sentence(kind: type[Exception]) -> None:
    with pytest.raises(UsageError, match=r"^so$"), errors_of_pycaffe():
        raise kind("so")


@pytest.mark.parametrize("kind", [DataError, KeyError, OSError])
def test_other_errors_stay(kind: type[Exception]) -> None:
    with pytest.raises(kind), errors_of_pycaffe():
        raise kind("so")


def test_flags_become_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("mean.npy", MEAN)
    flags: dict[str, Any] = {f.name: f.default for f in COMMANDS["detect"].flags}
    given: dict[str, Any] = {}

    def make(*files: str, **more: Any) -> str:
        given.update(more, files=files)
        return "net"

    flags |= {"model_def": "a", "pretrained_model": "b", "mean_file": "mean.npy", "raw_scale": 2.0}
    assert open_net(make, flags, image_dims=[2, 3]) == "net"
    np.testing.assert_array_equal(given.pop("mean"), MEAN)
    assert given == {
        "files": ("a", "b"),
        "input_scale": 1.0,
        "raw_scale": 2.0,
        "channel_swap": [2, 1, 0],
        "image_dims": [2, 3],
    }
    open_net(make, flags | {"mean_file": "", "channel_swap": ""})
    assert given["mean"] is given["channel_swap"] is None
    assert capsys.readouterr().out == "CPU mode\nCPU mode\n"
