"""Which weights belong to which net: by name, else by the layers within."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from moka.types import PathLike

_SUFFIXES = re.compile(r"(\.(prototxt|pbtxt|pt|caffemodel|h5|hdf5|txt))+$")
_ITERATION = re.compile(r"[_.-]iter[_.-]?\d+$")
# What names say beside the model's own name.
_ROLES = frozenset(
    {"deploy", "train", "val", "test", "trainval", "traintest", "solver", "net", "model"}
    | {"weights", "final", "inference", "proto"}
)

Layers = Callable[[str], Collection[str]]


def own_name(path: PathLike) -> tuple[str, ...]:
    """The words of a file's name that are the model's own: ("vgg", "16") of
    VGG_16_train_val.prototxt and of vgg-16_iter_5000.caffemodel; () of deploy.prototxt."""
    name = _SUFFIXES.sub("", os.path.basename(path).lower())
    words = re.split(r"[\W_]+", _ITERATION.sub("", name))
    return tuple(word for word in words if word and word not in _ROLES)


def pair(nets: Sequence[str], weights: Sequence[str], layers_of: Layers) -> dict[str, str | None]:
    """The net of each file of weights; None: it has none. One net and one file are a pair.

    Several nets may have the same name, as the one to train and the one to deploy: the weights are
    compared with that whose layers they fit best.

    Args:
        layers_of: gives the names of the layers with parameters in a file of weights, and of all
            layers in a net.
    """
    if len(nets) == len(weights) == 1:
        return {weights[0]: nets[0]}
    found: dict[str, str | None] = {}
    for file in weights:
        named = _with_its_name(own_name(file), {net: own_name(net) for net in nets})
        found[file] = _best(file, named, layers_of, 0.0) or _best(file, nets, layers_of, 0.5)
    return found


def _with_its_name(wanted: tuple[str, ...], nets: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The nets of this name; else those whose names begin so, or it with theirs."""
    same = [net for net, words in nets.items() if words == wanted]
    if same:
        return same
    return [
        net
        for net, words in nets.items()
        if words and wanted and (words[: len(wanted)] == wanted or wanted[: len(words)] == words)
    ]


def _best(file: str, nets: Iterable[str], layers_of: Layers, least: float) -> str | None:
    """The net that has the most of a file's layers, the smallest of several: more than the share
    `least` of them."""
    stored = set(layers_of(file))
    if not stored:
        return next(iter(nets), None)
    shares = {net: len(stored & set(layers_of(net))) / len(stored) for net in nets}
    good = [net for net, share in shares.items() if share > least]
    return max(good, key=lambda net: (shares[net], -len(layers_of(net))), default=None)
