from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.opencv.cases import SSD

import caffe
import moka
from moka.cli.main import main as command
from moka.errors import DataError
from moka.export.reference import reference
from moka.layers.detection.results import ResultFiles, check_files
from moka.net import build_net
from moka.opencv import readNetFromCaffe
from moka.schema import caffe_pb2, parse_text

LABELS = """
item { name: "none" label: 0 display_name: "background" }
item { name: "cat" label: 1 }
item { name: "7" label: 2 }
"""
ROWS = torch.tensor(
    [
        [0, 1, 0.75, 0.1, 0.2, 0.5, 0.6],
        [0, 2, 0.5, 0, 0, 1, 1],
        [1, -1, -1, -1, -1, -1, -1],
    ]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels.prototxt").write_text(LABELS)
    (tmp_path / "sizes.txt").write_text("a 100 200\n12 50 50\nc 10 10\n")
    return tmp_path


def wanted(folder: Path, fields: str) -> ResultFiles:
    text = (
        f'output_directory: "{folder}/out" output_name_prefix: "test_"'
        f' label_map_file: "{folder}/labels.prototxt" name_size_file: "{folder}/sizes.txt" {fields}'
    )
    files = ResultFiles.wanted(parse_text(text, caffe_pb2.SaveOutputParameter), {1, 2})
    assert files
    return files


def test_form_of_voc(folder: Path) -> None:
    files = wanted(folder, 'output_format: "VOC" num_test_image: 2')
    files.add(ROWS[:2], 1)
    assert not (folder / "out").exists()  # before the last image
    files.add(ROWS[2:] - torch.tensor([1.0, 0, 0, 0, 0, 0, 0]), 1)
    assert (folder / "out/test_cat.txt").read_text() == "a 0.75 20 20 100 60\n"
    assert (folder / "out/test_7.txt").read_text() == "a 0.5 0 0 200 100\n"


def test_form_of_ilsvrc(folder: Path) -> None:
    files = wanted(folder, 'output_format: "ILSVRC" num_test_image: 2')
    files.add(ROWS, 2)
    want = "a 1 0.75 20 20 100 60\na 2 0.5 0 0 200 100\n"
    assert (folder / "out/test_.txt").read_text() == want


def test_form_of_coco(folder: Path) -> None:
    (folder / "labels.prototxt").write_text(LABELS.replace("cat", "90"))
    files = wanted(folder, 'output_format: "COCO"')
    files.add(ROWS[:0], 1)
    files.add(ROWS[:2], 1)
    files.add(ROWS[:0], 1)
    records = json.loads((folder / "out/test_.json").read_text())
    assert records == [
        {"image_id": 12, "category_id": 90, "bbox": [5, 10, 20, 20], "score": 0.75},
        {"image_id": 12, "category_id": 7, "bbox": [0, 0, 50, 50], "score": 0.5},
    ]


def test_a_second_run_replaces_the_files(folder: Path) -> None:
    files = wanted(folder, 'output_format: "VOC" num_test_image: 1')
    files.add(ROWS[:2], 1)
    files.add(ROWS[:1], 1)
    assert (folder / "out/test_7.txt").read_text() == ""


def test_without_label_map_nothing_is_written(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    param = caffe_pb2.SaveOutputParameter(output_directory=str(folder / "out"))
    with caplog.at_level(logging.WARNING, "moka"):
        check_files(param)
        assert ResultFiles.wanted(param, {1}) is None
    assert "label_map_file" in caplog.text
    assert not (folder / "out").exists()
    assert ResultFiles.wanted(caffe_pb2.SaveOutputParameter(), {1}) is None


def test_faults(folder: Path) -> None:
    with pytest.raises(DataError, match="lists 3 images, num_test_image is 4"):
        wanted(folder, "num_test_image: 4")
    with pytest.raises(
        DataError, match=r"labels.prototxt: Cannot find label: 5 in the label map, which has .*1, 2"
    ):
        wanted(folder, "").add_image("a", [5], [0.5], [[0, 0, 1, 1]])
    (folder / "out").write_text("a file where a folder is wanted")
    with pytest.raises(DataError, match="out: cannot be written: File exists"):
        wanted(folder, 'output_format: "VOC" num_test_image: 1').add(ROWS[:1], 1)


def test_missing_files_are_logged_and_nothing_is_written(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    param = caffe_pb2.SaveOutputParameter(
        output_directory=str(folder / "out"),
        label_map_file=str(folder / "none.prototxt"),
        name_size_file=str(folder / "none.txt"),
    )
    with caplog.at_level(logging.WARNING, "moka"):
        check_files(param)
    assert "none.prototxt: no such file" in caplog.text
    assert "none.txt: no such file; detections are not written to files." in caplog.text
    assert ResultFiles.wanted(param, [1]) is None


def _by_pycaffe(net: str) -> None:
    caffe.Net(net, caffe.TEST).forward()


def _by_a_module(net: str) -> None:
    moka.load(net)(torch.zeros(1, 3, 16, 16))


def _by_opencv(net: str) -> None:
    caffe.Net(net, caffe.TEST).save("ssd.caffemodel")
    read = readNetFromCaffe(net, "ssd.caffemodel")
    read.setInput(np.zeros((1, 3, 16, 16), np.float32))
    read.forward()


def _by_the_measure_of_exports(net: str) -> None:
    built = build_net(net)
    reference(built, {}, ["found"])
    assert all(layer.writes_results for layer in built.layers)


def _by_caffe_time(net: str) -> None:
    assert command(["time", f"--model={net}", "--phase=TEST", "--iterations=1"]) == 0


@pytest.mark.parametrize(
    ("run", "writes"),
    [
        (_by_pycaffe, True),
        (_by_a_module, False),
        (_by_opencv, False),
        (_by_the_measure_of_exports, False),
        (_by_caffe_time, False),
    ],
)
def test_who_writes_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[str], None], writes: bool
) -> None:
    """Only a test of the net, or pycaffe's pass, replaces the results of an earlier one."""
    monkeypatch.chdir(folder)
    save = """save_output_param { output_directory: "out" output_format: "ILSVRC" num_test_image: 1
      label_map_file: "labels.prototxt" name_size_file: "sizes.txt" }"""
    text = SSD.replace("nms_param", f"{save} nms_param")
    Path("ssd.prototxt").write_text(text)
    run("ssd.prototxt")
    assert Path("out").exists() == writes
