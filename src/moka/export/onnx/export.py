"""From a net to an ONNX file that computes what the net computes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moka import __version__
from moka.errors import UsageError
from moka.export.difference import Difference
from moka.export.onnx.builder import GraphBuilder, Value
from moka.export.onnx.emit import OnnxGraph, emit, wanted_outputs
from moka.export.onnx.image_input import ImageInput, take_bytes
from moka.export.onnx.library import load_onnx, load_runtime
from moka.export.onnx.model_file import (
    MOST_IN_ONE_FILE,
    Frame,
    check_model,
    newest_opset,
    write_model,
)
from moka.export.onnx.obstacle import check_layers, exportable
from moka.export.onnx.verify import Arrays, Checker
from moka.files import write_folder_aside
from moka.net import Net
from moka.rewrite import Model, fold_scales
from moka.types import PathLike

OLDEST_OPSET, USUAL_OPSET = 13, 17
DYNAMIC: None = None  # as a batch: any size


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        files: the model, and its parameters if they lie beside it.
        inputs, outputs: name and shape, as "(N, 3, 227, 227)".
        nodes: how many operators the model has.
        free_batch: whether it takes batches of any size.
        random, image: how far its outputs are from the net's, on random numbers and on the image;
            None: not checked.
        build_s, write_s, check_s: seconds.
    """

    files: tuple[Path, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    nodes: int
    free_batch: bool
    random: Difference | None
    image: Difference | None
    build_s: float
    write_s: float
    check_s: float

    def lines(self) -> Iterator[str]:
        """Sentences for people."""
        size = sum(file.stat().st_size for file in self.files) / 1e6
        files = " and ".join(map(str, self.files))
        yield f"Wrote {files}: {self.nodes} nodes, {size:.1f} MB."
        for kind, blobs in (("Input", self.inputs), ("Output", self.outputs)):
            for name, shape in blobs.items():
                yield f"{kind} {name} {shape}"
        for what, difference in (("random input", self.random), ("the image", self.image)):
            if difference is not None:
                yield f"ONNX Runtime and Moka differ on {what} by {difference}."
        yield (
            f"Built in {self.build_s:.2f} s, written in {self.write_s:.2f} s, checked in"
            f" {self.check_s:.2f} s."
        )


@dataclass(frozen=True)
class _Written:
    """A model that lies aside, in a file.

    Attributes:
        net: the net as its file has it, without losses and scores.
        graph: what has been written, without nodes and constants: weights that were changed take
            no memory while the model is checked.
        nodes: how many operators there are.
        files: the model, and its parameters if they lie beside it.
        built, written: when the graph was there, and the file.
    """

    net: Net
    graph: OnnxGraph
    nodes: int
    files: Sequence[Path]
    built: float
    written: float


def export_onnx(
    net: Net,
    file: PathLike,
    *,
    opset: int = USUAL_OPSET,
    batch: int | None = DYNAMIC,
    outputs: Sequence[str] | None = None,
    fold: bool = True,
    half: bool = False,
    image_input: ImageInput | None = None,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
    check_image: PathLike | None = None,
    check_inputs: Arrays | None = None,
    most_in_one_file: int = MOST_IN_ONE_FILE,
) -> Exported:
    """Write a net as an ONNX file. Nothing is left behind if that fails.

    Losses, scores and layers that write files are left out. Inputs and outputs are named as their
    blobs, nodes as their layers.

    Args:
        net: of the phase TEST, with its weights.
        file: of the model; parameters of over 2 GB lie beside it, as `<file>.data`.
        opset: the version of ONNX's operators, from 13 on.
        batch: None: any size; a number: this size. A net that runs with one batch size only keeps
            the size of its inputs.
        outputs: blobs to give out; None: those that no layer reads.
        fold: fold BatchNorm, Scale and Bias into the layers before them.
        half: store parameters as float16; the arithmetic stays float32.
        image_input: let the model take an image's bytes.
        labels: the names of the classes, kept in the file under the key `labels`.
        metadata: more facts to keep in the file, by key.
        check: compare what ONNX Runtime computes with what Moka computes.
        check_image: an image file to compare them on, too.
        check_inputs: arrays by input to compare them on, in place of random numbers.
        most_in_one_file: bytes of parameters above which they lie beside the model.

    Returns:
        What has been written, with the differences found.

    Raises:
        NetError: a layer without a form in ONNX, an output that does not exist, or a model that
            computes something else: by more than 1e-4 of an output's scale.
        UsageError: an opset that does not exist, or preprocessing that does not fit.
        OSError: the file cannot be written.
    """
    begin = time.perf_counter()
    load_onnx()
    if check:
        load_runtime()
    _check_opset(opset)
    random = image = None
    with write_folder_aside(file) as folder:
        aside = folder / Path(file).name
        facts = _metadata(net, labels, metadata)
        made = _write(
            _model_of(net, batch),
            aside,
            Frame(net.name or "net", opset, "Moka", __version__, facts),
            outputs,
            fix_batch=batch is not None,
            fold=fold,
            half=half,
            image_input=image_input,
            most_in_one_file=most_in_one_file,
        )
        if check:
            checker = Checker(made.net, made.graph, aside, image_input)
            random = checker.compare_on(check_inputs) if check_inputs else checker.on_random()
            image = checker.on_image(check_image) if check_image is not None else None
    end = time.perf_counter()
    graph = made.graph
    return Exported(
        tuple(Path(file).parent / part.name for part in made.files),
        _shapes(graph, graph.inputs),
        _shapes(graph, graph.outputs.values()),
        made.nodes,
        graph.free_batch,
        random,
        image,
        made.built - begin,
        made.written - made.built,
        end - made.written,
    )


def _write(
    model: Model,
    file: Path,
    frame: Frame,
    outputs: Sequence[str] | None,
    *,
    fix_batch: bool,
    fold: bool,
    half: bool,
    image_input: ImageInput | None,
    most_in_one_file: int,
) -> _Written:
    """Write a model as an ONNX file; see `export_onnx`."""
    if half:  # what rounding changes is no fault of the export
        model = (fold_scales(model, keep=outputs or ()) if fold else model).with_half_weights()
    plain = model.build()
    check_layers(plain)
    names = wanted_outputs(plain, outputs)
    folded = fold and not half
    net = fold_scales(model, keep=outputs or ()).build() if folded else plain
    graph = emit(net, frame.opset, half=half, fix_batch=fix_batch, outputs=names)
    if image_input is not None:
        graph = take_bytes(graph, image_input)
    check_model(graph, frame)
    built = time.perf_counter()
    files = write_model(graph, frame, file, most_in_one_file=most_in_one_file)
    rest = replace(graph, builder=GraphBuilder(frame.opset))
    return _Written(plain, rest, len(graph.builder.nodes), files, built, time.perf_counter())


def _shapes(graph: OnnxGraph, values: Iterable[Value]) -> dict[str, str]:
    return {value.name: f"({', '.join(graph.sizes(value))})" for value in values}


def _check_opset(opset: int) -> None:
    newest = newest_opset()
    if not OLDEST_OPSET <= opset <= newest:
        raise UsageError(
            f"opset {opset} is not supported: the oldest is {OLDEST_OPSET}, the newest that the"
            f" installed package onnx knows is {newest}."
        )


def _model_of(net: Net, batch: int | None) -> Model:
    model = exportable(net)
    return model if batch is None else model.with_batch(batch)


def _metadata(
    net: Net, labels: Sequence[str] | None, metadata: Mapping[str, str] | None
) -> dict[str, str]:
    facts = {"source": str(net.graph.file), **(metadata or {})}
    if labels is not None:
        facts["labels"] = "\n".join(labels)
    return facts
