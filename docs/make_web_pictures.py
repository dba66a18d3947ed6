"""Makes the pictures of the pages in a browser: `python -m docs.make_web_pictures`.

It makes a folder of scikit-learn's digits, lets the pages make a data set of it and train LeNet,
and takes the pictures of docs/web.md and docs/serve.md. With `--all FOLDER` it takes every page
instead, at three widths, in both themes, with no run, one run and 200 runs, to be looked at. Needs
Chromium.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from sklearn.datasets import load_digits
from tests.web.browsers import WIDTHS, browser, page_of, site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
MANY = 200
SIDE = 28  # pixels
NET = (ROOT / "examples/mnist/lenet_train_test.prototxt").read_text()
JOB = "jobs/digits"
FIELDS = {
    "max_iter": "300",
    "display": "10",
    "base_lr": "0.01",
    "lr_policy": "poly",
    "power": "1",
    "type": "SGD",
    "momentum": "0.9",
    "weight_decay": "0.0005",
    "test_iter": "4",
    "test_interval": "50",
    "snapshot": "100",
    "snapshot_best": "accuracy",
    "solver_mode": "CPU",
    "random_seed": "1",
}
TRAINED = {
    "title": "Digits",
    "net": "net.prototxt",
    "train_data": "data/digits/train_lmdb",
    "test_data": "data/digits/test_lmdb",
    "fields": FIELDS,
}
Act = Callable[["Page", Path], object]


def nothing(page: Page, folder: Path) -> None:
    """The page as it opens."""


def an_image(page: Page, folder: Path) -> None:
    page.set_input_files("input[type=file]", sorted((folder / "photos/3").iterdir())[4])
    page.locator(".bars").wait_for()
    page.get_by_text("Occlusion", exact=True).click()
    page.get_by_text("Bright: what").wait_for()


def a_folder(page: Page, folder: Path) -> None:
    page.set_input_files("input[type=file]", folder / "photos")
    page.locator(".confusion, .plane circle").first.wait_for()


def a_net(page: Page, folder: Path) -> None:
    text = page.get_by_label("The net's prototxt")
    text.fill(NET)
    page.locator(".graph .node").first.wait_for()
    text.evaluate("area => { area.blur(); area.scrollTop = 0; }")


def two_nets(page: Page, folder: Path) -> None:
    page.get_by_label("Net A").fill(NET)
    page.get_by_label("Net B").fill(NET.replace("num_output: 50", "num_output: 64"))
    page.locator(".pair").first.wait_for()


def blobs(page: Page, folder: Path) -> None:
    page.set_input_files("input[type=file]", sorted((folder / "photos/3").iterdir())[4])
    page.locator(".sheets").wait_for()


@dataclass(frozen=True)
class Shot:
    """A view of a page.

    Attributes:
        name: of its pictures.
        path: its address.
        act: what is done there before the picture is taken.
        folders: which folders it is taken of: one with "none", "one" or "many" runs.
        document: of which docs/pictures/web_NAME.png is made, at this width; 0: none.
    """

    name: str
    path: str
    act: Act = nothing
    folders: tuple[str, ...] = ("one",)
    document: int = 0


COMPARED = "%2C".join(f"run_{i:03d}.log" for i in range(8))
DATA = "&train_data=data/digits/train_lmdb&test_data=data/digits/test_lmdb"
ALWAYS = ("none", "one")
SHOTS = (
    Shot("jobs", "/jobs", folders=("none", "one", "many")),
    Shot("form", f"/jobs/new?net=net.prototxt{DATA}", folders=ALWAYS, document=1200),
    Shot("run", f"/jobs/run?id={JOB}", document=1200),
    Shot("compare", f"/jobs/compare?runs={COMPARED}&smooth=0.6", folders=("many",)),
    Shot("sets", "/data", folders=ALWAYS),
    Shot("make", "/data/new?source=photos&height=24&width=20", folders=ALWAYS),
    Shot("data", "/data/set?name=data/digits/train_lmdb", document=1200),
    Shot("nets", "/nets", a_net, document=1200),
    Shot("nets_empty", "/nets", folders=ALWAYS),
    Shot("two_nets", "/nets?view=compare", two_nets),
    Shot("inside", "/nets?view=inside", blobs),
    Shot("try_empty", "/try", folders=ALWAYS),
    Shot("try", "/try", an_image, document=1200),
    Shot("folder", "/try?view=folder", a_folder, document=1200),
    Shot("api", "/docs"),
    Shot("plane", "/try?view=plane&blob=ip1", a_folder),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", metavar="FOLDER", help="take every page, into this folder")
    parser.add_argument("--only", default="", help="pages whose names hold this")
    given = parser.parse_args()
    shots = [shot for shot in SHOTS if given.only in shot.name]
    with tempfile.TemporaryDirectory() as place, browser() as chrome:
        one = Path(place, "one", "digits")
        write_images(one / "photos")
        (one / "net.prototxt").write_text(NET)
        with site(one) as address:
            with page_of(chrome, address) as page:
                train(page)
            if not given.all:
                documents(chrome, address, one, shots)
                return
            every_width(chrome, address, one, "one", shots, Path(given.all))
        for name in ("none", "many"):
            folder = Path(place, name)
            folder.mkdir()
            if name == "many":
                write_logs(folder)
            with site(folder) as address:
                every_width(chrome, address, folder, name, shots, Path(given.all))


def write_logs(folder: Path) -> None:
    """Many logs, as the benchmark of the list of runs has them."""
    sys.path.append(str(ROOT / "benchmarks"))
    from web_runs import write_log

    for seed in range(MANY):
        write_log(folder / f"run_{seed:03d}.log", seed, 10_000)


def write_images(photos: Path) -> None:
    """scikit-learn's handwritten digits as PNG files, a folder for each digit."""
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (photos / str(label)).mkdir(parents=True, exist_ok=True)
        large = cv2.resize((image * 15.9).astype(np.uint8), (SIDE, SIDE))
        cv2.imwrite(str(photos / str(label) / f"{i:04d}.png"), large)


