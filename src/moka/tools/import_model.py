"""`caffe import FILE`: an ONNX model, or PyTorch's weights for a given net, as Caffe's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moka.command.run import run
from moka.errors import UsageError
from moka.files import check_writable
from moka.importer.named_weights import copy_named, read_map, read_tensors
from moka.importer.onnx_net import ImportedNet, import_onnx
from moka.net.build import build_net
from moka.schema import write_binary, write_text
from moka.types import PathLike, Shape
from moka.weights import save_weights


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe import FILE -o OUTPUT`."""
    return run("import", _import, argv)


def _import(words: list[str], flags: dict[str, Any]) -> None:
    source, output = words[0], flags["output"]
    if not output:
        raise UsageError(
            "--output is missing.", advice="Name the file to write, such as -o net.prototxt."
        )
    if Path(source).suffix in (".caffemodel", ".prototxt"):
        raise UsageError(
            f"{source} is Caffe's already.",
            advice="`caffe export` writes ONNX and PyTorch; `caffe import` reads them.",
        )
    if flags["model"]:
        import_weights(source, flags["model"], output, flags["map"])
        print(f"Wrote {output}.")
        return
    if flags["map"]:
        raise UsageError("--map goes with --model, the net that takes the weights.")
    if Path(output).suffix == ".caffemodel":
        raise UsageError("--output is the .prototxt; the .caffemodel is written beside it.")
    check_writable(output)
    found = import_onnx(
        source,
        shapes=parse_shapes(flags["input_shape"]),
        extra_layers=flags["extra_layers"],
        only_ceil=flags["only_ceil"],
    )
    weights = write_imported(found, output)
    for difference in found.differences:
        print(f"ONNX Runtime and Moka differ on random input by {difference}.")
    sizes = "may have any size" if found.free_batch else "have the size in the prototxt"
    print(f"Wrote {output}, {len(found.net.layer)} layers, and {weights}. Batches {sizes}.")


def parse_shapes(text: str) -> dict[str, Shape]:
    """`1,3,224,224` (of the only input), or `image:1,3,224,224;size:1,2`, as shapes by name.

    Raises:
        UsageError: another form.
    """
    found = {}
    for part in filter(None, text.split(";")):
        name, _, sizes = part.rpartition(":")
        try:
            found[name.strip()] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            raise UsageError(
                f"--input_shape {part} is no shape.",
                advice="Write 1,3,224,224, or NAME:1,3,224,224 with ; between several.",
            ) from None
    return found


def write_imported(found: ImportedNet, output: PathLike) -> Path:
    """Write the prototxt, and the .caffemodel beside it, which is returned. If one of them cannot
    be written, neither is left."""
    weights = Path(output).with_suffix(".caffemodel")
    is_new = not weights.exists()
    write_binary(weights, found.weights)
    try:
        write_text(output, found.net)
    except OSError:
        if is_new:
            weights.unlink()
        raise
    return weights


def import_weights(source: PathLike, model: PathLike, output: PathLike, name_map: str) -> None:
    """Write a .caffemodel for the net `model` with the tensors of a .safetensors file or of a
    state_dict; see `moka.importer.named_weights`.

    Args:
        name_map: the file of the map; "" for none.

    Raises:
        MokaError, OSError: a file cannot be read, or the tensors do not fit; nothing is written.
    """
    names = read_map(name_map) if name_map else {}
    net = build_net(model)
    copy_named(net, read_tensors(source), names, source)
    save_weights(net, output)
