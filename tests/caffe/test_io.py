from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from caffe.proto import caffe_pb2
from moka.errors import DataError

DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_array_to_blobproto_and_back() -> None:
    proto = caffe.io.array_to_blobproto(DATA)
    assert list(proto.shape.dim) == [2, 3, 4]
    assert not proto.diff
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto), DATA)


def test_diffs() -> None:
    proto = caffe.io.array_to_blobproto(DATA, -DATA)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto), DATA)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto, return_diff=True), -DATA)


def test_the_older_form_has_four_axes() -> None:
    proto = caffe_pb2.BlobProto(num=1, channels=2, height=3, width=4, data=DATA.ravel().tolist())
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(proto), DATA[None])


def test_a_blobproto_that_does_not_fit() -> None:
    proto = caffe.io.array_to_blobproto(DATA)
    proto.data.append(1)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) holds 25"):
        caffe.io.blobproto_to_array(proto)


def test_a_blobproto_without_a_shape_is_one_number() -> None:
    assert caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123
    with pytest.raises(ValueError, match=r"\(\) holds 2"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2]))


def test_a_vector_of_blobprotos() -> None:
    arrays = [DATA, DATA[0, 0]]
    text = caffe.io.arraylist_to_blobprotovector_str(arrays)
    assert caffe.io.arraylist_to_blobprotovecor_str(arrays) == text
    assert [list(b.shape.dim) for b in caffe_pb2.BlobProtoVector.FromString(text).blobs] == [
        [2, 3, 4],
        [4],
    ]
    for got, array in zip(caffe.io.blobprotovector_str_to_arraylist(text), arrays, strict=True):
        np.testing.assert_array_equal(got, array)
        assert got.dtype == np.float64


@pytest.mark.parametrize(
    ("array", "field"),
    [(DATA.astype(np.uint8), "data"), (DATA, "float_data"), (DATA.astype(float), "float_data")],
)
def test_array_to_datum_and_back(array: NDArray[Any], field: str) -> None:
    datum = caffe.io.array_to_datum(array, 3)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 3)
    assert len(getattr(datum, field)) == 24
    back = caffe.io.datum_to_array(datum)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == (np.uint8 if field == "data" else np.float64)
    assert back.flags.writeable


def test_a_datum_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="1 values for channels, height, width"):
        caffe.io.datum_to_array(caffe_pb2.Datum(channels=2, height=1, width=1, float_data=[1]))


def test_a_datum_without_a_label() -> None:
    assert not caffe.io.array_to_datum(DATA).HasField("label")


def test_a_datum_has_three_axes() -> None:
    with pytest.raises(ValueError, match=r"^Incorrect array shape\..* \(3, 4\)\. .*newaxis\]\.$"):
        caffe.io.array_to_datum(DATA[0])
    with pytest.raises(ValueError, match=r"\(channels, height, width\), got \(1, 2, 3, 4\)\.$"):
        caffe.io.array_to_datum(DATA[None])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: caffe.io.datum_to_array(b"bytes"),  # type: ignore[arg-type]
            r"^a Datum is wanted, got bytes: caffe_pb2\.Datum\.FromString reads them\.$",
        ),
        (
            lambda: caffe.io.blobproto_to_array("mean.binaryproto"),  # type: ignore[arg-type]
            r"^a BlobProto is wanted, got a name of a file: .* caffe_pb2\.BlobProto\.FromString\.$",
        ),
        (
            lambda: caffe.io.datum_to_array(caffe_pb2.AnnotatedDatum()),  # type: ignore[arg-type]
            "^a Datum is wanted, got an AnnotatedDatum: its image is its field `datum`",
        ),
    ],
)
def test_what_is_no_message(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_messages_of_another_caffe() -> None:
    class Datum:  # as another caffe_pb2 makes it
        channels, height, width, data, float_data, encoded = 1, 1, 2, b"ab", (), False

    assert caffe.io.datum_to_array(Datum()).tolist() == [[[97, 98]]]  # type: ignore[arg-type]


def test_an_encoded_datum_is_decoded() -> None:
    image = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
    datum = caffe_pb2.Datum(encoded=True, data=cv2.imencode(".png", image)[1].tobytes())
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), image.transpose(2, 0, 1))


# --- images -----------------------------------------------------------------------------------

RGB = np.random.default_rng(2).integers(0, 256, (3, 4, 3), np.uint8)


