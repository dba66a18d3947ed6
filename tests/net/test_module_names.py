from __future__ import annotations

import pytest

from moka.net.module_names import module_names


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ("conv1 inception_3a/1x1", "conv1 inception_3a/1x1"),
        ("res2.a.b", "res2_a_b"),
        ("forward forward", "forward_1 forward_2"),
        ("a a a", "a a_1 a_2"),
        ("a.b a_b a_b_1", "a_b a_b_1 a_b_1_1"),
    ],
)
def test_names(layers: str, wanted: str) -> None:
    named = [(name, "ReLU") for name in layers.split()]
    assert module_names(named, {"forward"}) == wanted.split()


def test_a_layer_without_a_name_has_its_types() -> None:
    assert module_names([("", "ReLU"), ("", "ReLU")], ()) == ["ReLU", "ReLU_1"]
