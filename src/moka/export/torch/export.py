"""A net as a Python file with an `nn.Module` and a file with its weights, checked by running it."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moka.errors import MokaError, NetError, UsageError
from moka.export.difference import Difference, difference_of, largest
from moka.export.onnx.library import load_safetensors
from moka.export.reference import read_as_indices, reference
from moka.export.torch import detection, elementwise, normalize, recurrent, shape, sliding
from moka.export.torch.normalize import batch_norm
from moka.export.torch.table import LAYER_WRITERS
from moka.export.torch.writer import Bottom, ModuleSite, Names, Writer
from moka.files import write_atomically
from moka.net import Net
from moka.net.place import Place
from moka.types import PathLike

FILLED = (detection, elementwise, normalize, recurrent, shape, sliding)  # the table
SEED = 13

_HEAD = '''"""{title}

Needs PyTorch{needs} alone. `load()` returns the net with its weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
{imports}from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("{weights}")

{functions}
class {name}(nn.Module):
    """{inputs}

    Returns {outputs}.
    """

    def __init__(self) -> None:
        super().__init__()
'''
_LOADERS = {
    "torch": ("", "", 'torch.load(weights, map_location="cpu", weights_only=True)'),
    "safetensors": (
        " and safetensors",
        "from safetensors.torch import load_file\n",
        "load_file(weights)",
    ),
}
_TAIL = '''

def load(weights: str | Path = WEIGHTS) -> {name}:
    """The net with its weights, ready for inference."""
    net = {name}()
    net.load_state_dict({loaded})
    return net.eval()
