"""The boxes in files of VOC, of COCO's words, and in plain text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moka.data.annotation_files import (
    Annotation,
    Box,
    NamedLabels,
    read_annotation,
    read_named_labels,
)
from moka.errors import DataError, SchemaError

NAMES = NamedLabels("labels.prototxt", {"background": 0, "cat": 1, "dog": 2, "17": 3})
SIZE = (100, 200)  # height, width
BOX = "<bndbox><xmin>20</xmin><ymin>10</ymin><xmax>60</xmax><ymax>50</ymax></bndbox>"
CORNERS = (0.1, 0.1, 0.3, 0.5)
OF_SIZE = "<size><width>200</width><height>100</height><depth>3</depth></size>"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes, kind: str = "xml", names: NamedLabels = NAMES) -> Annotation:
    Path("a").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_annotation("a", kind, SIZE, names)


def voc(*objects: str, size: str = OF_SIZE) -> str:
    inner = "\n".join(f"<object>{each}</object>" for each in objects)
    return f"<annotation>\n<folder>x</folder>{size}\n{inner}\n</annotation>"


def coco(*objects: dict[str, Any], **more: Any) -> str:
    return json.dumps({"image": {"height": 100, "width": 200}, "annotation": objects} | more)


def close_to(box: Box) -> Any:
    """What equals a box whose corners differ by rounding."""
    return box.label, pytest.approx(box.corners, rel=1e-6), box.difficult


def test_voc() -> None:
    first = f"<name>dog</name><pose>Left</pose><difficult>1</difficult>{BOX}"
    part = f"<part><name>head</name>{BOX.replace('60', '30')}</part>"
    second = f"{BOX}<name> cat </name><difficult>0</difficult>{part}"
    third = f"<name>dog</name>{BOX}<difficult>1</difficult>"
    boxes, warnings = read(voc(first, second, third, f"<name>cat</name>{BOX}"))
    assert warnings == []
    assert boxes == [
        close_to(Box(2, CORNERS, True)),
        close_to(Box(1, CORNERS)),
        close_to(Box(2, CORNERS, True)),
        close_to(Box(1, CORNERS)),
    ]


def test_numbers_are_those_of_float32() -> None:
    """As SSD's, which divides float by int."""
    box = BOX.replace("20", "7").replace("60", "61")
    ((_, corners, _),), _ = read(voc(f"<name>cat</name>{box}"))
    pixels = np.array([7, 10, 61, 50], np.float32)
    assert list(corners) == (pixels / np.array([200, 100] * 2, np.float32)).tolist()
    item = {"category_id": 17, "bbox": [10.1, 20.3, 0.7, 30.9]}
    ((_, corners, _),), _ = read(coco(item), "json")
    right = np.float32(10.1) + np.float32(0.7)
    assert corners[2] == float(right / np.float32(200))


def test_fractions() -> None:
    boxes, _ = read(voc(f"<name>cat</name>{BOX.replace('20', '20.5')}"))
    assert boxes[0].corners[0] == pytest.approx(20.5 / 200)


def test_no_object() -> None:
    assert read(voc()) == Annotation([], [])
    assert read(coco(), "json") == Annotation([], [])
    assert read("", "txt") == Annotation([], [])


def test_an_object_without_a_box() -> None:
    boxes, warnings = read(voc("<name>cat</name>", f"<name>dog</name>{BOX}"))
    assert [box.label for box in boxes] == [2]
    assert warnings == ["a: line 3: cat has no <bndbox>, and is left out."]


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size><width>200</width></size>",
        "<size><width>200</width><height>tall</height></size>",
    ],
)
def test_a_file_without_a_size(size: str) -> None:
    boxes, warnings = read(voc(f"<name>cat</name>{BOX}", size=size))
    assert boxes == [close_to(Box(1, CORNERS))]
    assert warnings == [
        "When parsing a: it does not say the size of the image, so the image's own counts."
    ]


def test_another_size_than_the_image_has() -> None:
    said = OF_SIZE.replace("200", "400").replace("100", "50")
    boxes, warnings = read(voc(f"<name>cat</name>{BOX}", size=said))
    assert boxes == [close_to(Box(1, (0.05, 0.2, 0.15, 1.0)))]
    assert warnings == [
        "a inconsistent image height. It says 50, the image has 100 pixels; the boxes count in"
        " what it says.",
        "a inconsistent image width. It says 400, the image has 200 pixels; the boxes count in"
        " what it says.",
    ]


