from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.data.datum import encode
from moka.data.lmdb import LmdbWriter
from moka.schema import caffe_pb2, read_text

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples, LoadScript


def test_it_learns(
    copy_examples: CopyExamples, load_script: LoadScript, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten "digits": a bright stripe whose place tells which one it is."""
    example = copy_examples("pycaffe", "mnist")
    rng = np.random.default_rng(0)
    for name, count in (("train", 200), ("test", 100)):
        with LmdbWriter(example.parent / "mnist" / f"mnist_{name}_lmdb") as writer:
            for i in range(count):
                digit = rng.integers(0, 100, (1, 28, 28), dtype=np.uint8)
                digit[:, 4 + 2 * (i % 10)] = 255
                writer.put(f"{i:04}".encode(), encode(digit, i % 10).SerializeToString())
    script = load_script("pycaffe/learn_lenet.py")
    script.main(["--iterations", "30", "--test-interval", "15", "--test-batches", "1"])
    found = re.findall(r"^iteration +(\d+): ([\d.]+)% right$", capsys.readouterr().out, re.M)
    assert [int(iteration) for iteration, _ in found] == [0, 15, 30]
    assert float(found[0][1]) < 40
    assert float(found[-1][1]) > 90
    made = example / "data" / "learn_lenet"
    for name in ("learning", "digit", "filters"):
        assert (made / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    # The program's net is that of the prototxt.
    written = read_text(made / "train.prototxt", caffe_pb2.NetParameter)
    classic = read_text("examples/mnist/lenet_train_test.prototxt", caffe_pb2.NetParameter)
    kinds = [layer.type for layer in classic.layer if not layer.include or layer.type == "Data"][1:]
    assert [layer.type for layer in written.layer] == kinds


def test_without_mnist(copy_examples: CopyExamples, load_script: LoadScript) -> None:
    copy_examples("pycaffe")
    with pytest.raises(SystemExit, match=r"there is no MNIST yet: run examples/mnist/get_data"):
        load_script("pycaffe/learn_lenet.py").main([])
