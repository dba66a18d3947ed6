from __future__ import annotations

from pathlib import Path

import pytest

import moka
from moka.errors import WeightsError
from moka.net.outline import outline
from moka.weights import save_hdf5
from moka.weights.fit import Fit, fit
from moka.weights.shapes import stored_shapes

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
  inner_product_param { num_output: 3 bias_term: false } }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" }
  inner_product_param { num_output: 3 bias_term: false } }
layer { name: "c" type: "InnerProduct" bottom: "z" top: "u"
  inner_product_param { num_output: 2 } }
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fitting(text: str, file: str) -> Fit:
    Path("other.prototxt").write_text(text)
    net = outline(moka.load("other.prototxt").graph)
    return fit(net, stored_shapes(file), file)


@pytest.mark.parametrize("file", ["n.caffemodel", "n.caffemodel.h5"])
def test_fit(file: str) -> None:
    """A shared parameter, which HDF5 holds once, counts for all layers that share it."""
    Path("n.prototxt").write_text(NET)
    net = moka.load("n.prototxt")
    (save_hdf5 if file.endswith("h5") else moka.save_weights)(net, file)
    all_three = fitting(NET, file)
    assert (set(all_three.matching) >= {"a", "c"}, all_three[1:]) == (True, ((), ()))
    found = fitting(NET.replace('"c"', '"d"'), file)
    assert found[1:] == (("d",), ("c",))
    with pytest.raises(WeightsError, match="Cannot copy param 0 weights from layer 'c'"):
        fitting(NET.replace("num_output: 2", "num_output: 4"), file)
