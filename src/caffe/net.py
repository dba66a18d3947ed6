"""`caffe.Net`: the net as pycaffe's users know it, a few lines over `moka.net` and its engine."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike

from caffe.contents import NetContents
from caffe.errors import NoBlobError, NoLayerError
from moka import weights as moka_weights
from moka.blob import Blob
from moka.engine.layerwise import Layerwise
from moka.errors import NetError, did_you_mean
from moka.files import advice_on_missing
from moka.inference.blobs import FastBlobs
from moka.layers.source import Source
from moka.net import build_net
from moka.parallel.declared import declared_team
from moka.parallel.share import share_of_data
from moka.report.glog import show_pycaffe_log
from moka.schema import caffe_pb2
from moka.types import Floats, PathLike

ArraysByName = dict[str, Floats]
log = logging.getLogger("moka")


FILE_TYPES = (str, bytes, os.PathLike)
OF_THE_NET = ("_engine", "_net", "_nodes", "blobs", "params", "layers", "layer_dict")
INSTEAD_OF_2014 = {
    "set_phase_test": "Give the phase when the net is made: caffe.Net(file, weights, caffe.TEST)",
    "set_phase_train": "Give the phase when the net is made: caffe.Net(file, weights, caffe.TRAIN)",
    "set_mode_cpu": "Call caffe.set_mode_cpu()",
    "set_mode_gpu": "Call caffe.set_mode_gpu()",
    "set_device": "Call caffe.set_device(id)",
    **dict.fromkeys(
        (
            "set_mean",
            "set_input_scale",
            "set_raw_scale",
            "set_channel_swap",
            "preprocess",
            "deprocess",
        ),
        "Images are prepared by a caffe.io.Transformer, which a caffe.Classifier has as"
        " `transformer`",
    ),
}


def check_file(name: object) -> str:
    """A file's name as a string.

    Raises:
        RuntimeError: it cannot be opened, as in pycaffe.
        TypeError: it is no name.
    """
    if not isinstance(name, FILE_TYPES):
        raise TypeError(f"a file is given by its name, not as {type(name).__name__}.")
    path = os.fsdecode(name)
    if "\0" not in path and os.access(path, os.R_OK):
        return path
    if "\n" in path:
        raise RuntimeError(
            "Could not open file: its name is wanted, and this is a text. Write the text to a file."
        )
    shown = path.replace("\0", r"\0")
    advice = advice_on_missing(path)
    raise RuntimeError(f"Could not open file {shown}{f'. {advice}' if advice else ''}")


class Net(NetContents):
    """A net with its blobs (`moka.inference.blobs` says how passes run).

    Net(network_file, phase, level=0, stages=None, weights=None), or in the oldest form
    Net(network_file, weights, phase).

    Args:
        network_file: the prototxt, or its message.
        phase: caffe.TRAIN or caffe.TEST.
        level: with `phase` and `stages` it decides which layers are in the net, by the rules of
            their `include` and `exclude`.
        stages: see `level`.
        weights: a .caffemodel, or its HDF5 form.

    Raises:
        RuntimeError: a file that cannot be opened.
        TypeError: an argument in the place of another.
        MokaError: a net or weights with a fault.
    """

    def __init__(
        self,
        network_file: PathLike | caffe_pb2.NetParameter,
        phase: caffe_pb2.Phase,
        level: int | None = None,
        stages: Sequence[str] | None = None,
        weights: PathLike | None = None,
    ) -> None:
        if isinstance(phase, FILE_TYPES):  # Net(file, weights, phase), the oldest form
            if level is None:
                raise TypeError(
                    "caffe.Net(file, weights) needs a phase, too: give"
                    " caffe.Net(file, weights, caffe.TEST), or caffe.TRAIN."
                )
            log.warning("DEPRECATION WARNING - deprecated use of Python interface: use this"
                        " instead (with the named \"weights\" parameter)")  # fmt: skip
            weights, phase, level = check_file(phase), cast("caffe_pb2.Phase", level), 0
        if isinstance(level, FILE_TYPES):
            raise TypeError("the third argument of caffe.Net is a level, a number: give weights by"
                            f" name, weights={level!r}.")  # fmt: skip
        show_pycaffe_log()
        file, source = "(given message)", network_file
        if not isinstance(network_file, caffe_pb2.NetParameter):
            file = source = check_file(network_file)
        if phase not in caffe_pb2.Phase.values():
            raise NetError(f"the phase is caffe.TRAIN (0) or caffe.TEST (1), not {phase!r}.",
                           file=file)  # fmt: skip
        if isinstance(stages, str):
            raise NetError(f'stages is a list of names: give ["{stages}"].', file=file)
        net = build_net(
            source,
            phase,
            level=level or 0,
            stages=stages or (),
            share=share_of_data(phase, declared_team()),
        )
        self._attach(FastBlobs(net))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, engine: Layerwise) -> Net:
        """The face of a net that an engine runs already."""
        self = cls.__new__(cls)
        self._attach(engine)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Net:
        """A net of its own, with the weights and blobs as they are now, without the callbacks."""
        self._engine.settle()
        net = deepcopy(self._net, memo)
        kept = {name: value for name, value in vars(self).items() if name not in OF_THE_NET}
        copied = self.__class__.__new__(self.__class__)
        vars(copied).update(deepcopy(kept, memo))
        copied._attach(FastBlobs(net))
        copied.name = self.name
        return copied

    def _attach(self, engine: Layerwise) -> None:
        self._engine = engine
        self._has_warned = False
        self._show(engine.net)

    def __del__(self) -> None:
        engine = vars(self).get("_engine")
        if isinstance(engine, FastBlobs) and not sys.is_finalizing():
            # As an item of a dict, for Python 3.14 does not count what local variables refer to.
            shows = "blobs" in vars(self)
            is_held = shows and sys.getrefcount(vars(self)["blobs"]) > 2  # this face, getrefcount
            usual = 2 + shows  # the net, getrefcount, this face
            engine.end(is_held or any(
                sys.getrefcount(engine.net.blobs[name]) > usual for name in engine.promised
            ))  # fmt: skip

    def _index(self, layer: str) -> int:
        for i, node in enumerate(self._nodes):
            if node.name == layer:
                return i
        raise NoLayerError(
            f'no layer is named "{layer}".',
            file=self._net.graph.file,
            advice=did_you_mean(layer, self._layer_names),
        )

    def _named(self, names: Sequence[str], more: Sequence[str] | None) -> dict[str, Blob]:
        """Blobs by name, each once."""
        more = () if more is None else more
        if isinstance(more, str):
            raise TypeError(f'blobs is a list of names: give ["{more}"].')
        if isinstance(more, Mapping) or not all(isinstance(name, str) for name in more):
            raise TypeError(
                "blobs are given by name, as in net.forward(data=images); what stands without a"
                " name is a list of the names of blobs to return."
            )
        for name in more:
            if name not in self.blobs:
                raise NoBlobError(
                    f'no blob is named "{name}".',
                    file=self._net.graph.file,
                    advice=did_you_mean(name, self.blobs),
                )
        return {name: self.blobs[name] for name in (*names, *more)}

    # --- running --------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: ArrayLike,
    ) -> ArraysByName:
        """Run the layers from `start` to `end`; keywords fill the input blobs first.

        Args:
            blobs: names of blobs to return beside the outputs.
            start: the name of the first layer to run.
            end: the name of the last one.
            kwargs: an array for each of the net's inputs, of the blob's shape, or of one that
                NumPy can spread over it as long as the first axis agrees.

        Returns: live arrays of the outputs (with `end`, of that layer's tops) and of `blobs`.

        Raises:
            NetError: a fault in running. A name that is no layer's raises one that is a ValueError
                as well, a name that is no blob's one that is a KeyError.
            ValueError: an array that does not fit its blob.
        """
        first = 0 if start is None else self._index(start)
        last = None if end is None else self._index(end)
        wanted = self._named(self.outputs if last is None else self._nodes[last].tops, blobs)
        self._fill(kwargs, self.inputs, "data", "Input blob arguments do not match net inputs.")
        self._engine.forward(first, last)
        return {name: blob.data for name, blob in wanted.items()}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: ArrayLike,
    ) -> ArraysByName:
        """Run the layers backward from `start` down to `end`; keywords fill the outputs' diffs.

        Args:
            diffs: names of blobs to return the diffs of beside the inputs'.
            start: the name of the layer to begin with, the later one.
            end: the name of the layer to stop after.
            kwargs: a diff for each of the net's outputs, as in `forward`.

        Returns: live diffs of the inputs (with `end`, of that layer's bottoms) and of `diffs`.

        Raises:
            NetError, ValueError: as `forward`.
        """
        first = None if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        self._warn_if_none_go_backward()
        wanted = self._named(self.inputs if end is None else self._nodes[last].bottoms, diffs)
        self._fill(kwargs, self.outputs, "diff", "Top diff arguments do not match net outputs.")
        self._engine.backward(first, last)
        return {name: blob.diff for name, blob in wanted.items()}

    def forward_simple(self) -> None:
        """Run all layers, as in the Caffe of deepsim and of the generated chairs."""
        self._engine.forward()

    def backward_simple(self) -> None:
        """Run all layers backward, from the diffs that the outputs have now."""
        self._warn_if_none_go_backward()
        self._engine.backward()

    def _forward(self, start: int, end: int) -> float:
        """Run the layers with these numbers and those between them; returns their loss."""
        self._check_range(start, end)
        return float(self._engine.forward(start, end))

    def _backward(self, start: int, end: int) -> None:
        """Run the layers with these numbers backward, from the later one, `start`."""
        self._check_range(end, start)
        self._warn_if_none_go_backward()
        self._engine.backward(start, end)

    def _warn_if_none_go_backward(self) -> None:
        if self._has_warned or any(place.marks.layer for place in self._net.places):
            return
        self._has_warned = True
        log.warning(
            "%s: no layer goes backward, and all diffs stay as they are: no parameter that is"
            " trained leads to a loss. To have gradients, write force_backward: true into the"
            " prototxt.",
            self._net.graph.file,
        )

    def _check_range(self, first: int, last: int) -> None:
        if not 0 <= first <= last < len(self._nodes):
            raise NetError(f"layers {first} to {last}: there are layers 0 to"
                           f" {len(self._nodes) - 1}.", file=self._net.graph.file)  # fmt: skip

    def _fill(
        self, values: Mapping[str, ArrayLike], names: Sequence[str], side: str, message: str
    ) -> None:
        if not values:
            return
        if set(values) != set(names):
            raise _mismatch(values, names, message)
        for name, value in values.items():
            blob, array = self.blobs[name], np.asarray(value)
            shape = tuple(blob.shape)
            if array.shape[:1] != shape[:1]:
                what = "Input" if side == "data" else "Diff"
                error = Exception(f"{what} is not batch sized")  # scripts compare the text
                error.add_note(f'Blob "{name}" has shape {shape}, got an array of {array.shape}.')
                raise error
            if not np.can_cast(array.dtype, np.float32, "same_kind"):
                raise ValueError(f'blob "{name}" takes real numbers, got {array.dtype}.')
            try:
                getattr(blob, side)[...] = array
            except ValueError:
                raise ValueError(
                    f'blob "{name}" has shape {shape}, got an array of shape {array.shape}.'
                ) from None

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: ArrayLike) -> ArraysByName:
        """`forward` for any number of items, in batches of the net's size.

        Args:
            blobs: names of blobs to return beside the outputs.
            kwargs: an array for each of the net's inputs; the first axis counts items.

        Returns: copies of the outputs and of `blobs`, an item for each that was given; of a blob
            that is not one item each (a loss) one value for each batch.
        """
        given = _as_arrays(kwargs)
        if not given:
            raise Exception("Input blob arguments do not match net inputs.")
        passes = [_copies(self.forward, blobs, batch) for batch in self._batch(given)]
        return self._joined(passes, given)

    def forward_backward_all(
        self,
        blobs: Sequence[str] | None = None,
        diffs: Sequence[str] | None = None,
        **kwargs: ArrayLike,
    ) -> tuple[ArraysByName, ArraysByName]:
        """`forward` and `backward` for any number of items, in batches of the net's size.

        Args:
            blobs: names of blobs to return beside the outputs.
            diffs: names of blobs to return the diffs of beside the inputs'.
            kwargs: an array for each of the net's inputs, and a diff for each of its outputs, or
                for none; the first axis counts items.

        Returns: copies, as `forward_all`: of data, and of diffs.
        """
        given = _as_arrays(kwargs)
        if unknown := set(given) - {*self.inputs, *self.outputs}:
            raise NetError(f"neither an input nor an output: {', '.join(sorted(unknown))}.",
                           file=self._net.graph.file)  # fmt: skip
        ins, outs = (
            list(self._batch({name: given[name] for name in names if name in given}))
            for names in (self.inputs, self.outputs)
        )
        made: list[ArraysByName] = []
        made_diffs: list[ArraysByName] = []
        for k in range(max(len(ins), len(outs), 1)):
            made.append(_copies(self.forward, blobs, ins[k] if k < len(ins) else {}))
            made_diffs.append(_copies(self.backward, diffs, outs[k] if k < len(outs) else {}))
        return self._joined(made, given), self._joined(made_diffs, given)

    def _batch(self, blobs: Mapping[str, Floats]) -> Iterator[ArraysByName]:
        """Arrays of any number of items, in pieces of the net's batch size (the length of its
        first blob), the last one filled up with zeros."""
        if not blobs:
            return
        size = self._batch_size
        count = len(next(iter(blobs.values())))
        for first in range(0, count, size):
            short = first + size - count
            yield {
                name: array[first : first + size]
                if short <= 0
                else np.concatenate([array[first:], np.zeros((short, *array.shape[1:]))])
                for name, array in blobs.items()
            }

    @property
    def _batch_size(self) -> int:
        first = next(iter(self.blobs.values()))
        return first.shape[0] if first.shape else 1

    def _joined(self, passes: Sequence[ArraysByName], given: ArraysByName) -> ArraysByName:
        """The batches of each blob in one array, without what filled up the last one."""
        count = len(next(iter(given.values()), ()))
        joined = {}
        for name in passes[0] if passes else ():
            parts = [arrays[name] for arrays in passes]
            by_item = all(part.shape[:1] == (self._batch_size,) for part in parts)
            joined[name] = np.concatenate(parts)[:count] if by_item else np.stack(parts)
        return joined

    def set_input_arrays(self, data: Floats, labels: Floats) -> None:
        """Let the MemoryData layer, the net's first, return these arrays batch by batch; they are
        not copied.

        Args:
            data: (N, C, H, W) float32, C-contiguous, N a multiple of its batch size.
            labels: (N,) or (N, 1, 1, 1) float32, C-contiguous.

        Raises:
            RuntimeError: another layer is the first, or arrays of another kind.
            DataError: sizes that are not the layer's.
        """
        if labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, None, None, None])
        self._set_input_arrays(data, labels)

    def _set_input_arrays(self, data: Floats, labels: Floats) -> None:
        layer = self._net.places[0].layer if self._net.places else None
        if not isinstance(layer, Source) or layer.entry.source != "arrays":
            raise RuntimeError(
                "set_input_arrays may only be called if the first layer is a MemoryDataLayer"
            )
        for name, array in (("data", data), ("labels", labels)):
            if array.dtype != np.float32:
                raise RuntimeError(f"{name} array must be float32, got {array.dtype}")
            if array.ndim != 4:
                raise RuntimeError(f"{name} array must be 4-d, got {array.ndim}-d")
            if not array.flags.c_contiguous:
                raise RuntimeError(f"{name} array must be C contiguous")
        layer.set_arrays(data, labels)

    def reshape(self) -> None:
        """Carry the shapes of the input blobs through the net."""
        self._net.reshape()

    def clear_param_diffs(self) -> None:
        """Zero the diffs of all parameters."""
        self._engine.clear_param_diffs()

    def before_forward(self, function: Callable[[int], Any]) -> None:
        """Have a function called before each layer's forward pass, with the layer's number."""
        self._engine.callbacks.before_forward.append(function)

    def after_forward(self, function: Callable[[int], Any]) -> None:
        """Have a function called after each layer's forward pass."""
        self._engine.callbacks.after_forward.append(function)

    def before_backward(self, function: Callable[[int], Any]) -> None:
        """Have a function called before each layer's backward pass."""
        self._engine.callbacks.before_backward.append(function)

    def after_backward(self, function: Callable[[int], Any]) -> None:
        """Have a function called after each layer's backward pass; a `caffe.NCCL` is one."""
        self._engine.callbacks.after_backward.append(function)

    # --- weights --------------------------------------------------------------------------

    def copy_from(self, weights: PathLike) -> None:
        """Copy parameters from a .caffemodel, or its HDF5 form, into layers of the same name."""
        moka_weights.load_weights(self._net, [check_file(weights)])

    def load_hdf5(self, file: PathLike) -> None:
        """`copy_from`, by the name used for HDF5 files."""
        self.copy_from(file)

    def share_with(self, other: Net) -> None:
        """Use another net's parameters, by layer name; each net keeps its own diffs.

        Raises:
            WeightsError: a layer whose parameters differ in number or shape.
        """
        for net in (self, other):
            net._engine.settle()
        moka_weights.share_weights(self._net, other._net, own_gradients=True)

    def save(self, file: str) -> None:
        """Write a .caffemodel without diffs."""
        moka_weights.save_weights(self._net, file)

    def save_hdf5(self, file: str) -> None:
        """Write a model in HDF5 form, without diffs."""
        moka_weights.save_hdf5(self._net, file)


def _mismatch(values: Iterable[str], names: Sequence[str], message: str) -> Exception:
    """pycaffe's exception for keywords other than exactly `names`; it names the nearest."""
    unknown = [name for name in values if name not in names]
    advice = did_you_mean(unknown[0], names) if unknown else None
    error = Exception(f"{message} {advice}" if advice else message)
    error.add_note(f"Give an array for each of {', '.join(names) or '(nothing)'}.")
    return error


def _as_arrays(values: Mapping[str, ArrayLike]) -> ArraysByName:
    """Raises ValueError unless all have the same number of items."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    if len({array.shape[:1] for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"arrays of different numbers of items: {sizes}.")
    return arrays


def _copies(
    run: Callable[..., ArraysByName], names: Sequence[str] | None, given: Mapping[str, ArrayLike]
) -> ArraysByName:
    """Copies of the arrays that `Net.forward` or `Net.backward` returns."""
    return {name: array.copy() for name, array in run(names, **given).items()}


class _Gone:
    """A method that a net had in 2014: who asks for it is told what to write today."""

    def __init__(self, name: str, advice: str) -> None:
        self._fact = f"caffe.Net has no {name} since 2015. {advice}."

    def __get__(self, net: Net | None, owner: type[Net]) -> NoReturn:
        raise AttributeError(self._fact)


for _name, _advice in INSTEAD_OF_2014.items():
    setattr(Net, _name, _Gone(_name, _advice))
