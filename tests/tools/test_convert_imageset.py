from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from moka.data import datum
from moka.data.fit_size import FITS
from moka.data.store import open_store
from moka.errors import DataError
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text
from moka.tools.convert_imageset import classic, convert_imageset, main, make_datum
from moka.tools.image_records import StoredForm

RANDOM = np.random.default_rng(3)
COLOR = RANDOM.integers(0, 256, (5, 4, 3), np.uint8)  # height, width, BGR
GRAY = RANDOM.integers(0, 256, (5, 4), np.uint8)


@pytest.fixture(autouse=True)
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("img").mkdir()
    cv2.imwrite("img/color.png", COLOR, [cv2.IMWRITE_PNG_COMPRESSION, 0])  # not what we write
    cv2.imwrite("img/gray.png", GRAY)
    cv2.imwrite("img/color.bmp", COLOR)
    cv2.imwrite("img/wide.png", np.repeat(COLOR, 2, 1))
    cv2.imwrite("img/photo.JPEG", COLOR)
    Path("img/broken.png").write_bytes(Path("img/color.png").read_bytes()[:40])


def records(path: str = "db") -> list[tuple[str, caffe_pb2.Datum]]:
    return [(os.fsdecode(key), datum.parse(value)) for key, value in open_store(path).read()]


def write_list(*lines: str) -> None:
    Path("list").write_text("".join(f"{line}\n" for line in lines))


class Run(NamedTuple):
    code: int
    messages: list[str]  # severity and text


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    def run(*argv: str) -> Run:
        code = main(argv)
        out, err = capsys.readouterr()
        assert out == ""
        return Run(code, [re.sub(r"^([IWEF])\d{4} .*?\] ", r"\1 ", x) for x in err.splitlines()])

    return run


def test_a_database_is_made(run: Callable[..., Run]) -> None:
    write_list("color.png 7", "gray.png 3")
    assert run("img/", "list", "db") == (0, ["I A total of 2 images.", "I Processed 2 files."])
    (key_a, a), (key_b, b) = records()
    assert (key_a, a.label, key_b, b.label) == ("00000000_color.png", 7, "00000001_gray.png", 3)
    np.testing.assert_array_equal(datum.decode(a), COLOR.transpose(2, 0, 1))
    np.testing.assert_array_equal(datum.decode(b), np.stack([GRAY] * 3))
    assert a.HasField("encoded")  # as in Caffe's records
    assert not a.encoded


def test_words_after_the_last_argument(run: Callable[..., Run]) -> None:
    """Old scripts give the "0" or "1" of Caffe's first program, which asked whether to shuffle."""
    write_list("color.png 7")
    code, err = run("img/", "list", "db", "0")
    assert code == 0
    assert err[0] == "W Left out, for it takes 3 arguments: 0"
    assert len(records()) == 1


def test_leveldb(run: Callable[..., Run]) -> None:
    pytest.importorskip("plyvel")
    write_list("color.png 7")
    assert run("-backend", "leveldb", "img/", "list", "db").code == 0
    assert open_store("db").backend == "leveldb"
    assert [key for key, _ in records()] == ["00000000_color.png"]


def test_gray() -> None:
    record = make_datum("img/gray.png", 1, StoredForm(color=False))
    assert record is not None
    np.testing.assert_array_equal(datum.decode(record), GRAY[None])


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [
        (3, 2, (3, 3, 2)),
        (3, 0, (3, 5, 4)),
        (0, 2, (3, 5, 4)),
        (-3, -2, (3, 5, 4)),
        (-3, 2, (3, 5, 4)),
        (3, -2, (3, 5, 4)),
    ],
)
def test_a_size_counts_if_both_are_given(height: int, width: int, shape: tuple[int, ...]) -> None:
    record = make_datum("img/color.png", 1, StoredForm(height=height, width=width))
    assert record is not None
    assert datum.decode(record).shape == shape


def start_of(record: caffe_pb2.Datum) -> str:
    return {b"\x89P": "png", b"\xff\xd8": "jpg", b"BM": "bmp"}[record.data[:2]]


