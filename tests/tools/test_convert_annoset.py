from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from moka.cli.main import main as caffe
from moka.data import datum
from moka.data.fit_size import bounded
from moka.data.store import open_store
from moka.errors import DataError, UsageError
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text
from moka.tools.convert_annoset import classic, convert_annoset, main, read_pairs
from moka.tools.image_mean import compute_image_mean
from moka.tools.image_records import StoredForm

if TYPE_CHECKING:
    from tests.messages import Messages

PIXELS = np.random.default_rng(3).integers(0, 256, (10, 20, 3), np.uint8)  # height, width, BGR
LABELS = (
    'item { name: "none" label: 0 } item { name: "cat" label: 1 } item { name: "dog" label: 7 }'
)
VOC = """<annotation>
  <size><width>20</width><height>10</height><depth>3</depth></size>
  {}
</annotation>
"""
OBJECT = """<object>
  <name>{}</name><difficult>{:d}</difficult>
  <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""
DETECTION = ("-anno_type=detection", "-label_map_file=labels.prototxt")


def write_voc(name: str, *objects: tuple[str, bool, int, int, int, int]) -> None:
    inner = "\n  ".join(OBJECT.format(*each) for each in objects)
    Path("data/xml", name).write_text(VOC.format(inner))


def write_list(*lines: str) -> None:
    Path("list").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("img", "xml"):
        Path("data", folder).mkdir(parents=True)
    cv2.imwrite("data/img/a.png", PIXELS)
    cv2.imwrite("data/img/b.jpg", PIXELS)
    cv2.imwrite("data/img/gray.png", PIXELS[:, :, 0])
    cv2.imwrite("data/img/large.png", np.repeat(PIXELS, 2, 0))
    Path("data/img/broken.png").write_bytes(Path("data/img/a.png").read_bytes()[:40])
    write_voc("a.xml", ("dog", True, 5, 1, 10, 9), ("cat", False, 0, 0, 20, 10),
              ("dog", False, 2, 5, 4, 10))  # fmt: skip
    write_voc("b.xml", ("cat", False, 10, 5, 15, 10))
    Path("labels.prototxt").write_text(LABELS)
    write_list("img/a.png xml/a.xml", "img/b.jpg xml/b.xml")


def records(path: str = "db") -> dict[str, caffe_pb2.AnnotatedDatum]:
    read = open_store(path).read()
    return {os.fsdecode(key): caffe_pb2.AnnotatedDatum.FromString(value) for key, value in read}


def boxes_of(record: caffe_pb2.AnnotatedDatum) -> list[tuple[float, ...]]:
    """Label, instance, corners, difficult, in the record's order."""
    return [
        (group.group_label, x.instance_id, x.bbox.xmin, x.bbox.ymin, x.bbox.xmax, x.bbox.ymax,
         x.bbox.difficult)
        for group in record.annotation_group
        for x in group.annotation
    ]  # fmt: skip


def test_from_a_list_to_a_net() -> None:
    """A list, VOC's files and a label map; the layer gives images and boxes."""
    argv = ["convert_annoset", *DETECTION, "-encoded", "data/", "list", "train_lmdb"]
    assert caffe(argv) == 0
    net = build_net(
        parse_text(
            'layer { name: "data" type: "AnnotatedData" top: "data" top: "label"'
            ' data_param { source: "train_lmdb" batch_size: 2 backend: LMDB } }',
            caffe_pb2.NetParameter,
        )
    )
    found = net()
    np.testing.assert_array_equal(found["data"][0], PIXELS.transpose(2, 0, 1))
    rows = [  # image, label, instance, corners, difficult; SSD's order: by label as they appear
        [0, 7, 0, 0.25, 0.1, 0.5, 0.9, 1],
        [0, 7, 1, 0.1, 0.5, 0.2, 1.0, 0],
        [0, 1, 0, 0.0, 0.0, 1.0, 1.0, 0],
        [1, 1, 0, 0.5, 0.5, 0.75, 1.0, 0],
    ]
    np.testing.assert_allclose(found["label"][0, 0], rows, rtol=1e-6)
    net.close()


