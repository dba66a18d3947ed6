"""Weights of PyTorch's files into a net, by a map of names.

A line of the map is `LAYER NAME` or `LAYER.PARAMETER NAME`. `conv1 features.0` gives layer conv1
the tensors features.0.weight and features.0.bias; `conv1.bias b` one parameter. PyTorch's
running_mean and running_var are the mean and variance of BatchNorm. A parameter that the map does
not name takes the tensor of its own name, as in `Net.state_dict()`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from moka.blob import Blob
from moka.errors import WeightsError, did_you_mean
from moka.export.onnx.library import load_safetensors
from moka.files import read_text_file
from moka.net import Net
from moka.types import PathLike

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which checkpoints keep weights
OTHER_NAMES = {"mean": "running_mean", "variance": "running_var"}  # ours: PyTorch's
SUMS_WEIGHT = "scale_factor"  # by which BatchNorm divides its sums; PyTorch keeps the quotients
_MOST_NAMED = 5


def read_tensors(file: PathLike) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a state_dict that torch.save wrote, by name.

    A checkpoint may keep its state_dict under a key such as "state_dict". Nothing but tensors and
    plain values is read from it (`weights_only=True`).

    Raises:
        WeightsError: another kind of file, or a broken one.
        OSError: the file cannot be read.
        MokaError: the package safetensors is not installed.
    """
    with open(file, "rb") as stream:
        start = stream.read(9)
    if start[8:9] == b"{":
        return _read_safetensors(file)
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling broken bytes raises almost anything
        why = str(error).splitlines()[0] if str(error) else "it is broken"
        raise WeightsError(
            f"is neither a safetensors file nor a state_dict of tensors: {why}", file=file
        ) from None
    for key in WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not any(isinstance(v, Tensor) for v in held.values()):
        raise WeightsError("holds no state_dict.", file=file)
    return {str(k): v.detach().float() for k, v in held.items() if isinstance(v, Tensor)}


def _read_safetensors(file: PathLike) -> dict[str, Tensor]:
    load = load_safetensors("Reading a .safetensors file").load_file
    from safetensors import SafetensorError

    try:
        return {name: tensor.float() for name, tensor in load(file).items()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"is no whole safetensors file: {error}.", file=file) from None


def read_map(file: PathLike) -> dict[str, str]:
    """A map of names: two words a line, in quotes where they have blanks; # begins a remark.

    Raises:
        WeightsError: a line of more or fewer words, or a name that comes twice.
        OSError: the file cannot be read.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text_file(file).splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = [line]
        if not words:
            continue
        if len(words) != 2:
            raise WeightsError(f"line {number} has {len(words)} words; it names a layer and a"
                               " tensor.", file=file)  # fmt: skip
        if words[0] in found:
            raise WeightsError(f"line {number} names {words[0]} a second time.", file=file)
        found[words[0]] = words[1]
    return found


def copy_named(
    net: Net, tensors: Mapping[str, Tensor], names: Mapping[str, str], file: PathLike
) -> None:
    """Copy tensors into the net's parameters; nothing is changed if any does not fit.

    Args:
        names: a map as `read_map` returns it.
        file: where the tensors are from, for messages.

    Raises:
        WeightsError: a name of the map that the net or the file lacks; a parameter without a
            tensor; shapes that differ in more than axes of size 1.
    """
    plan: list[tuple[Blob, Tensor]] = []
    missing: list[str] = []
    for i, place in enumerate(net.places):
        layer, name = place.layer, place.node.name
        for k, parameter in enumerate(layer.parameter_names):
            source = _source(name, parameter, names)
            blob = net.layer_blobs(i)[k]
            if source in tensors:
                plan.append((blob, _fitting(tensors[source], blob, name, parameter, source, file)))
            elif parameter == SUMS_WEIGHT:
                plan.append((blob, torch.ones(blob.shape)))
            else:
                missing.append(f"{name}.{parameter} (looked for {source})")
    known = [
        word
        for place in net.places
        for word in (place.node.name, *_parameters(place.node.name, place.layer.parameter_names))
    ]
    if unknown := [word for word in names if word not in known]:
        raise WeightsError(f'the map names "{unknown[0]}", which the net lacks.',
                           advice=did_you_mean(unknown[0], known))  # fmt: skip
    if missing:
        wanted = missing[0].partition("looked for ")[2].rstrip(")")
        rest = len(missing) - _MOST_NAMED
        listed = ", ".join(missing[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
        raise WeightsError(f"has no tensor for {listed}.", file=file,
                           advice=did_you_mean(wanted, tensors))  # fmt: skip
    for blob, values in plan:
        blob.data_memory.put(values)


def _parameters(layer: str, parameters: Iterable[str]) -> list[str]:
    return [f"{layer}.{parameter}" for parameter in parameters]


def _source(layer: str, parameter: str, names: Mapping[str, str]) -> str:
    """The name of the tensor for a parameter."""
    exact = f"{layer}.{parameter}"
    if exact in names:
        return names[exact]
    other = OTHER_NAMES.get(parameter, parameter)
    return f"{names[layer]}.{other}" if layer in names else exact


def _fitting(
    values: Tensor, blob: Blob, layer: str, parameter: str, source: str, file: PathLike
) -> Tensor:
    have = [n for n in values.shape if n != 1]
    want = [n for n in blob.shape if n != 1]
    if have != want:
        raise WeightsError(
            f"the tensor {source} has the shape {tuple(values.shape)}, the net's {parameter} has"
            f" {tuple(blob.shape)}.",
            file=file,
            layer=layer,
        )
    return values.reshape(tuple(blob.shape))
