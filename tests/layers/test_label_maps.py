"""Data layers of images and label images, which are changed alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.engine.layerwise import Layerwise
from moka.errors import DataError, MokaError
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

Maker = Callable[..., Net]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Array, Array]]:
    """Two images (3, H, W) with label maps (H, W), as files, and list.txt, which names them. Every
    pixel has its own blue, and as its label the same number."""
    monkeypatch.chdir(tmp_path)
    made = []
    lines = []
    for k, (height, width) in enumerate([(6, 8), (4, 5)]):
        labels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
        image = np.stack([labels, labels * 2, labels * 3])
        cv2.imwrite(f"image{k}.png", image.transpose(1, 2, 0))
        cv2.imwrite(f"labels{k}.png", labels)
        lines.append(f"image{k}.png labels{k}.png")
        made.append((image.astype(np.float32), labels.astype(np.float32)))
    Path("list.txt").write_text("\n".join(lines))
    return made


def net_of(
    kind: str,
    fields: str,
    rest: str = "",
    *,
    tops: int = 2,
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
) -> Net:
    message = "dense_image_data_param" if kind == "DenseImageData" else "image_data_param"
    names = " ".join(f'top: "{name}"' for name in ("data", "label", "size")[:tops])
    text = (
        f'layer {{ name: "data" type: "{kind}" {names}'
        f' {message} {{ source: "list.txt" batch_size: 1 {fields} }} {rest} }}'
    )
    return build_net(parse_text(text, caffe_pb2.NetParameter), phase)


def forward(net: Net) -> tuple[Array, Array]:
    Layerwise(net).forward()
    return net.blobs["data"].data[0].copy(), net.blobs["label"].data[0, 0].copy()


@pytest.mark.parametrize("kind", ["DenseImageData", "ImageSegData"])
def test_images_and_their_label_maps(kind: str, pictures: list[tuple[Array, Array]]) -> None:
    fields = "label_type: PIXEL" if kind == "ImageSegData" else ""
    net = net_of(kind, fields, "transform_param { mean_value: 5 scale: 0.5 }")
    for image, labels in [*pictures, pictures[0]]:
        data, label = forward(net)
        np.testing.assert_array_equal(data, (image - 5) * 0.5)
        np.testing.assert_array_equal(label, labels)
    net.close()


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_both_are_cut_and_mirrored_alike(
    phase: caffe_pb2.Phase, pictures: list[tuple[Array, Array]]
) -> None:
    net = net_of("DenseImageData", "crop_height: 3 crop_width: 4 mirror: true", phase=phase)
    seen = set()
    for _ in range(16):
        data, label = forward(net)
        assert label.shape == (3, 4)
        np.testing.assert_array_equal(data, np.stack([label, label * 2, label * 3]))
        seen.add(tuple(label[0]))
    whole = pictures[0][1]
    if phase == caffe_pb2.TEST:  # the central part of either image, as it is or mirrored
        centers = [whole[1:4, 2:6], pictures[1][1][:3, :4]]
        assert seen == {tuple(row) for c in centers for row in (c[0], c[0, ::-1])}
    else:
        assert len(seen) > 4
    net.close()


@pytest.mark.usefixtures("pictures")
def test_smaller_images_are_extended() -> None:
    net = net_of(
        "ImageSegData",
        "label_type: PIXEL ignore_label: 99",
        "transform_param { crop_size: 7 mean_value: 1 mean_value: 2 mean_value: 3 }",
        tops=3,
    )
    data, label = forward(net)  # of 6 x 8
    assert label.shape == (7, 7)
    assert (label[6] == 99).all()
    assert not data[:, 6].any()  # the mean, less the mean
    assert net.blobs["size"].data.ravel().tolist() == [6, 8]
    data, label = forward(net)  # of 4 x 5
    assert (label[4:] == 99).all()
    assert (label[:, 5:] == 99).all()
    np.testing.assert_array_equal(label[:4, :5].ravel(), np.arange(20))
    np.testing.assert_array_equal(data[0, :4, :5], label[:4, :5] - 1)
    assert net.blobs["size"].data.ravel().tolist() == [4, 5]
    net.close()


@pytest.fixture
def edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Array:
    """A list of one image, each of whose pixels has its own blue, and of its edges, which are gray
    (6, 8); returned."""
    monkeypatch.chdir(tmp_path)
    gray = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
    gray[0, :4] = 127, 128, 0, 255
    cv2.imwrite("image.png", np.arange(48, dtype=np.uint8).reshape(6, 8, 1).repeat(3, 2))
    cv2.imwrite("edges.png", gray)
    Path("list.txt").write_text("image.png edges.png")
    return gray.astype(np.float32)


def test_edges(edges: Array) -> None:
    with closing(net_of("ImageLabelmapData", "")) as net:
        data, label = forward(net)
    np.testing.assert_array_equal(data[0].ravel(), np.arange(48))
    np.testing.assert_array_equal(label, edges > 127)
    with closing(net_of("ImageLabelmapData", "fractional_labels: true")) as net:
        np.testing.assert_allclose(forward(net)[1], edges / 255, rtol=1e-6)


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_edges_are_cut_and_mirrored_like_their_image(phase: caffe_pb2.Phase, edges: Array) -> None:
    rest = "transform_param { crop_size: 4 mirror: true mean_value: 1 }"
    with closing(net_of("ImageLabelmapData", "fractional_labels: true", rest, phase=phase)) as net:
        for _ in range(6):
            data, label = forward(net)
            want = edges.ravel()[(data[0] + 1).astype(int)] / 255
            np.testing.assert_allclose(label, want, rtol=1e-6)


def test_edges_are_resized_as_images_are(edges: Array) -> None:
    fields = "new_height: 3 new_width: 5"
    resized = cv2.resize(edges.astype(np.uint8), (5, 3)).astype(np.float32)
    for more, want in (("", resized > 127), ("fractional_labels: true", resized / 255)):
        with closing(net_of("ImageLabelmapData", f"{fields} {more}")) as net:
            data, label = forward(net)
        assert data.shape == (3, 3, 5)
        np.testing.assert_allclose(label, want, rtol=1e-6)


@pytest.mark.usefixtures("edges")
def test_edges_of_another_size() -> None:
    cv2.imwrite("edges.png", np.zeros((6, 7), np.uint8))
    with pytest.raises(DataError, match=r"edges\.png has 6 x 7 labels, its image 6 x 8 pixels"):
        net_of("ImageLabelmapData", "")


def sliced_net(
    fields: str,
    transform: str = "crop_size: 9",
    slices: str = "dim: 3 dim: 2 stride: 2 stride: 3 offset: 2 offset: 1",
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
) -> Net:
    lists = 'image_list_path: "images.txt" label_list_path: "labels.txt"'
    text = (
        'layer { name: "data" type: "ImageLabelData" top: "data" top: "label"'
        f" image_label_data_param {{ {lists} label_slice {{ {slices} }} {fields} }}"
        f" transform_param {{ {transform} }} }}"
    )
    return build_net(parse_text(text, caffe_pb2.NetParameter), phase)


@pytest.fixture
def lists(pictures: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """`pictures` as two lists."""
    Path("images.txt").write_text("image0.png\nimage1.png\n")
    Path("labels.txt").write_text("labels0.png\n\nlabels1.png")
    return pictures


def mirrored(k: int, size: int) -> int:
    """The pixel that stands for pixel k of an axis that goes on as its mirror image."""
    while not 0 <= k < size:
        k = -k if k < 0 else 2 * size - 2 - k
    return k


def with_context(image: Array, labels: Array, side: int, *, reflect: bool) -> tuple[Array, Array]:
    """An image (3, H, W) and its labels extended by (2, 1) pixels and then up to `side`."""
    for widths in ([(2, 2), (1, 1)], None):
        height, width = labels.shape
        if widths is None:
            rows, columns = max(0, side - height), max(0, side - width)
            widths = [(rows // 2, rows - rows // 2), (columns - columns // 2, columns // 2)]
        (top, below), (left, right) = widths
        shape = (height + top + below, width + left + right)
        new, new_labels = np.zeros((3, *shape)), np.full(shape, 255.0)
        for i, j in np.ndindex(*shape):
            row, column = i - top, j - left
            if inside := 0 <= row < height and 0 <= column < width:
                new_labels[i, j] = labels[row, column]
            if reflect or inside:
                new[:, i, j] = image[:, mirrored(row, height), mirrored(column, width)]
        image, labels = new, new_labels
    return image, labels


@pytest.mark.parametrize("padding", ["", "padding: ZERO"])
@pytest.mark.parametrize("side", [9, 13])
def test_labels_within_their_context(
    lists: list[tuple[Array, Array]], padding: str, side: int
) -> None:
    with closing(sliced_net(padding, f"crop_size: {side} mean_value: 3")) as net:
        for image, labels in lists:
            data, label = forward(net)
            image, labels = with_context(image, labels, side, reflect=not padding)
            top, left = (labels.shape[0] - side) // 2, (labels.shape[1] - side) // 2
            window = np.s_[top : top + side, left : left + side]
            np.testing.assert_array_equal(data, image[(slice(None), *window)] - 3)
            part = labels[window]
            assert label.shape == (3, 2)
            for i, j in np.ndindex(3, 2):
                assert label[i, j] == part[2 + 2 * i, 1 + 3 * j]


@pytest.mark.usefixtures("lists")
def test_labels_are_cut_and_mirrored_like_their_image() -> None:
    slices = "dim: 2 dim: 3 stride: 1 stride: 1 offset: 1 offset: 1"
    transform = "crop_size: 4 mirror: true"
    seen = set()
    with closing(sliced_net("", transform, slices, caffe_pb2.TRAIN)) as net:
        for _ in range(24):
            data, label = forward(net)
            middle = data[0, 1:3, 1:4]
            known = label != 255
            np.testing.assert_array_equal(middle[known], label[known])
            seen.add(tuple(label.ravel()))
    assert len(seen) > 8


@pytest.mark.usefixtures("lists")
def test_images_and_labels_of_random_size() -> None:
    """The labels of a ramp stay those of its pixels, whatever the size."""
    ramp = np.arange(0, 240, 4, dtype=np.uint8).repeat(30).reshape(60, 30)
    cv2.imwrite("image0.png", ramp)
    cv2.imwrite("labels0.png", ramp)
    Path("images.txt").write_text("image0.png")
    Path("labels.txt").write_text("labels0.png")
    slices = "dim: 8 dim: 8 stride: 1 stride: 1 offset: 0 offset: 0"
    fields, slopes = "rand_scale: true min_scale: 0.5 max_scale: 2", set()
    with closing(sliced_net(fields, "crop_size: 8", slices)) as net:
        for _ in range(12):
            data, label = forward(net)
            assert abs(data[0] - label).max() <= 8
            slopes.add(round(float(label[-1, 0] - label[0, 0])))
    assert min(slopes) < 20 < 36 < max(slopes)  # 28 at the original size


@pytest.mark.usefixtures("lists")
def test_folders_stand_before_the_names(tmp_path: Path) -> None:
    for text in ('data_dir: "%s/"', 'image_dir: "%s/" label_dir: ""', 'label_dir: "%s/"'):
        with closing(sliced_net(text % tmp_path)) as net:
            assert net.blobs["data"].shape == (1, 3, 9, 9)
    with pytest.raises(DataError, match="Could not load elsewhere/image0"):
        sliced_net('image_dir: "elsewhere/" data_dir: "not read"')


@pytest.mark.usefixtures("lists")
def test_sliced_labels_refused() -> None:
    with pytest.raises(MokaError, match="transform_param needs crop_size"):
        sliced_net("", "mirror: true")
    with pytest.raises(MokaError, match="lists of files here, not databases"):
        sliced_net("backend: LMDB threads: 1")
    with pytest.raises(MokaError, match="label_slice reaches row 9, but crop_size 9 has none"):
        sliced_net("", slices="dim: 8 dim: 1 stride: 1 stride: 1 offset: 2 offset: 0")
    with pytest.raises(MokaError, match=r"needs stride twice, for rows and columns, got \[1\]"):
        sliced_net("", slices="dim: 8 dim: 1 stride: 1 offset: 2 offset: 0")
    with pytest.raises(MokaError, match=r"needs dim twice, for rows and columns, got \[0, 1\]"):
        sliced_net("", slices="dim: 0 dim: 1 stride: 1 stride: 1 offset: 2 offset: 0")
    with pytest.raises(MokaError, match="min_scale must be <= max_scale, got 3 and 1"):
        sliced_net("min_scale: 3")
    Path("labels.txt").write_text("labels0.png")
    with pytest.raises(DataError, match=r"labels\.txt: .*names 1 label images for 2 images"):
        sliced_net("")


@pytest.mark.usefixtures("pictures")
def test_one_label_for_an_image() -> None:
    Path("list.txt").write_text("image0.png 7\n")
    net = net_of("ImageSegData", "")
    assert (forward(net)[1] == 7).all()
    net.close()


@pytest.mark.usefixtures("pictures")
def test_no_labels() -> None:
    Path("list.txt").write_text("image0.png\n")
    net = net_of("ImageSegData", "label_type: NONE")
    assert (forward(net)[1] == 255).all()
    net.close()


@pytest.mark.usefixtures("pictures")
def test_resizing_does_not_mix_labels() -> None:
    net = net_of("DenseImageData", "new_height: 3 new_width: 4 is_color: false")
    data, label = forward(net)
    assert data.shape == (1, 3, 4)
    np.testing.assert_array_equal(label[0], [0, 2, 4, 6])
    net.close()


@pytest.mark.usefixtures("pictures")
def test_labels_are_divided() -> None:
    net = net_of("DenseImageData", "label_divide_factor: 10")
    assert forward(net)[1].ravel().tolist() == [k // 10 for k in range(48)]
    net.close()


@pytest.mark.usefixtures("pictures")
def test_a_mean_file() -> None:
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=6, width=8, data=[2.0] * 144)
    Path("mean.binaryproto").write_bytes(mean.SerializeToString())
    net = net_of("DenseImageData", 'mean_file: "mean.binaryproto"')
    data, label = forward(net)
    np.testing.assert_array_equal(data[0], label - 2)
    net.close()


@pytest.mark.usefixtures("pictures")
def test_a_new_order_in_each_epoch() -> None:
    net = net_of("DenseImageData", "shuffle: true")
    heights = [forward(net)[1].shape[0] for _ in range(40)]
    assert all(sorted(heights[k : k + 2]) == [4, 6] for k in range(0, 40, 2))
    assert heights[::2] != heights[:1] * 20
    net.close()


@pytest.mark.parametrize(
    ("lines", "kind", "fields", "rest", "message"),
    [
        ("image0.png labels1.png", "DenseImageData", "", "", "line 1: labels1.png has 4 x 5"),
        ("image0.png none.png", "DenseImageData", "", "", "line 1: Could not load none.png"),
        ("image0.png", "DenseImageData", "", "", 'line 1, "image0.png", is not'),
        ("image0.png labels0.png", "ImageSegData", "", "", "is not a whole number"),
        ("image1.png labels1.png", "DenseImageData", "crop_height: 5 crop_width: 5", "",
         'the image "image1.png" is 4 x 5, smaller than the crop 5 x 5'),
        ("image1.png labels1.png", "DenseImageData", "crop_height: 5", "",
         "crop_height and crop_width go together"),
        ("image1.png labels1.png", "DenseImageData", "new_width: 5", "",
         "new_height and new_width go together"),
        ("image1.png labels1.png", "DenseImageData", "",
         "transform_param { resize_short_side: 3 }", "nothing is applied to label maps"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("pictures")
def test_bad_input(lines: str, kind: str, fields: str, rest: str, message: str) -> None:
    Path("list.txt").write_text(lines)
    with pytest.raises(MokaError, match=message):
        forward(net_of(kind, fields, rest))


@pytest.mark.usefixtures("pictures")
def test_missing_files_are_known_before() -> None:
    net = net_of("DenseImageData", "")
    ((_, source),) = net.sources
    assert source.later_files() == ["image0.png", "image1.png", "labels0.png", "labels1.png"]
    net.close()
    Path("list.txt").write_text("")
    with pytest.raises(DataError, match="File is empty"):
        net_of("DenseImageData", "")


@pytest.mark.usefixtures("pictures")
def test_scales_drawn_by_chance() -> None:
    Path("list.txt").write_text("image0.png labels0.png")
    factors = "transform_param { scale_factors: 0.5 scale_factors: 1 scale_factors: 2 }"
    net = net_of("ImageSegData", "label_type: PIXEL", factors, phase=caffe_pb2.TRAIN)
    shapes = set()
    for _ in range(20):
        data, label = forward(net)
        assert data.shape[1:] == label.shape
        shapes.add(label.shape)
        if label.shape == (12, 16):
            assert np.array_equal(label[::2, ::2].ravel(), np.arange(48))
    assert shapes == {(3, 4), (6, 8), (12, 16)}
    net.close()
    net = net_of("ImageSegData", "label_type: PIXEL", factors)
    assert forward(net)[1].shape == (6, 8)
    net.close()