def test_the_records_are_those_of_ssd(messages: Messages) -> None:
    assert main([*DETECTION, "data/", "list", "db"]) == 0
    assert messages() == ["I A total of 2 images.", "I Processed 2 files."]
    first = records()["00000000_img/a.png"]
    assert list(records()) == ["00000000_img/a.png", "00000001_img/b.jpg"]
    assert first.HasField("type")
    assert first.type == caffe_pb2.AnnotatedDatum.BBOX
    assert first.datum.label == -1
    np.testing.assert_array_equal(datum.decode(first.datum), PIXELS.transpose(2, 0, 1))
    assert [group.group_label for group in first.annotation_group] == [7, 1]
    box = first.annotation_group[0].annotation[0]
    assert box.HasField("instance_id")
    assert box.bbox.HasField("difficult")
    assert not box.bbox.HasField("label")
    wanted = [
        (7, 0, 0.25, 0.1, 0.5, 0.9, 1),
        (7, 1, 0.1, 0.5, 0.2, 1.0, 0),
        (1, 0, 0.0, 0.0, 1.0, 1.0, 0),
    ]
    assert boxes_of(first) == [pytest.approx(row) for row in wanted]


def test_an_encoded_record_holds_its_size() -> None:
    convert_annoset("data/", "list", "db", anno_type="detection",
                    label_map_file="labels.prototxt", form=StoredForm(encoded=True))  # fmt: skip
    for key, file in (("00000000_img/a.png", "a.png"), ("00000001_img/b.jpg", "b.jpg")):
        image = records()[key].datum
        assert image.data == Path("data/img", file).read_bytes()
        assert image.encoded
        assert (image.channels, image.height, image.width) == (3, 10, 20)


def test_classification(messages: Messages) -> None:
    write_list("img/a.png 3", "", "img/gray.png\t-2")
    assert main(["data/", "list", "db"]) == 0
    assert messages() == ["I A total of 2 images.", "I Processed 2 files."]
    found = records()
    assert list(found) == ["00000000_img/a.png", "00000001_img/gray.png"]  # an empty line: no image
    assert [record.datum.label for record in found.values()] == [3, -2]
    assert not any(r.annotation_group or r.HasField("type") for r in found.values())


def test_json_and_text() -> None:
    crowd = {"category_id": "dog", "bbox": [5, 1, 5, 8], "iscrowd": 1}
    image = {"height": 10, "width": 20}
    Path("data/a.json").write_text(json.dumps({"image": image, "annotation": [crowd]}))
    Path("data/a.txt").write_text("7 5 1 10 9\n")
    write_list("img/a.png a.json")
    flags = [*DETECTION, "-label_type=json"]
    assert main([*flags, "data/", "list", "json_db"]) == 0
    write_list("img/a.png a.txt")
    flags = ["-anno_type=detection", "-label_type", "txt"]  # which needs no label map
    assert main([*flags, "data/", "list", "txt_db"]) == 0
    for name, difficult in (("json_db", 1), ("txt_db", 0)):
        (box,) = boxes_of(records(name)["00000000_img/a.png"])
        assert box == pytest.approx((7, 0, 0.25, 0.1, 0.5, 0.9, difficult))


