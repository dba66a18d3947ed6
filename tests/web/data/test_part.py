"""The API of data sets, driven as the page drives it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient
from tests.web.sites import client_of, make_database, wait_until

from moka.data import datum
from moka.data.leveldb import LevelDbWriter
from moka.data.lmdb import LmdbWriter
from moka.data.store import open_store
from moka.tools.image_records import StoredForm


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.chdir(tmp_path)
    make_database(tmp_path / "sets/train_lmdb")
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            image = np.full((20, 30, 3), 50 * label + i, np.uint8)
            cv2.imwrite(str(tmp_path / f"photos/{name}/{i}.png"), image)
    with client_of(tmp_path) as client:
        yield client


def ok(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def pixels(data: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def one_set(browser: TestClient, name: str = "sets/train_lmdb") -> Any:
    def read() -> Any:
        found = ok(browser.get("/api/data/set", params={"name": name}))
        return None if found.get("reading") else found

    return wait_until(read)


def test_what_there_is(browser: TestClient) -> None:
    found = ok(browser.get("/api/data/list"))["sets"]
    told = [(s["name"], s["kind"], s["records"]) for s in found]
    assert told == [("photos", "folder", None), ("sets/train_lmdb", "database", 20)]


def test_what_a_database_holds(browser: TestClient, tmp_path: Path) -> None:
    (tmp_path / "sets/labels.txt").write_text("cat\ndog\nemu\n")
    found = one_set(browser)
    assert found["entries"] == 20
    assert found["shapes"] == [{"shape": [1, 8, 8], "count": 20}]
    assert [(c["label"], c["name"], c["count"]) for c in found["classes"]] == [
        (0, "cat", 7),
        (1, "dog", 7),
        (2, "emu", 6),
    ]
    assert found["broken"] == 0
    assert found["training"] == {"train_data": "sets/train_lmdb", "classes": 3}


def test_what_a_job_that_trains_on_it_begins_with(browser: TestClient, tmp_path: Path) -> None:
    make_database(tmp_path / "sets/test_lmdb", 6)
    (tmp_path / "sets/mean.binaryproto").write_bytes(b"")
    assert one_set(browser)["training"] == {
        "train_data": "sets/train_lmdb",
        "test_data": "sets/test_lmdb",
        "mean_file": "sets/mean.binaryproto",
        "classes": 3,
    }
    assert one_set(browser, "photos")["training"] == {"train_data": "photos", "classes": 2}


def test_what_a_folder_holds(browser: TestClient) -> None:
    found = one_set(browser, "photos")
    assert [(c["name"], c["count"]) for c in found["classes"]] == [("cat", 5), ("dog", 5)]


def test_a_database_that_has_changed_is_read_again(browser: TestClient, tmp_path: Path) -> None:
    assert one_set(browser)["entries"] == 20
    target = tmp_path / "sets/train_lmdb"
    target.rename(tmp_path / "sets/old")
    make_database(target, 30)
    assert one_set(browser)["entries"] == 30


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_records_by_class(browser: TestClient, tmp_path: Path, backend: str) -> None:
    name = "sets/train_lmdb"
    if backend == "leveldb":
        pytest.importorskip("plyvel")
        name = "level"
        with LevelDbWriter(tmp_path / name) as writer:
            for key, value in open_store(tmp_path / "sets/train_lmdb").read():
                writer.put(key, value)
    one_set(browser, name)
    asked: dict[str, str | int] = {"name": name, "label": 1, "offset": 2, "limit": 3}
    page = ok(browser.get("/api/data/records", params=asked))
    assert page["count"] == 7
    assert [(r["number"], r["key"], r["label"]) for r in page["records"]] == [
        (7, "07", 1),
        (10, "10", 1),
        (13, "13", 1),
    ]
    answer = browser.get("/api/data/image", params={"name": name, "number": 7})
    assert answer.headers["content-type"] == "image/png"
    stored = [datum.decode(datum.parse(v)) for _, v in open_store(tmp_path / name).read()]
    assert np.array_equal(pixels(answer.content)[:, :, 0], stored[7][0])
    assert browser.get("/api/data/image", params={"name": name, "number": 99}).status_code == 400


def test_the_transformation_of_a_net(browser: TestClient, tmp_path: Path) -> None:
    text = """layer {{ name: "d" type: "Data" top: "x" include {{ phase: {} }}
        transform_param {{ {} }} data_param {{ source: "db" }} }}"""
    two = text.format("TEST", "scale: 2") + text.format("TRAIN", "crop_size: 4 mirror: true")
    (tmp_path / "net.prototxt").write_text(two)
    (tmp_path / "deploy.prototxt").write_text(text.format("TEST", "scale: 2"))
    ask = partial(browser.get, "/api/data/transform")
    assert ok(ask(params={"net": "net.prototxt"}))["text"] == "mirror: true\ncrop_size: 4"
    refused = ask(params={"net": "deploy.prototxt"})
    assert "no data layer of deploy.prototxt has a transform_param" in refused.json()["error"]


def test_broken_records(browser: TestClient, tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "bad") as writer:
        good = datum.encode(np.zeros((1, 2, 2), np.uint8), 0).SerializeToString()
        for key, value in ((b"a", good), (b"b", b"\xff broken"), (b"c", good)):
            writer.put(key, value)
    assert one_set(browser, "bad")["broken"] == 1
    page = ok(browser.get("/api/data/records", params={"name": "bad", "broken": 1}))
    assert [(r["number"], r["broken"]) for r in page["records"]] == [(1, True)]
    answer = browser.get("/api/data/image", params={"name": "bad", "number": 1})
    assert answer.status_code == 400
    assert "not a Datum" in answer.json()["error"]


def test_the_mean_image(browser: TestClient, tmp_path: Path) -> None:
    name = {"name": "sets/train_lmdb"}
    assert browser.get("/api/data/mean", params=name).status_code == 400
    made = ok(browser.post("/api/data/mean", json=name))
    assert made["file"] == "sets/mean.binaryproto"
    records = [datum.decode(datum.parse(v)) for _, v in open_store("sets/train_lmdb").read()]
    mean = np.mean(records, axis=0)
    assert made["channels"] == pytest.approx([mean.mean()])
    shown = pixels(browser.get("/api/data/mean", params=name).content)[:, :, 0]
    assert np.abs(shown - mean[0]).max() < 1


@pytest.mark.parametrize("source", ["photos", "sets/train_lmdb", "photos.txt"])
def test_what_a_source_holds(browser: TestClient, tmp_path: Path, source: str) -> None:
    (tmp_path / "photos.txt").write_text("photos/cat/0.png 0\nphotos/dog/1.png 1\n")
    found = ok(browser.get("/api/data/source", params={"source": source}))
    assert found["count"] == {"photos": 10, "sets/train_lmdb": 20, "photos.txt": 2}[source]
    assert found["shape"] == ([1, 8, 8] if "lmdb" in source else [3, 20, 30])


@pytest.mark.parametrize("mode", ["squash", "crop", "fill", "half_crop"])
def test_the_first_image_as_it_would_be_stored(browser: TestClient, mode: str) -> None:
    asked: dict[str, str | int] = {
        "source": "photos",
        "mode": mode,
        "height": 16,
        "width": 12,
        "gray": 1,
    }
    shown = pixels(browser.get("/api/data/resized", params=asked).content)
    first = cv2.imread("photos/cat/0.png")
    assert first is not None
    form = StoredForm(color=False, height=16, width=12, resize_mode=mode)
    assert np.array_equal(shown[:, :, 0], form.converted(first.transpose(2, 0, 1))[0])


def test_a_data_set_is_made(browser: TestClient, tmp_path: Path) -> None:
    values = {"source": "photos", "target": "data/photos", "test": "40", "gray": "1"}
    word = ok(browser.post("/api/data/make", json=values))["id"]

    def state() -> Any:
        told = ok(browser.get("/api/data/making", params={"id": word}))
        assert told["status"] != "failed", told
        return told["status"] == "done" and told

    done = wait_until(state)
    assert (done["done"], done["total"]) == (10, 10)
    assert "caffe make_data photos data/photos" in done["shell"]
    names = [s["name"] for s in ok(browser.get("/api/data/list"))["sets"]]
    assert {"data/photos/train_lmdb", "data/photos/test_lmdb"} <= set(names)
    assert ok(browser.get("/api/data/list"))["making"] == []
    found = one_set(browser, "data/photos/train_lmdb")
    assert [(c["name"], c["count"]) for c in found["classes"]] == [("cat", 3), ("dog", 3)]
    assert found["has_mean"]


TRANSFORM = "transform_param { crop_size: 6 mirror: true scale: 0.5 mean_value: 100 }"


def test_augmentation_shows_what_the_net_gets(browser: TestClient) -> None:
    form = {"name": "sets/train_lmdb", "number": "3", "transform": TRANSFORM}
    shown = ok(browser.post("/api/data/augment", data=form))
    assert shown["shape"] == [1, 6, 6]
    assert (shown["low"], shown["high"]) == (pytest.approx(-50, abs=8), 77.5)
    images = [pixels(base64.b64decode(x.partition(",")[2])) for x in shown["images"]]
    assert len(images) == 8
    assert {image.shape for image in images} == {(6, 6, 3)}
    assert len({image.tobytes() for image in images}) > 2
    assert ok(browser.post("/api/data/augment", data=form)) == shown
    assert ok(browser.post("/api/data/augment", data=form | {"seed": "1"})) != shown


def test_augmentation_of_an_upload(browser: TestClient) -> None:
    data = cv2.imencode(".png", np.zeros((9, 12, 3), np.uint8))[1].tobytes()
    form = {"transform": "crop_size: 5"}
    shown = ok(browser.post("/api/data/augment", data=form, files={"file": ("a.png", data)}))
    assert (shown["original_shape"], shown["shape"]) == ([3, 9, 12], [3, 5, 5])


@pytest.mark.parametrize(
    ("form", "fact"),
    [
        ({"transform": "crop_sise: 3"}, "crop_sise"),
        ({"transform": "crop_size: 99"}, "larger than the image"),
        ({"transform": 'mean_file: "../x"'}, "is not in the folder"),
        ({"transform": "", "name": "../sets"}, "is not in the folder"),
        ({"transform": "", "number": "77"}, "no record 77"),
    ],
)
def test_augmentation_that_is_refused(browser: TestClient, form: dict[str, str], fact: str) -> None:
    answer = browser.post("/api/data/augment", data={"name": "sets/train_lmdb", **form})
    assert answer.status_code == 400
    assert fact in answer.json()["error"]


def test_an_upload_that_is_no_image(browser: TestClient) -> None:
    files = {"file": ("a.png", b"PK\x03\x04 an archive")}
    answer = browser.post("/api/data/augment", data={"transform": ""}, files=files)
    assert "is no image" in answer.json()["error"]


@pytest.mark.parametrize("path", ["set", "records", "image", "mean"])
@pytest.mark.parametrize("name", ["../x", "/etc", "none", "photos.txt"])
def test_names_that_are_refused(browser: TestClient, path: str, name: str) -> None:
    assert browser.get(f"/api/data/{path}", params={"name": name}).status_code == 400
