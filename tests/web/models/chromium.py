"""A headless Chromium for a test; the test is skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 120_000  # only a failure waits that long
PHONE = {"width": 360, "height": 740}


def browser_program() -> str:
    """The browser's program. Skips the test if there is none."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("there is no Chromium")
    return found


@contextmanager
def page_of(address: str, *, phone: bool = False, folder: Path | None = None) -> Iterator[Any]:
    """An open page; whatever its scripts complain about fails the test."""
    program = browser_program()
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            size = PHONE if phone else {"width": 1280, "height": 900}
            context = browser.new_context(viewport=size, accept_downloads=True)  # type: ignore[arg-type]
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "console",
                lambda said: said.type == "error" and "status of 4" not in said.text
                and faults.append(said.text),
            )  # fmt: skip
            page.goto(address)
            yield page
            too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        finally:
            browser.close()
    assert faults == []
    assert too_wide <= 0
