"""The tutorials do what they say: their files are written and their lines run, in order."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.docs.blocks import DOCS, blocks_of, run_page

TUTORIALS = DOCS / "tutorials"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write_photos(folder: Path, shade: int, count: int) -> list[Path]:
    """Noisy photographs, 64 x 80, of one brightness: a class that a small net can learn."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(shade)
    paths = [folder / f"image_{k}.jpg" for k in range(count)]
    for path in paths:
        noise = rng.integers(-40, 40, (64, 80, 3))
        cv2.imwrite(str(path), (shade + noise).clip(0, 255).astype(np.uint8))
    return paths


def test_digits(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    shutil.copytree(DOCS.parent / "examples/digits", "examples/digits")
    shutil.copytree(DOCS.parent / "examples/mnist", "examples/mnist")
    solver = Path("examples/digits/lenet_solver.prototxt")
    text = (TUTORIALS / "digits.md").read_text("utf-8")
    shorter = solver.read_text().replace("max_iter: 1500", "max_iter: 60")
    assert shorter != solver.read_text()
    solver.write_text(shorter)
    classify = Path("examples/digits/classify.py")
    classify.write_text(classify.read_text().replace("iter_1500", "iter_60"))
    names = run_page(text.replace("iter_1500", "iter_60"))
    assert names["net"].forward(data=names["torch"].zeros(1, 1, 28, 28))["prob"].shape == (1, 10)
    assert "LeNet sees" in capfd.readouterr().out
    assert Path("run.png").exists()


def test_images_of_your_own(capfd: pytest.CaptureFixture[str]) -> None:
    for phase, count in (("train", 12), ("test", 10)):
        write_photos(Path("photos", phase, "cat"), 60, count)
        write_photos(Path("photos", phase, "dog"), 190, count)
    shutil.copy("photos/test/dog/image_3.jpg", "photo.jpg")
    names = run_page((TUTORIALS / "own_images.md").read_text("utf-8"))
    assert names["dog"] > 0.9
    assert capfd.readouterr().out.count("dog") >= 1
    assert Path("pets.onnx").exists()


@pytest.mark.slow
def test_ssd_on_images_of_your_own(capfd: pytest.CaptureFixture[str]) -> None:
    text = (TUTORIALS / "detection.md").read_text("utf-8")
    (program,) = [block for block in blocks_of(text) if block.title]
    Path(program.title).write_text(program.text)
    names = run_page(text.replace(program.text, ""))  # `python ssd.py` runs it
    scores = re.findall(r"detection_eval = (\S+)", capfd.readouterr().err)
    assert len(scores) == 3, scores  # two tests in training, one of the trained model
    assert min(map(float, scores)) > 0.9
    assert set(names["labels"].tolist()) == {2}  # blue
    middles = [left + width / 2 for left, _, width, _ in names["boxes"].tolist()]
    assert min(middles) < 64 < max(middles)
    for color in names["colors"]:
        lines = Path(f"results/comp4_det_test_{color}.txt").read_text().splitlines()
        assert max(float(line.split()[1]) for line in lines) > 0.9
    assert Path("toy.onnx").exists()


def test_like_imagenet() -> None:
    for name, count in (("train", 20), ("test", 10)):
        lines = []
        for label, (wordnet, shade) in enumerate({"n01440764": 60, "n01443537": 190}.items()):
            paths = write_photos(Path("photos", f"{wordnet}_{name}"), shade, count)
            lines += [f"{path.relative_to('photos')} {label}" for path in paths]
        Path(f"{name}.txt").write_text("\n".join(lines) + "\n")
    run_page((TUTORIALS / "imagenet.md").read_text("utf-8"))
    records = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    best = [record for record in records if record["record"] == "BestSnapshotWritten"]
    assert best[-1]["value"] == 1.0
    assert Path("features", "data.mdb").exists()
