"""Compare what ONNX Runtime computes with an exported file with what Moka computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from moka.errors import DataError, MokaError, NetError, UsageError
from moka.export.difference import TOLERANCE, Difference, difference_of, largest
from moka.export.onnx.builder import Value
from moka.export.onnx.emit import OnnxGraph
from moka.export.onnx.image_input import ImageInput, input_of_images
from moka.export.onnx.library import load_runtime, runtime_errors
from moka.export.onnx.model_file import write_with_outputs
from moka.export.onnx.table import rows_axis
from moka.export.reference import read_as_indices, reference
from moka.net import Net
from moka.predict.images import load_image
from moka.types import Array, PathLike

Arrays = Mapping[str, Array]
DRAWS = 3  # of random inputs that are tried
ROUNDING = 1e-6  # of the values that a layer reads: how far its result may be off
RANDOM_SIZE = 97  # of random images where a model takes any size


class Session:
    """A model in ONNX Runtime on the CPU."""

    def __init__(self, file: Path) -> None:
        runtime = load_runtime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights in another order would take their memory once more.
        options.add_session_config_entry("session.disable_prepacking", "1")
        levels = runtime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED
        try:
            self._session: Any = runtime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except runtime_errors() as error:
            raise _refused("load", error) from None

    def run(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name; None: all."""
        names = list(outputs or (value.name for value in self._session.get_outputs()))
        try:
            found = self._session.run(names, dict(inputs))
        except runtime_errors() as error:
            raise _refused("run", error) from None
        return dict(zip(names, found, strict=True))


def _refused(what: str, error: Exception) -> MokaError:
    return MokaError(f"ONNX Runtime cannot {what} the exported model: {error}")


