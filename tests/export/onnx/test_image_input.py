from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import DataError, NetError, UsageError
from moka.export.onnx.image_input import ImageInput

TEXT = one_layer(
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }', "2 3 12 10"
)
GRAY = TEXT.replace("dim: 2 dim: 3", "dim: 2 dim: 1")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 27, 3)).astype(np.uint8)
    file = tmp_path / "image.png"
    cv2.imwrite(str(file), pixels)
    return file


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("mean", [None, np.array([104, 117, 123.0]), np.ones((3, 5, 5)) * 90])
@pytest.mark.parametrize("opset", [13, 18])
def test_bytes_in(
    export: Export, image: Path, resize: bool, mean: np.ndarray | None, opset: int
) -> None:
    prepare = ImageInput(mean=mean, scale=0.017, channel_swap=(2, 1, 0), resize=resize)
    done = export(TEXT, image_input=prepare, check_image=image, opset=opset)
    assert done.inputs == {"x0": f"(N, {'H, W' if resize else '12, 10'}, 3)"}
    assert done.image is not None


def test_other_values_for_white(export: Export, image: Path) -> None:
    export(TEXT, image_input=ImageInput(raw_scale=1.0), check_image=image)


def test_gray_images(export: Export, image: Path) -> None:
    export(GRAY, image_input=ImageInput(resize=True), check_image=image)


def test_the_type_of_the_input(export: Export, tmp_path: Path) -> None:
    export(TEXT, image_input=ImageInput(resize=True))
    value = onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type
    assert value.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in value.shape.dim] == ["N", "H", "W", 3]
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (y,) = session.run(None, {"x0": np.zeros((1, 99, 44, 3), np.uint8)})
    assert y.shape == (1, 4, 10, 8)


def test_an_image_without_preprocessing(export: Export, image: Path) -> None:
    assert export(TEXT, check_image=image).image is not None


def test_no_input_of_images(export: Export) -> None:
    with pytest.raises(NetError, match="no input takes images"):
        export(one_layer('type: "ReLU"', "2 3"), image_input=ImageInput())


def test_a_mean_of_other_channels(export: Export) -> None:
    with pytest.raises(UsageError, match="Mean channels incompatible"):
        export(TEXT, image_input=ImageInput(mean=np.zeros(4)))


def test_a_file_that_is_no_image(export: Export, tmp_path: Path) -> None:
    file = tmp_path / "text.png"
    file.write_text("no image")
    with pytest.raises(DataError, match=r"text\.png"):
        export(TEXT, check_image=file)
    assert [left.name for left in tmp_path.iterdir()] == ["text.png"]
