"""Layers that read images. What the data sets themselves do is tested in tests/data."""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from moka.data.datum import encode
from moka.data.place import Share
from moka.data.store import make_store
from moka.errors import DataError, NetError
from moka.layers.data import Data, ImageData, WindowData
from moka.schema import write_binary
from moka.schema.blobproto import from_array

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import LayerMaker


def with_tops(kind: str, tops: str, more: str) -> str:
    return f'type: "{kind}" {" ".join(f"""top: "{t}" """ for t in tops.split())} {more}'


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


def write_images(folder: Path, backend: str = "lmdb", count: int = 5) -> None:
    """Images 1 x 2 x 2 with the values 4k, ..., 4k + 3 and the label k."""
    with make_store(folder, backend) as writer:
        for k in range(count):
            image = np.arange(4 * k, 4 * k + 4, dtype=np.uint8).reshape(1, 2, 2)
            writer.put(b"%08d" % k, encode(image, k).SerializeToString())


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


def write_list(folder: Path, count: int = 5) -> Path:
    """A list of images, 4 x 6 pixels in three colors of the value 10k + color, labeled k."""
    for k in range(count):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((4, 6, 3), 10 * k, np.uint8) + np.arange(3))
    (folder / "list.txt").write_text("".join(f"{k}.png {k}\n" for k in range(count)))
    return folder / "list.txt"


def image_layer(
    make_layer: LayerMaker,
    list_file: Path,
    more: str = "",
    param: str = "",
    root: Path | None = None,
) -> ImageData:
    own = f'source: "{list_file}" root_folder: "{root or list_file.parent}/" batch_size: 2 {param}'
    made = make_layer(
        with_tops("ImageData", "a b", f"image_data_param {{ {own} }} {more}"), training=True
    )
    assert isinstance(made, ImageData)
    return made


def test_image_data_reads_a_list(make_layer: LayerMaker, tmp_path: Path) -> None:
    made = image_layer(make_layer, write_list(tmp_path), "transform_param { scale: 0.5 }")
    assert made.top_shapes() == [(2, 3, 4, 6), (2,)]
    for k in range(5):
        images, labels = made()
        assert labels.tolist() == [2 * k % 5, (2 * k + 1) % 5]
        wanted = (10 * labels[:, None] + torch.arange(3)) * 0.5
        assert torch.equal(images, wanted[:, :, None, None].expand(2, 3, 4, 6))
    made.close()


@pytest.mark.parametrize(
    ("param", "more", "shape"),
    [
        ("is_color: false", "", (2, 1, 4, 6)),
        ("new_height: 3 new_width: 8", "", (2, 3, 3, 8)),
        ("short_side: 8", "", (2, 3, 8, 12)),
        ("new_height: 5 new_width: 9", "transform_param { crop_size: 2 }", (2, 3, 2, 2)),
        ("", "transform_param { crop_h: 2 crop_w: 3 }", (2, 3, 2, 3)),
        ("", "transform_param { resize_param { height: 9 width: 7 } }", (2, 3, 9, 7)),
        (
            "",
            "transform_param { crop_size: 5 random_resize_param { min_size: 6 max_size: 9 } }",
            (2, 3, 5, 5),
        ),
        (
            "",
            "transform_param { crop_size: 4 img_rand_resize_lower: 6 img_rand_resize_upper: 9"
            " allow_upscale: true }",
            (2, 3, 4, 4),
        ),
    ],
)
def test_image_data_makes_one_size(
    make_layer: LayerMaker, tmp_path: Path, param: str, more: str, shape: tuple[int, ...]
) -> None:
    made = image_layer(make_layer, write_list(tmp_path), more, param)
    assert made.top_shapes()[0] == made()[0].shape == shape
    made.close()


def test_image_data_takes_its_shape_from_each_batch(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    for k in (2, 3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.zeros((5, 5, 3), np.uint8))
    made = image_layer(make_layer, list_file)
    assert [made()[0].shape for _ in range(2)] == [(2, 3, 4, 6), (2, 3, 5, 5)]
    made.close()


def test_image_data_goes_on_from_a_state(make_layer: LayerMaker, tmp_path: Path) -> None:
    options = ("transform_param { crop_size: 2 mirror: true }", "shuffle: true rand_skip: 3")
    write_list(tmp_path)
    rng = np.random.default_rng(2)
    for k in range(5):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 256, (4, 6, 3), np.uint8))
    first, second = (image_layer(make_layer, tmp_path / "list.txt", *options) for _ in range(2))
    for _ in range(4):
        first()
    second()
    second.load_state(first.state())
    for _ in range(6):
        for a, b in zip(first(), second(), strict=True):
            assert torch.equal(a, b)
    for made in (first, second):
        made.close()


def first_labels(
    make_layer: LayerMaker, list_file: Path, param: str, count: int
) -> list[tuple[float, ...]]:
    """The labels of the first two batches of so many layers, one seed after the other."""
    labels = []
    for seed in range(count):
        torch.manual_seed(seed)
        made = image_layer(make_layer, list_file, param=param)
        labels.append((*made()[1].tolist(), *made()[1].tolist()))
        made.close()
    return labels


def test_image_data_shuffles_by_the_seed(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    orders = first_labels(make_layer, list_file, "shuffle: true", 8)
    assert len(set(orders)) > 4
    assert all(len(set(order)) == 4 for order in orders)
    assert orders == first_labels(make_layer, list_file, "shuffle: true", 8)


def test_image_data_skips_by_the_seed(make_layer: LayerMaker, tmp_path: Path) -> None:
    labels = first_labels(make_layer, write_list(tmp_path), "rand_skip: 3", 20)
    assert set(labels) == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 0)}