def test_a_resized_image_keeps_its_boxes() -> None:
    """They are parts of the image, and its own size counts."""
    Path("data/xml/b.xml").write_text(Path("data/xml/b.xml").read_text().replace("size>", "no>"))
    wanted = {}
    for name, flags in {
        "plain": [],
        "sized": ["-resize_height=5", "-resize_width=4"],
        "grown": ["-min_dim=15"],
        "shrunk": ["-max_dim=12", "-resize_height=5", "-resize_width=4"],
        "encoded": ["-min_dim=15", "-encoded", "-encode_type=png"],
    }.items():
        assert main([*DETECTION, *flags, "data/", "list", name]) == 0
        wanted[name] = [boxes_of(record) for record in records(name).values()]
        image = records(name)["00000000_img/a.png"].datum
        assert datum.decode(image).shape == (image.channels, image.height, image.width)
    assert all(boxes == wanted["plain"] for boxes in wanted.values())
    sizes = {n: records(n)["00000000_img/a.png"].datum for n in wanted}
    assert {n: (x.height, x.width) for n, x in sizes.items()} == {
        "plain": (10, 20),
        "sized": (5, 4),
        "grown": (15, 30),
        "shrunk": (6, 12),
        "encoded": (15, 30),
    }
    np.testing.assert_array_equal(
        datum.decode(sizes["grown"]), bounded(PIXELS.transpose(2, 0, 1), 15, 0)
    )


def test_bounds_win_over_a_size(messages: Messages) -> None:
    flags = ["-min_dim=1", "-resize_height=5"]
    assert main([*DETECTION, *flags, "data/", "list", "db"]) == 0
    assert "W -min_dim and -max_dim win over -resize_height and -resize_width." in messages()


def test_gray() -> None:
    convert_annoset("data/", "list", "db", anno_type="detection",
                    label_map_file="labels.prototxt", form=StoredForm(color=False))  # fmt: skip
    assert records()["00000000_img/a.png"].datum.channels == 1


def test_leveldb() -> None:
    pytest.importorskip("plyvel")
    assert main([*DETECTION, "-backend=leveldb", "data/", "list", "db"]) == 0
    assert open_store("db").backend == "leveldb"
    assert len(records()) == 2


def test_the_order_is_random_by_a_seed() -> None:
    write_list(*[f"img/a.png {i}" for i in range(20)])
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        convert_annoset("data/", "list", name, shuffle=True, seed=seed)
        orders.append([record.datum.label for record in records(name).values()])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(20)) != orders[0]


def test_the_flags_of_ssds_script(messages: Messages) -> None:
    """create_annoset.py says all of them, booleans as Python writes them."""
    flags = (
        "--anno_type=detection --label_type=xml --label_map_file=labels.prototxt"
        " --check_label=True --min_dim=0 --max_dim=0 --resize_height=0 --resize_width=0"
        " --backend=lmdb --shuffle=False --check_size=False --encode_type= --encoded=True"
        " --gray=False"
    )
    assert classic([*flags.split(), "data/", "list", "db"]) == 0
    assert messages() == ["I A total of 2 images.", "I Processed 2 files."]
    assert records()["00000001_img/b.jpg"].datum.encoded


def test_images_that_cannot_be_read(messages: Messages) -> None:
    write_list("img/gone.png xml/a.xml", "img/broken.png xml/a.xml", "img/b.jpg xml/b.xml")
    argv = [*DETECTION, "data/", "list"]
    assert main([*argv, "db"]) == 1
    said = messages()
    assert said[1].startswith("E Could not open or find file data/img/gone.png (list: line 1: ")
    assert said[2] == "W Failed to read img/gone.png"
    assert said[4:] == [
        "W Failed to read img/broken.png",
        "I Processed 1 files.",
        "F list: 2 of 3 images are left out, since they cannot be read; db holds the others.",
    ]
    assert list(records()) == ["00000002_img/b.jpg"]
    assert classic([*argv, "db2"]) == 0  # SSD's program goes on
    assert main([*argv, "-strict", "db3"]) == 1
    assert messages()[-1].startswith("F list: line 1: Could not load data/img/gone.png")
    assert not Path("db3").exists()


