from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import caffe

if TYPE_CHECKING:
    from tests.examples.conftest import LoadScript


def test_sliding_windows_cover_an_image(load_script: LoadScript, model: Path) -> None:
    boxes = load_script("pycaffe/detection.py").slide(48, 60)
    covered = np.zeros((3, 48, 60), bool)
    for y1, x1, y2, x2 in boxes:
        assert 0 <= y1 < y2 <= 48
        assert 0 <= x1 < x2 <= 60
        covered[[48, 24, 16].index(y2 - y1), y1:y2, x1:x2] = True
        assert y2 - y1 == x2 - x1
    assert covered.all()
    assert len({tuple(box) for box in boxes}) == len(boxes) == 2 + 3 * 4 + 5 * 7
    assert load_script("pycaffe/detection.py").slide(9, 9)[0].tolist() == [0, 0, 9, 9]


def test_non_maximum_suppression(load_script: LoadScript, model: Path) -> None:
    script = load_script("pycaffe/detection.py")
    boxes = np.array([[0, 0, 10, 10], [0, 2, 10, 12], [0, 6, 10, 16], [20, 20, 30, 30]])
    assert script.overlap(boxes[0], boxes) == pytest.approx([1, 80 / 120, 40 / 160, 0])
    scores = np.array([0.8, 0.9, 0.3, 0.1], np.float32)
    # Of the second the first holds 2/3, the third 60/140.
    assert script.suppress(boxes, scores, 0.5) == [1, 2, 3]
    assert script.suppress(boxes, scores, 0.4) == [1, 3]
    assert script.suppress(boxes, scores, 0.7) == [1, 0, 2, 3]

    table = np.array([[0.8, 0.2], [0.1, 0.9], [0.7, 0.3], [0.6, 0.4]], np.float32)
    found = script.best_windows(boxes, table, 3, 0.2)
    assert [(each.label, each.window.tolist()) for each in found] == [
        (1, boxes[1].tolist()),  # of another class than the first, which overlaps it
        (0, boxes[0].tolist()),
        (0, boxes[3].tolist()),
    ]
    assert [each.score for each in found] == pytest.approx([0.9, 0.8, 0.6])
    other = np.array([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]], np.float32)
    found = script.best_windows(boxes, other, 9, 0.2)  # the second and what stands apart from it
    assert [each.score for each in found] == pytest.approx([0.9, 0.8])


def test_windows_of_a_file(
    model: Path,
    labels: Path,
    image: Path,
    load_script: LoadScript,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deploy, weights = (str(model / name) for name in ("deploy.prototxt", "tiny.caffemodel"))
    argv = [
        "--model",
        deploy,
        "--labels",
        str(labels),
        "--context",
        "4",
        str(image),
        "--out",
        "made",
    ]
    windows = [[0, 0, 20, 20], [10, 30, 40, 58], [5, 5, 48, 48]]
    rows = [f"{image},{','.join(map(str, window))}\n" for window in windows]
    Path("windows.csv").write_text("filename,ymin,xmin,ymax,xmax\n" + "".join(rows))
    main = load_script("pycaffe/detection.py").main
    main([*argv, "--windows", "windows.csv", "--overlap", "1"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"The best of 3 windows of {image}:"

    options = dict(mean=np.array([104.0, 117, 123]), raw_scale=255, channel_swap=(2, 1, 0))
    detector = caffe.Detector(deploy, weights, context_pad=4, **options)  # type: ignore[arg-type]
    predictions = [d["prediction"] for d in detector.detect_windows([(str(image), windows)])]
    best = sorted(zip(map(max, predictions), windows, strict=True), reverse=True)
    names = ["tulip", "pagoda", "tabby cat", "barn"]
    for line, (score, window) in zip(printed[1:-1], best, strict=True):
        name = names[int(predictions[windows.index(window)].argmax())]
        assert f"{score:.3f}  {name} " in line
        assert line.endswith(str(window))
    assert len(Path("made/detections.csv").read_text().splitlines()) == 4
    assert Path("made/detections.png").read_bytes().startswith(b"\x89PNG")

    main(argv)
    assert capsys.readouterr().out.startswith("The best of 49 windows")
    Path("windows.csv").write_text("filename,ymin,xmin,ymax,xmax\nother.png,0,0,9,9\n")
    with pytest.raises(SystemExit, match=r"windows\.csv has no window of .*image\.png\.$"):
        main([*argv, "--windows", "windows.csv"])
