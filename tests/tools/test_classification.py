from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.tools.classifier import LABELS, NET

from moka.cli.main import main as program
from moka.errors import DataError, NetError
from moka.net import Net, build_net
from moka.schema.blobproto import from_array
from moka.tools.classification import classification, main, prepare, read_image_of_net
from moka.types import Array
from moka.weights import save_weights

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
MEAN = np.random.default_rng(1).random((3, 4, 4), np.float32) * 200
ARGV = ["deploy.prototxt", "w.caffemodel", "mean.binaryproto", "labels.txt", "cat.png"]


def net(channels: int = 3, text: str = NET) -> Net:
    Path("deploy.prototxt").write_text(text % channels)
    net = build_net("deploy.prototxt")
    save_weights(net, "w.caffemodel")
    return net


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("cat.png", IMAGE)
    Path("mean.binaryproto").write_bytes(from_array(MEAN[None]).SerializeToString())
    Path("labels.txt").write_text("\n".join(LABELS) + "\n")


def scores(net: Net, planes: Array) -> Array:
    weight, bias = (blob.detach().numpy() for blob in net.layers[1].weights)
    e = np.exp(weight @ planes.ravel() + bias)
    return e / e.sum()


def test_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """The image is resized as bytes, then the mean of each channel, BGR, is subtracted."""
    small = cv2.resize(IMAGE, (5, 6)).astype(float)
    want = scores(net(), (small - MEAN.mean((1, 2))).transpose(2, 0, 1))
    assert program(["classification", *ARGV]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "---------- Prediction for cat.png ----------"
    order = np.argsort(-want)[:5]
    assert lines[1:] == [f'{want[i]:.4f} - "{LABELS[i]}"' for i in order]


def test_two_images_one_after_the_other() -> None:
    made = net()
    first = classification(made, MEAN, LABELS, "cat.png")
    assert len(first) == 5
    assert classification(made, MEAN, LABELS, "cat.png") == first


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["gray", "color", "alpha"])
def test_channels(kind: str, channels: int) -> None:
    gray = IMAGE[..., 0]
    alpha = np.concatenate([IMAGE, IMAGE[..., :1]], 2)
    cv2.imwrite("x.png", {"gray": gray, "color": IMAGE, "alpha": alpha}[kind])
    got = read_image_of_net("x.png", channels)
    assert got.shape == (channels, 12, 10)
    if kind == "gray":
        np.testing.assert_array_equal(got, np.stack([gray] * channels))
    elif channels == 3:
        np.testing.assert_array_equal(got, IMAGE.transpose(2, 0, 1))
    else:
        luma = IMAGE @ [0.114, 0.587, 0.299]
        np.testing.assert_allclose(got[0], luma, atol=1)


def test_a_mean_of_values() -> None:
    image = np.full((2, 4, 4), 7, np.uint8)
    got = prepare(image, np.array([1.0, 2.0]), (3, 2))
    np.testing.assert_array_equal(got, np.stack([np.full((3, 2), 6.0), np.full((3, 2), 5.0)]))


def test_what_does_not_fit() -> None:
    with pytest.raises(
        DataError, match=r"channels of mean file doesn't match input layer: 3 and 1"
    ):
        classification(net(1), MEAN, LABELS, "cat.png")
    with pytest.raises(
        NetError, match=r"should have 1 or 3 channels, its shape is \(10, 2, 6, 5\)"
    ):
        classification(net(2), MEAN, LABELS, "cat.png")
    two = NET + 'layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 1 } } }'
    with pytest.raises(NetError, match="exactly one input, it has 2"):
        classification(net(3, two), MEAN, LABELS, "cat.png")
    two = NET + 'layer { name: "s" type: "TanH" bottom: "ip" top: "s" }'
    with pytest.raises(NetError, match="exactly one output, it has 2"):
        classification(net(3, two), MEAN, LABELS, "cat.png")


@pytest.mark.parametrize(
    ("at", "file", "says"),
    [
        (0, "gone", "File not found: gone"),
        (1, "gone", "File not found: gone"),
        (2, "gone", "File not found: gone"),
        (3, "gone", "gone: Unable to open labels file: No such file"),
        (3, "cat.png", "cat.png: Number of labels is different from the output"),
        (4, "gone", "Unable to decode image gone: Could not load gone: No such file"),
        (4, "labels.txt", "Unable to decode image labels.txt: the image cannot be decoded."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], at: int, file: str, says: str) -> None:
    net()
    argv = [*ARGV]
    argv[at] = file
    assert main(argv) == 1
    assert says in capsys.readouterr().err