def test_boxes_are_stored_as_they_are() -> None:
    box = BOX.replace("<xmin>20", "<xmin>-3").replace("<ymax>50", "<ymax>101")
    boxes, _ = read(voc(f"<name>cat</name>{box}"))
    assert boxes == [close_to(Box(1, (-0.015, 0.1, 0.3, 1.01)))]


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        ("20 10 60 50", []),
        ("0 0 200 100", []),
        ("-1 0 5 5", ["exceeds"]),
        ("0 -1 5 5", ["exceeds"]),
        ("0 0 201 5", ["exceeds"]),
        ("0 0 5 101", ["exceeds"]),
        ("6 0 5 5", ["irregular"]),
        ("0 6 5 5", ["irregular"]),
        ("201 0 5 5", ["exceeds", "irregular"]),
    ],
)
def test_odd_boxes(corners: str, says: list[str]) -> None:
    _, warnings = read(f"1 {corners}", "txt")
    sentences = {
        "exceeds": f"a bounding box exceeds image boundary. Line 1: {corners} of 200 x 100 pixels."
        " It is stored as it is; AnnotatedData cuts it to the image, or to expand_param's canvas.",
        "irregular": f"a bounding box irregular. Line 1: {corners}. It is stored as it is;"
        " AnnotatedData leaves it out.",
    }
    assert warnings == [sentences[word] for word in says]


def test_json() -> None:
    boxes, warnings = read(
        coco(
            {"category_id": 17, "bbox": [20, 10, 40, 40], "iscrowd": 1, "area": 7},
            {"category_id": "cat", "bbox": ["20", 10.0, 40, 40], "iscrowd": 0},
        ),
        "json",
    )
    assert warnings == []
    assert boxes == [close_to(Box(3, CORNERS, True)), close_to(Box(1, CORNERS))]


def test_json_without_a_size() -> None:
    boxes, warnings = read(coco({"category_id": 17, "bbox": [20, 10, 40, 40]}, image={}), "json")
    assert boxes == [close_to(Box(3, CORNERS))]
    assert len(warnings) == 1


def test_a_box_of_the_background() -> None:
    boxes, (told,) = read("0 1 1 2 2 0 2 2 3 3 1 1 1 2 2", "txt")
    assert [box.label for box in boxes] == [0, 0, 1]
    assert "a box has label 0, which is the background of SSD's nets" in told


def test_plain_text() -> None:
    text = "5 20 10 60 50\r\n\n-1\t20.5 10 60 50.5\n5 20 10 60 50 6 0 0 200 100\n"
    boxes, warnings = read(text, "txt")
    assert warnings == []
    assert boxes == [
        close_to(Box(5, CORNERS)),
        close_to(Box(-1, (0.1025, 0.1, 0.3, 0.505))),
        close_to(Box(5, CORNERS)),
        close_to(Box(6, (0.0, 0.0, 1.0, 1.0))),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "latin-1"])
@pytest.mark.parametrize("kind", ["xml", "json"])
def test_names_of_any_alphabet(encoding: str, kind: str) -> None:
    """A label map and files in one encoding fit, whatever it is: Caffe's names are bytes."""
    name = "café" if encoding == "latin-1" else "猫"
    mapped = "utf-8" if encoding.startswith("utf") else encoding
    text = f'item {{ name: "{name}" label: 4 }}'
    Path("labels").write_bytes(text.encode(mapped))
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    made = head + voc(f"<name>{name}</name>{BOX}")
    if kind == "json":
        made = json.dumps(
            {"annotation": [{"category_id": name, "bbox": [20, 10, 40, 40]}]}, ensure_ascii=False
        )
    boxes, _ = read(made.encode(encoding), kind, read_named_labels("labels"))
    assert boxes == [close_to(Box(4, CORNERS))]


