"""The pages in a real browser, driven as a person drives them."""

from __future__ import annotations

import os
import re
import runpy
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from tests.serving.colors import BLUE, picture, write_model
from tests.web.browsers import (
    SLOW_MS,
    WIDTHS,
    browser,
    faults_found_by_axe,
    page_of,
    site,
)
from tests.web.sites import NET, make_database

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DIGITS = Path(__file__).parents[2] / "examples/digits"
PAGES = (
    "/jobs",
    "/jobs/new?net=net.prototxt",
    "/jobs/run?id=old.log",
    "/jobs/compare?runs=old.log",
    "/data",
    "/data/new?source=photos&height=24&width=24",
    "/data/set?name=db",
    "/nets",
    "/data/set?name=strange",
    "/nets?file=net.prototxt",
    "/nets?view=compare",
    "/nets?view=inside",
    "/try",
    "/try?view=folder",
    "/try?view=plane",
    "/docs",
)


STRANGE = (
    "<img src=x onerror=alert(1)>",
    "two\nlines",
    "long" * 50,
    "\u202egnp.exe",
    "\u0633\u062c\u0644",
    os.fsdecode(b"caf\xe9"),
    "a'b\"c&d;e,f%2f#?",
    "__proto__",
    " ",
)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, chrome: Browser) -> Iterator[str]:
    """The address of a folder with a net, a model, a database, photos and a log."""
    folder = tmp_path_factory.mktemp("folder")
    write_model(folder / "colors")
    make_database(folder / "db")
    (folder / "net.prototxt").write_text(NET)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(6):
            cv2.imwrite(str(folder / f"photos/{name}/{i}.png"), np.full((20, 30, 3), i, np.uint8))
    for name in STRANGE:
        (folder / "strange" / name).mkdir(parents=True)
        (folder / "strange" / name / f"{name}.png").write_bytes(picture(BLUE))
        text = f"{log_line('Solving ' + name)}\n{log_line('Iteration 0, loss = 1')}\n"
        (folder / f"{name}.log").write_text(text, errors="surrogateescape")
    lines = ["max_iter: 1000", log_line("Solving Old<b>Net</b>")]
    for i in range(0, 900, 20):
        lines.append(log_line(f"Iteration {i}, loss = {3 / (1 + i)}"))
        lines.append(log_line(f"Iteration {i}, lr = 0.1"))
    (folder / "old.log").write_text("\n".join(lines) + "\n")
    with site(folder) as address:
        yield address


def log_line(text: str) -> str:
    return f"I1129 08:31:22.000000 123 solver.cpp:239] {text}"


def see(page: Page, text: str | re.Pattern[str]) -> None:
    """Wait until a text is seen."""
    page.get_by_text(text).first.wait_for(timeout=SLOW_MS)


def address_holds(page: Page, text: str) -> None:
    """Wait until the page's address has a text: the browser tells of a change a moment later."""
    page.wait_for_url(re.compile(re.escape(text)), timeout=SLOW_MS)


QUICK = ((360, True),)
SCREENS = [  # width in pixels, dark; the others are slow tests
    pytest.param(width, dark, marks=() if (width, dark) in QUICK else pytest.mark.slow)
    for width in WIDTHS
    for dark in (False, True)
]


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_pages_fit_every_screen(chrome: Browser, shown: str, width: int, dark: bool) -> None:
    with page_of(chrome, shown, width=width, dark=dark) as page:
        for path in PAGES:
            page.goto(path)
            page.locator("h1").first.wait_for()
            page.locator(".waiting").first.wait_for(state="detached")
            assert page.locator("main .error").count() == 0, path
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"{path} is {over} pixels wider than the screen"
            nameless = page.evaluate(
                "[...document.querySelectorAll('button, a, input, select, textarea')].filter(e =>"
                " e.getClientRects().length && !(e.textContent.trim() || e.ariaLabel || e.title ||"
                " (e.labels && e.labels.length))).map(e => e.outerHTML)"
            )
            assert nameless == []
            assert faults_found_by_axe(page) == [], path


