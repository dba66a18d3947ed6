from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.examples.conftest import LoadScript


def test_the_objective_rises_in_every_octave(
    model: Path, image: Path, load_script: LoadScript, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image is larger than what the model's inner products take; they are not run."""
    script = load_script("pycaffe/deep_dream.py")
    argv = ["--model", str(model / "deploy.prototxt"), "--layer", "pool1", "--octaves", "2"]
    script.main([*argv, "--steps", "4", "--out", "made", str(image)])
    printed = capsys.readouterr().out
    found = re.findall(r"^ *(\d+) x (\d+) +the objective rises from (\S+) to (\S+)$", printed, re.M)
    assert [(int(width), int(height)) for width, height, *_ in found] == [(43, 34), (60, 48)]
    assert all(float(last) > 1.02 * float(first) for *_, first, last in found)
    before, after = cv2.imread(str(image)), cv2.imread("made/dream.png")
    assert before is not None
    assert after is not None
    assert before.shape == after.shape
    assert 2 < np.abs(before.astype(int) - after).mean() < 60


def test_the_step_is_the_gradient(
    model: Path, load_script: LoadScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against finite differences of the objective, in a few pixels."""
    script = load_script("pycaffe/deep_dream.py")
    monkeypatch.setattr(script, "JITTER", 0)
    files = (str(model / name) for name in ("deploy.prototxt", "tiny.caffemodel"))
    net = script.open_net(*files, Path())
    rng = np.random.default_rng(1)
    image = rng.normal(0, 20, (3, 20, 24)).astype(np.float32)

    def objective(changed: np.ndarray) -> float:
        found: float = script.ascend(net, "conv1", changed.astype(np.float32), rng)
        return found

    moved = image.copy()
    script.ascend(net, "conv1", moved, rng)
    step = moved - image
    assert np.abs(step).mean() == pytest.approx(script.STEP, rel=1e-4)
    slopes = []
    for place in ((0, 5, 5), (1, 10, 8), (2, 12, 15)):
        bump = np.zeros_like(image)
        bump[place] = 0.5
        slopes.append((objective(image + bump) - objective(image - bump)) / step[place])
    assert slopes == pytest.approx([np.mean(slopes)] * 3, rel=0.05)


def test_a_layer_that_is_not_there(model: Path, image: Path, load_script: LoadScript) -> None:
    argv = ["--model", str(model / "deploy.prototxt"), "--layer", "conv9", str(image)]
    with pytest.raises(SystemExit, match=r"layers of this net are data, conv1, .*, prob\."):
        load_script("pycaffe/deep_dream.py").main(argv)