@pytest.mark.parametrize(
    ("name", "form", "kept", "kind"),
    [
        ("color.png", StoredForm(encoded=True), True, "png"),
        ("color.png", StoredForm(encoded=True, color=False), True, "png"),
        ("gray.png", StoredForm(encoded=True), True, "png"),
        ("color.png", StoredForm(encode_type="png"), True, "png"),
        ("color.png", StoredForm(encode_type="PNG"), True, "png"),
        ("photo.JPEG", StoredForm(encode_type="jpg"), True, "jpg"),
        ("photo.JPEG", StoredForm(encoded=True), True, "jpg"),
        ("color.png", StoredForm(encode_type="bmp"), False, "bmp"),
        ("color.bmp", StoredForm(encoded=True, encode_type="png"), False, "png"),
        ("color.png", StoredForm(encoded=True, height=5, width=4), False, "png"),
        ("color.png", StoredForm(encoded=True, height=5), False, "png"),
        ("color.png", StoredForm(encoded=True, width=-1), True, "png"),
    ],
)
def test_encoded_images(name: str, form: StoredForm, kept: bool, kind: str) -> None:
    record = make_datum(f"img/{name}", 4, form)
    assert record is not None
    assert record.encoded
    assert record.label == 4
    assert not record.HasField("channels")
    assert start_of(record) == kind
    assert (record.data == Path("img", name).read_bytes()) is kept
    if not kept:
        np.testing.assert_array_equal(datum.decode(record), COLOR.transpose(2, 0, 1))


def test_an_encoded_image_is_gray_if_it_is_not_kept() -> None:
    record = make_datum("img/gray.png", 4, StoredForm(color=False, encode_type="bmp"))
    assert record is not None
    np.testing.assert_array_equal(datum.decode(record), GRAY[None])


@pytest.mark.parametrize("name", ["gone.png", "broken.png"])
@pytest.mark.parametrize("encoded", [False, True])
def test_an_image_that_cannot_be_read_is_left_out(
    run: Callable[..., Run], name: str, encoded: bool
) -> None:
    write_list("color.png 1", f"{name} 2", "", "gray.png 3")
    flags = ["-encoded"] if encoded else []
    code, said = run(*flags, "img/", "list", "db")
    assert code == 1
    assert said[0] == "I A total of 4 images."
    assert said[1].startswith(
        f"E Could not open or find file img/{name} (list: line 2: Could not load img/{name}: "
    )
    assert said[2:] == [
        "I Processed 2 files.",
        "F list: 1 of 3 images are left out, since they cannot be read; db holds the others.",
    ]
    assert [key for key, _ in records()] == ["00000000_color.png", "00000003_gray.png"]


def test_the_old_program_goes_on_with_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    write_list("color.png 1", "gone.png 2")
    assert classic(["img/", "list", "db"]) == 0
    assert "list: 1 of 2 images are left out" in capsys.readouterr().err
    assert classic(["img/", "list", "db"]) == 1  # the database exists


def test_strict_stops_at_an_image_that_cannot_be_read(run: Callable[..., Run]) -> None:
    write_list("color.png 1", "gone.png 2", "gray.png 3")
    code, said = run("-strict", "img/", "list", "db")
    assert code == 1
    assert said[-1] == "F list: line 2: Could not load img/gone.png: No such file or directory."
    assert not Path("db").exists()


def test_encode_type_implies_encoded(run: Callable[..., Run]) -> None:
    write_list("color.png 1")
    assert run("-encode_type=png", "img/", "list", "db").messages[1] == (
        "I encode_type specified, assuming encoded=true."
    )
    write_list("color.png 1")
    said = run("-encode_type=png", "-encoded", "img/", "list", "db2").messages
    assert said == ["I A total of 1 images.", "I Processed 1 files."]


def many(count: int) -> list[str]:
    for i in range(count):
        cv2.imwrite(f"img/{i}.png", np.full((1, 1), i % 256, np.uint8))
    return [f"{i}.png {i}" for i in range(count)]


def test_the_order_is_kept_and_shuffled_by_a_seed() -> None:
    write_list(*many(60))
    convert_imageset("img/", "list", "db")
    assert [d.label for _, d in records()] == list(range(60))
    orders = []
    for i, seed in enumerate([1, 1, 2, None]):
        convert_imageset("img/", "list", f"db{i}", shuffle=True, seed=seed)
        orders.append([d.label for _, d in records(f"db{i}")])
        assert sorted(orders[-1]) == list(range(60))
        keys = [key for key, _ in records(f"db{i}")]
        assert keys == [f"{k:08d}_{label}.png" for k, label in enumerate(orders[-1])]
        assert [datum.decode(d).item(0) for _, d in records(f"db{i}")] == orders[-1]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != list(range(60))


def test_shuffling_by_the_flags(run: Callable[..., Run]) -> None:
    write_list(*many(20))
    for name, flags in [("a", ["-seed=5"]), ("b", ["-seed", "5"]), ("c", [])]:
        assert run("-shuffle", *flags, "img/", "list", name).messages[0] == "I Shuffling data"
    assert records("a") == records("b") != records("c")


