from __future__ import annotations

from pathlib import Path

import pytest

from moka.errors import DataError, MokaError, NetError, did_you_mean, nearest


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NetError("it broke."), "it broke."),
        (NetError("it broke.", advice="Mend it."), "it broke. Mend it."),
        (NetError("it broke.", file="a.prototxt"), "a.prototxt: it broke."),
        (NetError("it broke.", file=Path("a.prototxt")), "a.prototxt: it broke."),
        (NetError("it broke.", layer="ip"), 'layer "ip": it broke.'),
        (
            NetError("it broke.", file="a", layer="ip", layer_type="InnerProduct", advice="Mend."),
            'a: layer "ip" (InnerProduct): it broke. Mend.',
        ),
    ],
)
def test_text(error: MokaError, text: str) -> None:
    assert str(error) == text


def test_at_adds_the_place_once() -> None:
    error = NetError("it broke.")
    assert error.at(layer="ip", layer_type="InnerProduct") is error
    error.at(file="a", layer="outer", layer_type="Other")
    error.at(file="b")
    assert str(error) == 'a: layer "ip" (InnerProduct): it broke.'


def test_all_are_one_family() -> None:
    with pytest.raises(MokaError, match="it broke"):
        raise DataError("it broke.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Relu", "ReLU"), ("convolution", "Convolution"), ("InerProduct", "InnerProduct")],
)
def test_nearest(name: str, expected: str) -> None:
    known = ["Convolution", "InnerProduct", "ReLU"]
    assert nearest(name, known) == expected
    assert did_you_mean(name, known) == f'Did you mean "{expected}"?'


@pytest.mark.parametrize(
    ("name", "known", "wanted"),
    [
        ("SDG", ["SGD", "Adam"], "SGD"),
        ("trian", ["time", "train"], "train"),
        ("num_outputs", ["num_output", "output"], "num_output"),
        ("softmax_with_loss", ["SoftmaxWithLoss"], "SoftmaxWithLoss"),
        ("kernel", ["kernel_size", "kernel_size_h", "pad"], "kernel_size"),  # its beginning
        ("MAX", ["MIN", "AVE"], None),
        ("frobnicate", ["create", "format"], None),
        ("type", ["top", "time_steps"], None),
        ("lr", ["pr"], None),  # of two letters, one is half of it
    ],
)
def test_only_near_names(name: str, known: list[str], wanted: str | None) -> None:
    assert nearest(name, known) == wanted


def test_nothing_is_near() -> None:
    assert nearest("xyz", ["Convolution"]) is None
    assert did_you_mean("xyz", []) is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("quantization_param", "convolution_param"),
        ("slice_param", "scale_param"),
        ("bn_param", "bias_param"),
        ("x", "y"),
        ("AVG", "MAX"),
    ],
)
def test_far_fetched_names_are_not_near(name: str, known: str) -> None:
    assert nearest(name, [known]) is None


@pytest.mark.parametrize(
    ("name", "known"),
    [("TRAINING", "TRAIN"), ("SDG", "SGD"), ("num_outputs", "num_output"), ("relu", "ReLU")],
)
def test_slips_are_near(name: str, known: str) -> None:
    assert nearest(name, ["something", known]) == known
