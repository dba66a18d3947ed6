from __future__ import annotations

import pytest

from moka.schema.fork_types import FORK_OF, is_v1_name, todays_type


def test_forks() -> None:
    assert FORK_OF["Permute"] == "SSD"
    assert FORK_OF["Axpy"] == "SENet"
    assert "Convolution" not in FORK_OF


@pytest.mark.parametrize(
    ("v1", "today", "known"),
    [
        ("ROI_POOLING", "ROIPooling", True),
        ("SMOOTH_L1_LOSS", "SmoothL1Loss", True),
        ("PRELU", "PReLU", True),
        ("BN", "BN", True),
        ("COLINEAR_CONVOLUTION", "ColinearConvolution", True),
        ("QUADRIC_SUM", "QuadricSum", False),
    ],
)
def test_v1_names(v1: str, today: str, known: bool) -> None:
    assert todays_type(v1) == today
    assert is_v1_name(v1) == known
