"""Models by name: who is loaded when, and who has to go."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.serving.colors import RED, job, picture, write_model

from moka.serving.errors import BrokenModelError, ClosingError, UnknownModelError
from moka.serving.model import ModelFiles, Pace, ServedModel
from moka.serving.store import ModelStore

SOON = 60.0


def store_of(folder: Path, names: str, most: int) -> tuple[ModelStore, list[str]]:
    files = write_model(folder)
    told: list[str] = []

    def make(name: str, files: ModelFiles, **hooks: object) -> ServedModel:
        return ServedModel(name, files, Pace(batch=1, delay_s=0))

    store = ModelStore(dict.fromkeys(names, files), make, most=most)
    store.told = lambda what, name: told.append(f"{what} {name}")
    return store, told


def test_a_model_is_loaded_once_and_on_demand(tmp_path: Path) -> None:
    store, told = store_of(tmp_path, "ab", 2)
    assert store.loaded == []
    assert store.get("a") is store.get("a")
    assert told == ["loaded a"]
    store.close()
    assert told == ["loaded a", "unloaded a"]


def test_the_longest_unused_one_goes(tmp_path: Path) -> None:
    store, told = store_of(tmp_path, "abc", 2)
    first = store.get("a")
    store.get("b")
    assert store.ready("a") is first  # that is a use
    store.get("c")
    assert told[2:] == ["unloaded b", "loaded c"]
    assert [model.name for model in store.loaded] == ["a", "c"]
    store.close()


def test_one_that_goes_finishes_its_work(tmp_path: Path) -> None:
    store, _ = store_of(tmp_path, "ab", 1)
    first = store.get("a")
    futures = first.submit([job(picture(RED)) for _ in range(5)])
    store.get("b")
    assert all(future.result(0).blobs["prob"].argmax() == 2 for future in futures)
    with pytest.raises(ClosingError):
        first.submit([job(picture(RED))])
    store.close()


def test_names(tmp_path: Path) -> None:
    store, _ = store_of(tmp_path, "ab", 2)
    assert store.checked("") == "a"
    with pytest.raises(UnknownModelError, match=r'no model "d"\. There are: a, b'):
        store.get("d")


def test_a_model_that_cannot_be_loaded_may_be_there_later(tmp_path: Path) -> None:
    store, _ = store_of(tmp_path, "a", 1)
    net = tmp_path / "deploy.prototxt"
    text = net.read_text()
    net.write_text("layer {")
    with pytest.raises(BrokenModelError, match=r'model "a" cannot be loaded: .*deploy\.prototxt'):
        store.get("a")
    net.write_text(text)
    assert store.get("a").name == "a"
    store.close()