def test_it_tells_of_every_thousand(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moka.tools.image_records.SAY_EVERY", 2)
    write_list("color.png 0", "gone.png 0", *["gray.png 0"] * 3)
    said = run("img/", "list", "db").messages
    assert said[2:4] == ["I Processed 2 files.", "I Processed 4 files."]
    assert sum("Processed" in line for line in said) == 2


def test_a_height_without_a_width(run: Callable[..., Run]) -> None:
    write_list("color.png 0")
    said = run("-resize_height=2", "img/", "list", "db").messages
    assert "W -resize_height and -resize_width go together: no image is resized." in said
    assert records()[0][1].height == 5


def test_sizes_are_checked(run: Callable[..., Run]) -> None:
    write_list("color.png 0", "gray.png 1")
    assert run("-check_size", "img/", "list", "db").code == 0
    write_list("color.png 0", "wide.png 1")
    assert run("img/", "list", "db2").code == 0
    code, said = run("-check_size", "img/", "list", "db3")
    assert code == 1
    assert said[-1] == (
        "F Incorrect data field size 120: wide.png has (channels, height, width) (3, 5, 8), the"
        " first image (3, 5, 4). Give -resize_height and -resize_width, or leave out -check_size."
    )
    code, said = run("-check_size", "-encoded", "img/", "list", "db3")
    assert code == 1
    assert re.fullmatch(r"F Incorrect data field size \d+: wide.png is encoded, .*", said[-1])
    assert not Path("db3").exists()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["color.png cat"], 'list: line 1, "color.png cat", does not end with a blank and an'
         " integer label, so its label is 0."),
        (["color.png 0", "color.png 2.5", "gray.png x"], 'list: line 2, "color.png 2.5", does not'
         " end with a blank and an integer label, so its label is 2; there are 2 such lines."),
        (["color.png"], 'list: line 1, "color.png", does not end with a blank and an integer label,'
         " so its label is 0."),
    ],
)  # fmt: skip
def test_labels_that_are_no_integers(run: Callable[..., Run], lines: list[str], says: str) -> None:
    write_list(*lines)
    code, said = run("img/", "list", "db")
    assert code == 0
    assert [line for line in said if line[0] == "W"] == [f"W {says}"]


@pytest.mark.parametrize("line", ["color.png 4", "color.png  4", "color.png\t 4", "color.png -4\r"])
def test_labels_that_are(run: Callable[..., Run], line: str) -> None:
    Path("img/color.png\t").write_bytes(Path("img/color.png").read_bytes())
    Path("img/color.png ").write_bytes(Path("img/color.png").read_bytes())
    Path("list").write_bytes(f"{line}\n".encode())
    assert run("img/", "list", "db") == (0, ["I A total of 1 images.", "I Processed 1 files."])
    assert abs(records()[0][1].label) == 4


def test_names_that_are_not_utf_8() -> None:
    name = os.fsdecode(b"caf\xe9 1.png")
    Path("img", name).write_bytes(Path("img/color.png").read_bytes())
    Path("list").write_bytes(b"caf\xe9 1.png 5\n")
    convert_imageset("img/", "list", "db")
    assert [(key, d.label) for key, d in records()] == [(f"00000000_{name}", 5)]


def test_several_labels(run: Callable[..., Run]) -> None:
    Path("img/two words.png").write_bytes(Path("img/color.png").read_bytes())
    write_list("color.png 7 0.5 -1e-3", "two words.png 2.9\t3   4", "", "gray.png -2.5 0 1")
    assert run("-label_count=3", "img/", "list", "db").code == 0
    first, second, third = records()
    assert [key for key, _ in (first, second, third)] == [
        "00000000_color.png",
        "00000001_two words.png",
        "00000003_gray.png",
    ]
    assert list(first[1].labels) == pytest.approx([7, 0.5, -1e-3])
    assert list(second[1].labels) == pytest.approx([2.9, 3, 4])
    assert [record.label for _, record in (first, second, third)] == [7, 2, -2]


def test_a_net_reads_several_labels(run: Callable[..., Run]) -> None:
    write_list("color.png 7 0.5", "gray.png 1 2")
    assert run("-label_count", "2", "img/", "list", "db").code == 0
    net = build_net(
        parse_text(
            'layer { name: "d" type: "Data" top: "data" top: "label"'
            ' data_param { source: "db" backend: LMDB batch_size: 3 } }',
            caffe_pb2.NetParameter,
        )
    )
    assert net.blobs["label"].shape == (3, 2)
    assert net()["label"].tolist() == [[7, 0.5], [1, 2], [7, 0.5]]
    net.close()


