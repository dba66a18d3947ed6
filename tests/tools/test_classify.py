from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.tools.classifier import LABELS, NET

import caffe
from moka.cli.main import main as program
from moka.errors import DataError
from moka.tools.classify import main, read_images
from moka.types import Array

ARGV = [
    *("cat.jpg", "foo", "--model_def", "deploy.prototxt", "--pretrained_model", "w.caffemodel"),
    *("--mean_file", "mean.npy", "--images_dim", "9,8", "--labels_file", "labels.txt"),
]


def write_net(channels: int) -> None:
    Path("deploy.prototxt").write_text(NET % channels)
    caffe.Net("deploy.prototxt", caffe.TEST).save("w.caffemodel")


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_net(3)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ("cat.jpg", "many/b.jpg", "many/a.jpg", "many/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, image)
    np.save("mean.npy", np.array([104.0, 117.0, 123.0]))
    Path("labels.txt").write_text("\n".join(LABELS) + "\n")


def predicted(images: list[Array], *, oversample: bool = True) -> Array:
    mean = np.array([104.0, 117.0, 123.0])
    net = caffe.Classifier("deploy.prototxt", "w.caffemodel", [9, 8], mean, None, 255, (2, 1, 0))
    return net.predict(images, oversample)


def test_the_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["classify", *ARGV, "--print_results"]) == 0
    out = re.sub(r"Done in \d+\.\d\d s\.", "Done in 1.60 s.", capsys.readouterr().out)
    scores = predicted([caffe.io.load_image("cat.jpg")])
    names = ["tabby", "tiger cat", *LABELS[2:]]
    top = sorted(zip(scores[0].tolist(), names, strict=True), reverse=True)[:5]
    assert out.splitlines() == [
        "CPU mode",
        "(10, 3, 6, 5)",
        "Loading file: cat.jpg",
        "Classifying 1 inputs.",
        "Done in 1.60 s.",
        str([(name, f"{score:.5f}") for score, name in top]),
        "Saving results into foo",
    ]
    np.testing.assert_allclose(np.load("foo.npy"), scores, rtol=1e-6)


def test_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["many", "x.npy", *ARGV[2:], "--center_only", "--print_results"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == ["Loading folder: many", "Classifying 2 inputs."]
    assert (lines[5], lines[7]) == ("many/a.jpg:", "many/b.jpg:")
    image = caffe.io.load_image("cat.jpg")
    want = predicted([image, image], oversample=False)
    np.testing.assert_allclose(np.load("x.npy"), want, rtol=1e-6)


def test_an_array_of_images() -> None:
    images = np.random.default_rng(1).random((3, 9, 8, 3), np.float32)
    np.save("images.npy", images)
    assert main(["images.npy", "x.npy", *ARGV[2:]]) == 0
    np.testing.assert_allclose(np.load("x.npy"), predicted(list(images)), rtol=1e-6)


def test_a_net_of_one_channel(capsys: pytest.CaptureFixture[str]) -> None:
    write_net(1)
    argv = [*ARGV, "--mean_file", "", "--center_only"]
    assert main(argv) == 1
    assert "Channel swap needs" in capsys.readouterr().err
    assert main([*argv, "--channel_swap", ""]) == 1
    assert "image 0 has 3 channels, the net takes 1." in capsys.readouterr().err
    assert main([*argv, "--force_grayscale"]) == 0
    net = caffe.Classifier("deploy.prototxt", "w.caffemodel", [9, 8], raw_scale=255)
    want = net.predict([caffe.io.load_image("cat.jpg", False)], oversample=False)
    np.testing.assert_allclose(np.load("foo.npy"), want, rtol=1e-6)


def test_read_images() -> None:
    assert list(read_images("many", ext="png")) == ["many/c.png"]
    assert read_images("cat.jpg", color=False)["cat.jpg"].shape == (20, 30, 1)
    with pytest.raises(DataError, match=r"many: the folder holds no file that ends in \.gif"):
        read_images("many", ext="gif")
    np.save("x.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"number, height, width, channels\), found shape \(2, 3\)"):
        read_images("x.npy")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gone.jpg", "x", *ARGV[2:]], "gone.jpg: No such file or directory."),
        (["labels.txt", "x", *ARGV[2:]], "labels.txt: the image cannot be decoded."),
        ([ARGV[0], "gone/x", *ARGV[2:]], "gone/x.npy: No such file or directory."),
        ([*ARGV, "--images_dim", "9"], "--images_dim is height,width, found '9'."),
        ([*ARGV, "--images_dim", "3,9"], "a crop of 6 x 5 is larger than the image, 3 x 9."),
        ([*ARGV, "--model_def", "gone"], "File not found: gone"),
        ([*ARGV, "--mean_file", "gone.npy"], "gone.npy: No such file"),
        (ARGV[:1], "2 arguments are needed, 1 was given."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert main(argv) == 1
    assert says in capsys.readouterr().err
