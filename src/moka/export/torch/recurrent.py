"""Layers that step through time.

Without `expose_hidden` each call starts from zero, as a net does in its first pass.
"""

from __future__ import annotations

from typing import cast

from moka.export.torch.plain import _lstm, _rnn
from moka.export.torch.table import writes
from moka.export.torch.writer import Bottom, ModuleSite
from moka.layers.recurrent import Recurrent


def _arguments(site: ModuleSite) -> tuple[str, list[str]]:
    """The arguments of `_lstm` and `_rnn`, and the parameters that are left."""
    names = cast(Recurrent, site.layer).parameters_by_name()
    weight, bias, *weights = (
        site.parameter(name, blob, blob) for name, blob in zip(names, site.layer.blobs, strict=True)
    )
    x, cont, *others = site.bottoms
    driven = f"F.linear({_rows(x, 2)}, {weight}, {bias})"
    if site.option("has_static"):
        driven += f" + F.linear({_rows(others.pop(0), 1)}, {weights.pop(0)})"
    return ", ".join([driven, str(cont), weights.pop(0), *map(str, others)]), weights


def _rows(x: Bottom, axis: int) -> str:
    """The values behind some axes as one axis, also where they are single numbers."""
    return f"{x}.flatten({axis})" if len(x.shape) > axis else f"{x}[..., None]"


@writes("LSTM")
def write_lstm(site: ModuleSite) -> str | list[str]:
    site.function(_lstm)
    arguments, _ = _arguments(site)
    call = f"_lstm({arguments})"
    return call if len(site.tops) > 1 else [f"{call}[0]"]


@writes("RNN")
def write_rnn(site: ModuleSite) -> list[str]:
    site.function(_rnn)
    arguments, output = _arguments(site)
    call = f"_rnn({arguments})"
    y = f"F.linear({call}[0], {', '.join(output)}).tanh()"
    return [y, f"{call}[1]"][: len(site.tops)]