def test_one_label_that_is_a_fraction(run: Callable[..., Run]) -> None:
    write_list("color.png 0.25")
    code, said = run("-label_count=1", "img/", "list", "db")
    assert code == 0
    assert not [line for line in said if line[0] == "W"]
    assert list(records()[0][1].labels) == [0.25]


@pytest.mark.parametrize("line", ["color.png 1", "color.png 1 x", "1 2", "color.png nan 1", "x"])
def test_lines_without_so_many_labels(line: str) -> None:
    write_list("color.png 1 2", line)
    says = rf'^list: line 2: "{line}" is not a path and 2 numbers, with blanks between\.$'
    with pytest.raises(DataError, match=says):
        convert_imageset("img/", "list", "db", label_count=2)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-label_count=-1", "img/", "list", "db"], "-label_count has to be >= 0, got -1."),
        (["-label_count=1", "img/", "large", "db"], "large: line 2: label 2147483648 does not fit"),
        (["img/", "gone", "db"], "gone: No such file or directory. LISTFILE has to be a text file"
         " with the path and the label of an image on each line."),
        (["list", "img/", "db"], "img/: Is a directory. LISTFILE has to be a text file"),
        (["img/", "empty", "db"], "empty: File is empty"),
        (["gone/", "list", "db"], "list: there is no folder gone with the images of the list."),
        (["img", "list", "db"], "list: none of the 2 images in it can be read; the first would be"
         " imgcolor.png. Is ROOTFOLDER right, with a slash at its end?"),
        (["-backend=sql", "img/", "list", "db"], "Unknown db backend sql. Known are lmdb"),
        (["img/", "list", "img"], "mkdir img failed: File exists"),
        (["img/", "list", "list/db"], "list/db: the database cannot be written: "),
        (["img/", "large", "db"], "large: line 2: label 2147483648 does not fit 32 bits."),
        (["-encode_type=xyz", "img/", "list", "db"], 'img/color.png: the image cannot be encoded as'
         ' "xyz". Choose with -encode_type'),
        (["-encoded", "-resize_width=3", "img/", "bare", "db"], "img/bare: its name does not tell"),
        (["-grey", "img/", "list", "db"], "unknown command line flag 'grey'. Did you mean"),
        (["-resize_width=x", "img/", "list", "db"], "illegal value 'x'"),
        (["img/", "list"], "3 arguments are needed, 2 were given."),
    ],
)  # fmt: skip
def test_bad_input(run: Callable[..., Run], argv: list[str], says: str) -> None:
    write_list("color.png 1", "gray.png 2")
    Path("empty").touch()
    Path("large").write_text("color.png 1\ngray.png 2147483648\n")
    Path("img/bare").write_bytes(Path("img/color.png").read_bytes())
    Path("bare").write_text("bare 1\n")
    before = sorted(os.listdir()), sorted(os.listdir("img"))
    code, said = run(*argv)
    assert code == 1
    assert said[-1].startswith(f"F {says}")
    assert (sorted(os.listdir()), sorted(os.listdir("img"))) == before


def test_a_file_without_extension_is_kept_if_it_can_be() -> None:
    Path("bare").write_bytes(Path("img/color.png").read_bytes())
    record = make_datum("bare", 0, StoredForm(encoded=True))
    assert record is not None
    assert record.data == Path("bare").read_bytes()


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("moka.data.lmdb.LmdbWriter.write", write)
    write_list("color.png 1")
    with pytest.raises(DataError, match=r"db: the database cannot be written: .*No space left"):
        convert_imageset("img/", "list", "db")
    assert sorted(os.listdir()) == ["img", "list"]


@pytest.mark.parametrize("mode", ["squash", "crop", "fill", "half_crop"])
def test_modes_of_resizing(mode: str) -> None:
    form = StoredForm(height=6, width=5, resize_mode=mode)
    made = datum.decode(make_datum("img/wide.png", 0, form))
    wide = np.repeat(COLOR, 2, 1).transpose(2, 0, 1)
    assert np.array_equal(made, FITS[mode](wide, 6, 5))


def test_an_unknown_mode_of_resizing(run: Callable[..., Run]) -> None:
    write_list("color.png 0")
    ended = run("--resize_mode=crops", "img/", "list", "db")
    assert ended.code == 1
    assert 'Did you mean "crop"' in ended.messages[-1]
