"""The way from a folder of images to a net that answers programs, on the pages alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


@dataclass
class Walk:
    """One person's way through the pages, counted and timed.

    Attributes:
        actions: clicks, choices and fields that were filled.
        seconds: of each stage, by name.
    """

    page: Page
    patience_s: float
    actions: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def click(self, what: Locator) -> None:
        self.actions += 1
        what.first.click()

    def type(self, label: str, text: str) -> None:
        self.actions += 1
        self.page.get_by_label(label, exact=True).fill(text)

    def see(self, what: Locator) -> None:
        """Wait for it."""
        what.first.wait_for(timeout=self.patience_s * 1000)

    def stage(self, name: str, work: Callable[[], None]) -> None:
        start = time.monotonic()
        work()
        self.seconds[name] = time.monotonic() - start


def walk(page: Page, photos: Path, side: int, max_iter: int, patience_s: float) -> Walk:
    """From `photos`, a folder of gray images with a folder for each class, to the line that asks
    the trained net. The page shows the folder in which it lies.

    Args:
        side: pixels to which images are resized.
        patience_s: the longest wait, for the training.
    """
    w = Walk(page, patience_s)
    name = photos.name

    def button(text: str) -> Locator:
        return page.get_by_role("button", name=text, exact=True)

    def link(text: str) -> Locator:
        return page.get_by_role("link", name=text, exact=True)

    def make_data() -> None:
        page.goto("/")
        w.click(link("Data"))
        w.click(link("New data set"))
        w.type("Source", name)
        w.see(page.get_by_text(re.compile("images of")))
        w.type("Height", str(side))
        w.type("Width", str(side))
        w.actions += 1
        page.get_by_label("Channels").select_option("Gray")
        w.click(button("Make it"))
        w.see(link(f"data/{name}/train_lmdb"))

    def look_at_data() -> None:
        w.click(link(f"data/{name}/train_lmdb"))
        w.see(page.get_by_text(re.compile(r"^Records \(")))
        w.see(page.locator(".eight img"))

    def train() -> None:
        w.click(link("Train on it"))
        w.type("Net", "standard:lenet")
        w.type("max_iter", str(max_iter))
        w.type("snapshot", str(max_iter))
        w.click(button("Start"))
        w.see(page.locator(".tag", has_text="Finished"))

    def try_it() -> None:
        w.click(link("Try it"))
        w.see(page.get_by_text("Choose, drop or paste an image"))
        w.actions += 1
        image = sorted(sorted(photos.iterdir())[-1].iterdir())[0]
        page.set_input_files("input[type=file]", image)
        w.see(page.locator(".bars li"))
        w.click(page.get_by_text("A folder", exact=True))
        w.see(page.get_by_text("Choose or drop a folder", exact=False))
        w.actions += 1
        page.set_input_files("input[type=file]", photos)
        w.see(page.locator(".confusion"))

    def serve() -> None:
        w.click(page.get_by_text("One image", exact=True))
        w.see(page.locator("code", has_text="/v1/classify"))
        w.click(button("Pack for caffe serve"))
        w.see(page.locator("code", has_text="caffe serve"))

    for stage in (make_data, look_at_data, train, try_it, serve):
        w.stage(stage.__name__, stage)
    return w
