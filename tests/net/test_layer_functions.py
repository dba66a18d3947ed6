"""What `L.Convolution` says of itself."""

from __future__ import annotations

import inspect
from keyword import iskeyword

import pytest

from moka.layers import REGISTRY
from moka.net.layer_functions import help_text, known_fields, own_message, signature
from moka.net.spec import layers as L


def test_a_signature() -> None:
    parameters = inspect.signature(L.Pooling).parameters
    assert parameters["bottoms"].kind is inspect.Parameter.VAR_POSITIONAL
    defaults = {name: p.default for name, p in parameters.items() if name != "bottoms"}
    assert defaults["stride"] == 1
    assert repr(defaults["pool"]) == "MAX"
    assert defaults["pool"] == 0
    assert defaults["kernel_size"] is None  # unset
    assert defaults["loss_weight"] == ()  # a repeated field
    assert (defaults["ntop"], defaults["in_place"]) == (1, False)
    assert "bottom" not in defaults
    assert "convolution_param" not in defaults
    assert str(inspect.signature(L.Split)).startswith("(*bottoms, ntop=1, in_place=False, name=")


def test_help() -> None:
    text = inspect.getdoc(L.Pooling) or ""
    assert text.startswith(inspect.getdoc(REGISTRY["Pooling"].make) or "nothing")
    assert "\nFields of PoolingParameter:\n" in text
    assert "(MAX, AVE, STOCHASTIC, AVE_EXC_PAD, AVE_TF)" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_type(name: str) -> None:
    """Each field of its message is in the signature, in the help, and may be given."""
    parameters, text = signature(name).parameters, help_text(name)
    own = own_message(name)
    for field in own.fields if own else ():
        assert (field.name in parameters) != iskeyword(field.name)
        assert f"    {field.name}" in text
        assert known_fields(name)[field.name] is own


def test_an_unknown_type_has_what_every_layer_has() -> None:
    assert known_fields("Frobnicate").keys() == known_fields("Split").keys()
    assert "ntop" in help_text("Frobnicate")
