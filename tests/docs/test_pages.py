"""What the README and the guides show can be pasted: their blocks run, in order, on small files.

Every page with blocks is held to it here or by a test of its own.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.docs.blocks import DOCS, blocks_of, lines_of, run_shell
from tests.opencv.record import write_nets

import moka
from moka.cli.main import main
from moka.data import datum
from moka.data.lmdb import LmdbWriter

ROOT = DOCS.parent
ELSEWHERE = {  # pages whose blocks other tests run
    "docs/opencv.md": "test_opencv.py",
    "docs/rescue.md": "test_rescue.py",
    "docs/tutorials/detection.md": "test_tutorials.py",
    "docs/tutorials/digits.md": "test_tutorials.py",
    "docs/tutorials/imagenet.md": "test_tutorials.py",
    "docs/tutorials/own_images.md": "test_tutorials.py",
}
HERE = (
    "README.md",
    "docs/api.md",
    "docs/data.md",
    "docs/install.md",
    "docs/logging.md",
    "docs/scale.md",
)
NOT_HERE = {  # how a line begins, and why it does not run in a test
    "make ": "installs; CI runs make test, tests/examples/test_digits.py what make digits runs",
    "pip ": "installs",
    "docker ": "no container in a test",
    "examples/": "fetches; tests/examples runs it with files of its own",
    "caffe download": "fetches; tests/tools/test_download.py has a server",
    "caffe web": "goes on until it is stopped; tests/web",
    "caffe serve": "goes on until it is stopped; tests/serving",
    "curl ": "asks caffe serve; tests/web/api",
    "jupyter ": "goes on until it is stopped; tests/examples/test_notebooks.py",
    "source ": "of a shell; tests/command/test_completion.py",
    "torchrun ": "for many machines; tests/parallel/test_launch.py",
    "caffe train --solver=lenet_solver.prototxt --replay": "needs a run that fell to NaN;"
    " tests/cli/test_replay.py",
    "cd ": "a place in the clone",
}
STARTS_PROCESSES = re.compile(r"--workers[= ]")  # tests/parallel/test_launch.py
NEEDS_GPUS = re.compile(r"--gpu[= ]|devices=\[0, 1\]")
JOB_FILE = "#!/bin/bash"  # for a cluster

DEPLOY = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 227 dim: 227 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 9 stride: 8 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""


def pages() -> list[str]:
    """All pages with blocks of code that somebody could run."""
    found = [ROOT / "README.md", *DOCS.rglob("*.md"), *ROOT.glob("examples/*/README.md")]
    return sorted(
        path.relative_to(ROOT).as_posix()
        for path in found
        if any(block.language in ("sh", "python") for block in blocks_of(path.read_text("utf-8")))
    )


def reason_to_skip(line: str) -> str | None:
    if NEEDS_GPUS.search(line) and not torch.cuda.is_available():
        return "needs GPUs"
    if STARTS_PROCESSES.search(line):
        return "starts processes"
    return next((why for begin, why in NOT_HERE.items() if line.startswith(begin)), None)


def test_every_page_is_held_to_what_it_shows() -> None:
    """A page that no test runs shows nothing but what cannot run in a test, or examples' programs,
    which tests/examples run."""
    for name in pages():
        if name in HERE:
            continue
        if name in ELSEWHERE:
            assert Path(__file__).with_name(ELSEWHERE[name]).exists()
            continue
        for block in blocks_of((ROOT / name).read_text("utf-8")):
            if block.language == "sh":
                for line in lines_of(block.text):
                    example = re.search(r"\bexamples/\w+/", line)
                    known = reason_to_skip(line) or example or name.startswith("examples/")
                    assert known, f"{name}: {line}"
                    for path in re.findall(r"^python (\S+)", line):
                        assert (ROOT / path).exists(), f"{name}: {line}"


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with all that the pages name: LeNet, short runs, tiny databases and photographs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "home").mkdir()
    shutil.copytree(ROOT / "examples/mnist", "examples/mnist")
    _write_digits("examples/mnist/mnist_train_lmdb")
    _write_digits("examples/mnist/mnist_test_lmdb")
    solver = Path("examples/mnist/lenet_solver.prototxt")
    short = solver.read_text().replace("max_iter: 10000", "max_iter: 3")
    solver.write_text(short.replace("test_iter: 100", "test_iter: 1").replace("100", "1"))
    ours = solver.read_text().replace("examples/mnist/", "")
    Path("lenet_solver.prototxt").write_text(ours)
    Path("solver.prototxt").write_text(ours.replace('"lenet"', '"snap"'))
    shutil.copy("examples/mnist/lenet_train_test.prototxt", ".")
    shutil.copy("lenet_train_test.prototxt", "train_val.prototxt")
    net = moka.load("examples/mnist/lenet.prototxt")
    for model in ("examples/mnist/lenet_iter_10000", "lenet_iter_10000"):
        moka.save_weights(net, f"{model}.caffemodel")
    for folder in ("models/lenet", "old_models"):
        shutil.copytree("examples/mnist", folder, ignore=shutil.ignore_patterns("*_lmdb", "get_*"))
    shutil.copy("examples/mnist/lenet.prototxt", "lenet.prototxt")
    Path("deploy.prototxt").write_text(DEPLOY)
    moka.save_weights(moka.load("deploy.prototxt"), "net.caffemodel")
    for split in ("train", "test"):
        for label, shade in enumerate((60, 190)):
            _write_photos(Path("photos", "ab"[label]), f"{split}_", shade)
    names = [f"{path.relative_to('photos')} 0\n" for path in Path("photos").rglob("*.jpg")]
    Path("train.txt").write_text("".join(names))
    _write_boxes(Path("VOC2007"))
    logger = logging.getLogger("moka")
    before = logger.level, list(logger.handlers), logging.getLogger("moka.detail").level
    yield
    logger.setLevel(before[0])
    for handler in [*logger.handlers]:
        if handler not in before[1]:
            logger.removeHandler(handler)
            handler.close()
    logging.getLogger("moka.detail").setLevel(before[2])


def _write_digits(path: str) -> None:
    rng = np.random.default_rng(1)
    with LmdbWriter(path) as writer:
        for i in range(10):
            image = rng.integers(0, 256, (1, 28, 28), dtype=np.uint8)
            writer.put(f"{i:08}".encode(), datum.encode(image, i).SerializeToString())


def _write_photos(folder: Path, start: str, shade: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(shade)
    for i in range(4):
        noise = shade + rng.integers(-40, 40, (64, 80, 3))
        cv2.imwrite(str(folder / f"{start}{i}.jpg"), noise.clip(0, 255).astype(np.uint8))


def _write_boxes(folder: Path) -> None:
    """A data set as VOC's, and what SSD's users have beside it."""
    _write_photos(folder / "JPEGImages", "", 90)
    (folder / "Annotations").mkdir()
    lines = []
    for image in sorted((folder / "JPEGImages").iterdir()):
        (folder / f"Annotations/{image.stem}.xml").write_text(
            "<annotation><object><name>cat</name><bndbox><xmin>8</xmin><ymin>6</ymin>"
            "<xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        )
        lines.append(f"JPEGImages/{image.name} Annotations/{image.stem}.xml\n")
    for name in ("trainval.txt", "test.txt"):
        Path(name).write_text("".join(lines))
    Path("labelmap.prototxt").write_text('item { name: "cat" label: 1 }')


def run_blocks(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"moka": moka}
    for block in blocks_of((ROOT / name).read_text("utf-8")):
        if block.language == "sh" and not block.text.startswith(JOB_FILE):
            for line in lines_of(block.text):
                if reason_to_skip(line) is None:
                    assert run_shell(line) == [0], line
        elif block.language == "python" and not NEEDS_GPUS.search(block.text):
            exec(compile(block.text, name, "exec"), names)
    return names


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize("name", ["api", "data", "install", "scale"])
def test_guides(name: str) -> None:
    run_blocks(f"docs/{name}.md")


@pytest.mark.usefixtures("_folder")
def test_logging() -> None:
    main(["train", "--solver=solver.prototxt", "--json_log=run.jsonl"])
    for log in ("old.log", "new.log"):
        run_shell(f"caffe train --solver=solver.prototxt 2> {log}")
    run_blocks("docs/logging.md")
    for made in ("train.log.train", "train.log.test", "train.png", "loss.svg"):
        assert Path(made).exists()


@pytest.mark.usefixtures("_folder")
def test_the_readme(tmp_path: Path) -> None:
    write_nets(tmp_path)
    text = Path("ssd.prototxt").read_text()
    Path("deploy.prototxt").write_text(text.replace('top: "found"', 'top: "detection_out"'))
    for name in ("res10_300x300_ssd_iter_140000", "net"):
        shutil.copy("ssd.caffemodel", f"{name}.caffemodel")
    for path in ("resnet18.onnx", "weights.safetensors"):
        main(
            [
                "export",
                "--model=lenet.prototxt",
                "--weights=lenet_iter_10000.caffemodel",
                "-o",
                path,
            ]
        )
    shutil.copy("lenet.prototxt", "net.prototxt")
    layers = ("conv1", "conv2", "ip1", "ip2")
    Path("names.txt").write_text("".join(f"{name} {name}\n" for name in layers))
    run_shell("caffe train --solver=lenet_solver.prototxt 2> lenet.log")
    names = run_blocks("README.md")
    assert names["found"].loads  # the last one of moka.check
    assert names["spec"].to_proto().layer[-1].type == "Pooling"
    assert all(found.loads for found in moka.check("models"))
