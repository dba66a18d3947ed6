from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, read_text

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples, LoadScript

MODELS = Path(__file__).parents[3] / "models"


@pytest.mark.parametrize(
    ("model", "classifiers"),
    [
        ("bvlc_reference_caffenet", ["fc8_new"]),
        ("bvlc_googlenet", [f"loss{i}/classifier_new" for i in (1, 2, 3)]),
        ("squeezenet_v1.1", ["conv10_new"]),
        ("resnet50", ["fc1000_new"]),
    ],
)
def test_a_model_for_other_classes(
    copy_examples: CopyExamples, load_script: LoadScript, model: str, classifiers: list[str]
) -> None:
    copy_examples("pycaffe")
    zoo = load_script("pycaffe/zoo.py")
    net = read_text(MODELS / model / "train_val.prototxt", caffe_pb2.NetParameter)
    before = {layer.name: [p.lr_mult for p in layer.param] for layer in net.layer}
    zoo.renew_classifier(net, 7)
    loss = zoo.final_loss(net)
    new = [layer for layer in net.layer if layer.name not in before]
    assert [layer.name for layer in new] == classifiers
    for layer in new:
        assert 7 in (layer.inner_product_param.num_output, layer.convolution_param.num_output)
        rates = [param.lr_mult for param in layer.param]
        assert rates == [10 * r for r in before[layer.name.removesuffix("_new")] or (1, 1)]
    assert new[-1].top[0] in loss.bottom or "pool10" in loss.bottom
    for phase in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        graph = build_graph(net, REGISTRY, phase=phase, file=model)
        assert "loss" in graph.outputs
        assert "Accuracy" not in {node.type for node in graph.nodes}


def test_images_that_come_with_scikit_learn(
    copy_examples: CopyExamples, load_script: LoadScript
) -> None:
    copy_examples("pycaffe")
    zoo = load_script("pycaffe/zoo.py")
    for name in ("flower", "china"):
        assert Path(zoo.sample_image(name)).is_file()
