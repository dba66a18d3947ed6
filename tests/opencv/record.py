"""Record what OpenCV 4 shows of the nets in cases.py and programs.py:
`python -m tests.opencv.record PYTHON`, with the Python of an environment that has
opencv-python-headless<5."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.opencv.observe import NETS

import moka
from moka.schema import caffe_pb2

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.npz"


def write_nets(folder: Path) -> None:
    """The nets as files, with weights that are the same everywhere."""
    for name, text in NETS.items():
        (folder / f"{name}.prototxt").write_text(text)
        net = moka.load(folder / f"{name}.prototxt")
        random = np.random.RandomState(7)
        message = caffe_pb2.NetParameter()
        for layer_name, layer in net.named_layers():
            stored = message.layer.add(name=layer_name, type=layer.entry.type)
            for k, shape in enumerate(layer.blob_shapes):
                values = random.randn(*shape) * 0.5
                if layer.entry.type == "BatchNorm":
                    values = np.abs(values) + 0.5 if k < 2 else np.full(shape, 2.0)
                blob = stored.blobs.add()
                blob.shape.dim.extend(shape)
                blob.data.extend(values.astype(np.float32).ravel())
        if any(layer.blobs for layer in message.layer):
            (folder / f"{name}.caffemodel").write_bytes(message.SerializeToString())


def observe_with(python: str, folder: Path) -> dict[str, Any]:
    """What the OpenCV of another Python shows of the nets in a folder."""
    out = folder / "seen.npz"
    command = [python, "-m", "tests.opencv.observe", str(folder), str(out)]
    subprocess.run(command, check=True, cwd=HERE.parents[1])
    with np.load(out) as arrays:
        return dict(arrays)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        write_nets(Path(made))
        np.savez_compressed(RECORDED, **observe_with(sys.argv[1], Path(made)))
