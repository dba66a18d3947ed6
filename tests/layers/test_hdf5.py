"""Layers of HDF5 files. What the files themselves do is tested in tests/data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch

from moka.data.place import CursorState, Share
from moka.errors import MokaError, NetError
from moka.layers.hdf5 import HDF5Data
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer
    from moka.types import Shape


def write_rows(folder: Path) -> Path:
    """Datasets a (rows 0 to 4, two columns) and b in two files, and their list."""
    rows = np.arange(10.0).reshape(5, 2)
    for name, part in (("one", slice(0, 3)), ("two", slice(3, 5))):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["a"], file["b"] = rows[part], np.arange(5)[part]
    (folder / "list.txt").write_text(f"{folder}/one.h5\n{folder}/two.h5\n")
    return folder / "list.txt"


def hdf5_layer(
    make_layer: LayerMaker,
    source: Path,
    batch_size: int,
    *,
    tops: str = "a b",
    param: str = "",
    transform: str | None = None,
    training: bool = True,
) -> HDF5Data:
    named = " ".join(f'top: "{top}"' for top in tops.split())
    own = f'source: "{source}" batch_size: {batch_size} {param}'
    more = "" if transform is None else f"transform_param {{ {transform} }}"
    text = f'type: "HDF5Data" {named} hdf5_data_param {{ {own} }} {more}'
    made = make_layer(text, training=training)
    assert isinstance(made, HDF5Data)
    return made


@pytest.mark.parametrize(
    ("fields", "says"),
    [('source: "x"', "batch_size is missing"), ("batch_size: 1", "source is missing")],
)
def test_hdf5_data_without(make_layer: LayerMaker, fields: str, says: str) -> None:
    with pytest.raises(NetError, match=says):
        make_layer(f'type: "HDF5Data" hdf5_data_param {{ {fields} }}')


def test_hdf5_data_runs_across_files(make_layer: LayerMaker, tmp_path: Path) -> None:
    made = hdf5_layer(make_layer, write_rows(tmp_path), 4)
    assert made.top_shapes() == [(4, 2), (4,)]
    first, second = made(), made()
    assert first[1].tolist() == [0, 1, 2, 3]
    assert second[1].tolist() == [4, 0, 1, 2]
    assert first[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert first[1].dtype == torch.float32


@pytest.mark.parametrize("shuffle", ["", "shuffle: true"])
def test_hdf5_data_reads_its_share(make_layer: LayerMaker, tmp_path: Path, shuffle: str) -> None:
    lists = write_rows(tmp_path)
    torch.manual_seed(1)
    whole = hdf5_layer(make_layer, lists, 4, param=shuffle)
    for rank in range(2):
        torch.manual_seed(1)
        part = hdf5_layer(make_layer, lists, 2, param=shuffle)
        part.attach(torch.device("cpu"), Share(rank, 2))
        for _ in range(4):
            (_, wanted), (_, got) = whole(), part()
            assert got.tolist() == wanted[rank::2].tolist()
            assert part.state() == whole.state()
            assert part.batch_names() == whole.batch_names()[rank::2]
        whole.load_state(CursorState())


def test_hdf5_data_shuffled_has_every_row_once_an_epoch(
    make_layer: LayerMaker, tmp_path: Path
) -> None:
    made = hdf5_layer(make_layer, write_rows(tmp_path), 5, tops="b", param="shuffle: true")
    epochs = [made()[0].tolist() for _ in range(6)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_is_its_users_to_change(make_layer: LayerMaker, tmp_path: Path) -> None:
    """Layers may work in place on it; the file's arrays stay in memory."""
    (tmp_path / "list.txt").write_text(f"{write_rows(tmp_path).parent}/one.h5\n")
    made = hdf5_layer(make_layer, tmp_path / "list.txt", 3)
    for _ in range(3):
        data, labels = made()
        assert (data[:, 0].tolist(), labels.tolist()) == ([0, 2, 4], [0, 1, 2])
        data.zero_()
        labels.zero_()


def test_hdf5_data_says_what_it_opened(make_layer: LayerMaker, tmp_path: Path) -> None:
    source = write_rows(tmp_path)
    opened = [f"Loading list of HDF5 filenames from: {source}", "Number of HDF5 files: 2"]
    assert hdf5_layer(make_layer, source, 2).notes() == opened
    images = write_image_rows(tmp_path)
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=4, width=6, data=[1.0] * 72)
    (tmp_path / "mean").write_bytes(mean.SerializeToString())
    made = hdf5_layer(make_layer, images, 2, transform=f'mean_file: "{tmp_path}/mean"')
    assert made.notes()[2:] == [f"Loading mean file from: {tmp_path}/mean"]


@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_rows_of_the_last_batch_are_named(
    make_layer: LayerMaker, tmp_path: Path, batch_size: int
) -> None:
    names = [f"{tmp_path}/one.h5 row {row}" for row in range(3)]
    names += [f"{tmp_path}/two.h5 row {row}" for row in range(2)]
    made = hdf5_layer(make_layer, write_rows(tmp_path), batch_size, param="shuffle: true")
    assert made.batch_names() == []
    for _ in range(4):
        labels = made()[1]
        assert made.batch_names() == [names[int(label)] for label in labels]