def test_the_list_of_runs(chrome: Browser, shown: str) -> None:
    with page_of(chrome, shown) as page:
        page.goto("/")
        page.get_by_role("link", name="old.log").wait_for()
        see(page, "Old<b>Net</b>")  # a name is text, never a part of the page
        page.get_by_label("Find a run by name, net or status").fill("nothing like it")
        see(page, "No run has that")
        address_holds(page, "q=nothing")
        page.reload()
        see(page, "No run has that")


def test_strange_names_are_text(chrome: Browser, shown: str) -> None:
    """Names of runs, classes and layers that hold markup, line breaks, other bytes ... ."""
    with page_of(chrome, shown, width=360) as page:
        page.goto("/jobs")
        page.get_by_role("link", name="old.log").wait_for()
        runs = page.locator("td .name a")
        page.wait_for_function(f"document.querySelectorAll('td .name a').length > {len(STRANGE)}")
        names = runs.all_text_contents()
        assert {"caf\\xe9.log", "__proto__.log", "two\nlines.log"} <= set(names)
        for path in [link.get_attribute("href") or "" for link in runs.all()]:
            page.goto(path)
            page.get_by_role("img", name=re.compile("Loss by iteration")).wait_for()
            assert page.locator("main .error").count() == 0, path
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        page.goto("/data/set?name=strange")
        see(page, "caf\\xe9")
        page.goto("/nets")
        strange = NET.replace('"ip"', '"<b>ip</b>"').replace('"small"', '"<i>n</i>"')
        page.get_by_label("The net's prototxt").fill(strange)
        page.locator(".graph text", has_text="<b>ip</b>").first.wait_for()
        assert page.locator("main b, main i, main img").count() == 0


def test_the_keyboard_is_enough(chrome: Browser, shown: str) -> None:
    with page_of(chrome, shown) as page:
        page.goto("/jobs/run?id=old.log&x=time")
        chart = page.get_by_role("img", name=re.compile("Loss by time"))
        chart.wait_for()
        chart.focus()
        page.keyboard.press("End")
        page.locator(".tip").first.wait_for()
        drawn = "document.querySelector('canvas').toDataURL()"
        whole = page.evaluate(drawn)
        page.keyboard.press("+")
        page.wait_for_function(f"whole => {drawn} !== whole", arg=whole)
        page.keyboard.press("-")
        page.wait_for_function(f"whole => {drawn} === whole", arg=whole)
        page.goto("/jobs")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


ATTRIBUTES = """() => {
    const shown = document.activeElement, style = getComputedStyle(shown);
    return [shown.tagName, shown.textContent.trim().slice(0, 30), style.outlineStyle !== "none" ||
        (shown.nextElementSibling && getComputedStyle(shown.nextElementSibling).outlineStyle) ||
        (shown.parentElement && getComputedStyle(shown.parentElement).outlineStyle)];
}"""


@pytest.mark.parametrize("path", ["/jobs", "/jobs/run?id=old.log", "/nets", "/try", "/data"])
def test_keys_reach_everything_and_show_where_they_are(
    chrome: Browser, shown: str, path: str
) -> None:
    """Tab goes through all of a page; what has the focus can be seen."""
    with page_of(chrome, shown) as page:
        page.goto(path)
        page.locator("h1").first.wait_for()
        page.locator(".waiting").first.wait_for(state="detached")
        reached = []
        for _ in range(200):
            page.keyboard.press("Tab")
            tag, text, has_mark = page.evaluate(ATTRIBUTES)
            if tag == "BODY":
                break
            reached.append(tag)
            assert has_mark not in (False, None, "none"), (tag, text)
        wanted = page.locator("main").locator("a, button, select, textarea").filter(visible=True)
        assert len(reached) >= wanted.count()


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_colors_of_the_system(chrome: Browser, shown: str, dark: bool) -> None:
    """With forced colors a chart has the system's color of text, and what is chosen differs."""
    with page_of(chrome, shown, dark=dark, forced_colors=True) as page:
        page.goto("/jobs/run?id=old.log")
        page.get_by_role("img", name=re.compile("Loss by iteration")).wait_for()
        ink = page.evaluate(
            "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
        )
        assert ink == "CanvasText"
        background, faces = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, ['input:checked + span',"
            " 'input:not(:checked) + span'].map(s => getComputedStyle(document.querySelector("
            "`.choice ${s}`)).backgroundColor)]"
        )
        assert background == ("rgb(0, 0, 0)" if dark else "rgb(255, 255, 255)")
        assert faces[0] != faces[1]
        for path in PAGES:
            page.goto(path)
            page.locator("h1").first.wait_for()
            page.locator(".waiting").first.wait_for(state="detached")
            assert faults_found_by_axe(page) == [], path


