"""Layers that read files. What the data sets themselves do is tested in tests/data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import lmdb
import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.data import Data
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Shape

    from moka.layers import Layer


def with_tops(kind: str, tops: str, more: str) -> str:
    return f'type: "{kind}" {" ".join(f"""top: "{t}" """ for t in tops.split())} {more}'


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("Data", "data_param { batch_size: 1 }", "data_param has no source"),
        ("Data", 'data_param { source: "x" }', "batch_size is missing"),
        ("Data", 'data_param { source: "x" batch_size: 0 }', "batch_size must be > 0, got 0"),
        ("HDF5Data", 'hdf5_data_param { source: "x" }', "batch_size is missing"),
        ("HDF5Data", "hdf5_data_param { batch_size: 1 }", "source is missing"),
        (
            "HDF5Data",
            'hdf5_data_param { source: "x" batch_size: 1 } transform_param { scale: 2 }',
            "HDF5Data does not transform data",
        ),
    ],
)
def test_refused(make_layer: LayerMaker, kind: str, more: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(with_tops(kind, "a b", more))


def write_images(folder: Path, count: int = 5) -> None:
    """Images 1 x 2 x 2 with the values 4k, ..., 4k + 3 and the label k."""
    with lmdb.open(str(folder), map_size=1 << 20) as database, database.begin(write=True) as out:
        for k in range(count):
            pixels = bytes(range(4 * k, 4 * k + 4))
            datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=pixels, label=k)
            out.put(b"%08d" % k, datum.SerializeToString())


def data_layer(make_layer: LayerMaker, folder: Path, more: str = "", tops: str = "a b") -> Data:
    fields = f'data_param {{ source: "{folder}" batch_size: 2 backend: LMDB }} {more}'
    made = make_layer(with_tops("Data", tops, fields))
    assert isinstance(made, Data)
    return made


def test_data_reads_records_in_order_over_and_over(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    made = data_layer(make_layer, tmp_path / "db", "transform_param { scale: 0.5 }")
    assert made.top_shapes() == [(2, 1, 2, 2), (2,)]
    labels = []
    for _ in range(5):
        images, of_batch = made()
        for image, label in zip(images, of_batch.tolist(), strict=True):
            assert image.flatten().tolist() == [(4 * label + i) * 0.5 for i in range(4)]
            labels.append(label)
    assert labels == [0, 1, 2, 3, 4] * 2
    made.close()


def test_data_without_labels(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    made = data_layer(make_layer, tmp_path / "db", tops="a")
    assert made.top_shapes() == [(2, 1, 2, 2)]
    assert len(made()) == 1
    made.close()


def test_data_goes_on_from_a_state(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    first, second = (data_layer(make_layer, tmp_path / "db") for _ in range(2))
    first()
    second.load_state(first.state())
    assert second()[1].tolist() == first()[1].tolist() == [2, 3]
    for made in (first, second):
        made.close()


def test_data_that_is_not_there(make_layer: LayerMaker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        data_layer(make_layer, tmp_path / "nowhere")


def write_rows(folder: Path) -> Path:
    """Datasets a (rows 0 to 4, two columns) and b in two files, and their list."""
    rows = np.arange(10.0).reshape(5, 2)
    for name, part in (("one", slice(0, 3)), ("two", slice(3, 5))):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["a"], file["b"] = rows[part], np.arange(5)[part]
    (folder / "list.txt").write_text(f"{folder}/one.h5\n{folder}/two.h5\n")
    return folder / "list.txt"


def test_hdf5_data_runs_across_files(make_layer: LayerMaker, tmp_path: Path) -> None:
    fields = f'hdf5_data_param {{ source: "{write_rows(tmp_path)}" batch_size: 4 }}'
    made = make_layer(with_tops("HDF5Data", "a b", fields))
    assert made.top_shapes() == [(4, 2), (4,)]
    first, second = made(), made()
    assert first[1].tolist() == [0, 1, 2, 3]
    assert second[1].tolist() == [4, 0, 1, 2]
    assert first[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert first[1].dtype == torch.float32


def test_hdf5_data_shuffled_has_every_row_once_an_epoch(
    make_layer: LayerMaker, tmp_path: Path
) -> None:
    fields = f'hdf5_data_param {{ source: "{write_rows(tmp_path)}" batch_size: 5 shuffle: true }}'
    made = make_layer(with_tops("HDF5Data", "b", fields))
    epochs = [made()[0].tolist() for _ in range(6)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def output_layer(make_layer: LayerMaker, file: Path, *shapes: Shape) -> Layer:
    return make_layer(
        f'type: "HDF5Output" hdf5_output_param {{ file_name: "{file}" }}', *shapes or ((2, 3), (2,))
    )


def test_hdf5_output_adds_the_rows_of_each_pass(make_layer: LayerMaker, tmp_path: Path) -> None:
    file = tmp_path / "out.h5"
    file.write_text("something older")
    made = output_layer(make_layer, file)
    assert file.read_text() == "something older"
    for k in range(2):
        assert not made(torch.full((2, 3), float(k)), torch.tensor([k, k + 0.5]))
    with h5py.File(file) as written:
        assert sorted(written) == ["data", "label"]
        assert written["data"].shape == (4, 3, 1, 1)
        assert written["data"][:, 2, 0, 0].tolist() == [0, 0, 1, 1]
        assert written["label"].shape == (4, 1, 1, 1)
        assert written["label"][:, 0, 0, 0].tolist() == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (3,)), r"as many labels as rows of data, got \(2, 3\) and \(3,\)"),
        (((2, 1, 1, 1, 1), (2,)), "blobs of at most 4 axes"),
        (((), ()), "as many labels as rows"),
    ],
)
def test_hdf5_output_refuses(
    make_layer: LayerMaker, tmp_path: Path, shapes: tuple[Shape, Shape], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        output_layer(make_layer, tmp_path / "out.h5", *shapes)


def test_hdf5_output_needs_a_folder_and_a_name(make_layer: LayerMaker, tmp_path: Path) -> None:
    with pytest.raises(NetError, match=r"missing/out\.h5.*missing cannot be written"):
        output_layer(make_layer, tmp_path / "missing" / "out.h5")
    with pytest.raises(NetError, match="file_name is missing"):
        make_layer('type: "HDF5Output"', (1,), (1,))
