from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import caffe

if TYPE_CHECKING:
    from tests.examples.conftest import LoadScript

SCRIPT = "pycaffe/classification.py"


def test_guesses_and_pictures(
    model: Path,
    labels: Path,
    image: Path,
    load_script: LoadScript,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deploy = str(model / "deploy.prototxt")
    argv = ["--model", deploy, "--labels", str(labels), "--out", "made", str(image)]
    load_script(SCRIPT).main(argv)
    printed = capsys.readouterr().out
    assert re.search(r"^  conv1 +\(1, 8, 14, 14\)$", printed, re.MULTILINE)
    assert re.search(r"^  fc6 +\(16, 392\)  \(16,\)$", printed, re.MULTILINE)
    found = re.findall(r"^ +([\d.]+)%  (.+)$", printed, re.MULTILINE)
    # A classifier prepares an image in the same way.
    classifier = caffe.Classifier(
        deploy,
        str(model / "tiny.caffemodel"),
        mean=np.array([104.0, 117.0, 123.0]),
        raw_scale=255,
        channel_swap=(2, 1, 0),
    )
    (expected,) = classifier.predict([caffe.io.load_image(str(image))], oversample=False)
    assert [float(chance) for chance, _ in found] == pytest.approx(
        sorted(expected * 100, reverse=True), abs=0.006
    )
    names = ["tulip", "pagoda", "tabby cat", "barn"]
    assert [name for _, name in found] == [names[i] for i in np.argsort(-expected)]
    for name in ("guesses", "filters", "feature_maps"):
        assert Path(f"made/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_weights_it_says_how_to_get_them(model: Path, load_script: LoadScript) -> None:
    (model / "tiny.caffemodel").unlink()
    says = r"^There are no weights in models/tiny: get them with `caffe download models/tiny`\.$"
    with pytest.raises(SystemExit, match=says):
        load_script(SCRIPT).main(["--model", str(model / "deploy.prototxt")])


def test_what_is_wrong_is_said(model: Path, labels: Path, load_script: LoadScript) -> None:
    argv = ["--model", str(model / "deploy.prototxt"), "--labels"]
    main = load_script(SCRIPT).main
    with pytest.raises(SystemExit, match=r"classification\.py: .*No such file.*gone\.jpg"):
        main([*argv, str(labels), "gone.jpg"])
    with pytest.raises(SystemExit, match="Unable to open labels file"):
        main([*argv, "gone.txt"])