'''


@dataclass(frozen=True)
class ExportedModule:
    """What has been written.

    Attributes:
        source: the Python file.
        weights: the file with the weights.
        difference: the largest one from the net's outputs.
    """

    source: Path
    weights: Path
    difference: Difference

    def lines(self) -> Iterator[str]:
        """Sentences for people."""
        size = self.weights.stat().st_size / 1e6
        yield f"Wrote {self.source}, and its weights {self.weights} ({size:.1f} MB)."
        yield f"PyTorch's source and Moka differ on random input by {self.difference}."


def export_torch(net: Net, file: PathLike) -> ExportedModule:
    """Write a net as `x.py` and its weights as `x.pt`, a state_dict; see `export_module`."""
    return export_module(net, file, "torch")


def export_safetensors(net: Net, file: PathLike) -> ExportedModule:
    """Write a net as `x.py` and its weights as `x.safetensors`; see `export_module`."""
    return export_module(net, file, "safetensors")


def export_module(net: Net, file: PathLike, form: str) -> ExportedModule:
    """Write a net as PyTorch source with its weights beside it, and hold it to the net's numbers.

    Args:
        net: of the phase TEST, with its weights.
        file: what to write, .py, or the file of weights that lies beside it.
        form: "torch" or "safetensors".

    Raises:
        NetError: a layer without a form in PyTorch; source that PyTorch cannot run; outputs that
            differ by more than 1e-4 of their scale. Nothing is left behind.
        UsageError: the name of the file is no name of a Python module.
        MokaError: the package safetensors is not installed.
        OSError: a file cannot be written.
    """
    source = Path(file).with_suffix(".py")
    weights = source.with_suffix(".pt" if form == "torch" else ".safetensors")
    if not source.stem.isidentifier():
        raise UsageError(f'"{source.stem}" is no name of a Python module, as {source.name} needs.',
                         advice="Use letters, digits and _.")  # fmt: skip
    text, state = module_source(net, weights.name, form)
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / weights.name
        _save(state, aside, form)
        found = _checked(net, text, aside, source)
    is_new = not weights.exists()
    write_atomically(weights, lambda stream: _save(state, stream, form))
    try:
        write_atomically(source, lambda stream: stream.write(text.encode()))
    except OSError:
        if is_new:
            weights.unlink()
        raise
    return ExportedModule(source, weights, found)


class _Remembering:
    """An open file that remembers why it could not be written."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return int(self._file.write(data))
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _save(state: Mapping[str, Tensor], target: Any, form: str) -> None:
    """Write tensors to a path or an open file."""
    if form == "torch":
        stream: Any = _Remembering(target) if hasattr(target, "write") else target
        try:
            torch.save(dict(state), stream)
        except RuntimeError:  # PyTorch's own words for a stream that could not be written
            if isinstance(stream, _Remembering) and stream.error:
                raise stream.error from None
            raise
        return
    data = load_safetensors("Exporting to safetensors").save(dict(state))
    if isinstance(target, Path):
        target.write_bytes(data)
    else:
        target.write(data)


def module_source(net: Net, weights: str, form: str) -> tuple[str, dict[str, Tensor]]:
    """The source of a module, and its state_dict.

    Args:
        weights: the name of the file of weights.

    Raises:
        NetError: a layer without a form; names file and layer.
    """
    writer = Writer()
    inputs = [writer.variable(name) for name in net.graph.inputs]
    outputs = _outputs(net)
    for place, scale in _steps(net):
        _write(writer, net, place, scale)
    needs, imports, loaded = _LOADERS[form]
    if any("F." in line for line in writer.computed):
        imports = f"import torch.nn.functional as F\n{imports}"
    name = _class_name(net.name)
    returned = {blob: writer.variable(blob) for blob in outputs}
    results = [f'"{blob}": {variable}' for blob, variable in returned.items()]
    shapes = {blob: tuple(net.blobs[blob].shape) for blob in (*net.graph.inputs, *outputs)}
    several = len(outputs) > 1
    text = _HEAD.format(
        title=f"{net.name or name}, written by Moka from {os.path.basename(net.graph.file)}.",
        needs=needs,
        imports=imports,
        weights=weights,
        functions="".join(f"\n{source}\n" for source in writer.functions.values()),
        name=name,
        inputs=_listed(net.graph.inputs, shapes, "Takes"),
        outputs=_listed(outputs, shapes, "by name" if several else "").lstrip(),
    )
    arguments = "".join(f", {variable}: Tensor" for variable in inputs)
    made = "dict[str, Tensor]" if several else "Tensor"
    body = [
        *(f"        {line}" for line in writer.declared),
        "",
        f"    def forward(self{arguments}) -> {made}:",
        *(f"        {line}" for line in writer.computed),
        f"        return {{{', '.join(results)}}}" if several
        else f"        return {returned[outputs[0]]}",
    ]  # fmt: skip
    return text + "\n".join(body) + "\n" + _TAIL.format(name=name, loaded=loaded), writer.state


def _listed(names: Any, shapes: Mapping[str, tuple[int, ...]], before: str) -> str:
    blobs = ", ".join(f"{name} {shapes[name]}" for name in names)
    return f"{before} {blobs}" + ("." if before == "Takes" else "")


def _class_name(name: str) -> str:
    found = Names()[name or "Net"]
    return found[0].upper() + found[1:]


def _outputs(net: Net) -> list[str]:
    """The net's outputs, without those of layers that a net in use lacks."""
    left_out = {top for place in net.places if _is_left_out(place) for top in place.node.tops}
    found = [name for name in net.graph.outputs if name not in left_out]
    if not found:
        raise NetError("has no output but losses and scores, which are left out.",
                       file=net.graph.file, advice="Export its deploy.prototxt.")  # fmt: skip
    return found


def _is_left_out(place: Place) -> bool:
    entry = place.layer.entry
    writes_only = entry.writes_files and entry.type not in LAYER_WRITERS
    return entry.is_loss or writes_only or entry.type in ("Accuracy", "Silence")


def _steps(net: Net) -> Iterator[tuple[Place, Place | None]]:
    """The layers to write; a BatchNorm with the Scale that alone reads it, if there is one."""
    reads = Counter(blob for place in net.places for blob in place.node.bottoms)
    merged: set[int] = set()
    for place in net.places:
        if place.index in merged or _is_left_out(place) or place.layer.entry.source == "caller":
            continue
        scale = None
        following = net.places[place.index + 1 : place.index + 2]
        if (
            place.node.type == "BatchNorm"
            and following
            and _is_scale_of(following[0], place, reads)
        ):
            scale = following[0]
            merged.add(scale.index)
        yield place, scale


def _is_scale_of(scale: Place, norm: Place, reads: Counter[str]) -> bool:
    layer: Any = scale.layer
    before: Any = norm.layer
    if len(before.blobs) > 3 or before.relu or before.fused_relu:
        return False
    if scale.node.type != "Scale" or scale.node.bottoms != norm.node.tops:
        return False
    top = norm.node.tops[0]
    alone = reads[top] == 1 or scale.node.tops[0] == top
    return alone and layer.learned and layer.axis == 1 and len(layer.covered) == 1


def _write(writer: Writer, net: Net, place: Place, scale: Place | None) -> None:
    node = place.node
    bottoms = [Bottom(writer.variable(b), tuple(net.blobs[b].shape)) for b in node.bottoms]
    shapes = [tuple(net.blobs[top].shape) for top in node.tops]
    site = ModuleSite(writer, node.name, place.layer, bottoms, shapes)
    try:
        if scale is not None:
            made: Any = batch_norm(site, ModuleSite(writer, scale.node.name, scale.layer, [], []))
        elif place.layer.entry.type in LAYER_WRITERS:
            made = LAYER_WRITERS[place.layer.entry.type](site)
        else:
            raise NetError("there is no short form of this layer type in PyTorch.")
    except MokaError as error:
        message = f"cannot be written as PyTorch source: {error.message}"
        raise NetError(
            message, file=net.graph.file, layer=node.name, layer_type=node.type
        ) from None
    tops = (scale or place).node.tops
    if isinstance(made, str) and len(tops) > 1:
        writer.assign_all(tops, made)
        return
    for top, text in zip(tops, [made] if isinstance(made, str) else made, strict=True):
        writer.assign(top, text)


def _checked(net: Net, text: str, weights: Path, source: Path) -> Difference:
    """Run the source on random inputs beside the net; returns the largest difference.

    Raises:
        NetError: the source cannot be run, or their outputs differ by more than TOLERANCE of the
            scale.
    """
    names: dict[str, Any] = {"__file__": str(weights.with_suffix(".py")), "__name__": source.stem}
    exec(compile(text, str(source), "exec"), names)
    module = names["load"](weights)
    given = _random_inputs(net)
    wanted = reference(net, {name: x.numpy() for name, x in given.items()}, _outputs(net))
    try:
        with torch.no_grad():
            made = module(*given.values())
    except (RuntimeError, ValueError, IndexError) as error:
        raise NetError(f"the PyTorch source cannot be run: {error}",
                       file=net.graph.file) from None  # fmt: skip
    if isinstance(made, Tensor):
        made = dict.fromkeys(_outputs(net), made)
    found = largest([difference_of(made[n].numpy(), wanted[n], n) for n in wanted])
    if not found.is_small:
        raise NetError(f"the PyTorch source differs from the net by {found}.", file=net.graph.file)
    return found


def _random_inputs(net: Net) -> dict[str, Tensor]:
    """Random numbers for all inputs; zeros and ones where a layer takes indices or indicators."""
    random = torch.Generator().manual_seed(SEED)
    indices = read_as_indices(net)
    return {
        name: torch.randint(2, tuple(shape), generator=random).float()
        if name in indices
        else torch.randn(tuple(shape), generator=random)
        for name, shape in net.input_shapes.items()
    }