def test_nothing_moves_for_who_does_not_want_it(chrome: Browser, shown: str) -> None:
    moving = "getComputedStyle(document.querySelector('.tag.live'), '::before').animationName"
    live = "document.querySelector('main .tag').className = 'tag live'"
    for still, name in ((True, "none"), (False, "pulse")):
        with page_of(chrome, shown, still=still) as page:
            page.goto("/jobs/run?id=old.log")
            page.locator("main .tag").first.wait_for()
            assert page.evaluate(f"({live}, {moving})") == name  # before the page is drawn again


REDRAWN = """async () => {
    const { button, fill } = await import("/static/ui.js");
    const part = document.querySelector("main");
    window.clicks = [];
    window.draw = (n) => fill(part, button("Other", () => {}), button("Go", () => clicks.push(n)));
    draw(0);
}"""


def test_a_part_that_is_drawn_again_loses_no_click_and_no_focus(
    chrome: Browser, shown: str
) -> None:
    with page_of(chrome, shown) as page:
        page.goto("/docs")
        page.locator("h1").first.wait_for()
        page.evaluate(REDRAWN)
        go = page.get_by_role("button", name="Go")
        go.hover()
        page.mouse.down()
        page.evaluate("draw(1), draw(2)")
        page.mouse.up()
        page.wait_for_function("clicks.length === 1")
        go.click()
        assert page.evaluate("clicks") == [0, 2]
        page.evaluate("new Promise((done) => setTimeout(done))")  # the press ends after its click
        assert page.evaluate("draw(3), document.activeElement.textContent") == "Go"
        page.keyboard.press("Enter")
        assert page.evaluate("clicks") == [0, 2, 3]


@pytest.mark.slow
def test_pages_at_twice_the_size(chrome: Browser, shown: str) -> None:
    """A window of 1280 pixels at 200 % is one of 640; letters alone may also be twice as large."""
    with page_of(chrome, shown, width=640) as page:
        for path in PAGES:
            page.goto(path)
            page.locator("h1").first.wait_for()
            page.locator(".waiting").first.wait_for(state="detached")
            for size in ("", "200%"):
                page.evaluate("size => { document.documentElement.style.fontSize = size; }", size)
                over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, f"{path} is {over} pixels wider than the screen"


def test_choices_are_in_the_address(chrome: Browser, shown: str) -> None:
    with page_of(chrome, shown) as page:
        page.goto("/jobs/run?id=old.log")
        page.get_by_text("Time", exact=True).click()
        page.get_by_label("Log axis").check()
        address_holds(page, "x=time")
        address_holds(page, "log=1")
        page.reload()
        page.get_by_role("img", name=re.compile("Loss by time")).wait_for()
        assert page.get_by_label("Log axis").is_checked()


