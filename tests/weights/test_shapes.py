from __future__ import annotations

from pathlib import Path

import moka
from moka.weights import save_hdf5
from moka.weights.shapes import stored_shapes

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 } }
"""


def test_both_formats(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(NET)
    net = moka.load(tmp_path / "n.prototxt")
    moka.save_weights(net, tmp_path / "n.caffemodel")
    save_hdf5(net, tmp_path / "n.h5")
    for name in ("n.caffemodel", "n.h5"):
        found = {
            layer.name: [b.values.shape for b in layer.blobs.values()]
            for layer in stored_shapes(tmp_path / name)
        }
        assert found == {"x": [], "c": [(4, 3, 3, 3), (4,)]}
