"""How much memory an export takes, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys
from pathlib import Path
from tests.export.conftest import random_weights
from moka.export.onnx.export import export_onnx
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

STAGE = '''
layer {{ name: "conv{0}" type: "Convolution" bottom: "x{0}" top: "x{1}" convolution_param {{
  num_output: {2} kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "msra" }} }} }}
layer {{ name: "bn{0}" type: "BatchNorm" bottom: "x{1}" top: "x{1}" }}
layer {{ name: "scale{0}" type: "Scale" bottom: "x{1}" top: "x{1}"
  scale_param {{ bias_term: true }} }}
'''

def net(channels):
    text = f'''layer {{ name: "x" type: "Input" top: "x0" input_param {{
      shape {{ dim: 1 dim: {channels} dim: 2 dim: 2 }} }} }}'''
    text += "".join(STAGE.format(k, k + 1, channels) for k in range(3))
    return random_weights(build_net(parse_text(text, caffe_pb2.NetParameter)))

def peak():
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024

export_onnx(net(8), sys.argv[1])  # imports all
before = peak()
made = net(1024)
export_onnx(made, sys.argv[1])
print((peak() - before) / sum(w.nbytes for layer in made.layers for w in layer.weights))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_net_whose_weights_change_takes_three_times_these(tmp_path: Path) -> None:
    """The net itself, its folded weights, and then, instead of those, ONNX Runtime's."""
    command = [sys.executable, "-c", CHILD, str(tmp_path / "net.onnx")]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 3
