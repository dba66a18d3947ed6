from __future__ import annotations

import pytest

from moka.layers import REGISTRY
from moka.schema.fork_types import FOREIGN, FORK_OF, INSTEAD_OF, instead_of, is_v1_name, todays_type


def test_forks() -> None:
    assert FORK_OF["Permute"] == "SSD"
    assert FORK_OF["Axpy"] == "SENet"
    assert FORK_OF["DepthToSpace"] == "Synopsys Caffe"
    assert "Convolution" not in FORK_OF


def test_advice_is_for_types_of_forks_that_are_missing() -> None:
    assert set(INSTEAD_OF) <= set(FORK_OF) - set(REGISTRY)
    missing = set(FORK_OF) - set(REGISTRY) - set(INSTEAD_OF)
    assert not [name for name in missing if name.endswith(("Data", "Reader", "Writer"))]
    assert "Input layer" in INSTEAD_OF["DataHeatmap"]


def test_forks_of_which_there_is_nothing() -> None:
    """A type that Moka gets leaves `FOREIGN`."""
    assert set(FORK_OF) >= FOREIGN
    assert not FOREIGN & set(REGISTRY)


@pytest.mark.parametrize(
    ("v1", "today", "known"),
    [
        ("ROI_POOLING", "ROIPooling", True),
        ("SMOOTH_L1_LOSS", "SmoothL1Loss", True),
        ("PRELU", "PReLU", True),
        ("BN", "BN", True),
        ("LSTM_UNIT", "LSTMUnit", True),
        ("CROP", "AutoCrop", True),
        ("COLINEAR_CONVOLUTION", "ColinearConvolution", True),
        ("QUADRIC_SUM", "QuadricSum", False),
    ],
)
def test_v1_names(v1: str, today: str, known: bool) -> None:
    assert todays_type(v1) == today
    assert is_v1_name(v1) == known


@pytest.mark.parametrize(
    ("layer_type", "told"),
    [
        ("LaneData", "Put an AnnotatedData layer"),
        ("ImageLabelListData", "Put an ImageSegData layer"),
        ("PoseData", "Put an Input layer"),
        ("RandomImageData2", "Put an Input layer"),
        ("Database", "Write it as a Python layer, or leave it out."),
    ],
)
def test_what_to_do_without_a_type(layer_type: str, told: str) -> None:
    assert instead_of(layer_type).startswith(told)
