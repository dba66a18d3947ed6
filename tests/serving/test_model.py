"""A served model: what it computes, and which nets it takes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.serving.colors import BLUE, GREEN, NET, RED, job, picture, write_model

import moka
from moka.errors import DataError, NetError
from moka.predict.classify import classify
from moka.predict.labels import best_labels
from moka.predict.prepare import image_preparation
from moka.predict.score import score
from moka.serving.errors import BadRequestError, UnknownModelError
from moka.serving.image_input import Look
from moka.serving.model import Computed, Job, ModelFiles, Pace, ServedModel
from moka.serving.net_inputs import Example, Upload
from moka.serving.outputs import BOXES, CLASSES, MAP, VALUES
from moka.types import Array

SOON = 60.0
PACE = Pace(batch=4, delay_s=0)
BOXES_NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "pick" type: "Reshape" bottom: "data" top: "flat"
        reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "loc" type: "Slice" bottom: "flat" top: "loc" top: "conf" top: "rest"
        slice_param { slice_point: 8 slice_point: 12 } }
layer { name: "quiet" type: "Silence" bottom: "rest" }
layer { name: "prior" type: "PriorBox" bottom: "data" bottom: "data" top: "all_priors"
        prior_box_param { min_size: 2 step: 1 } }
layer { name: "cut" type: "Slice" bottom: "all_priors" top: "priors" top: "others"
        slice_param { axis: 2 slice_point: 8 } }
layer { name: "quiet2" type: "Silence" bottom: "others" }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors"
        top: "found" detection_output_param { num_classes: 2 keep_top_k: 5
        nms_param { nms_threshold: 1 } confidence_threshold: 0 } }
"""


def encoded(image: Array) -> bytes:
    """The PNG of an image (H, W, 3), BGR."""
    return bytes(cv2.imencode(".png", image)[1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return write_model(tmp_path_factory.mktemp("colors"))


def test_scores_in_batches_of_any_size(files: ModelFiles) -> None:
    model = ServedModel("colors", files, PACE)
    assert (model.kind, model.outputs.sizes, model.class_count) == (CLASSES, (1, 2, 4), 3)
    colors = [BLUE, GREEN, RED, RED, BLUE]
    futures = model.submit([job(picture(color)) for color in colors])
    for color, future in zip(colors, futures, strict=True):
        scores = future.result(SOON).blobs["prob"].ravel()
        strongest = max(range(3), key=color.__getitem__)
        ((label, score),) = best_labels(scores, model.labels, 1)
        assert label == model.labels[strongest]
        assert score == pytest.approx(1 / (1 + 2 * np.exp(-255 * 0.02)), rel=1e-4)
    model.close()


@pytest.mark.parametrize("batch", [1, 4])
def test_ten_crops_as_the_commands_take_them(tmp_path: Path, batch: int) -> None:
    """The mean of the scores of ten crops, computed in batches of any size."""
    files = write_model(tmp_path)
    look = Look(mean=np.array([9.0, 8.0, 7.0]), resize=(12, 11))
    model = ServedModel("x", ModelFiles(files.net, files.weights, look=look), Pace(batch, 0))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (12, 11, 3)).astype(np.uint8) for _ in range(3)]  # RGB
    jobs = [
        Job(Example("", {"data": encoded(image[:, :, ::-1])}, oversample=True)) for image in images
    ]
    net = moka.load(files.net, files.weights)
    preparation = image_preparation(
        (3, 8, 8), mean=look.mean, raw_scale=255, channel_swap=(2, 1, 0)
    )
    expected = classify(
        [image.astype(np.float32) / 255 for image in images],
        preparation.prepare,
        partial(score, net),
        input_shape=(3, 8, 8),
        image_size=(12, 11),
    )
    middle = model.submit([job(encoded(images[0][:, :, ::-1]))])
    for future, scores in zip(model.submit(jobs), expected, strict=True):
        found = future.result(SOON)
        assert found.size == (12, 11)
        np.testing.assert_allclose(found.blobs["prob"].ravel(), scores, rtol=1e-5)
    assert not np.allclose(middle[0].result(SOON).blobs["prob"].ravel(), expected[0], rtol=1e-5)
    broken = model.submit([Job(Example("", {"data": b"x"}, oversample=True)), jobs[0]])
    with pytest.raises(BadRequestError):
        broken[0].result(SOON)
    np.testing.assert_allclose(broken[1].result(SOON).blobs["prob"].ravel(), expected[0], rtol=1e-5)
    model.close()


def test_a_broken_image_does_not_touch_the_others(files: ModelFiles) -> None:
    model = ServedModel("colors", files, Pace(batch=4, delay_s=3600))
    good, bad, other, last = model.submit(
        [job(picture(RED)), job(picture(RED)[:50]), job(picture(BLUE, 5, 9)), job(picture(GREEN))]
    )
    assert good.result(SOON).blobs["prob"].argmax() == 2
    assert other.result(SOON).size == (5, 9)
    assert last.result(SOON).batch == 4
    with pytest.raises(BadRequestError, match="cannot be decoded"):
        bad.result(SOON)
    model.close()