def test_image_data_says_what_it_opened(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    made = image_layer(make_layer, list_file, param="rand_skip: 5 shuffle: true")
    state = made.state()
    assert made.notes() == [
        f"Opening file {list_file}",
        "Shuffling data",
        "A total of 5 images.",
        f"Skipping first {state.records_read} data points.",
        "output data size: 2,3,4,6",
    ]
    made.close()
    made = image_layer(make_layer, list_file)
    assert made.notes() == [
        f"Opening file {list_file}",
        "A total of 5 images.",
        "output data size: 2,3,4,6",
    ]
    made.close()


def test_image_data_names_an_image_that_is_missing(make_layer: LayerMaker, tmp_path: Path) -> None:
    list_file = write_list(tmp_path)
    (tmp_path / "3.png").unlink()
    made = image_layer(make_layer, list_file)
    made()
    with pytest.raises(
        DataError, match=r"list\.txt: line 4: Could not load .*/3\.png: No such file"
    ):
        made()
    made.close()
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"Could not load .*/0\.png"):
        image_layer(make_layer, list_file)


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


def window_layer(
    make_layer: LayerMaker, folder: Path, param: str = "", more: str = ""
) -> WindowData:
    """Two windows of an image of the value 100, one of them background."""
    cv2.imwrite(str(folder / "a.png"), np.full((8, 8, 3), 100, np.uint8))
    (folder / "w.txt").write_text("# 0\na.png\n3\n8\n8\n2\n2 0.9 0 0 3 7\n7 0.4 4 4 7 7\n")
    own = f'source: "{folder}/w.txt" root_folder: "{folder}/" batch_size: 4 {param}'
    fields = f"window_data_param {{ {own} }} transform_param {{ crop_size: 5 {more} }}"
    made = make_layer(with_tops("WindowData", "a b", fields), training=True)
    assert isinstance(made, WindowData)
    return made


@pytest.mark.parametrize(
    ("param", "labels"),
    [
        ("", [0, 0, 0, 2]),
        ("fg_fraction: 0.5", [0, 0, 2, 2]),
        ("fg_threshold: 0.3 fg_fraction: 1", {2, 7}),
        ("bg_threshold: 0.2 fg_fraction: 1", [2, 2, 2, 2]),
    ],
)
def test_window_data(
    make_layer: LayerMaker, tmp_path: Path, param: str, labels: list[int] | set[int]
) -> None:
    torch.manual_seed(0)
    made = window_layer(make_layer, tmp_path, param)
    assert made.top_shapes() == [(4, 3, 5, 5), (4,)]
    data, got = made()
    assert torch.equal(data, torch.full((4, 3, 5, 5), 100.0))
    assert (set(got.tolist()) if isinstance(labels, set) else got.tolist()) == labels
    made.close()


@pytest.mark.parametrize(
    ("param", "more", "value"),
    [
        ("scale: 0.5", "", 50),
        ("", "scale: 0.5 mean_value: 20", 40),
        ("scale: 0.5", "scale: 0.5 mean_value: 20", 20),
    ],
)
def test_window_data_is_scaled_by_either_message(
    make_layer: LayerMaker, tmp_path: Path, param: str, more: str, value: float
) -> None:
    made = window_layer(make_layer, tmp_path, param, more)
    assert torch.equal(made()[0], torch.full((4, 3, 5, 5), float(value)))
    made.close()


def test_window_data_with_context(make_layer: LayerMaker, tmp_path: Path) -> None:
    """The tall window grows to a square and beyond the image on three sides."""
    param = 'crop_mode: "square" context_pad: 1 fg_fraction: 1 cache_images: true'
    made = window_layer(make_layer, tmp_path, param)
    data, _ = made()
    assert 0 < (data > 0).sum() < data.numel()
    assert not data[:, :, 0].any()
    assert not data[:, :, :, 1].any()
    assert made.notes() == [
        "Number of images: 1",
        "class 0 has 1 samples",
        "class 2 has 1 samples",
        "Amount of context padding: 1",
        "Crop mode: square",
        "output data size: 4,3,5,5",
    ]
    made.close()


def test_window_data_may_keep_its_images(make_layer: LayerMaker, tmp_path: Path) -> None:
    made = window_layer(make_layer, tmp_path, "cache_images: true")
    wanted, _ = made()
    (tmp_path / "a.png").unlink()
    for _ in range(10):  # more than are made ahead
        assert torch.equal(made()[0], wanted)
    made.close()


def test_window_data_goes_on_from_a_state(make_layer: LayerMaker, tmp_path: Path) -> None:
    param = "fg_threshold: 0.3 fg_fraction: 1"
    first, second = (window_layer(make_layer, tmp_path, param) for _ in range(2))
    for _ in range(3):
        first()
    second.load_state(first.state())
    for _ in range(6):
        assert first()[1].tolist() == second()[1].tolist()
    for made in (first, second):
        made.close()


def test_what_the_last_batch_was_made_of(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    made = data_layer(make_layer, tmp_path / "db")
    assert made.batch_names() == []
    for wanted in ((0, 1), (2, 3), (4, 0)):
        made()
        assert made.batch_names() == [f"{k:08}" for k in wanted]
    made.close()


def test_files_that_batches_will_need(make_layer: LayerMaker, tmp_path: Path) -> None:
    write_images(tmp_path / "db")
    images = image_layer(make_layer, write_list(tmp_path))
    windows = window_layer(make_layer, tmp_path)
    data = data_layer(make_layer, tmp_path / "db")
    assert images.later_files() == [f"{tmp_path}/{k}.png" for k in range(5)]
    assert windows.later_files() == [f"{tmp_path}/a.png"]
    assert data.later_files() == []
    for made in (images, windows, data):
        made.close()