def write(path: str, rgb: NDArray[Any]) -> None:
    cv2.imwrite(path, rgb[..., [2, 1, 0, *range(3, rgb.shape[-1])]] if rgb.ndim == 3 else rgb)


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif"])
def test_load_image(name: str) -> None:
    write(name, RGB)
    image = caffe.io.load_image(name)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, RGB / 255, rtol=1e-6)


@pytest.mark.parametrize("name", [b"caf\xe9.png", Path("x.png"), np.str_("x.png")])
def test_names_of_an_image(name: Any) -> None:
    write("x.png", RGB)
    Path(os.fsdecode(name)).write_bytes(Path("x.png").read_bytes())
    np.testing.assert_array_equal(caffe.io.load_image(name), caffe.io.load_image("x.png"))


def test_load_image_as_gray() -> None:
    write("x.png", RGB)
    gray = caffe.io.load_image("x.png", color=False)
    assert gray.shape == (3, 4, 1)
    assert gray.dtype == np.float32
    np.testing.assert_allclose(gray[..., 0], RGB @ [0.2125, 0.7154, 0.0721] / 255, rtol=1e-5)


def test_load_a_gray_image() -> None:
    write("x.png", RGB[..., 0])
    one = caffe.io.load_image("x.png", color=False)
    np.testing.assert_allclose(one, RGB[..., :1] / 255, rtol=1e-6)
    np.testing.assert_array_equal(caffe.io.load_image("x.png"), one[..., [0, 0, 0]])


def test_load_image_without_transparency() -> None:
    write("x.png", np.concatenate([RGB, RGB[..., :1]], 2))
    np.testing.assert_allclose(caffe.io.load_image("x.png"), RGB / 255, rtol=1e-6)
    assert caffe.io.load_image("x.png", color=False).shape == (3, 4, 1)


def test_load_an_image_from_an_open_file() -> None:
    write("x.png", RGB)
    sent = io.BytesIO(Path("x.png").read_bytes())
    np.testing.assert_array_equal(caffe.io.load_image(sent), caffe.io.load_image("x.png"))
    with pytest.raises(DataError, match=r"\(open file\): .*empty|cannot be decoded"):
        caffe.io.load_image(io.BytesIO())


def test_an_open_file_is_read_from_its_beginning() -> None:
    """Programs hand over buffers that they have just written, as scikit-image lets them."""
    write("x.png", RGB)
    written = io.BytesIO()
    written.write(Path("x.png").read_bytes())
    np.testing.assert_array_equal(caffe.io.load_image(written), caffe.io.load_image("x.png"))


def test_load_an_image_of_sixteen_bits() -> None:
    wide = RGB.astype(np.uint16) * 256
    write("x.png", wide)
    np.testing.assert_allclose(caffe.io.load_image("x.png"), wide / 65535, rtol=1e-6)


def test_load_what_is_no_image() -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        caffe.io.load_image("gone.png")
    Path("x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x\.png: the image cannot be decoded"):
        caffe.io.load_image("x.png")
    with pytest.raises(TypeError, match=r"an open file, not an object of type ndarray"):
        caffe.io.load_image(RGB)  # type: ignore[arg-type]


def test_resize_image() -> None:
    """One and three channels by the corners of the images, others by the centers of the corner
    pixels."""
    row = np.array([[0.0, 4.0]])
    wide = caffe.io.resize_image(row[..., None], (1, 4))
    assert wide.shape == (1, 4, 1)
    assert wide.dtype == np.float32
    assert wide.ravel().tolist() == [1, 1, 3, 3]
    assert caffe.io.resize_image(np.tile(row[..., None], 3), np.array([1, 4]))[0, 1, 0] == 1
    other = caffe.io.resize_image(np.tile(row[..., None], 2), (1, 5))
    assert other[0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]


def test_the_order_of_interpolation() -> None:
    row = np.array([[[0.0], [4.0]]])
    assert caffe.io.resize_image(row, (1, 4), interp_order=0).ravel().tolist() == [0, 0, 4, 4]
    with pytest.raises(ValueError, match="0 to 5"):
        caffe.io.resize_image(row, (1, 4), interp_order=7)


def test_oversample() -> None:
    """Corners row by row, middle, and all five mirrored; image by image."""
    images = [np.arange(12.0).reshape(3, 4, 1), 100 + np.arange(12.0).reshape(3, 4, 1)]
    crops = caffe.io.oversample(images, (2, 3))
    assert crops.shape == (20, 2, 3, 1)
    assert crops.dtype == np.float32
    assert crops[:5, 0, 0, 0].tolist() == [0, 1, 4, 5, 0]
    assert crops[0, ..., 0].tolist() == [[0, 1, 2], [4, 5, 6]]
    np.testing.assert_array_equal(crops[5:10], crops[:5, :, ::-1])
    np.testing.assert_array_equal(crops[10:], crops[:10] + 100)


