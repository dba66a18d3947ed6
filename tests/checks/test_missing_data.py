"""Nets whose data is not there: what tells the shapes."""

from __future__ import annotations

import pytest
from tests.checks.shelf import CROP, DEPLOY, TRAIN, only, save, write

import moka

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("options", "image", "told"),
    [
        (CROP, (7, 3, 8, 8), ()),
        ("transform_param { crop_size: 10 force_gray: true }", (7, 1, 10, 10), ()),
        (
            "transform_param { crop_size: 10 }",
            (7, 3, 10, 10),
            ("Its images are taken to be 3 x 10 x 10.",),
        ),
        (
            "",
            (7, 3, 224, 224),
            ("Nothing tells the size of its images: the numbers are those for 3 x 224 x 224.",),
        ),
    ],
)
def test_data_that_is_not_there(
    options: str, image: tuple[int, ...], told: tuple[str, ...]
) -> None:
    write("train_val.prototxt", TRAIN % options)
    found = only("train_val.prototxt")
    assert found.loads
    assert found.phases == ("TEST", "TRAIN")
    assert dict(found.inputs) == {"data": image, "label": (7,)}
    assert found.notes[0] == (
        'Data is missing: not_here_lmdb: layer "data" (Data): No such file or directory.'
    )
    assert found.notes[1:] == told


def test_the_weights_tell_the_size_of_images() -> None:
    """As of MNIST's: one channel, 28 x 28, which the text does not say."""
    write(
        "lenet.prototxt",
        DEPLOY.replace("dim: 2 dim: 3 dim: 8 dim: 8", "dim: 1 dim: 1 dim: 28 dim: 28"),
    )
    save("lenet.prototxt", "lenet.caffemodel")
    write("lenet_train.prototxt", TRAIN % "")
    train = next(f for f in moka.check(".") if f.file.endswith("train.prototxt"))
    assert train.inputs["data"] == (7, 1, 28, 28)
    assert train.fit == (("conv", "ip"), (), ())


@pytest.mark.parametrize("named", [".", "lenet_train.prototxt"])
def test_a_net_beside_tells_the_size_of_images(named: str) -> None:
    size = "dim: 1 dim: 1 dim: 28 dim: 28"
    write("lenet.prototxt", DEPLOY.replace("dim: 2 dim: 3 dim: 8 dim: 8", size))
    write("vgg.prototxt", DEPLOY)
    write("lenet_train.prototxt", TRAIN % "")
    train = next(f for f in moka.check(named) if f.file.endswith("train.prototxt"))
    assert train.inputs["data"] == (7, 1, 28, 28)
    assert train.notes[1:] == ("Its images are taken to be 1 x 28 x 28.",)


HDF5 = """
layer { name: "d" type: "HDF5Data" top: "x" top: "y"
  hdf5_data_param { source: "gone.txt" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 3 } }
%s
"""
LOSS = 'layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "%s" top: "l" }'


def test_labels_of_any_shape_may_be_missing() -> None:
    write("n.prototxt", HDF5 % (LOSS % "y"))
    found = only("n.prototxt")
    assert found.loads
    assert found.inputs["y"] == (2, 3)
    assert "gone.txt" in found.notes[0]
    assert found.notes[-1] == "As the layers that read it ask for: y is taken to be 2 x 3."


def test_nobody_knows_the_shapes() -> None:
    """No data makes a row of 4 numbers as long as one of 3."""
    other = """
    layer { name: "ip2" type: "InnerProduct" bottom: "y" top: "ip2"
      inner_product_param { num_output: 4 } }
    """
    write("n.prototxt", HDF5 % (other + LOSS % "ip2"))
    obstacle = only("n.prototxt").obstacle or ""
    assert "gone.txt" in obstacle
    assert "nobody knows the shapes" in obstacle


def test_weights_for_images_of_a_size_that_nobody_knows() -> None:
    """Without the data they cannot be called wrong."""
    size = "dim: 1 dim: 5 dim: 9 dim: 11"
    write("n.prototxt", DEPLOY.replace("dim: 2 dim: 3 dim: 8 dim: 8", size))
    save("n.prototxt", "n.caffemodel")
    write("n.prototxt", TRAIN % "")
    found = only(".")
    assert found.loads
    assert found.fit is None
    assert "nobody knows without its data: Cannot copy param 0 weights" in found.notes[-1]


DETECTOR = """
layer { name: "d" type: "AnnotatedData" top: "x" top: "boxes"
  data_param { source: "gone_lmdb" batch_size: 6 }
  transform_param { mean_value: 1 mean_value: 1 mean_value: 1
                    resize_param { height: 30 width: 40 } } }
layer { name: "found" type: "Input" top: "found"
        input_param { shape { dim: 1 dim: 1 dim: 1 dim: 7 } } }
layer { name: "s" type: "Silence" bottom: "x" }
layer { name: "e" type: "DetectionEvaluate" bottom: "found" bottom: "boxes" top: "e"
        detection_evaluate_param { num_classes: 3 background_label_id: 0 } }
"""


def test_a_data_layer_knows_the_shapes_of_its_tops_without_data() -> None:
    write("n.prototxt", DETECTOR)
    found = only("n.prototxt")
    assert found.loads
    assert dict(found.inputs) == {
        "x": (6, 3, 30, 40), "boxes": (1, 1, 1, 8), "found": (1, 1, 1, 7)
    }  # fmt: skip
    assert len(found.notes) == 1