def test_features(files: ModelFiles) -> None:
    model = ServedModel("colors", files, PACE)
    assert model.feature_blob == "data"
    for _ in range(5):  # the first passes go by the layers, the next ones by a program
        (future,) = model.submit([job(picture(RED), "mean")])
        values = future.result(SOON).blobs
        assert values.keys() == {"mean"}
        np.testing.assert_allclose(values["mean"].ravel(), [0, 0, 5.1], atol=1e-5)
    with pytest.raises(UnknownModelError, match=r'no blob "fc7"\. It has data, mix, mean, prob'):
        model.check_blob("fc7")
    model.close()


def test_maps(tmp_path: Path) -> None:
    text = NET.split('layer { name: "mean"')[0]
    model = ServedModel("map", write_model(tmp_path, text=text), PACE)
    assert (model.kind, model.class_count) == (MAP, 3)
    model.close()


def test_boxes_belong_to_their_image(tmp_path: Path) -> None:
    (tmp_path / "boxes.prototxt").write_text(BOXES_NET)
    files = ModelFiles(tmp_path / "boxes.prototxt", None, look=Look(scale=0.01))
    model = ServedModel("boxes", files, PACE)
    assert (model.kind, model.class_count) == (BOXES, None)
    colors = ((20, 0, 0), (90, 0, 0))
    together = model.run([job(picture(color, 4, 4)) for color in colors])
    for color, found in zip(colors, together, strict=True):
        (alone,) = model.run([job(picture(color, 4, 4))])
        assert isinstance(alone, Computed)
        assert isinstance(found, Computed)
        assert len(alone.blobs["found"]) == len(found.blobs["found"]) > 0
        np.testing.assert_allclose(found.blobs["found"][:, 1:], alone.blobs["found"][:, 1:])
    model.close()


def test_a_net_that_keeps_its_batch(tmp_path: Path) -> None:
    fixed = NET.replace(
        'layer { name: "prob" type: "Softmax" bottom: "mean"',
        'layer { name: "flat" type: "Reshape" bottom: "mean" top: "flat"'
        " reshape_param { shape { dim: 2 dim: 3 } } }\n"
        'layer { name: "prob" type: "Softmax" bottom: "flat"',
    )
    model = ServedModel("fixed", write_model(tmp_path, text=fixed), PACE)
    assert model.outputs.sizes == (2,)
    (future,) = model.submit([job(picture(RED))])
    assert future.result(SOON).blobs["prob"].argmax() == 2
    model.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 } } }',
         r"net.prototxt: .*this one has none\. Put Input layers"),
        ('layer { name: "d" type: "Input" top: "d" input_param { shape { } } }', "this one has"),
    ],
)  # fmt: skip
def test_nets_without_inputs(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(NetError, match=words):
        ServedModel("x", ModelFiles(tmp_path / "net.prototxt", None), PACE)


def test_labels_have_to_fit(files: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="2 lines, 3 classes"):
        ServedModel("x", ModelFiles(files.net, files.weights, tmp_path / "two.txt"), PACE)


PAIR_NET = """
layer { name: "data" type: "Input" top: "data" top: "data_p"
        input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
layer { name: "weight" type: "Input" top: "weight" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "difference" type: "Eltwise" bottom: "data" bottom: "data_p" top: "difference"
        eltwise_param { operation: SUM coeff: 1 coeff: -1 } }
layer { name: "sum" type: "Reduction" bottom: "difference" top: "sum"
        reduction_param { axis: 1 } }
layer { name: "column" type: "Reshape" bottom: "sum" top: "column"
        reshape_param { shape { dim: 0 dim: 1 } } }
layer { name: "pair" type: "Concat" bottom: "column" bottom: "weight" top: "pair" }
"""


def test_nets_with_several_inputs(tmp_path: Path) -> None:
    (tmp_path / "pair.prototxt").write_text(PAIR_NET)
    model = ServedModel("pair", ModelFiles(tmp_path / "pair.prototxt", None), PACE)
    assert (model.kind, model.outputs.sizes) == (CLASSES, (1, 2, 4))
    uploads = [
        Upload("", picture((value,) * 3, 4, 4), name)
        for name, values in (("data", (10, 20, 30)), ("data_p", (1, 2, 3)))
        for value in values
    ]
    examples = model.inputs.examples(uploads, {"weight": [[1, 2], [3, 4], [5, 6]]})
    futures = model.submit([Job(example) for example in examples])
    found = [future.result(SOON).blobs["pair"].tolist() for future in futures]
    assert found == [[144, 1, 2], [288, 3, 4], [432, 5, 6]]
    with pytest.raises(BadRequestError, match="takes data, data_p, weight, not one image alone"):
        model.images_of(uploads)
    model.close()


def test_a_net_of_numbers_alone(tmp_path: Path) -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "double" type: "Power" bottom: "x" top: "double" power_param { scale: 2 } }
    layer { name: "all" type: "Reduction" bottom: "x" top: "all" }"""
    (tmp_path / "net.prototxt").write_text(text)
    model = ServedModel("numbers", ModelFiles(tmp_path / "net.prototxt", None), PACE)
    assert (model.kind, model.outputs.sizes) == (VALUES, (1,))  # "all" is one number for a batch
    assert model.class_count is None
    (future,) = model.submit([Job(each) for each in model.inputs.examples([], {"x": "1,2"})])
    found = future.result(SOON)
    assert {name: blob.tolist() for name, blob in found.blobs.items()} == {
        "double": [[2, 4]],
        "all": 3,
    }
    assert found.size == (0, 0)
    model.close()
