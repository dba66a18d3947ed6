"""Layers that read images. What the data sets themselves do is tested in tests/data."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from tests.layers.data_layers import data_layer, with_tops, write_images

from moka.data.batches import Batch
from moka.data.datum import encode
from moka.data.place import Share
from moka.data.store import make_store
from moka.errors import DataError, NetError
from moka.layers.data import Data, ImageData
from moka.schema import write_binary
from moka.schema.blobproto import from_array

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import LayerMaker


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("Data", "data_param { batch_size: 1 }", "data_param has no source"),
        ("ImageData", "image_data_param { batch_size: 1 }", "image_data_param has no source"),
        (
            "ImageData",
            'image_data_param { source: "x" new_width: 4 }',
            "new_height and new_width go together: got new_height=0, new_width=4",
        ),
        (
            "ImageData",
            'image_data_param { source: "x" new_height: 4 }',
            "new_height and new_width go together: got new_height=4, new_width=0",
        ),
        (
            "ImageData",
            'image_data_param { source: "x" short_side: 4 new_height: 4 new_width: 4 }',
            "give either short_side or new_height and new_width, not both",
        ),
        (
            "ImageData",
            'image_data_param { source: "x" min_height: 4 }',
            "min_height } is an option of a fork that this layer does not have",
        ),
        ("ImageData", 'image_data_param { source: "x" batch_size: 0 }', "batch_size must be > 0"),
        ("WindowData", "window_data_param { batch_size: 1 }", "window_data_param has no source"),
        ("WindowData", 'window_data_param { source: "x" }', "batch_size is missing"),
        (
            "WindowData",
            'window_data_param { source: "x" batch_size: 1 crop_mode: "crop" }',
            'crop_mode is "warp" or "square", got "crop"',
        ),
        (
            "WindowData",
            'window_data_param { source: "x" batch_size: 1 fg_fraction: 1.5 }',
            "fg_fraction must be between 0 and 1, got 1.5",
        ),
        ("Data", 'data_param { source: "x" }', "batch_size is missing"),
        ("Data", 'data_param { source: "x" batch_size: 0 }', "batch_size must be > 0, got 0"),
    ],
)
def test_refused(make_layer: LayerMaker, kind: str, more: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(with_tops(kind, "a b", more))


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


def test_data_is_shuffled_anew_in_each_epoch(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    fields = f'source: "{tmp_path / "db"}" batch_size: 5 backend: LMDB shuffle: true'
    made = make_layer(with_tops("Data", "a b", f"data_param {{ {fields} }}"))
    assert isinstance(made, Data)
    epochs = []
    for _ in range(6):
        images, labels = made()
        assert images[:, 0, 0, 0].tolist() == [4 * label for label in labels.tolist()]
        epochs.append(labels.tolist())
    made.close()
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_data_reads_its_share(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    made = data_layer(make_layer, tmp_path / "db")
    made.attach(torch.device("cpu"), Share(1, 2))
    assert [made()[1].tolist() for _ in range(3)] == [[1, 3], [0, 2], [4, 1]]
    made.close()


def test_on_a_device_only_bytes_travel(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    made = data_layer(make_layer, tmp_path / "db", "transform_param { scale: 0.5 mean_value: 1 }")
    made.attach(torch.device("meta"), Share())  # a device without numbers: shapes and types alone
    images, _ = made()
    assert images.device.type == "meta"
    assert (images.shape, images.dtype) == ((2, 1, 2, 2), torch.float32)
    batch, _ = made.feed.next()
    assert isinstance(batch, Batch)
    assert batch.data.dtype == np.uint8
    made.close()


def test_batches_lie_channels_last(make_layer: LayerMaker, tmp_path: Path) -> None:
    """As the engines run them, so nobody copies them again."""
    with make_store(tmp_path / "db", "lmdb") as writer:
        for k in range(4):
            image = np.random.default_rng(k).integers(0, 256, (3, 6, 7), np.uint8)
            writer.put(b"%d" % k, encode(image, k).SerializeToString())
    for more in ("", "transform_param { crop_size: 5 mirror: true }"):
        made = data_layer(make_layer, tmp_path / "db", more)
        images, _ = made()
        assert images.is_contiguous(memory_format=torch.channels_last)
        made.close()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Data", 'data_param { source: "missing" batch_size: 2 }'),
        ("ImageData", 'image_data_param { source: "missing" batch_size: 2 }'),
        (
            "WindowData",
            'window_data_param { source: "missing" batch_size: 2 }'
            " transform_param { crop_size: 4 }",
        ),
        ("HDF5Data", 'hdf5_data_param { source: "missing" batch_size: 2 }'),
    ],
)
def test_a_net_whose_data_is_given_opens_no_file(
    make_net: NetMaker, kind: str, fields: str
) -> None:
    text = f'layer {{ name: "in" type: "{kind}" top: "a" top: "b" {fields} }}'
    with pytest.raises(DataError, match="No such file or directory"):
        make_net(text)
    net = make_net(text, given_shapes={"a": (2, 3, 4, 4), "b": (2,)})
    images, labels = torch.ones(2, 3, 4, 4), torch.zeros(2)
    assert torch.equal(net(a=images, b=labels)["a"], images)


def test_threads_start_with_prepare(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    before = threading.active_count()
    made = data_layer(make_layer, tmp_path / "db")
    assert threading.active_count() == before
    made.prepare()
    assert threading.active_count() > before
    assert made()[1].tolist() == [0, 1]
    made.close()


def test_a_net_transforms_where_it_runs(
    make_net: NetMaker, tmp_path: Path, device: torch.device
) -> None:
    pytest.importorskip("lmdb")
    write_images(tmp_path / "db", count=6)
    mean = np.array([3, 1, 0, 9], np.float32).reshape(1, 1, 2, 2)
    write_binary(tmp_path / "mean", from_array(mean))
    net = make_net(
        'layer { name: "d" type: "Data" top: "a" top: "b"'
        f' data_param {{ source: "{tmp_path}/db" batch_size: 6 }}'
        f' transform_param {{ scale: 0.5 mirror: true mean_file: "{tmp_path}/mean" }} }}'
    )
    images = net()["a"]
    assert images.device.type == device.type
    mirrored = set()
    for k, image in enumerate(images.cpu().numpy()):
        wanted = (np.arange(4 * k, 4 * k + 4).reshape(1, 2, 2) - mean[0]) * 0.5
        assert image.tolist() in (wanted.tolist(), wanted[:, :, ::-1].tolist())
        mirrored.add(image.tolist() == wanted[:, :, ::-1].tolist())
    assert mirrored == {True, False}
    net.close()


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


def test_data_skips_records_by_chance(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    torch.manual_seed(1)
    fields = f'data_param {{ source: "{tmp_path}/db" batch_size: 1 rand_skip: 4 }}'
    first = set()
    for _ in range(20):
        made = make_layer(with_tops("Data", "a b", fields))
        assert isinstance(made, Data)
        first.add(int(made()[1]))
        made.close()
    assert first == {0, 1, 2, 3}


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_data_says_what_it_opened(make_layer: LayerMaker, tmp_path: Path, backend: str) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    write_images(tmp_path / "db", backend)
    made = data_layer(make_layer, tmp_path / "db", "transform_param { crop_size: 1 }")
    assert made.notes() == [f"Opened {backend} {tmp_path}/db", "output data size: 2,1,1,1"]
    made.close()


def test_data_that_is_not_there(make_layer: LayerMaker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        data_layer(make_layer, tmp_path / "nowhere")


def test_groups_of_images_need_a_list(make_layer: LayerMaker, tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    cv2.imwrite(str(tmp_path / "dog" / "a.png"), np.zeros((4, 4, 3), np.uint8))
    fields = f'source: "{tmp_path}" pair_size: 2 shuffle: true'
    text = f'type: "ImageData" image_data_param {{ {fields} }} top: "x" top: "t"'
    with pytest.raises(NetError, match=r"pair_size needs a list of images: .* is none"):
        make_layer(text)


def test_groups_of_images_stay_together(make_layer: LayerMaker, tmp_path: Path) -> None:
    for k in range(5):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((2, 2, 3), k, np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{k}.png {k}\n" for k in range(5)))
    fields = f'source: "{tmp_path}/list.txt" pair_size: 2 shuffle: true batch_size: 2'
    made = make_layer(f'type: "ImageData" image_data_param {{ {fields} }} top: "x" top: "t"')
    assert isinstance(made, ImageData)
    for _ in range(6):
        _, labels = made()
        assert labels.tolist() in ([0, 1], [2, 3])
    made.close()
