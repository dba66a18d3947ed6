"""`caffe.Net`: the net as pycaffe's users know it, a few lines over `moka.net` and its engine."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from moka import net as moka_net
from moka import weights as moka_weights
from moka.blob import Blob
from moka.engine.layerwise import Layerwise
from moka.errors import NetError, did_you_mean
from moka.layers.python import Python
from moka.layers.source import MemoryData
from moka.schema import caffe_pb2

Array = NDArray[np.float32]
log = logging.getLogger("moka")


def check_file(name: str) -> str:
    """Raises RuntimeError, as pycaffe does, if a file cannot be opened."""
    if not os.access(name, os.R_OK):
        raise RuntimeError(f"Could not open file {name}")
    return name


class Net:
    """A net with its blobs, run layer by layer.

    Args:
        network_file: the prototxt.
        phase: caffe.TRAIN or caffe.TEST.
        level, stages: what the rules of its layers are held against.
        weights: a .caffemodel, or its HDF5 form.
    """

    def __init__(
        self,
        network_file: str,
        phase: caffe_pb2.Phase,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | None = None,
    ) -> None:
        if isinstance(phase, str):  # Net(file, weights, phase), the oldest form
            log.warning("DEPRECATION WARNING - deprecated use of Python interface: use this"
                        " instead (with the named \"weights\" parameter)")  # fmt: skip
            weights, phase, level = check_file(phase), cast("caffe_pb2.Phase", level), 0
        check_file(network_file)
        net = moka_net.build_net(network_file, phase, level=level, stages=stages or ())
        self._attach(net)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, net: moka_net.Net) -> Net:
        """The face of a net that exists already."""
        self = cls.__new__(cls)
        self._attach(net)
        return self

    def _attach(self, net: moka_net.Net) -> None:
        self._net = net
        self._engine = Layerwise(net)

    # --- what is in it --------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._net.name

    @property
    def blobs(self) -> OrderedDict[str, Blob]:
        """Blob name to Blob, in the order of the net."""
        return OrderedDict(self._net.blobs)

    @property
    def params(self) -> OrderedDict[str, list[Blob]]:
        """Layer name to its parameters, only layers that have some."""
        return OrderedDict(
            (node.name, self._net.layer_blobs(i))
            for i, node in enumerate(self._net.graph.nodes)
            if len(self._net.layer_blobs(i))
        )

    @property
    def layers(self) -> list[Any]:
        """For each layer its `type` and `blobs`; for a Python layer the user's own object."""
        return [
            layer.instance
            if isinstance(layer, Python)
            else SimpleNamespace(type=node.type, blobs=self._net.layer_blobs(i))
            for i, (node, layer) in enumerate(
                zip(self._net.graph.nodes, self._net.layers, strict=True)
            )
        ]

    @property
    def layer_dict(self) -> OrderedDict[str, Any]:
        """Layer name to layer."""
        names = (node.name for node in self._net.graph.nodes)
        return OrderedDict(zip(names, self.layers, strict=True))

    @property
    def inputs(self) -> list[str]:
        return list(self._net.graph.inputs)

    @property
    def outputs(self) -> list[str]:
        return list(self._net.graph.outputs)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((n.name, list(n.tops)) for n in self._net.graph.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((n.name, list(n.bottoms)) for n in self._net.graph.nodes)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        weights = dict(self._net.loss_tops)
        return OrderedDict((name, weights.get(name, 0.0)) for name in self._net.blobs)

    def _index(self, layer: str) -> int:
        names = [node.name for node in self._net.graph.nodes]
        if layer not in names:
            raise NetError(f'no layer is named "{layer}".', file=self._net.graph.file,
                           advice=did_you_mean(layer, names))  # fmt: skip
        return names.index(layer)

    # --- running --------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Array,
    ) -> dict[str, Array]:
        """Run the layers from `start` to `end`; keywords fill the input blobs first.

        Returns: live arrays of the outputs (with `end`, of that layer's tops) and of `blobs`.
        """
        self._fill(kwargs, self.inputs, "data", "Input blob arguments do not match net inputs.")
        first = 0 if start is None else self._index(start)
        last = None if end is None else self._index(end)
        names = self.outputs if last is None else list(self._net.graph.nodes[last].tops)
        self._engine.forward(first, last)
        wanted = dict.fromkeys([*names, *(blobs or ())])
        return {name: self._net.blobs[name].data for name in wanted}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Array,
    ) -> dict[str, Array]:
        """Run the layers backward from `start` down to `end`; keywords fill the outputs' diffs.

        Returns: live diffs of the inputs (with `end`, of that layer's bottoms) and of `diffs`.
        """
        self._fill(kwargs, self.outputs, "diff", "Top diff arguments do not match net outputs.")
        first = None if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        names = self.inputs if end is None else list(self._net.graph.nodes[last].bottoms)
        self._engine.backward(first, last)
        wanted = dict.fromkeys([*names, *(diffs or ())])
        return {name: self._net.blobs[name].diff for name in wanted}

    def _fill(
        self, values: dict[str, Array], names: Sequence[str], side: str, message: str
    ) -> None:
        if not values:
            return
        if set(values) != set(names):
            raise Exception(message)
        for name, value in values.items():
            blob = self._net.blobs[name]
            if value.shape[0] != blob.shape[0]:
                what = "Input" if side == "data" else "Diff"
                raise Exception(f"{what} is not batch sized")
            getattr(blob, side)[...] = value

    def set_input_arrays(self, data: Array, labels: Array) -> None:
        """Let the MemoryData layer in front give these, batch by batch; they are not copied.

        Args:
            data: (N, C, H, W) float32, C-contiguous, N a multiple of its batch size.
            labels: (N,) or (N, 1, 1, 1) float32, C-contiguous.
        """
        layer = next(iter(self._net.layers), None)
        if not isinstance(layer, MemoryData):
            raise RuntimeError(
                "set_input_arrays may only be called if the first layer is a MemoryDataLayer"
            )
        for name, array, axes in (("data", data, (4,)), ("labels", labels, (1, 4))):
            if array.dtype != np.float32:
                raise RuntimeError(f"{name} array must be float32, got {array.dtype}")
            if array.ndim not in axes:
                raise RuntimeError(f"{name} array must be {axes[-1]}-d, got {array.ndim}-d")
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
        self._engine.before_forward.append(function)

    def after_forward(self, function: Callable[[int], Any]) -> None:
        self._engine.after_forward.append(function)

    def before_backward(self, function: Callable[[int], Any]) -> None:
        self._engine.before_backward.append(function)

    def after_backward(self, function: Callable[[int], Any]) -> None:
        self._engine.after_backward.append(function)

    # --- weights --------------------------------------------------------------------------

    def copy_from(self, weights: str) -> None:
        """Copy parameters from a .caffemodel, or its HDF5 form, into layers of the same name."""
        moka_weights.load_weights(self._net, [check_file(weights)])

    def load_hdf5(self, file: str) -> None:
        """`copy_from`, by the name used for HDF5 files."""
        self.copy_from(file)

    def share_with(self, other: Net) -> None:
        """Use another net's parameters, by layer name."""
        moka_weights.share_weights(self._net, other._net)

    def save(self, file: str) -> None:
        """Write a .caffemodel without diffs."""
        moka_weights.save_weights(self._net, file)

    def save_hdf5(self, file: str) -> None:
        """Write a model in HDF5 form, without diffs."""
        moka_weights.save_hdf5(self._net, file)
