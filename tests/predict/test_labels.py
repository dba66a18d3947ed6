from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moka.errors import DataError, SchemaError
from moka.predict.labels import best_classes, best_labels, read_labels, short_label

LABELS = ["n02123045 tabby, tabby cat", "n02123159 tiger cat", "dog"]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\n".join(LABELS) + "\n")


def test_labels() -> None:
    assert read_labels("labels.txt", 3) == LABELS
    with pytest.raises(
        DataError, match=r"labels.txt: Number of labels is different .*: 3 lines, 7"
    ):
        read_labels("labels.txt", 7)
    with pytest.raises(DataError, match="Unable to open labels file: No such file"):
        read_labels("gone.txt", 7)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_labels_from_any_editor(encoding: str) -> None:
    Path("labels.txt").write_bytes("\r\n".join([*LABELS[:2], "größe"]).encode(encoding))
    assert read_labels("labels.txt", 3) == [*LABELS[:2], "größe"]


def test_labels_in_an_older_encoding_can_be_printed() -> None:
    Path("labels.txt").write_bytes(b"gr\xfc\xdfe\n")
    (label,) = read_labels("labels.txt", 1)
    assert label.encode() == "gr\ufffd\ufffde".encode()


def test_short_labels() -> None:
    assert [short_label(line) for line in LABELS] == ["tabby", "tiger cat", "dog"]


def test_best_labels() -> None:
    scores = np.array([0.1, 0.4, 0.1, 0.4])
    assert best_labels(scores, list("abcd"), 3) == [("b", 0.4), ("d", 0.4), ("a", 0.1)]


@pytest.mark.parametrize("count", [0, 1, 3, 6, 9])
def test_best_classes_as_a_full_sort_gives_them(count: int) -> None:
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 3, 6).astype(np.float32)
        scores[seed % 6] = np.nan
        assert best_classes(scores, count) == np.argsort(-scores, kind="stable")[:count].tolist()


def test_a_label_map() -> None:
    Path("map.prototxt").write_text(
        'item { name: "none" label: 0 display_name: "background" } item { name: "cat" label: 2 }'
    )
    assert read_labels("map.prototxt", None) == ["background", "1", "cat"]
    assert read_labels("map.prototxt", 4) == ["background", "1", "cat", "3"]
    with pytest.raises(DataError, match=r"labels from 0 to 2, the net 2 classes"):
        read_labels("map.prototxt", 2)
    Path("map.prototxt").write_text('item { name: "none" label: -1 }')
    with pytest.raises(DataError, match=r"labels from -1 to -1, the net labels from 0 on"):
        read_labels("map.prototxt", None)
    Path("map.prototxt").write_text("layer { }")
    with pytest.raises(SchemaError):
        read_labels("map.prototxt", None)