class Checker:
    """Compares a file with the net that it was made of.

    Args:
        net: the net, without losses and scores, none of its layers folded.
        graph: what is in the file; its nodes and constants are not needed.
        file: the model.
        image_input: how the file makes a blob of an image's bytes, if it does.
    """

    def __init__(
        self,
        net: Net,
        graph: OnnxGraph,
        file: Path,
        image_input: ImageInput | None = None,
    ) -> None:
        self.net, self.graph, self.file = net, graph, file
        self.image_input = image_input
        self.chooses = any(rows_axis(layer) is not None for layer in net.layers)
        self.compared = dict(graph.outputs) | self._chosen_from()
        self.session = self._session_with(self.compared)

    def on_random(self) -> Difference:
        """Compare on random inputs; with a free batch on one item and on two.

        Raises:
            NetError: they differ too much.
        """
        batches = (1, 2) if self.graph.free_batch else (0,)
        return largest([self._on_one_of_some_draws(batch) for batch in batches])

    def _on_one_of_some_draws(self, batch: int) -> Difference:
        """Compare on random inputs. Where scores decide which rows there are, the last digit of two
        that are as good as equal may decide otherwise; so further inputs are tried then."""
        *seeds, last = range(DRAWS if self.chooses else 1)
        for seed in seeds:
            with suppress(NetError):
                return self.compare_on(self._random_inputs(batch, seed))
        return self.compare_on(self._random_inputs(batch, last))

    def on_image(self, file: PathLike) -> Difference:
        """Compare on an image; other inputs are random.

        Raises:
            NetError: they differ too much, or no input takes images.
            DataError: the file is no image.
        """
        value = input_of_images(self.graph)
        shape = self.net.input_shapes[value.name][1:]
        image = load_image(file, color=shape[0] == 3)
        preparation = self.image_input or ImageInput()
        pixels = preparation.bytes_of(image, shape[1:])
        inputs = self._random_inputs(1)
        takes_bytes = value.name in self.graph.bytes_inputs
        one = pixels if takes_bytes else preparation.blob_of(pixels, shape)
        inputs[value.name] = one.repeat(len(inputs[value.name]), 0)
        return self.compare_on(inputs)

    def compare_on(self, inputs: Arrays) -> Difference:
        """Compare all outputs, and the blobs that rows are chosen from, on inputs as the file
        takes them.

        Raises:
            NetError: they differ by more than TOLERANCE of an output's scale; names the first
                layer from which on they do.
            UsageError: an input is missing.
        """
        if missing := [v.name for v in self.graph.inputs if v.name not in inputs]:
            raise UsageError(f"the inputs to compare on lack {', '.join(missing)}.")
        blobs = self._blobs_of(inputs)
        types: dict[str, type[np.generic]] = dict.fromkeys(
            (value.name for value in self.graph.inputs), np.float32
        )
        types |= dict.fromkeys(self.graph.bytes_inputs, np.uint8)
        fed = {name: np.asarray(inputs[name], dtype) for name, dtype in types.items()}
        found, expected = self.session.run(fed), reference(self.net, blobs, list(self.compared))
        apart = [difference_of(found[v.name], expected[n], n) for n, v in self.compared.items()]
        wrong = [difference for difference in apart if not difference.relative <= TOLERANCE]
        if wrong and (error := self._parting(fed, blobs, wrong)):
            raise error
        return largest(apart)

    def _chosen_from(self) -> dict[str, Value]:
        """The blobs that the layers read which choose rows: a detector that finds nothing in random
        numbers has no other numbers to compare."""
        inside = self._values_inside()
        return {
            bottom: inside[bottom]
            for place in self.net.places
            if rows_axis(place.layer) is not None
            for bottom in place.node.bottoms
            if bottom in inside
        }

    def _values_inside(self) -> dict[str, Value]:
        """The file's values of the net's blobs."""
        return {n: value for n, (value, _) in self.graph.blobs.items() if n in self.net.blobs}

    def _session_with(self, outputs: Mapping[str, Value]) -> Session:
        """The model, with these outputs, by blob."""
        if outputs == self.graph.outputs:
            return Session(self.file)
        file = self.file.with_name(f"{len(outputs)}-outputs-{self.file.name}")
        write_with_outputs(self.file, file, outputs.values())
        return Session(file)

    def _blobs_of(self, inputs: Arrays) -> dict[str, Array]:
        """The net's inputs for those that the file takes."""
        given = {name: self._blob_of(name, values) for name, values in inputs.items()}
        return self._zeros_of_unread(inputs) | given

    def _zeros_of_unread(self, inputs: Arrays) -> dict[str, Array]:
        """Zeros for the inputs that the file lacks, with the batch of the others: only their shapes
        matter."""
        read = self.graph.inputs
        free = ((len(inputs[v.name]), v.dims[0]) for v in read if v.dims and v.dims[0] < 0)
        batch = next((size // -dim for size, dim in free), 0)
        return {
            value.name: np.zeros(_sizes(value.dims, batch), np.float32)
            for value in self.graph.unread
        }

    def _blob_of(self, name: str, values: Array) -> Array:
        """The input blob's values for an input of the file."""
        if name not in self.graph.bytes_inputs or self.image_input is None:
            return values
        shape = self.net.input_shapes[name][1:]
        return np.concatenate([self.image_input.blob_of(v[None], shape) for v in values])

    def _parting(self, fed: Arrays, blobs: Arrays, wrong: Sequence[Difference]) -> NetError | None:
        """The error that says at which layer file and net part; None if only rounding is left of
        what cancels out, such as the mean of values whose mean was subtracted."""
        values = self._values_inside()
        read = self._bottoms_by_top()
        names = dict.fromkeys([*values, *(bottom for top in values for bottom in read[top])])
        found = self._session_with(values).run(fed)
        expected = reference(self.net, blobs, list(names))
        facts = f"the exported model differs from the net by {largest(wrong)}"
        rounding = set()
        for name, value in values.items():
            here = difference_of(found[value.name], expected[name], name)
            if here.relative <= TOLERANCE:
                continue
            terms = (np.abs(expected[bottom]).max(initial=0) for bottom in read[name])
            if not here.absolute <= ROUNDING * max(terms, default=0.0):
                layer = self.graph.blobs[name][1]
                message = f"{facts}; they part here: by {here}."
                return NetError(message, file=self.net.graph.file, layer=layer)
            rounding.add(name)
        if all(difference.output in rounding for difference in wrong):
            return None
        return NetError(f"{facts}.", file=self.net.graph.file)

    def _bottoms_by_top(self) -> dict[str, set[str]]:
        """The blobs that the layers read which make a blob, one after the other if in place."""
        read: dict[str, set[str]] = {}
        for place in self.net.places:
            for top in place.node.tops:
                read.setdefault(top, set()).update(place.node.bottoms)
        return read

    def _random_inputs(self, batch: int, seed: int = 0) -> dict[str, Array]:
        """Random numbers for all inputs, bytes where the file takes them; zeros and ones where a
        layer takes labels, indices or indicators."""
        indices = read_as_indices(self.net)
        draw = np.random.default_rng(seed)
        inputs: dict[str, Array] = {}
        for value in self.graph.inputs:
            shape = _sizes([n or RANDOM_SIZE for n in value.dims], batch)
            if value.name in self.graph.bytes_inputs:
                inputs[value.name] = draw.integers(0, 256, shape).astype(np.uint8)
            elif value.name in indices:
                inputs[value.name] = draw.integers(0, 2, shape).astype(np.float32)
            else:
                inputs[value.name] = draw.standard_normal(shape, np.float32)
        return (
            inputs
            if self._takes(inputs)
            else {k: np.zeros_like(v) if k in indices else v for k, v in inputs.items()}
        )

    def _takes(self, inputs: Arrays) -> bool:
        """Whether the net runs on these; it does not if an index is too large."""
        if not read_as_indices(self.net):
            return True
        try:
            reference(self.net, self._blobs_of(inputs), [])
        except DataError:
            return False
        return True


def _sizes(dims: Sequence[int], batch: int) -> list[int]:
    """The sizes of these dims for a batch."""
    return [n if n >= 0 else -n * batch for n in dims]