def train(page: Page) -> None:
    """Make the data set and the job of the pictures."""
    page.goto("/jobs")
    ask(page, "/api/data/make", {"source": "photos", "target": "data/digits", "gray": "1"})
    page.goto("/data")
    page.get_by_role("link", name="data/digits/train_lmdb").wait_for()
    ask(page, "/api/jobs/make", TRAINED)
    page.goto(f"/jobs/run?id={JOB}")
    page.locator(".tag", has_text="Finished").wait_for()


def ask(page: Page, path: str, values: dict[str, Any]) -> Any:
    """A request as the pages send it."""
    send = "([path, values]) => import('/static/api.js').then((api) => api.post(path, values))"
    return page.evaluate(send, [path, values])


def settled(page: Page) -> None:
    """Wait until a page has loaded what it shows."""
    page.locator("main h1").first.wait_for()
    page.locator("main .waiting").first.wait_for(state="detached")
    page.get_by_text(re.compile("reading .* more log")).wait_for(state="detached")
    page.wait_for_load_state("networkidle")  # images


def documents(chrome: Browser, address: str, folder: Path, shots: Sequence[Shot]) -> None:
    """The pictures of the documents."""
    wanted = [(shot, shot.name, shot.document) for shot in shots if shot.document]
    wanted += [(shot, f"{shot.name}_phone", 360) for shot in shots if shot.name == "run"]
    for shot, name, width in wanted:
        with page_of(chrome, address, width=width) as page:
            show(page, shot, folder)
            file = PICTURES / f"web_{name}.png"
            page.screenshot(path=file, full_page=True, clip=at_most(page, width))
            print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1e3:.0f} kB")


def at_most(page: Page, width: int) -> FloatRect:
    """The upper part of a page."""
    height = min(page.evaluate("document.documentElement.scrollHeight"), 1.1 * max(width, 900))
    return {"x": 0, "y": 0, "width": width, "height": height}


def every_width(
    chrome: Browser, address: str, folder: Path, runs: str, shots: Sequence[Shot], into: Path
) -> None:
    """The pictures of every page of a folder with `runs` runs."""
    into.mkdir(parents=True, exist_ok=True)
    for dark, width in product((False, True), WIDTHS):
        theme = "dark" if dark else "light"
        with page_of(chrome, address, width=width, dark=dark) as page:
            for shot in shots:
                if runs in shot.folders:
                    show(page, shot, folder)
                    file = into / f"{shot.name}_{runs}_{width}_{theme}.png"
                    page.screenshot(path=file, full_page=True)
                    page.evaluate("sessionStorage.clear()")


def show(page: Page, shot: Shot, folder: Path) -> None:
    page.goto(shot.path)
    settled(page)
    shot.act(page, folder)
    settled(page)


if __name__ == "__main__":
    main()
