"""The snippets of docs/opencv.md run as they stand there, one after the other."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from tests.docs.blocks import DOCS, blocks_of
from tests.opencv.cases import CHAIN, photo
from tests.opencv.record import write_nets

import moka
from moka.opencv import dnn_unregisterLayer, uninstall
from moka.opencv.custom import REGISTERED

PAGE = DOCS / "opencv.md"


def texts(language: str) -> list[str]:
    return [b.text for b in blocks_of(PAGE.read_text("utf-8")) if b.language == language]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(CHAIN.replace("dim: 9", "dim: 32"))
    moka.save_weights(moka.load("deploy.prototxt"), "net.caffemodel")
    write_nets(tmp_path)
    for end in ("prototxt", "caffemodel"):
        shutil.copy(f"ssd.{end}", f"face.{end}")
    cv2.imwrite("photo.jpg", photo(40, 50))


def test_the_snippets_run() -> None:
    snippets = texts("python")
    assert len(snippets) == 4
    names: dict[str, Any] = {}
    try:
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), names)
        assert REGISTERED["Crop"] is names["CropLayer"]
    finally:
        uninstall()
        dnn_unregisterLayer("Crop")
    assert names["probabilities"].shape == (1, 5)
    assert len(names["boxes"]) > 0
    assert 0 <= names["best"] < 5
    assert isinstance(names["detector"], moka.opencv.DetectionModel)
    assert names["same"].getLayerNames() == names["net"].getLayerNames()


def test_a_script_that_nobody_edits() -> None:
    (command,) = texts("sh")
    Path("script.py").write_text(
        "import cv2\n"
        "net = cv2.dnn.readNetFromCaffe('deploy.prototxt', 'net.caffemodel')\n"
        "print(net.getLayerNames()[-1])\n"
    )
    _, option, program = shlex.split(command)
    ran = subprocess.run(
        [sys.executable, option, program], check=True, capture_output=True, text=True
    )
    assert ran.stdout == "prob\n"
