from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from moka.schema import caffe_pb2, read_text

if TYPE_CHECKING:
    from tests.examples.conftest import LoadScript

SCRIPT = "pycaffe/python_layer_multilabel.py"
CLASSES = ["blue", "green", "red"]


@pytest.fixture
def folder() -> Path:
    """Images of 40 x 30 pixels with a patch of every color that is on them."""
    root = Path("VOC")
    for place in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / place).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("val", 8)):
        for i in range(count):
            picture = rng.integers(90, 130, (30, 40, 3), dtype=np.uint8)
            objects = ""
            for k, name in enumerate(CLASSES):
                if i >> k & 1:
                    picture[4:26, 3 + 12 * k : 13 + 12 * k] = 0
                    picture[4:26, 3 + 12 * k : 13 + 12 * k, k] = 255
                    objects += f"<object><name>{name}</name></object>" * (1 + i % 2)
            cv2.imwrite(str(root / f"JPEGImages/{split}{i}.jpg"), picture)
            xml = f"<annotation><filename>{i}</filename>{objects}</annotation>"
            (root / f"Annotations/{split}{i}.xml").write_text(xml)
        names = "".join(f"{split}{i}\n" for i in range(count))
        (root / f"ImageSets/Main/{split}.txt").write_text(names)
    return root


def test_it_learns_several_labels(
    model: Path, folder: Path, load_script: LoadScript, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model", str(model / "train_val.prototxt"), "--batch-size", "8", "--rate", "2e-4"]
    load_script(SCRIPT).main([*argv, "--iterations", "100", str(folder), "--out", "made"])
    printed = capsys.readouterr().out
    found = re.findall(r"^iteration +(\d+): ([\d.]+)% of the labels right$", printed, re.M)
    assert [int(iteration) for iteration, _ in found] == [0, 50, 100]
    assert float(found[-1][1]) > 90
    assert "To say no to everything gets 50.00% right." in printed  # of all eight combinations
    for name in ("learning", "guesses"):
        assert Path(f"made/{name}.png").read_bytes().startswith(b"\x89PNG")
    net = read_text("made/net.prototxt", caffe_pb2.NetParameter)
    assert [layer.type for layer in net.layer][-1] == "SigmoidCrossEntropyLoss"


def test_the_layer(model: Path, folder: Path, load_script: LoadScript) -> None:
    import caffe

    script = load_script(SCRIPT)
    net, scores = script.net_for(model / "train_val.prototxt", folder, 3, 8)
    assert scores == "fc7"
    Path("net.prototxt").write_text(str(net))
    test = caffe.Net("net.prototxt", caffe.TEST)
    test.forward()
    expected = [[i >> k & 1 for k in range(3)] for i in range(8)]  # in the order of the file
    assert test.blobs["label"].data.tolist() == expected
    middle = test.blobs["data"].data[6, :, 16, :] + script.MEAN[:, None]
    assert middle[:, 16] == pytest.approx([0, 255, 0], abs=12)  # green: BGR
    assert middle[:, 26] == pytest.approx([0, 0, 255], abs=12)

    train = caffe.Net("net.prototxt", caffe.TRAIN)
    epochs, sides = [], []
    for _ in range(2):
        seen = []
        for _ in range(4):
            train.forward()
            labels = train.blobs["label"].data.tolist()
            seen += labels
            for image, label in zip(train.blobs["data"].data, labels, strict=True):
                if label == [0, 0, 1]:  # red lies to the right
                    sides.append(image[2, 16].argmax() < 16)
        epochs.append(seen)
    assert len(sides) == 8
    assert 0 < sum(sides) < 8  # some are mirrored
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(expected * 4)


def test_what_is_wrong_is_said(model: Path, folder: Path, load_script: LoadScript) -> None:
    main = load_script(SCRIPT).main
    argv = ["--model", str(model / "train_val.prototxt")]
    with pytest.raises(SystemExit, match=r"python_layer_multilabel\.py: .*gone/ImageSets/Main"):
        main([*argv, "gone"])
    (folder / "Annotations/train3.xml").write_text("<annotation>")
    with pytest.raises(SystemExit, match=r"train3\.xml is no XML: no element found"):
        main([*argv, str(folder)])