def test_annotations_that_are_missing(messages: Messages) -> None:
    """SSD takes such images as ones without objects, and says nothing."""
    write_list("img/a.png xml/a.xml", "img/b.jpg xml/gone.xml", "img/b.jpg gone.xml")
    argv = [*DETECTION, "data/", "list"]
    assert main([*argv, "db"]) == 0
    assert messages()[0] == (
        "W list: line 2: there is no annotation file data/xml/gone.xml, so its image has no"
        " objects; there are 2 such lines."
    )
    assert [len(boxes_of(record)) for record in records().values()] == [3, 0, 0]
    assert main([*argv, "-strict", "db2"]) == 1
    says = "F list: line 2: there is no annotation file data/xml/gone.xml."
    assert messages()[-1] == says
    write_list("img/a.png xml/gone.xml", "img/b.jpg gone.xml")
    assert main([*argv, "db2"]) == 1
    assert messages()[-1] == (
        "F list: none of the 2 annotation files in it is there; the first would be"
        " data/xml/gone.xml. Is ROOTFOLDER right, with a slash at its end?"
    )
    assert not Path("db2").exists()


def test_odd_boxes_are_told_in_the_order_of_the_list(messages: Messages) -> None:
    write_voc("b.xml", ("cat", False, -1, 0, 5, 5))
    write_list(*["img/a.png xml/a.xml", "img/b.jpg xml/b.xml", "img/large.png xml/a.xml"] * 5)
    assert main([*DETECTION, "data/", "list", "db"]) == 0
    beyond = "bounding box exceeds image boundary. Line 5: -1 0 5 5 of 20 x 10 pixels. It is"
    beyond += " stored as it is; AnnotatedData cuts it to the image, or to expand_param's canvas."
    other = (
        "inconsistent image height. It says 10, the image has 20 pixels; the boxes count in what"
        " it says."
    )
    said = [line for line in messages() if line[0] == "W"]
    assert said == [f"W data/xml/b.xml {beyond}", f"W data/xml/a.xml {other}"] * 5


def test_what_a_net_gets_of_odd_boxes() -> None:
    """As the warnings say."""
    Path("data/odd.txt").write_text("1 -2 5 10 20  2 15 1 5 9  3 21 1 25 9\n")
    write_list("img/a.png odd.txt")
    assert main(["-anno_type=detection", "-label_type=txt", "data/", "list", "db"]) == 0
    net = build_net(
        parse_text(
            'layer { name: "data" type: "AnnotatedData" top: "data" top: "label"'
            ' data_param { source: "db" batch_size: 1 backend: LMDB } }',
            caffe_pb2.NetParameter,
        )
    )
    np.testing.assert_array_equal(net()["label"][0, 0], [[0, 1, 0, 0, 0.5, 0.5, 1, 0]])
    net.close()


