"""Names that are not taken yet."""

from __future__ import annotations

from moka.free_name import free_name


def test_free_name() -> None:
    assert free_name("conv", {"pool"}) == "conv"
    assert free_name("conv", {"conv"}) == "conv_2"
    assert free_name("conv", {"conv", "conv_2"}) == "conv_3"
    assert free_name("conv", {"conv"}, first=1) == "conv_1"
    assert free_name("conv", {"conv_2"}) == "conv"
    assert free_name("loss", {"loss", "loss.1"}, first=1, mark=".") == "loss.2"
