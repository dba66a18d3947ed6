"""All reference models, with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.export.conftest import random_weights

from moka.export.onnx.export import export_onnx
from moka.net import build_net

MODELS = Path(__file__).parents[3] / "models"
SLOW = (
    "vgg16",
    "vgg19",
    "resnet50",
    "resnet101",
    "resnet152",
    "bvlc_alexnet",
    "bvlc_reference_rcnn_ilsvrc13",
    "finetune_flickr_style",
)


def cases() -> list[object]:
    names = sorted(file.parent.name for file in MODELS.glob("*/deploy.prototxt"))
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


@pytest.mark.parametrize("name", cases())
def test_it_computes_the_same(name: str, tmp_path: Path) -> None:
    net = random_weights(build_net(MODELS / name / "deploy.prototxt"))
    scores = net.places[-1].node.bottoms[0]  # probabilities hide differences
    done = export_onnx(net, tmp_path / "net.onnx", outputs=[*net.graph.outputs, scores])
    assert done.free_batch
    assert done.random is not None