def test_names_that_are_not_utf_8_or_have_blanks() -> None:
    name = os.fsdecode(b"caf\xe9 1")
    for folder, suffix, source in (("img", "png", "a.png"), ("xml", "xml", "a.xml")):
        data = Path("data", folder, source).read_bytes()
        Path("data", folder, f"{name}.{suffix}").write_bytes(data)
    Path("list").write_bytes(b"img/caf\xe9 1.png\txml/caf\xe9 1.xml\n")
    assert main([*DETECTION, "data/", "list", "db"]) == 0
    assert len(boxes_of(records()[f"00000000_img/{name}.png"])) == 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-anno_type=detect", "data/", "list", "db"],
         '-anno_type has to be one of classification, detection, got detect. Did you mean'),
        (["-anno_type=detection", "-label_type=voc", "data/", "list", "db"],
         "-label_type has to be one of xml, json, txt, got voc."),
        (["-anno_type=detection", "data/", "list", "db"],
         "-label_type=xml needs -label_map_file, a prototxt with the label of each name."),
        (["-anno_type=detection", "-label_map_file=gone", "data/", "list", "db"],
         "File not found: gone"),
        (["-anno_type=detection", "-label_map_file=list", "data/", "list", "db"],
         "Failed to parse LabelMap file: list:1:"),
        (["-anno_type=detection", "-label_map_file=twice", "-check_label", "data/", "list", "db"],
         "twice: There are many duplicates of name: none."),
        ([*DETECTION, "data/", "gone", "db"], "gone: No such file or directory. LISTFILE has to be"
         " a text file with the path of an image and its annotation file, or its label, on each"),
        ([*DETECTION, "list", "data/", "db"], "data/: Is a directory. LISTFILE has to be a text"),
        ([*DETECTION, "data/", "empty", "db"], "empty: File is empty"),
        ([*DETECTION, "data", "list", "db"], "list: none of the 2 annotation files"),
        ([*DETECTION, "gone/", "list", "db"], "list: there is no folder gone"),
        ([*DETECTION, "data/", "list", "data"], "mkdir data failed: File exists"),
        ([*DETECTION, "-backend=sql", "data/", "list", "db"], "Unknown db backend sql."),
        ([*DETECTION, "data/", "three", "db"], 'three: line 2: "img/a.png xml/a.xml x" is not two'
         " words, an image and its annotation file or label."),
        (["data/", "list", "db"], 'list: line 1: "xml/a.xml" is no label, an integer of 32 bits. If'
         " it is a file with boxes, give -anno_type=detection."),
        (["data/", "large", "db"], 'large: line 1: "2147483648" is no label'),
        ([*DETECTION, "data/", "unknown", "db"], "data/xml/tree.xml: line 4: Unknown name: tree;"
         " labels.prototxt has none, cat, dog. Add it to the label map, or correct it here."),
        ([*DETECTION, "data/", "cut", "db"], "data/xml/cut.xml: line 1: this is no complete XML"),
        ([*DETECTION, "-check_size", "data/", "sizes", "db"], "Incorrect data field size 1200: "),
        (["data/", "list"], "3 arguments are needed, 2 were given."),
    ],
)  # fmt: skip
def test_bad_input(messages: Messages, argv: list[str], says: str) -> None:
    write_voc("tree.xml", ("tree", False, 0, 0, 1, 1))
    Path("data/xml/cut.xml").write_text("<annotation><object>")
    Path("twice").write_text(LABELS + LABELS)
    Path("empty").touch()
    for name, line in {
        "three": "img/a.png xml/a.xml x",
        "unknown": "img/a.png xml/tree.xml",
        "cut": "img/b.jpg xml/cut.xml",
        "sizes": "img/large.png xml/a.xml",
    }.items():
        Path(name).write_text(f"img/a.png xml/a.xml\n{line}\n")
    Path("large").write_text("img/a.png 2147483648\n")
    before = sorted(os.listdir()), sorted(os.listdir("data"))
    assert main(argv) == 1
    assert messages()[-1].startswith(f"F {says}")
    assert (sorted(os.listdir()), sorted(os.listdir("data"))) == before


def test_without_check_label_the_last_one_counts() -> None:
    Path("labels.prototxt").write_text(LABELS + 'item { name: "cat" label: 5 }')
    assert main([*DETECTION, "data/", "list", "db"]) == 0
    assert boxes_of(records()["00000001_img/b.jpg"])[0][0] == 5


def test_from_python() -> None:
    with pytest.raises(UsageError, match="needs -label_map_file"):
        convert_annoset("data/", "list", "db", anno_type="detection", label_type="json")
    with pytest.raises(DataError, match="is no label"):
        convert_annoset("data/", "list", "db")


def test_other_commands_read_the_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DETECTION, "data/", "list", "db"]) == 0
    mean = compute_image_mean("db")
    images = [datum.decode(record.datum) for record in records().values()]
    np.testing.assert_allclose(mean, np.mean(images, 0))
    capsys.readouterr()
    assert caffe(["db", "info", "db"]) == 0
    assert "boxes    4 in 2 AnnotatedDatum, 2 different labels" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "\n", " \f\n\t\n"])
def test_a_list_without_names(text: str) -> None:
    Path("blank.txt").write_text(text)
    with pytest.raises(DataError, match="the list names no image"):
        read_pairs("blank.txt")
