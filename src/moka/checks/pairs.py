"""Finds the net that each file of weights belongs to: by file name, else by layer names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence

from moka.types import PathLike

_SUFFIXES = re.compile(r"(\.(prototxt|pbtxt|pt|caffemodel|h5|hdf5|txt))+$")
_ITERATION = re.compile(r"[_.-]iter[_.-]?\d+$")
# What names say beside the model's own name.
_ROLES = frozenset(
    {"deploy", "train", "val", "test", "trainval", "traintest", "solver", "net", "model"}
    | {"weights", "final", "inference", "proto"}
)

NamesOfLayers = Callable[[str], Collection[str]]


def own_name(path: PathLike) -> tuple[str, ...]:
    """The words of a file's name that are the model's own: ("vgg", "16") of
    VGG_16_train_val.prototxt and of vgg-16_iter_5000.caffemodel; () of deploy.prototxt."""
    name = _SUFFIXES.sub("", os.path.basename(path).lower())
    words = re.split(r"[\W_]+", _ITERATION.sub("", name))
    return tuple(word for word in words if word and word not in _ROLES)


def family(path: PathLike) -> tuple[str, ...]:
    """A key that all nets of one model share: their folder and their own name."""
    return (os.path.dirname(os.path.abspath(path)), *own_name(path))


def pair(
    nets: Sequence[str], weights: Sequence[str], layers_of: NamesOfLayers
) -> dict[str, list[str]]:
    """The nets of each file of weights.

    Weights belong to all nets of one name: to that for training and to that for use. Which name it
    is, their own name tells, else their layers. One net and one file are a pair, unless the file is
    another model's: it has another name, and half of its layers or more are not the net's; or it
    has no layer of a net without a name.

    Args:
        layers_of: gives the names of the layers with parameters in a file of weights, and of all
            layers in a net.
    """
    if len(nets) == len(weights) == 1 and not _is_stranger(weights[0], nets[0], layers_of):
        return {weights[0]: [nets[0]]}
    names = {net: own_name(net) for net in nets}
    found: dict[str, list[str]] = {}
    for file in weights:
        found[file] = [net for net in nets if names[net] == own_name(file) != ()]
        if not found[file]:
            near = [net for net in nets if _begins_alike(names[net], own_name(file))]
            best = _best(file, near, layers_of, 0.0) or _best(file, nets, layers_of, 0.5)
            found[file] = [net for net in nets if best and names[net] == names[best]]
    return found


def _is_stranger(file: str, net: str, layers_of: NamesOfLayers) -> bool:
    """Whether a file of weights is another model's than the only net beside it."""
    theirs, name = own_name(file), own_name(net)
    if not layers_of(file) or theirs == name or _begins_alike(theirs, name):
        return False
    return _best(file, [net], layers_of, 0.5 if theirs and name else 0.0) is None


def _begins_alike(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    shorter = min(len(a), len(b))
    return shorter > 0 and a[:shorter] == b[:shorter]


def _best(file: str, nets: Iterable[str], layers_of: NamesOfLayers, least: float) -> str | None:
    """The net that has the most of a file's layers, the smallest of several: more than the share
    `least` of them."""
    stored = set(layers_of(file))
    shares = {net: len(stored & set(layers_of(net))) / max(1, len(stored)) for net in nets}
    good = [net for net, share in shares.items() if share > least]
    return max(good, key=lambda net: (shares[net], -len(layers_of(net))), default=None)
