from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import moka
from moka.tools.download import remotes

if TYPE_CHECKING:
    from tests.examples.conftest import CopyExamples, LoadScript

# Each cell of 8 x 8 pixels has a prior box around it, and is found if it is bright.
SSD = """
input: "data" input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }
layer { name: "see" type: "Pooling" bottom: "data" top: "see"
  pooling_param { pool: AVE kernel_size: 8 stride: 8 } }
layer { name: "conf" type: "Convolution" bottom: "see" top: "conf"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loc" type: "Convolution" bottom: "see" top: "loc"
  convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" }
layer { name: "rows" type: "Reshape" bottom: "conf_p" top: "rows"
  reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: "prob" type: "Softmax" bottom: "rows" top: "prob" softmax_param { axis: 2 } }
layer { name: "conf_f" type: "Flatten" bottom: "prob" top: "conf_f" }
layer { name: "prior" type: "PriorBox" bottom: "see" bottom: "data" top: "prior"
  prior_box_param { min_size: 8 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc_f" bottom: "conf_f" bottom: "prior"
  top: "any_name" detection_output_param { num_classes: 2 confidence_threshold: 0.01
    nms_param { nms_threshold: 0.45 top_k: 100 } code_type: CENTER_SIZE keep_top_k: 50 } }
"""


def make_ssd(folder: Path) -> None:
    folder.mkdir()
    (folder / "deploy.prototxt").write_text(SSD)
    net = moka.load(folder / "deploy.prototxt")
    state = net.state_dict()
    for value in state.values():
        value.zero_()
    state["conf.weight"][1] = 0.05
    net.load_state_dict(state)
    moka.save_weights(net, folder / "found_in_an_attic.caffemodel")


def make_plain(folder: Path) -> None:
    """A net without boxes."""
    folder.mkdir()
    (folder / "n.prototxt").write_text(
        """
        input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "mean" type: "Convolution" bottom: "x" top: "m"
          convolution_param { num_output: 1 kernel_size: 8 } }
        """
    )
    moka.save_weights(moka.load(folder / "n.prototxt"), folder / "n.caffemodel")


@pytest.fixture
def image() -> np.ndarray:
    """One bright cell, in the third row and second column of 4 x 4."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[32:48, 32:64] = 255
    return picture


@pytest.fixture
def faces(copy_examples: CopyExamples, load_script: LoadScript) -> ModuleType:
    copy_examples("rescue")
    return load_script("rescue/faces.py")


def test_from_a_folder_to_the_picture(
    faces: ModuleType, image: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_ssd(tmp_path / "ssd")
    cv2.imwrite("in.png", image)
    faces.main(["ssd", "in.png", "--output", "out.png", "--threshold", "0.9"])
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("class 1, score 1.000: 32,32 to 64,48")
    assert last == "1 found: out.png"
    drawn = cv2.imread("out.png")
    assert drawn is not None
    assert (drawn[40, 32] == faces.GREEN).all()
    assert (drawn[10, 100] == 0).all()


def test_rows_as_boxes(faces: ModuleType) -> None:
    rows = [
        [0, 1, 0.6, 0.1, 0.2, 0.5, 0.4],
        [0, 2, 0.9, -0.5, 0.5, 1.5, 2.0],  # beyond the image
        [0, 1, 0.7, 0.5, 0.5, 0.5, 0.9],  # no area
        [0, 1, 0.4, 0.1, 0.2, 0.5, 0.4],  # a low score
        [-1, -1, -1, -1, -1, -1, -1],  # nothing found
    ]
    assert faces.boxes(rows, 100, 200, 0.5) == [
        (2, 0.9, 0, 50, 200, 100),
        (1, 0.6, 20, 20, 100, 40),
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone", "in.png"], "gone is no folder."),
        (["empty", "in.png"], "empty has no net with weights"),
        (["broken", "in.png"], "Did you mean"),
        (["plain", "in.png"], "the net finds no boxes: its outputs are m\\."),
        (["ssd", "broken/deploy.prototxt"], "broken/deploy.prototxt is no image."),
    ],
)
def test_one_sentence(
    faces: ModuleType, image: np.ndarray, tmp_path: Path, words: list[str], says: str
) -> None:
    make_ssd(tmp_path / "ssd")
    (tmp_path / "empty").mkdir()
    make_plain(tmp_path / "plain")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "deploy.prototxt").write_text('layer { name: "r" type: "Relu" }')
    cv2.imwrite("in.png", image)
    with pytest.raises(SystemExit, match=says):
        faces.main(words)


def test_scores(
    copy_examples: CopyExamples,
    load_script: LoadScript,
    image: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mean of the middle of an image, less what is subtracted."""
    copy_examples("rescue")
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "n.prototxt").write_text(
        """
        input: "x" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "mean" type: "Pooling" bottom: "x" top: "m"
          pooling_param { pool: AVE global_pooling: true } }
        layer { name: "scale" type: "Scale" bottom: "m" top: "s" scale_param { axis: 1 } }
        """
    )
    net = moka.load(folder / "n.prototxt")
    net.state_dict()["scale.weight"][:] = 1
    moka.save_weights(net, folder / "n_iter_5.caffemodel")
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[4:12, 4:12] = (10, 20, 30)
    cv2.imwrite("in.png", cv2.resize(picture, (256, 256), interpolation=cv2.INTER_NEAREST))
    load_script("rescue/score.py").main(["net", "in.png", "--mean", "1", "2", "3"])
    assert capsys.readouterr().out == "in.png: 9.0000 18.0000 27.0000\n"


def test_what_is_known_of_downloads(copy_examples: CopyExamples) -> None:
    folder = copy_examples("rescue")
    for name in ("opencv_face", "open_nsfw"):
        weights, net = remotes(folder / name / "readme.md")
        assert weights.name.endswith(".caffemodel")
        assert len(weights.sha1 or "") == 40
        assert net.name == "deploy.prototxt"