def test_the_middle_of_odd_margins() -> None:
    image = np.arange(49.0).reshape(7, 7, 1)
    assert caffe.io.oversample([image], (4, 3))[4, 0, 0, 0] == 7 + 2


def test_a_crop_larger_than_the_image() -> None:
    with pytest.raises(ValueError, match="a crop of 2 x 5 is larger than the image, 3 x 4"):
        caffe.io.oversample([np.zeros((3, 4, 1))], (2, 5))


def test_an_image_that_is_in_no_list() -> None:
    with pytest.raises(ValueError, match=r"an array of shape \(3, 4, 1\): give \[image\]"):
        caffe.io.oversample(np.zeros((3, 4, 1)), (2, 3))
    assert caffe.io.oversample(np.zeros((2, 3, 4, 1)), (2, 3)).shape == (20, 2, 3, 1)
    as_objects = np.empty(1, object)
    as_objects[0] = np.zeros((3, 4, 1))
    assert caffe.io.oversample(as_objects, (2, 3)).shape == (10, 2, 3, 1)


# --- Transformer ------------------------------------------------------------------------------


@pytest.fixture
def transformer() -> caffe.io.Transformer:
    made = caffe.io.Transformer({"data": (1, 3, 3, 4)})
    made.set_transpose("data", (2, 0, 1))
    return made


def test_preprocess_in_order(transformer: caffe.io.Transformer) -> None:
    """Transpose, swap, raw scale, mean, input scale, one after the other."""
    transformer.set_channel_swap("data", (2, 0, 1))
    transformer.set_raw_scale("data", 10)
    transformer.set_mean("data", np.array([1, 2, 3]))
    transformer.set_input_scale("data", 0.5)
    x = transformer.preprocess("data", RGB)
    assert x.shape == (3, 3, 4)
    assert x.dtype == np.float32
    planes = RGB.astype(float).transpose(2, 0, 1)
    for channel, source in enumerate((2, 0, 1)):
        want = (planes[source] * 10 - (channel + 1)) * 0.5
        np.testing.assert_allclose(x[channel], want, rtol=1e-6)
    for batch in (x, x[None]):
        np.testing.assert_allclose(transformer.deprocess("data", batch), RGB, rtol=1e-5)


def test_preprocess_leaves_the_image_as_it_is(transformer: caffe.io.Transformer) -> None:
    transformer.set_raw_scale("data", 255)
    image = np.ones((3, 4, 3), np.float32)
    x = transformer.preprocess("data", image)
    assert (image == 1).all()
    transformer.deprocess("data", x)
    assert (x == 255).all()


def test_preprocess_resizes(transformer: caffe.io.Transformer) -> None:
    image = np.random.default_rng(1).random((6, 5, 3))
    want = caffe.io.resize_image(image, (3, 4)).transpose(2, 0, 1)
    np.testing.assert_allclose(transformer.preprocess("data", image), want, rtol=1e-5)


def test_deprocess_of_one_channel() -> None:
    """With and without a transpose: BVLC Caffe drops the channel first, and fails on the mean."""
    t = caffe.io.Transformer({"data": (2, 1, 3, 4)})
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    np.testing.assert_array_equal(t.deprocess("data", x), x[0, 0])
    t.set_transpose("data", (2, 0, 1))
    t.set_mean("data", np.array([5.0]))
    np.testing.assert_array_equal(t.deprocess("data", x), x[0, 0, ..., None] + 5)


def test_means(transformer: caffe.io.Transformer) -> None:
    image = np.arange(36.0).reshape(3, 3, 4)
    transformer.set_mean("data", image)
    np.testing.assert_array_equal(transformer.mean["data"], image)
    transformer.set_mean("data", np.tile(image, (1, 2, 3)))
    want = caffe.io.resize_image(np.tile(image, (1, 2, 3)).transpose(1, 2, 0), (3, 4))
    np.testing.assert_array_equal(transformer.mean["data"], want.transpose(2, 0, 1))
    transformer.set_mean("data", np.full((3, 5, 5), 7.0))
    assert (transformer.mean["data"] == np.full((3, 3, 4), 7)).all()


