"""A headless Chromium and a `caffe web` process, for tests of pages; both end with the test."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.processes import Program
from tests.web.sites import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SLOW_MS = 60_000  # on a busy machine
WIDTHS = (360, 820, 1440)


def chromium() -> str | None:
    """The browser that is installed, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """The browser, with a camera that shows a test picture; the test is skipped where there is no
    browser."""
    path = chromium()
    if path is None:
        pytest.skip("no Chromium is installed: the pages are not tested")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tools:
        words = ["--no-sandbox", "--disable-dev-shm-usage"]  # containers have little of both
        words += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        try:
            started = tools.chromium.launch(executable_path=path, args=words)
        except playwright.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield started
        started.close()


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """The address of a `caffe web` process that shows a folder."""
    out = folder.with_name(f"{folder.name}.out")
    with open(out, "wb") as output:
        server = Program(["web", str(folder), "--port=0"], output=output)
    try:
        wait_until(lambda: b"\n" in out.read_bytes() or server.poll() is not None)
        found = re.search(rb"http://\S+", out.read_bytes())
        assert found, out.read_text()
        yield found[0].decode().rstrip("/")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def faults_found_by_axe(page: Page) -> list[str]:
    """What axe finds serious or critical on a page, each with the elements; skips the test without
    axe."""
    pytest.importorskip("axe_playwright_python")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@contextmanager
def page_of(
    browser: Browser,
    address: str,
    *,
    width: int = 1200,
    dark: bool = False,
    still: bool = True,
    forced_colors: bool = False,
) -> Iterator[Page]:
    """A page; errors of its scripts, and what its policy refuses, fail the test."""
    page = browser.new_page(
        base_url=address,
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce" if still else "no-preference",
        forced_colors="active" if forced_colors else "none",
        has_touch=width < 500,
    )
    page.set_default_timeout(SLOW_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if "Security Policy" in m.text else None)

    def refuse(dialog: Dialog) -> None:
        faults.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    try:
        yield page
    except BaseException:
        print(page.url, page.locator("body").inner_text(), sep="\n")  # with the failure
        raise
    finally:
        page.close()
    assert faults == []
