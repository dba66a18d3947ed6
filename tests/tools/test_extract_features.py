from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.data import datum
from moka.data.store import make_store, open_store
from moka.errors import UsageError
from moka.net import Net, build_net
from moka.tools.extract_features import extract_features, gpu_of, main
from moka.types import Array
from moka.weights import save_weights

if TYPE_CHECKING:
    from tests.messages import Messages

IMAGES = np.random.default_rng(6).integers(0, 256, (3, 2, 4, 5), np.uint8)
NET = """
layer {
  name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "images" batch_size: 2 backend: LMDB }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } }
}
layer { name: "total" type: "Reduction" bottom: "ip" top: "total" }
layer {
  name: "five" type: "Reshape" bottom: "conv" top: "five"
  reshape_param { shape { dim: 0 dim: 3 dim: 1 dim: 3 dim: 4 } }
}
"""
ARGV = ["w.caffemodel", "net.prototxt", "ip", "db", "3", "lmdb"]


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Net:
    """In the current directory: net.prototxt, w.caffemodel, and its data, three images."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    with make_store("images") as writer:
        for i, image in enumerate(IMAGES):
            writer.put(b"%08d" % i, datum.encode(image, 7).SerializeToString())
    net = build_net("net.prototxt")
    save_weights(net, "w.caffemodel")
    return net


def features(path: str) -> tuple[list[str], list[Array]]:
    """Keys and arrays of a database of features."""
    keys, arrays = [], []
    for key, value in open_store(path).read():
        record = datum.parse(value)
        assert not record.HasField("label")
        assert not record.data
        keys.append(key.decode())
        arrays.append(datum.decode(record))
    return keys, arrays


def blob(net: Net, name: str, passes: int = 3) -> Array:
    """What the images hold in a blob, over some batches of two, from the first image on."""
    order = torch.from_numpy(IMAGES[[i % 3 for i in range(2 * passes)]]).float()
    with torch.no_grad():
        return net.propagate({"data": order, "label": order[:, 0, 0, 0]})[name].numpy()


def test_of_one_blob(net: Net, messages: Messages) -> None:
    assert main(ARGV) == 0
    keys, arrays = features("db")
    assert keys == [f"{i:010d}" for i in range(6)]
    assert {a.shape for a in arrays} == {(4, 1, 1)}
    np.testing.assert_allclose(np.stack(arrays)[..., 0, 0], blob(net, "ip"), rtol=1e-5, atol=1e-4)
    said = [line for line in messages() if "prefetching" not in line]  # of the data's thread
    assert said[-3:] == [
        "I Extracting Features",
        "I Extracted features of 6 query images for feature blob ip",
        "I Successfully extracted the features!",
    ]


def test_of_two_blobs_one_of_them_computed_in_place(net: Net) -> None:
    assert extract_features(net, ["conv", "data"], ["a", "b"], 2) == 4
    np.testing.assert_allclose(
        np.stack(features("a")[1]), blob(net, "conv", 2), rtol=1e-5, atol=1e-4
    )
    assert np.stack(features("a")[1]).min() == 0  # after the ReLU
    np.testing.assert_array_equal(np.stack(features("b")[1]), IMAGES[[0, 1, 2, 0]])


def test_of_a_number_for_the_whole_batch(net: Net) -> None:
    assert extract_features(net, ["total"], ["db"], 3) == 3
    assert [a.shape for a in features("db")[1]] == [(1, 1, 1)] * 3


def test_into_leveldb() -> None:
    pytest.importorskip("plyvel")
    assert main([*ARGV[:-1], "leveldb"]) == 0
    assert open_store("db").backend == "leveldb"
    assert len(features("db")[0]) == 6


@pytest.mark.parametrize(("every", "said"), [(4, [4, 6]), (3, [3, 6]), (7, [6])])
def test_it_tells_of_every_thousand(
    messages: Messages, monkeypatch: pytest.MonkeyPatch, every: int, said: list[int]
) -> None:
    monkeypatch.setattr("moka.tools.extract_features.SAY_EVERY", every)
    assert main(ARGV) == 0
    assert [int(m.split()[4]) for m in messages() if "Extracted" in m] == said


@pytest.mark.parametrize(
    ("words", "gpu"),
    [
        ([], ""),
        (["CPU"], ""),
        (["CPU", "DEVICE_ID=1"], ""),
        (["GPU"], "0"),
        (["GPU", "DEVICE_ID=0"], "0"),
        (["GPU", "DEVICE_ID=12"], "12"),
        (["GPU", "3"], "3"),
    ],
)
def test_the_device(words: list[str], gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 13)
    assert gpu_of(*words) == gpu


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_of("CPU", "DEVICE_ID=1") == ""
    with pytest.raises(UsageError, match=r"no GPU 1: 1 found\. Give CPU in place of GPU\."):
        gpu_of("GPU", "DEVICE_ID=1")


@pytest.mark.parametrize("words", [["gpu"], ["GPU", "DEVICE_ID="], ["GPU", "id=1"], ["GPU", "-1"]])
def test_a_device_that_is_none(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"the last arguments are CPU, GPU, or GPU DEVICE_ID=n"):
        gpu_of(*words)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {2: "cnov"},
            'net.prototxt: Unknown feature blob name cnov in the network. Did you mean "conv"',
        ),
        (
            {2: "x"},
            "net.prototxt: Unknown feature blob name x in the network. It has data, label,"
            " conv, ip, total, five.",
        ),
        ({2: "ip,conv"}, "the number of blob names and dataset names must be equal, got 2 and 1."),
        ({2: "ip,conv", 3: "a,a"}, "each blob needs a dataset of its own"),
        ({2: "five"}, "net.prototxt: blob five has shape (2, 3, 1, 3, 4), but a record holds no"),
        ({3: "images"}, "mkdir images failed: File exists"),
        ({2: "ip,conv", 3: "a,images"}, "mkdir images failed: File exists"),
        ({4: "0"}, "num_mini_batches has to be a number > 0, got '0'."),
        ({4: "many"}, "num_mini_batches has to be a number > 0, got 'many'."),
        ({5: "sql"}, "Unknown db backend sql."),
        ({0: "gone"}, "File not found: gone"),
        ({1: "gone"}, "File not found: gone"),
        ({1: "deploy.prototxt"}, "deploy.prototxt: the net waits for data to be given, but"),
    ],
)
def test_bad_input(messages: Messages, changed: dict[int, str], says: str) -> None:
    deploy = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }'
    Path("deploy.prototxt").write_text(deploy)
    before = sorted(os.listdir())
    assert main([changed.get(i, word) for i, word in enumerate(ARGV)]) == 1
    assert messages()[-1].startswith(f"F {says}")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("argv", [[], ARGV[:-1], [*ARGV, "GPU", "DEVICE_ID=0", "more"]])
def test_usage(messages: Messages, argv: list[str]) -> None:
    assert main(argv) == 1
    said = messages()
    assert "    extract_features pretrained_net_param" in "\n".join(said)
    were = "was" if len(argv) == 1 else "were"
    assert said[-1] == f"F 6 to 8 arguments are needed, {len(argv)} {were} given."