def test_the_rate_is_drawn_while_typing(chrome: Browser, shown: str) -> None:
    with page_of(chrome, shown) as page:
        page.goto("/jobs/new?net=net.prototxt")
        chart = page.get_by_role("img", name=re.compile("Learning rate by iteration"))
        page.get_by_label("lr_policy").select_option("poly")
        page.get_by_label("power").fill("1")
        page.get_by_label("max_iter").fill("100")
        page.get_by_role("img", name=re.compile("poly: last 1e-4")).wait_for()
        see(page, "25 epochs")
        page.get_by_label("power").fill("two")
        see(page, "power cannot be two.")
        assert page.get_by_role("button", name="Start", exact=True).is_disabled()
        page.get_by_label("base_lr").fill("0.1, 0.01")
        page.get_by_label("power").fill("2")
        page.get_by_role("button", name="Start 2 jobs").wait_for()
        assert chart.is_visible()


def test_a_pasted_net_is_checked(chrome: Browser, shown: str) -> None:
    with page_of(chrome, shown) as page:
        page.goto("/jobs/new")
        page.get_by_text("Paste a net").click()
        page.get_by_label("Net as text").fill('name: "x"\nlayer { typ: "ReLU" }')
        see(page, re.compile(r"2:.*typ"))


def test_a_data_set_is_made_and_looked_at(chrome: Browser, shown: str) -> None:
    with page_of(chrome, shown, width=360) as page:
        page.goto("/data")
        page.get_by_role("link", name="New data set").first.click()
        page.get_by_label("Source", exact=True).fill("photos")
        see(page, "12 images of 2 classes")
        page.get_by_label("Height").fill("16")
        page.get_by_label("Width").fill("16")
        page.get_by_text("Half crop").click()
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("link", name="data/photos/train_lmdb").click()
        see(page, "Records (10)")
        page.get_by_role("link", name="1 dog").click()
        see(page, "Records (5)")
        page.get_by_label("transform_param").fill("crop_size: 8 scale: 0.5")
        see(page, re.compile("The net gets 3 . 8 . 8"))
        assert page.locator(".eight img").count() == 9


def test_lenet_is_trained_stopped_and_resumed(chrome: Browser, tmp_path: Path) -> None:
    """From the page to the end, on scikit-learn's digits; the server dies in between."""
    from playwright.sync_api import Error

    folder = tmp_path / "folder"
    shutil.copytree(DIGITS, folder / "examples/digits", ignore=shutil.ignore_patterns("*_lmdb"))
    runpy.run_path(str(folder / "examples/digits/make_data.py"))["main"]()
    with site(folder) as address, page_of(chrome, address) as page:
        page.goto("/jobs")
        page.get_by_role("link", name="New job").first.click()
        page.get_by_label("Net", exact=True).fill("examples/digits/lenet_train_test.prototxt")
        page.get_by_label("Title").fill("Digits")
        fields = {"max_iter": "120", "display": "10", "test_iter": "3", "snapshot": "40"}
        for name, value in fields.items():
            page.get_by_label(name, exact=True).fill(value)
        page.get_by_label("snapshot_best").fill("accuracy")
        page.get_by_role("button", name="Start", exact=True).click()
        see(page, "Stop and save")
        page.locator(".tag", has_text="Running").wait_for()
    with site(folder) as address, page_of(chrome, address) as page:
        page.goto("/jobs")
        page.get_by_role("link", name="Digits").click()
        stop = page.get_by_role("button", name="Stop and save")
        ended = page.locator(".tag", has_text=re.compile("Stopped|Finished"))
        stop.or_(ended).first.wait_for()
        with suppress(Error):  # it may end before the click, which then finds no button
            stop.click(timeout=5000)
        ended.wait_for()
        page.get_by_role("button", name="Resume", exact=True).first.click()
        page.locator(".tag", has_text="Finished").wait_for()
        see(page, "Best accuracy")
        best = page.locator(".stats div", has_text="Best accuracy").inner_text()
        assert float(re.findall(r"([\d.]+)\s%", best)[0]) > 80
        page.get_by_role("cell", name="best test").wait_for()
        assert (folder / "jobs/digits/snapshot_iter_120.caffemodel").exists()
        page.get_by_role("button", name="Delete").click()
        see(page, "Digits was deleted.")
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("heading", name="Digits").wait_for()
