"""From a folder of images to a model that answers programs, without a shell."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.web.browsers import SLOW_MS, browser, page_of, site
from tests.web.walk import walk


@pytest.mark.slow
def test_from_images_to_a_model_that_answers(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits  # takes a second

    photos = tmp_path / "shown/photos"
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (photos / f"digit {label}").mkdir(parents=True, exist_ok=True)
        pixels = (image * 15.9).astype(np.uint8)
        cv2.imwrite(str(photos / f"digit {label}/{i}.png"), pixels)
    with (
        browser() as chrome,
        site(tmp_path / "shown") as address,
        page_of(chrome, address) as page,
    ):
        walk(page, photos, 28, 200, SLOW_MS / 1000)
        page.goto("/jobs")
        score = page.locator("tbody td", has_text=" %").first.inner_text()
        assert float(re.findall(r"[\d.]+", score)[0]) > 80
        page.goto("/try?model=jobs/lenet")
        words = shlex.split(page.locator("code", has_text="/v1/classify").inner_text())
        image = sorted((photos / "digit 7").iterdir())[0]
        line = [f"@{image}" if word == "@image.jpg" else word for word in words]
        told = subprocess.run(line, capture_output=True, check=True).stdout
        assert b'"digit ' in told  # the classes have the folders' names