def test_a_state_with_fewer_rows_than_a_batch(make_layer: LayerMaker, tmp_path: Path) -> None:
    """It was saved with another batch_size."""
    made = hdf5_layer(make_layer, write_rows(tmp_path), 3)
    made.load_state(CursorState(2))
    assert made.batch_names() == [f"{tmp_path}/one.h5 row {row}" for row in (0, 1)]
    assert made()[1].tolist() == [2, 3, 4]


IMAGES = np.random.default_rng(5).normal(size=(5, 3, 4, 6)).astype(np.float32)


def write_image_rows(folder: Path) -> Path:
    """IMAGES as dataset a, and their numbers as b, in two files."""
    for name, part in (("one", slice(0, 3)), ("two", slice(3, 5))):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["a"], file["b"] = IMAGES[part], np.arange(5)[part]
    (folder / "images.txt").write_text(f"{folder}/one.h5\n{folder}/two.h5\n")
    return folder / "images.txt"


def test_hdf5_data_transforms_its_first_top(make_layer: LayerMaker, tmp_path: Path) -> None:
    transform = "scale: 2 mean_value: 1 mean_value: 2 mean_value: 3 crop_size: 2"
    source = write_image_rows(tmp_path)
    made = hdf5_layer(make_layer, source, 4, transform=transform, training=False)
    assert made.top_shapes() == [(4, 3, 2, 2), (4,)]
    wanted = 2 * (IMAGES - np.array([1, 2, 3]).reshape(3, 1, 1))[:, :, 1:3, 2:4]
    for _ in range(3):
        data, labels = made()
        np.testing.assert_allclose(data, wanted[labels.int().numpy()], rtol=1e-6)
    assert made.state() == CursorState(12)  # nothing is random


def test_only_the_first_top_is_transformed(make_layer: LayerMaker, tmp_path: Path) -> None:
    made = hdf5_layer(make_layer, write_image_rows(tmp_path), 5, tops="b a")
    assert np.array_equal(made()[1], IMAGES)


def test_rows_are_cropped_and_mirrored_by_chance(make_layer: LayerMaker, tmp_path: Path) -> None:
    """Each at a place and a side of its own, in every epoch another, and by the seed."""
    source = write_image_rows(tmp_path)
    transform = "crop_size: 2 mirror: true"
    made = [hdf5_layer(make_layer, source, 5, transform=transform) for _ in range(2)]
    seen = set()
    for _ in range(20):
        data, labels = made[0]()
        for image, label in zip(data.numpy(), labels.int().tolist(), strict=True):
            crops = {
                (top, left, side): IMAGES[label, :, top : top + 2, left : left + 2][:, :, ::side]
                for top in range(3)
                for left in range(5)
                for side in (1, -1)
            }
            (found,) = (spot for spot, crop in crops.items() if np.array_equal(crop, image))
            seen.add((label, *found))
    assert len(seen) > 60  # of 100 draws among 150
    torch.manual_seed(99)
    other = hdf5_layer(make_layer, source, 5, transform=transform)
    assert not torch.equal(other()[0], made[1]()[0])


@pytest.mark.parametrize("param", ["", "shuffle: true"])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_transformed_rows_go_on_from_a_state(
    make_layer: LayerMaker, tmp_path: Path, param: str, batch_size: int
) -> None:
    source = write_image_rows(tmp_path)
    first, second = (
        hdf5_layer(
            make_layer, source, batch_size, param=param, transform="crop_size: 2 mirror: true"
        )
        for _ in range(2)
    )
    for _ in range(4):
        first()
    second()
    second.load_state(first.state())
    for _ in range(6):
        for a, b in zip(first(), second(), strict=True):
            assert torch.equal(a, b)
    assert first.batch_names() == second.batch_names()


def test_a_state_without_a_seed_keeps_the_layers_own(
    make_layer: LayerMaker, tmp_path: Path
) -> None:
    made = hdf5_layer(make_layer, write_rows(tmp_path), 2, param="shuffle: true")
    seed = made.state().seed
    assert seed is not None
    made.load_state(CursorState(4))
    assert made.state() == CursorState(4, seed)


@pytest.mark.parametrize(
    ("tops", "transform", "says"),
    [
        ("b a", "", r'one\.h5: transform_param is for images .*rows of "b", .*, have shape \(\)'),
        ("b", "scale: 2", r"one\.h5: transform_param is for images"),
        ("a", "crop_size: 5", r"one\.h5: crop_size 5 is larger than the image \(4 x 6\)"),
        ("a", "mean_value: 1 mean_value: 2", r"one\.h5: .*2 values for 3 channels"),
        ("a", "force_gray: true", "force_color and force_gray are for encoded images"),
        ("a", "force_color: true", "force_color and force_gray are for encoded images"),
    ],
)
def test_hdf5_data_refuses_a_transformation(
    make_layer: LayerMaker, tmp_path: Path, tops: str, transform: str, says: str
) -> None:
    with pytest.raises(MokaError, match=says):
        hdf5_layer(make_layer, write_image_rows(tmp_path), 2, tops=tops, transform=transform)


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
