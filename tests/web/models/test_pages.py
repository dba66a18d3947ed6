"""The pages Try, Nets and API in a real browser, with a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from tests.serving.colors import BLUE, GREEN, NET, RED, picture, write_model
from tests.web.api.serving_server import Server, serving
from tests.web.browsers import browser
from tests.web.browsers import page_of as opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESKTOP = 360, 1280
BROKEN = NET.replace("kernel_size", "kernel_siz")
PYTHON = 'layer { name: "p" type: "Python" top: "x" python_param { module: "evil" layer: "L" } }'


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chrome: Browser) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "colors")
    write_model(folder / "map", text=NET.split('layer { name: "mean"')[0])
    with serving(str(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each class; one image lies in the wrong one."""
    folder = tmp_path_factory.mktemp("images")
    for name, color in (("blue", BLUE), ("green", GREEN), ("red", RED)):
        (folder / name).mkdir()
        for i in range(3):
            (folder / name / f"{i}.png").write_bytes(picture(color))
    (folder / "red" / "<b>wrong.png").write_bytes(picture(GREEN))
    half = np.zeros((40, 60, 3), np.uint8)
    half[:, :30] = BLUE
    half[:, 30:] = (0, 0, 128)
    (folder / "half.png").write_bytes(bytes(cv2.imencode(".png", half)[1]))
    return folder


@contextmanager
def page_of(chrome: Browser, server: Server, path: str, width: int = DESKTOP) -> Iterator[Page]:
    """A page that is open, and is nowhere wider than its window."""
    with opened(chrome, server.address.rstrip("/"), width=width) as page:
        page.goto(path)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_an_image_is_classified_and_explained(
    chrome: Browser, server: Server, images: Path, width: int
) -> None:
    with page_of(chrome, server, "/try?model=colors", width) as page:
        page.set_input_files("input[type=file]", images / "half.png")
        page.wait_for_selector(".bars")
        assert page.locator(".bars li").first.inner_text().split("\n")[0] == "blue"
        before = page.evaluate("document.querySelector('canvas').toDataURL()")
        page.get_by_text("Occlusion", exact=True).click()
        page.wait_for_selector("text=Bright: what")
        assert page.evaluate("document.querySelector('canvas').toDataURL()") != before


TRACKS = """() => {
    const devices = navigator.mediaDevices, original = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wanted) => {
        window.asked = wanted;
        return window.stream = await original(wanted);
    };
}"""
REFUSED = """() => {
    navigator.mediaDevices.getUserMedia = async () => { throw new Error("not allowed"); };
}"""


def test_a_picture_of_the_camera(chrome: Browser, server: Server) -> None:
    """The camera at the back of a phone takes a picture, is closed, and the picture is answered."""
    with page_of(chrome, server, "/try?model=colors", PHONE) as page:
        page.evaluate(TRACKS)
        page.get_by_role("button", name="Camera").click()
        page.wait_for_function("() => document.querySelector('video')?.videoWidth > 0")
        assert page.evaluate("asked.video.facingMode") == "environment"
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.get_by_role("button", name="Take the picture").click()
        page.wait_for_selector(".bars")
        assert page.locator("video").count() == 0
        assert page.evaluate("stream.getTracks().map(track => track.readyState)") == ["ended"]
        assert page.evaluate("document.querySelector('canvas.picture').width") > 100
        page.get_by_role("button", name="Camera").click()
        page.wait_for_function("() => document.querySelector('video')?.videoWidth > 0")
        page.get_by_role("button", name="Close").click()
        assert page.evaluate("stream.getTracks().map(track => track.readyState)") == ["ended"]


def test_a_camera_that_is_not_to_be_used(chrome: Browser, server: Server) -> None:
    with page_of(chrome, server, "/try?model=colors", PHONE) as page:
        page.evaluate(REFUSED)
        page.get_by_role("button", name="Camera").click()
        page.get_by_text("the camera cannot be opened: not allowed").wait_for()


def test_a_map_of_classes(chrome: Browser, server: Server, images: Path) -> None:
    with page_of(chrome, server, "/try?model=map") as page:
        page.set_input_files("input[type=file]", images / "half.png")
        page.wait_for_selector(".found li")
        assert "50.0 %" in page.locator(".found").inner_text()