BAD_VOC = {
    "another root": ("<html/>", "line 1: the file begins with <html>, expected <annotation>"),
    "no name": (voc(BOX), "line 3: an <object> has no <name>"),
    "unknown": (voc(f"<name>dgo</name>{BOX}"),
                r"line 3: Unknown name: dgo; labels.prototxt has background, cat, dog, 17\."
                ' Did you mean "dog"'),
    "unlike any": (voc(f"<name>upperbody</name>{BOX}"), "Add it to the label map"),
    "no corner": (voc(f"<name>cat</name>{BOX.replace('ymax', 'y2')}"),
                  "line 3: a <bndbox> has no <ymax>"),
    "no number": (voc(f"<name>cat</name>{BOX.replace('50', 'low')}"),
                  'line 3: <ymax> is "low", expected a number'),
    "no finite number": (voc(f"<name>cat</name>{BOX.replace('50', 'nan')}"), 'is "nan"'),
    "no width": (voc(size=OF_SIZE.replace("200", "0")),
                 "no valid image width/height: the width is 0, the image has 200 pixels"),
    "no XML": ("<annotation>", "line 1: this is no complete XML"),
}  # fmt: skip
BAD_JSON = {
    "no JSON": ('{\n"image": }', "line 2: this is no JSON"),
    "empty": ("", "line 1: this is no JSON"),
    "deep": ("[" * 100_000, "this JSON cannot be read"),
    "many digits": ('{"image": {"width": ' + "9" * 5000 + "}}", "this JSON cannot be read"),
    "COCO's own": ('{"images": [], "annotations": []}',
                   'no list "annotation" in it.*divide COCO'),
    "a list": ("[1]", 'no list "annotation"'),
    "no object": (coco(7), "annotation 1 is 7, expected an object"),  # type: ignore[arg-type]
    "no category": (coco({"bbox": [1, 2, 3, 4]}), "category_id is null, expected a number or"),
    "unknown": (coco({"category_id": 18, "bbox": [1, 2, 3, 4]}), "annotation 1: Unknown name: 18"),
    "a lone surrogate": (coco({"category_id": "\ud800"}), r"Unknown name: \?;"),
    "three numbers": (coco({"category_id": 17, "bbox": [1, 2, 3]}),
                      r"annotation 1: bbox is \[1, 2, 3\], expected four numbers"),
    "no number": (coco({"category_id": 17, "bbox": [1, 2, 3, True]}), "expected four numbers"),
    "infinite": (coco({"category_id": 17, "bbox": [1, 2, 3, 1e999]}), "expected four numbers"),
    "no box": (coco({"category_id": 17}), "bbox is null"),
    "no height": (coco(image={"height": -1, "width": 200}), "the height is -1"),
}  # fmt: skip
BAD_TEXT = {
    "a name": ("\ncat 1 2 3 4", 'line 2: "cat 1 2 3 4", expected a label, which is an integer'),
    "four words": ("1 2 3 4", 'line 1: "1 2 3 4", expected a label'),
    "a fraction": ("1.0 1 2 3 4", "expected a label"),
    "no number": ("1 1 2 3 x", "expected a label"),
    "no such size": ("1 1 2 3 3e9", "expected a label"),
    "beyond 32 bits": ("2147483648 1 2 3 4", "expected a label"),
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind, bad in (("xml", BAD_VOC), ("json", BAD_JSON), ("txt", BAD_TEXT))
     for case in bad],
)  # fmt: skip
def test_what_cannot_be_understood(kind: str, case: str) -> None:
    text, says = {"xml": BAD_VOC, "json": BAD_JSON, "txt": BAD_TEXT}[kind][case]
    with pytest.raises(DataError, match=f"(?s)^a: .*{says}"):
        read(text, kind)


def test_a_file_that_cannot_be_read() -> None:
    Path("folder").mkdir()
    with pytest.raises(DataError, match=r"^folder: the annotation cannot be read: Is a directory"):
        read_annotation("folder", "xml", SIZE, NAMES)


def test_label_maps() -> None:
    item = 'item { name: "%s" label: %d display_name: "x" }'
    Path("labels").write_text("".join(item % pair for pair in [("a", 1), ("b", 2), ("a", 3)]))
    assert read_named_labels("labels") == NamedLabels("labels", {"a": 3, "b": 2})
    with pytest.raises(DataError, match=r"^labels: There are many duplicates of name: a\. Keep"):
        read_named_labels("labels", unique=True)
    Path("labels").write_text("")
    with pytest.raises(DataError, match=r"^labels: the label map holds no name"):
        read_named_labels("labels")
    with pytest.raises(SchemaError, match="gone"):
        read_named_labels("gone")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("background\ncat\n", r'l:1:1: .* field named "background"\. A label map has an item {'),
        ("0 background\n1 cat\n", r'l:1:1: .* field, found "0"\. A label map has an item {'),
        ("item { nam: 'cat' }", r'l:1:8: .* has no field named "nam"\. Did you mean "name"\?$'),
        ("items { }", r'l:1:1: .* has no field named "items"\. Did you mean "item"\?$'),
    ],
)
def test_what_is_no_label_map(text: str, says: str) -> None:
    Path("l").write_text(text)
    with pytest.raises(SchemaError, match=says):
        read_named_labels("l")


def test_many_unknown_names() -> None:
    names = NamedLabels("labels", {f"class{i}": i for i in range(30)})
    with pytest.raises(DataError, match=r"class9 and 20 more\."):
        read(voc(f"<name>tree</name>{BOX}"), names=names)
