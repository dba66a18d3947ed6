"""Data and ImageData over folders of classes and tar shards."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from tests.layers.data_layers import data_layer, image_layer, with_tops, write_list

from moka.errors import DataError
from moka.layers.data import Data, ImageData

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


def write_class_folder(folder: Path) -> Path:
    """Images of 4 x 6 pixels, as `write_list` makes them: a has 0 and 1, b has 2, 3 and 4."""
    write_list(folder)
    for k, name in enumerate("aabbb"):
        (folder / "root" / name).mkdir(parents=True, exist_ok=True)
        (folder / f"{k}.png").rename(folder / "root" / name / f"{k}.png")
    return folder / "root"


def write_shards(folder: Path, form: str = "{}") -> str:
    """The same images in two shards, labeled with this form of their number."""
    write_list(folder)
    for shard, numbers in (("s-0", (0, 1, 2)), ("s-1", (3, 4))):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for k in numbers:
                (folder / "label").write_text(form.format(k))
                tar.add(folder / f"{k}.png", f"{k}.png")
                tar.add(folder / "label", f"{k}.cls")
    return f"{folder}/s-{{0..1}}.tar"


GRAYS = torch.tensor([10.0 * k + 1 for k in range(5)])  # of blue, green and red 10k + (0, 1, 2)


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_data_from_image_files(make_layer: LayerMaker, tmp_path: Path, kind: str) -> None:
    source = write_class_folder(tmp_path) if kind == "folder" else Path(write_shards(tmp_path))
    made = data_layer(make_layer, source, "transform_param { scale: 2 force_gray: true }")
    assert made.top_shapes() == [(2, 1, 4, 6), (2,)]
    for k in range(5):
        images, labels = made()
        numbers = torch.tensor([2 * k % 5, (2 * k + 1) % 5])
        wanted = numbers >= 2 if kind == "folder" else numbers
        assert torch.equal(labels, wanted.float())
        torch.testing.assert_close(images[:, 0, 0, 0], 2 * GRAYS[numbers], rtol=0, atol=2)
    made.close()
    color = data_layer(make_layer, source, "transform_param { crop_size: 3 }")
    assert color()[0][1, :, 0, 0].tolist() == [10, 11, 12]
    color.close()


@pytest.mark.parametrize(("more", "channels"), [("", 1), ("force_color: true", 3)])
def test_gray_files_become_colored_if_forced(
    make_layer: LayerMaker, tmp_path: Path, more: str, channels: int
) -> None:
    for k in range(2):
        (tmp_path / "root" / f"{k}").mkdir(parents=True)
        cv2.imwrite(f"{tmp_path}/root/{k}/x.png", np.full((4, 6), 7, np.uint8))
    made = data_layer(make_layer, tmp_path / "root", f"transform_param {{ {more} }}")
    assert torch.equal(made()[0], torch.full((2, channels, 4, 6), 7.0))
    made.close()


def test_data_skips_images_of_a_folder(make_layer: LayerMaker, tmp_path: Path) -> None:
    source = write_class_folder(tmp_path)
    fields = f'data_param {{ source: "{source}" batch_size: 1 rand_skip: 4 }}'
    first = set()
    for seed in range(20):
        torch.manual_seed(seed)
        made = make_layer(with_tops("Data", "a b", fields))
        assert isinstance(made, Data)
        first.add(float(made()[0][0, 0, 0, 0]))
        made.close()
    assert first == {0, 10, 20, 30}


def test_data_says_what_it_found(make_layer: LayerMaker, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    folder, shards = write_class_folder(tmp_path / "x"), write_shards(tmp_path / "y")
    made = data_layer(make_layer, folder)
    assert made.notes() == [
        "5 images of 2 classes, one class after the other.",
        'class 0 is "a": 2 images',
        'class 1 is "b": 3 images',
        "output data size: 2,3,4,6",
    ]
    made.close()
    made = data_layer(make_layer, Path(shards))
    assert made.notes() == ["5 images in 2 tar files.", "output data size: 2,3,4,6"]
    made.close()


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_image_data_from_other_sources(make_layer: LayerMaker, tmp_path: Path, kind: str) -> None:
    """Resized, gray, after root_folder, shuffled by the seed, and going on from a state."""
    source = write_class_folder(tmp_path) if kind == "folder" else Path(write_shards(tmp_path))
    param = "new_height: 2 new_width: 5 is_color: false shuffle: true rand_skip: 4"
    more = "transform_param { scale: 2 mirror: true }"
    first, second = (
        image_layer(make_layer, Path(source.name), more, param, tmp_path) for _ in "ab"
    )
    assert first.top_shapes() == [(2, 1, 2, 5), (2,)]
    skipped = first.state().records_read
    seen = [value for _ in range(10) for value in first()[0][:, 0, 0, 0].tolist()][-skipped % 5 :]
    epochs = [sorted(seen[k : k + 5]) for k in range(0, 15, 5)]
    for epoch in epochs:
        torch.testing.assert_close(torch.tensor(epoch), 2 * GRAYS, rtol=0, atol=2)
    second.load_state(first.state())
    for _ in range(6):
        for a, b in zip(first(), second(), strict=True):
            assert torch.equal(a, b)
    assert first.later_files() == []
    for made in (first, second):
        made.close()


def test_image_data_says_what_it_found(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_class_folder(tmp_path)
    made = image_layer(make_layer, Path("root"), param="shuffle: true", root=tmp_path)
    assert made.notes() == [
        "Opening file root",
        "Shuffling data",
        "A total of 5 images.",
        "5 images of 2 classes.",
        'class 0 is "a": 2 images',
        'class 1 is "b": 3 images',
        "output data size: 2,3,4,6",
    ]
    made.close()


@pytest.mark.parametrize(("kind", "param"), [("Data", "data"), ("ImageData", "image_data")])
def test_several_labels_from_shards(
    make_layer: LayerMaker, tmp_path: Path, kind: str, param: str
) -> None:
    source = write_shards(tmp_path, "{0} 0.5 -{0}")
    made = make_layer(
        with_tops(kind, "a b", f'{param}_param {{ source: "{source}" batch_size: 2 }}')
    )
    assert isinstance(made, Data | ImageData)
    assert made.top_shapes() == [(2, 3, 4, 6), (2, 3)]
    assert made()[1].tolist() == [[0, 0.5, 0], [1, 0.5, -1]]
    made.close()


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_what_a_batch_of_image_files_was_made_of(
    make_layer: LayerMaker, tmp_path: Path, kind: str
) -> None:
    source = write_class_folder(tmp_path) if kind == "folder" else Path(write_shards(tmp_path))
    names = {"folder": ["b/2.png", "b/3.png"], "shards": ["s-0.tar/2", "s-1.tar/3"]}[kind]
    made = data_layer(make_layer, source)
    made()
    made()
    folder = source if kind == "folder" else tmp_path
    assert made.batch_names() == [f"{folder}/{name}" for name in names]
    made.close()


@pytest.mark.parametrize(("kind", "param"), [("Data", "data"), ("ImageData", "image_data")])
def test_an_empty_folder_is_no_source(
    make_layer: LayerMaker, tmp_path: Path, kind: str, param: str
) -> None:
    fields = f'{param}_param {{ source: "{tmp_path}" batch_size: 1 }}'
    with pytest.raises(
        DataError, match=rf"^{tmp_path}: the folder holds neither a subfolder of im"
    ):
        make_layer(with_tops(kind, "a b", fields))
