from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import caffe

if TYPE_CHECKING:
    from tests.examples.conftest import LoadScript

SIDE = 44  # of the image: 4 x 4 windows of 32 pixels, 4 apart


def test_the_cast_net_sees_what_the_other_sees_in_every_window(
    model: Path, image: Path, load_script: LoadScript
) -> None:
    deploy, weights = (str(model / name) for name in ("deploy.prototxt", "tiny.caffemodel"))
    script = load_script("pycaffe/net_surgery.py")
    out = Path()
    full = script.fully_convolutional(deploy, weights, out)
    assert list(full.params) == ["conv1", "fc6-conv", "fc7-conv"]
    assert full.params["fc6-conv"][0].data.shape == (16, 8, 7, 7)
    picture = caffe.io.resize_image(caffe.io.load_image(str(image)), (SIDE, SIDE))
    chances = script.look_everywhere(full, picture)
    assert chances.shape == (4, 4, 4)

    net = caffe.Net(deploy, caffe.TEST, weights=weights)
    net.blobs["data"].reshape(1, 3, 32, 32)
    prepare = script.zoo.transformer(net).preprocess
    for y in range(4):
        for x in range(4):
            window = picture[4 * y : 4 * y + 32, 4 * x : 4 * x + 32]
            net.blobs["data"].data[0] = prepare("data", window)
            (expected,) = net.forward()["prob"]
            np.testing.assert_allclose(chances[:, y, x], expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(chances, axis=(1, 2)).max() > 0.01  # the windows differ

    again = caffe.Net("full_conv.prototxt", caffe.TEST, weights="full_conv.caffemodel")
    assert (script.look_everywhere(again, picture) == chances).all()


def test_filters_written_by_hand(
    model: Path, load_script: LoadScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slope of brightness the blur changes nothing, and the edges are its steepness."""
    script = load_script("pycaffe/net_surgery.py")
    nets: list[caffe.Net] = []
    made = caffe.Net

    def remember(*args: object) -> caffe.Net:
        nets.append(made(*args))  # type: ignore[arg-type]
        return nets[-1]

    monkeypatch.setattr(caffe, "Net", remember)
    slope = np.linspace(0, 1, 21, dtype=np.float32)
    script.filter_by_hand(np.tile(slope[None, :, None], (11, 1, 3)), Path())
    blur, across, down = nets[0].blobs["conv"].data[0, :, 2:-2, 2:-2]
    np.testing.assert_allclose(blur, np.tile(slope[2:-2], (7, 1)), atol=1e-5)
    # 0.05 a pixel, times the variance of the blur (of a normal distribution that ends at 2).
    variance = 2 * (np.exp(-1 / 2) + 4 * np.exp(-2)) / (1 + 2 * (np.exp(-1 / 2) + np.exp(-2)))
    assert across == pytest.approx(0.5 + 0.05 * variance, abs=1e-5)
    assert down == pytest.approx(0.5, abs=1e-5)
    assert Path("filtered.png").exists()


def test_the_program(
    model: Path, image: Path, load_script: LoadScript, capsys: pytest.CaptureFixture[str]
) -> None:
    main = load_script("pycaffe/net_surgery.py").main
    argv = ["--model", str(model / "deploy.prototxt"), "--side", str(SIDE), "--class", "2"]
    main([*argv, str(image), "--out", "made"])
    places = np.array(
        capsys.readouterr()
        .out.partition(":\n")[2]
        .partition("The")[0]
        .translate({91: None, 93: None})
        .split()
    )
    assert places.size == 16
    for name in ("filtered", "heat_map"):
        assert Path(f"made/{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match=r"net_surgery\.py: .*kernel \(5\) is larger"):
        main([*argv, "--side", "2", str(image)])