def test_a_folder_and_its_mistakes(chrome: Browser, server: Server, images: Path) -> None:
    with page_of(chrome, server, "/try?model=colors&view=folder", PHONE) as page:
        page.set_input_files("input[type=file]", images)
        page.wait_for_selector(".confusion")
        assert page.locator(".stats dd").all_inner_texts() == ["90.0 %", "10", "1", "0"]
        assert page.locator(".confusion td.right").all_inner_texts() == ["3", "3", "3"]
        (mistake,) = page.locator(".mistakes li").all_inner_texts()
        assert "green" in mistake
        assert "in folder red" in mistake
        assert page.locator(".mistakes b").count() == 1  # the file's name made no element


def test_features_in_a_plane(chrome: Browser, server: Server, images: Path) -> None:
    with page_of(chrome, server, "/try?model=colors&view=plane&blob=mean") as page:
        page.set_input_files("input[type=file]", images)
        page.wait_for_selector(".plane circle")
        assert page.locator(".plane circle").count() == 11
        page.locator(".plane circle").first.focus()
        page.wait_for_selector(".plane .tip img")


def test_a_net_while_it_is_typed(chrome: Browser, server: Server) -> None:
    with page_of(chrome, server, "/nets") as page:
        page.locator("textarea").fill(BROKEN)
        page.wait_for_selector("#net-problem .error")
        said = page.locator("#net-problem").inner_text()
        assert "Line 6, column 43" in said
        assert 'no field named "kernel_siz"' in said
        assert 'Did you mean "kernel_size"?' in said
        page.get_by_text("Line 6").click()
        selected = "(t => t.value.slice(t.selectionStart, t.selectionEnd))"
        line = page.evaluate(f"{selected}(document.querySelector('textarea'))")
        assert "kernel_siz: 1" in line
        page.locator("textarea").fill(NET)
        page.wait_for_selector("text=This net can be built.")
        page.wait_for_selector(".graph .node")
        assert page.locator(".graph .node").count() == 4
        page.fill("input[type=search]", "mean")
        page.wait_for_selector(".graph .node.hit")
        assert page.locator(".graph .node.hit").count() == 1
        with page.expect_download() as download:
            page.get_by_text("CSV", exact=True).click()
        rows = Path(download.value.path()).read_text().splitlines()
        assert rows[0].startswith("name,type,bottoms,tops,parameters,count,multiply_adds")
        assert rows[2].startswith("mix,Convolution,data,mix 2x3x8x8,weight 3x3x1x1,9,1152,1536")


def test_a_pasted_program_does_not_run(chrome: Browser, server: Server, tmp_path: Path) -> None:
    with page_of(chrome, server, "/nets") as page:
        page.locator("textarea").fill(NET + PYTHON)
        page.wait_for_selector("text=a pasted net runs no programs")
        page.wait_for_selector(".graph .node")


def test_two_nets(chrome: Browser, server: Server) -> None:
    with page_of(chrome, server, "/nets?view=compare", PHONE) as page:
        page.locator("textarea").nth(0).fill(NET)
        page.locator("textarea").nth(1).fill(NET.replace("num_output: 3", "num_output: 5"))
        page.wait_for_selector("text=1 of 4 layers differ")
        assert "num_output: 5" in page.locator(".pair ins").inner_text()


def test_a_model_from_inside(chrome: Browser, server: Server, images: Path) -> None:
    with page_of(chrome, server, "/nets?view=inside&model=colors") as page:
        page.wait_for_selector("text=weight 3x3x1x1")
        page.set_input_files("input[type=file]", images / "red" / "0.png")
        page.wait_for_selector(".dead dt")
        assert page.locator(".dead dt").first.inner_text().startswith("data") is False
        assert "mix" in page.locator(".dead").inner_text()


def test_the_page_of_the_api(chrome: Browser, server: Server) -> None:
    with page_of(chrome, server, "/docs", PHONE) as page:
        page.wait_for_selector(".route")
        assert "/v1/classify" in page.locator("main").inner_text()
