"""The error for a model that does not fit a net: every layer, its shapes, and the likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from moka.errors import WeightsError
from moka.layers import REGISTRY
from moka.layers.shapes import shape_text
from moka.types import PathLike, Shape

_MOST_SHOWN = 10
# What most often lies behind a number of parameters in the file that is not the net's, unless the
# entry of the layer's type knows better (`Entry.other_counts`).
_CAUSES_OF_COUNTS = {
    (1, 2): "The file has no bias: set bias_term: false.",
    (2, 1): "The file has a bias: leave bias_term: false out.",
}


class Misfit(NamedTuple):
    """A layer whose parameters in the file are not those of the net.

    Attributes:
        stored_type: "" where the file does not say it.
        stored, wanted: shapes of the parameters by index, in the file and in the net.
        wrong: indices of parameters whose shapes differ; empty if the count differs.
    """

    name: str
    type: str
    stored_type: str
    stored: dict[int, Shape]
    wanted: dict[int, Shape]
    wrong: Sequence[int]


def misfit_error(misfits: Sequence[Misfit], file: PathLike) -> WeightsError:
    """One error that lists the layers that do not fit, the first in Caffe's words."""
    first, *others = misfits
    text = _in_caffes_words(first)
    if others:
        shown = "; ".join(_in_short(layer) for layer in others[:_MOST_SHOWN])
        rest = len(others) - _MOST_SHOWN
        text += f" {len(others)} more {'layers do' if len(others) > 1 else 'layer does'} not fit:"
        text += f" {shown}{f'; and {rest} others' if rest > 0 else ''}."
    causes = list(dict.fromkeys(filter(None, map(_likely_cause, misfits))))
    return WeightsError(text, file=file, advice=" ".join(causes[:2]) or None)


def _in_caffes_words(layer: Misfit) -> str:
    if layer.wrong:
        k = layer.wrong[0]
        return (
            f"Cannot copy param {k} weights from layer '{layer.name}'; shape mismatch. Source param"
            f" shape is {shape_text(layer.stored[k])}; target param shape is"
            f" {shape_text(layer.wanted[k])}. To learn this layer's parameters from scratch rather"
            " than copying from a saved net, rename the layer."
        )
    return (
        f"Incompatible number of blobs for layer {layer.name}: the file has {len(layer.stored)},"
        f" the net {len(layer.wanted)} ({_shapes(layer.stored)} in the file,"
        f" {_shapes(layer.wanted)} in the net). Rename the layer to train it from scratch, or pass"
        " other weights."
    )


def _in_short(layer: Misfit) -> str:
    indices = layer.wrong or sorted(layer.stored.keys() | layer.wanted.keys())
    stored = {k: layer.stored[k] for k in indices if k in layer.stored}
    wanted = {k: layer.wanted[k] for k in indices if k in layer.wanted}
    return f"{layer.name} {_shapes(stored)} in the file, {_shapes(wanted)} in the net"


def _shapes(shapes: dict[int, Shape]) -> str:
    return ", ".join(str(tuple(shapes[k])) for k in sorted(shapes)) or "nothing"


def _likely_cause(layer: Misfit) -> str | None:
    """The most likely cause of such a difference, and what to do about it."""
    if layer.stored_type and layer.stored_type != layer.type:
        return (
            f'In the file "{layer.name}" is a {layer.stored_type}, in the net a {layer.type}:'
            " the file is the model of another net."
        )
    if not layer.wrong:
        counts = len(layer.stored), len(layer.wanted)
        known = REGISTRY[layer.type].other_counts if layer.type in REGISTRY else {}
        return known.get(counts, _CAUSES_OF_COUNTS.get(counts))
    stored, wanted = layer.stored[layer.wrong[0]], layer.wanted[layer.wrong[0]]
    if len(wanted) == 2 and stored == wanted[::-1]:
        return "The file holds them transposed: set transpose in inner_product_param."
    if len(stored) == len(wanted) >= 3 and stored[0] == wanted[0] and stored[2:] == wanted[2:]:
        return (
            f"Each filter has {stored[1]} channels in the file, {wanted[1]} in the net: `group` or"
            " the channels of the input differ."
        )
    if len(stored) == len(wanted) and stored[1:] == wanted[1:]:
        return "Only the number of outputs differs: the model was trained for other classes."
    if stored[:1] == wanted[:1] and len(wanted) == 2:
        return "The layer's input has another size: check the size of the net's input."
    if len(stored) == len(wanted) >= 3 and stored[:2] == wanted[:2]:
        return "The kernels differ in size: check kernel_size."
    if prod(stored) == prod(wanted):
        return "The file has as many numbers in other axes: another fork or a converter wrote it."
    return None
