from __future__ import annotations

import re
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

import caffe
from moka.cli.main import main as program
from moka.tools.detect import main

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.003 } } }
"""
WINDOWS = "filename,ymin,xmin,ymax,xmax\na.png,0,0,6,6\nb.png,2,3,8,9\na.png,4,4,12,13\n"
FLAGS = [
    *("--model_def", "deploy.prototxt", "--pretrained_model", "w.caffemodel"),
    *("--mean_file", "mean.npy"),
]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(NET)
    caffe.Net("deploy.prototxt", caffe.TEST).save("w.caffemodel")
    for seed, name in enumerate(("a.png", "b.png")):
        image = np.random.default_rng(seed).integers(0, 256, (20, 16, 3), np.uint8)
        cv2.imwrite(name, image)
    np.save("mean.npy", np.array([104.0, 117.0, 123.0]))
    Path("windows.csv").write_text(WINDOWS)
    Path("names.txt").write_text("a.png\n\nb.png\n")


@pytest.mark.parametrize("context_pad", [0, 1])
def test_windows_of_a_csv(context_pad: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows come out image by image."""
    argv = ["windows.csv", "out.h5", *FLAGS, "--context_pad", str(context_pad)]
    assert program(["detect", *argv, "--crop_mode=list"]) == 0
    said = re.sub(r"\d+\.\d{3} s", "0.001 s", capsys.readouterr().out).splitlines()
    assert said == [
        "CPU mode",
        "Loading input...",
        "Processed 3 windows in 0.001 s.",
        "Saved to out.h5 in 0.001 s.",
    ]
    mean = np.array([104.0, 117.0, 123.0])
    net = caffe.Detector("deploy.prototxt", "w.caffemodel", mean=mean, raw_scale=255,
                         channel_swap=(2, 1, 0), context_pad=context_pad)  # fmt: skip
    windows = [("a.png", [[0, 0, 6, 6], [4, 4, 12, 13]]), ("b.png", [[2, 3, 8, 9]])]
    want = [d["prediction"] for d in net.detect_windows(windows)]
    with h5py.File("out.h5") as file:
        np.testing.assert_allclose(file["df/block1_values"], want, rtol=1e-6)
        assert file["df/axis1"][()].tolist() == [b"a.png", b"a.png", b"b.png"]


def test_the_output_can_be_the_input() -> None:
    flags = [*FLAGS, "--context_pad", "0"]
    assert main(["windows.csv", "out.h5", *flags]) == 0
    assert main(["out.h5", "out.csv", *flags]) == 0
    rows = Path("out.csv").read_text().splitlines()
    assert rows[0] == "filename,ymin,xmin,ymax,xmax,class0,class1,class2,class3"
    assert rows[3].startswith("b.png,2,3,8,9,")


def test_the_usual_context_is_16_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["windows.csv", "out.h5", *FLAGS]) == 1
    assert "context_pad 16 on each side leaves nothing" in capsys.readouterr().err


def test_selective_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (["names.txt"], ["windows.csv", "--crop_mode", "selective_search"]):
        assert main([*argv, "out.h5", *FLAGS, "--context_pad", "0"]) == 1
        assert "selective search needs the module" in capsys.readouterr().err
    searched: list[list[str]] = []

    def search(names: list[str]) -> list[tuple[str, list[list[int]]]]:
        searched.append(names)
        return [("a.png", [[0, 0, 6, 6]])]

    monkeypatch.setattr("moka.tools.detect.selective_search", search)
    for argv in (["names.txt"], ["windows.csv", "--crop_mode", "selective_search"]):
        assert main([*argv, "out.h5", *FLAGS, "--context_pad", "0"]) == 0
    assert searched == [["a.png", "b.png"]] * 2
    with h5py.File("out.h5") as file:
        assert file["df/axis1"][()].tolist() == [b"a.png"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["names.txt", "o.h5", "--crop_mode", "list"], "names.txt names images alone, but"),
        (["windows.csv", "o.h5", "--crop_mode", "x"], "--crop_mode is list or selective_search"),
        (["windows.csv", "o.txt"], "the output file ends in .csv or .h5, found 'o.txt'."),
        (["windows.csv", "gone/o.h5"], "gone/o.h5: No such file or directory."),
        (["a.png", "o.h5"], "Unknown input file type: 'a.png' does not end in .txt, .csv or .h5."),
        (["gone.csv", "o.h5"], "gone.csv: No such file or directory."),
        (["gone.txt", "o.h5"], "gone.txt: No such file or directory."),
        (["empty.txt", "o.h5"], "empty.txt: the file names no image."),
        (["far.csv", "o.h5"], "a.png: the window [50, 0, 60, 6] (ymin, xmin, ymax, xmax) holds"),
        (["broken.csv", "o.h5"], "names.txt: the image cannot be decoded."),
    ],
)
def test_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    Path("empty.txt").write_text("\n")
    Path("far.csv").write_text("filename,ymin,xmin,ymax,xmax\na.png,50,0,60,6\n")
    Path("broken.csv").write_text("filename,ymin,xmin,ymax,xmax\nnames.txt,0,0,6,6\n")
    assert main([*argv, *FLAGS, "--context_pad", "0"]) == 1
    assert says in capsys.readouterr().err