def test_a_mean_of_two_axes_is_for_one_channel(transformer: caffe.io.Transformer) -> None:
    t = caffe.io.Transformer({"data": (1, 1, 3, 4)})
    t.set_mean("data", np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(t.mean["data"], np.arange(12).reshape(3, 4))
    t.set_mean("data", np.ones((6, 8)))
    np.testing.assert_array_equal(t.mean["data"], np.ones((1, 3, 4)))
    with pytest.raises(ValueError, match="Mean channels incompatible with input"):
        transformer.set_mean("data", np.ones((3, 4)))


def test_shapes_may_be_lists() -> None:
    t = caffe.io.Transformer({"data": [1, 3, 3, 4]})
    mean = np.ones((3, 3, 4))
    t.set_mean("data", mean)
    assert t.mean["data"] is mean


def test_a_programs_own_transformer_checks_names() -> None:
    class Cropping(caffe.io.Transformer):
        def set_crop(self, in_: str) -> None:
            caffe.io.Transformer._Transformer__check_input(self, in_)  # type: ignore[attr-defined]

    t = Cropping({"data": (1, 3, 3, 4)})
    t.set_crop("data")
    with pytest.raises(Exception, match="x is not one of the net inputs"):
        t.set_crop("x")


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda t: t.preprocess("x", RGB), Exception, "^x is not one of the net inputs: {'data': "),
        (lambda t: t.deprocess("x", RGB), Exception, "x is not one of the net inputs"),
        (lambda t: t.set_mean("x", RGB), Exception, "x is not one of the net inputs"),
        (lambda t: t.set_raw_scale("x", 1), Exception, "x is not one of the net inputs"),
        (lambda t: t.set_input_scale("x", 1), Exception, "x is not one of the net inputs"),
        (
            lambda t: t.set_transpose("data", (1, 0)),
            Exception,
            "^Transpose order needs to have the same number of dimensions as the input.$",
        ),
        (
            lambda t: t.set_channel_swap("data", (1, 0)),
            Exception,
            "^Channel swap needs to have the same number of dimensions as the input channels.$",
        ),
        (lambda t: t.set_mean("data", np.zeros(4)), ValueError, "^Mean channels incompatible"),
        (lambda t: t.set_mean("data", np.zeros((4, 3, 4))), ValueError, "^Mean channels incompat"),
        (
            lambda t: t.set_mean("data", np.zeros((4, 5, 3))),
            ValueError,
            r"The mean has 4, the input 3; put them first: mean\.transpose\(2, 0, 1\)\.$",
        ),
        (
            lambda t: t.set_mean("data", np.zeros((1, 3, 3, 4))),
            ValueError,
            r"^Mean shape invalid: \(1, 3, 3, 4\); .* for one channel: give mean\[0\]\.$",
        ),
        (
            lambda t: t.set_mean("data", "mean.npy"),
            ValueError,
            "^Mean shape invalid: a mean is an array of numbers; read its file first, with np.load",
        ),
        (
            lambda t: t.preprocess("data", "x.png"),
            TypeError,
            r"a file: caffe\.io\.load_image reads",
        ),
        (lambda t: t.preprocess("data", None), TypeError, r"got None, which cv2\.imread returns"),
        (
            lambda t: t.preprocess("data", RGB[..., 0]),
            ValueError,
            r"^an image is .*, got shape \(3, 4\)\. Give it one channel: image\[:, :, np\.newax",
        ),
        (lambda t: t.preprocess("data", RGB[None]), ValueError, r"got shape \(1, 3, 4, 3\)\.$"),
    ],
)
def test_what_a_transformer_refuses(
    transformer: caffe.io.Transformer,
    call: Callable[[caffe.io.Transformer], object],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        call(transformer)


def test_what_scripts_take_from_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert caffe.io.zoom is importlib.import_module("scipy.ndimage").zoom
    transform = ModuleType("skimage.transform")
    transform.resize = len  # type: ignore[attr-defined]
    modules = {name: ModuleType(name) for name in ("skimage", "skimage.io")}
    for name, module in {**modules, "skimage.transform": transform}.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert caffe.io.resize is len
    assert caffe.io.skimage is modules["skimage"]


def test_packages_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.transform", None)
    assert not hasattr(caffe.io, "resize")
    with pytest.raises(AttributeError, match="Install it: pip install scikit-image"):
        _ = caffe.io.resize
    with pytest.raises(AttributeError, match=r"^module 'caffe\.io' has no attribute 'nothing'$"):
        _ = caffe.io.nothing
