from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import caffe
from moka import viz
from moka.schema import caffe_pb2, read_text

if TYPE_CHECKING:
    from tests.examples.conftest import LoadScript


@pytest.fixture
def folder() -> Path:
    """Images of two classes: bright to the left, bright to the right."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 155, 40)[None, :, None]
    for split, count in (("train", 12), ("test", 5)):
        for name, light in (("left", ramp[:, ::-1]), ("right", ramp)):
            place = Path("images", split, name)
            place.mkdir(parents=True)
            for i in range(count):
                picture = light + rng.integers(0, 100, (40, 40, 3))
                cv2.imwrite(str(place / f"{i}.png"), picture.astype(np.uint8))
    return Path("images")


def test_fine_tuning_and_training_from_scratch(
    model: Path, folder: Path, load_script: LoadScript, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("pycaffe/fine_tuning.py")
    argv = ["--model", str(model / "train_val.prototxt"), "--side", "36", "--batch-size", "8"]
    argv += ["--iterations", "12", "--test-interval", "6", str(folder), "--out", "made"]
    script.main([*argv, "--rate", "1e-6"])
    found = re.findall(
        r"^iteration +(\d+): fine-tuned ([\d.]+)%, from scratch ([\d.]+)% right$",
        capsys.readouterr().out,
        re.M,
    )
    assert [int(iteration) for iteration, *_ in found] == [0, 6, 12]
    assert Path("made/learning.png").read_bytes().startswith(b"\x89PNG")

    # Hardly moved: all but the last layer are the model's, or are not.
    given = caffe.Net(
        str(model / "deploy.prototxt"), caffe.TEST, weights=str(model / "tiny.caffemodel")
    )
    tuned, fresh = (
        caffe.Net("made/net.prototxt", caffe.TEST, weights=f"made/{name}.caffemodel").params
        for name in ("fine-tuned", "from_scratch")
    )
    assert list(tuned) == ["conv1", "fc6", "fc7_new"]
    for layer in ("conv1", "fc6"):
        wanted = given.params[layer][0].data
        assert tuned[layer][0].data == pytest.approx(wanted, abs=2e-3)
        assert fresh[layer][0].data != pytest.approx(wanted, abs=2e-2)
    assert tuned["fc7_new"][0].data.shape == (2, 16)

    net = read_text("made/net.prototxt", caffe_pb2.NetParameter)
    rates = {layer.name: [p.lr_mult for p in layer.param] for layer in net.layer if layer.param}
    assert rates == {"conv1": [1], "fc6": [1], "fc7_new": [10, 10]}
    data = net.layer[0]
    assert data.transform_param.mean_value == [104, 117, 123]
    assert not data.transform_param.HasField("mean_file")
    assert [layer.type for layer in net.layer].count("Accuracy") == 1


def test_the_loss_falls(
    model: Path, folder: Path, load_script: LoadScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--model", str(model / "train_val.prototxt"), "--side", "36", "--batch-size", "8"]
    script = load_script("pycaffe/fine_tuning.py")
    panels: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    monkeypatch.setattr(viz, "curves", lambda made, _: panels.update(made))
    script.main([*argv, "--iterations", "40", "--rate", "1e-4", str(folder)])
    for _, losses in panels["training loss"].values():
        assert len(losses) == 40
        assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:4])
    for tested, accuracies in panels["test accuracy"].values():
        assert tested == [0, 20, 40]
        assert accuracies[-1] == 1


def test_the_accuracy_is_that_of_all_test_images(
    model: Path, folder: Path, load_script: LoadScript
) -> None:
    script = load_script("pycaffe/fine_tuning.py")
    Path("net.prototxt").write_text(
        str(script.net_for(model / "train_val.prototxt", folder, 4, 36))
    )
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.params["fc7_new"][0].data[...] = 0
    net.params["fc7_new"][1].data[...] = 1, 0  # "left" to everything: 5 of 10, then to 2 again
    assert script.accuracy(net, 10) == pytest.approx((4 + 1 + 2) / 12)


def test_what_is_wrong_is_said(model: Path, load_script: LoadScript) -> None:
    main = load_script("pycaffe/fine_tuning.py").main
    argv = ["--model", str(model / "train_val.prototxt")]
    with pytest.raises(SystemExit, match=r"fine_tuning\.py: nowhere/train: the folder cannot"):
        main([*argv, "nowhere"])
    with pytest.raises(SystemExit, match=r"get them with `caffe download gone`"):
        main(["--model", "gone/train_val.prototxt", "nowhere"])
