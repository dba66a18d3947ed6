from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import moka
from moka.tools.convert_mnist import convert_mnist, read_idx

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples, LoadScript, WriteMnist


def test_features_and_their_picture(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    write_mnist: WriteMnist,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = copy_examples("feature_extraction", "mnist")
    mnist = example.parent / "mnist"
    images, labels = write_mnist("t10k", 100)
    convert_mnist(images, labels, mnist / "mnist_test_lmdb")
    net = moka.load(mnist / "lenet.prototxt")
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    moka.save_weights(net, mnist / "lenet_iter_10000.caffemodel")

    script = load_script("feature_extraction/features.py")
    monkeypatch.setattr(script, "BATCHES", 1)
    script.main()
    features, found = script.read(example / "ip1_lmdb"), script.read(example / "label_lmdb")
    given = torch.tensor(read_idx(images))[:, None] / 256
    with torch.no_grad():
        expected = net.propagate({"data": given}, keep=["ip1"])["ip1"].numpy()
    assert features == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found.tolist() == (np.arange(100) % 10)[:, None].tolist()
    assert (example / "features.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_model(copy_examples: CopyExamples, load_script: LoadScript) -> None:
    copy_examples("feature_extraction", "mnist")
    with pytest.raises(SystemExit, match=r"there is no LeNet yet: train it first"):
        load_script("feature_extraction/features.py").main()


def test_without_data(copy_examples: CopyExamples, load_script: LoadScript) -> None:
    copy_examples("feature_extraction", "mnist")
    Path("examples/mnist/lenet_iter_10000.caffemodel").touch()
    with pytest.raises(SystemExit, match=r'layer "mnist" \(Data\): .*No such file'):
        load_script("feature_extraction/features.py").main()
