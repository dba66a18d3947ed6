"""Layers written in Python by the user, named by module and class in the prototxt.

There are two kinds. A `caffe.Layer` (here `ArrayLayer`) is pycaffe's: it works on NumPy blobs, and
its author writes the gradient. A `moka.Layer` (here `TensorLayer`) is one function of tensors:
autograd computes its gradient, and it runs on the net's device.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.blob import Blob, BlobVec, RawBlobVec
from moka.errors import NetError
from moka.layers.base import Layer, default_name
from moka.layers.options import option
from moka.layers.registry import layer
from moka.memory import Memory, ParameterMemory, parameters_in_users_hands, parameters_on_device
from moka.schema import caffe_pb2
from moka.schema.fork_types import code_base_of
from moka.types import Shape

T = TypeVar("T", bound="type[TensorLayer]")


class BoolVec(list[bool]):
    """pycaffe's list of bools."""


class _ParamStrOf2014:
    """`param_str` under its older name, which a user's class may set or define itself."""

    def __get__(self, layer: ArrayLayer | None, owner: type[ArrayLayer]) -> str:
        return owner.param_str if layer is None else layer.param_str


class ArrayLayer:
    """pycaffe's `caffe.Layer`, the base of layers that compute with NumPy.

    A subclass defines `setup(bottom, top)`, called once; `reshape(bottom, top)`, called before
    each pass, which gives the tops their shapes; `forward(bottom, top)`; and
    `backward(top, propagate_down, bottom)`. `bottom` and `top` are lists of Blob,
    `propagate_down` is one of bools.

    Attributes:
        param_str: the `param_str` of the prototxt, "" if there is none. `param_str_` is the same
            under its name of 2014, which Fast R-CNN's layers use.
        phase: caffe.TRAIN (0) or caffe.TEST (1).
        blobs: its parameters; call `self.blobs.add_blob(*shape)` in `setup` to add one.
        type: "Python".
    """

    type = "Python"
    param_str = ""
    param_str_ = _ParamStrOf2014()
    phase: int = caffe_pb2.TRAIN

    def __init__(self, config: caffe_pb2.LayerParameter) -> None:
        self.layer_param = config

    @property
    def blobs(self) -> BlobVec:
        return self.__dict__.setdefault("_caffe_blobs", BlobVec())  # `__init__` may not be called

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the bottoms, read `param_str`, add parameters."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give each top its shape."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Fill each top's `data`."""
        raise NetError(f"{type(self).__qualname__} has no forward(self, bottom, top).")

    def backward(
        self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """Fill `bottom[j].diff` from the tops' `diff`, for each j with `propagate_down[j]`."""
        raise NetError(
            f"{type(self).__qualname__} has no backward(self, top, propagate_down, bottom), but"
            " something before it needs gradients.",
            advice="Write one, or set propagate_down: false for its bottoms.",
        )


class TensorLayer(Layer):
    """`moka.Layer`, the base of layers that are one function of tensors.

    A subclass defines `forward(self, *bottoms)`, which returns one tensor or a sequence of them,
    one for each top; autograd computes the gradient. `setup(self, *bottom_shapes)` may make
    parameters and modules as in any `nn.Module`; the parameters become the layer's blobs in the
    order of their creation, and are trained, saved and shared like those of other layers. The
    shapes of the tops are found by running `forward` once on zeros, in test mode; to avoid this
    run, define `top_shapes(self, *bottom_shapes)`.

    Attributes:
        param_str: the `param_str` of the prototxt, "" if there is none.
        training: whether the phase is TRAIN.
    """

    param_str: str = option()

    def __init__(self, config: caffe_pb2.LayerParameter, *bottom_shapes: Shape) -> None:
        self._known_shapes: dict[tuple[Shape, ...], list[Shape]] = {}
        with _users_code(config):
            super().__init__(config, *bottom_shapes)
            self.train(self.training)  # including modules that `setup` made
        self.on_host = False

    def make_parameters(self, *_: Shape) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def _register(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Nothing to do: `setup` has registered them."""

    def weights_unseen(self) -> list[nn.Parameter]:
        return [self._weight(*name.rpartition(".")) for name in self.parameter_names]

    def _weight(self, module: str, _: str, name: str) -> nn.Parameter:
        """A parameter of this layer, or of a module in it."""
        found = dict.__getitem__(self.get_submodule(module)._parameters, name)
        assert found is not None
        return found

    def share_weight(self, index: int, weight: nn.Parameter) -> None:
        mine = self.weights_unseen()[index]
        self._adapted |= tuple(weight.shape) != self.blob_shapes[index]
        for module in self.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is mine:
                    module._parameters[name] = weight

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        if bottom_shapes not in self._known_shapes:
            training = self.training
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=()):
                    zeros = [torch.zeros(shape, device=self._device()) for shape in bottom_shapes]
                    tops = self.eval()(*zeros)
            finally:
                self.train(training)
            made = (tops,) if isinstance(tops, Tensor) else tops
            self._check_returned(made)
            self._known_shapes[bottom_shapes] = [tuple(top.shape) for top in made]
        return self._known_shapes[bottom_shapes]

    def _check_returned(self, made: Any) -> None:
        tensors = isinstance(made, Sequence) and all(isinstance(top, Tensor) for top in made)
        if not tensors or len(made) != self.top_count:
            found = len(made) if tensors else type(made).__name__
            raise NetError(
                f"{type(self).__qualname__}.forward must return a tensor for each top,"
                f" {self.top_count} in all, got {found}."
            )

    def _device(self) -> torch.device | None:
        return next((p.device for p in self.parameters()), None)


@layer(
    "Python",
    bottoms=(0, None),
    tops=(0, None),
    shapes_from_data=True,
    on_host=True,
    runs_user_code=True,
)
class Python(Layer):
    """A layer written in Python: the class `layer` of the module `module`.

    Bottoms and tops: as the class defines. Blobs: those that its `setup` makes. Message:
    python_param (`module` is imported from the Python path; the class reads `param_str`;
    `share_in_parallel` has no effect within one process). The class is a `caffe.Layer`, which
    computes with NumPy on the host, or a `moka.Layer`, one function of tensors.

    Classes of well-known code are here already and stand in where their module cannot be imported.
    Of DetectNet: `caffe.layers.detectnet.clustering` ClusterDetections, ClusterGroundtruth,
    `caffe.layers.detectnet.mean_ap` ScoreDetections, mAP. Of ENet: `spatial_dropout`
    SpatialDropoutLayer. Of CTPN: `layers.text_proposal_layer` ProposalLayer. Of py-faster-rcnn and
    py-R-FCN: `rpn.proposal_layer` ProposalLayer, `rpn.anchor_target_layer` AnchorTargetLayer,
    `rpn.proposal_target_layer` ProposalTargetLayer. What that code keeps in its configuration has
    the values of its `config.py`; an entry of `param_str`, such as `'RPN_MIN_SIZE': 8`, changes it.

    Errors: a module or class that cannot be found, a class of neither kind. Exceptions of the
    class itself pass unchanged, with a note that names the layer.
    """

    module: str = option(required=True)
    layer: str = option(required=True)
    param_str: str = option()
    share_in_parallel: bool = option()

    def __new__(cls, config: caffe_pb2.LayerParameter, *bottom_shapes: Shape) -> Any:
        found = _find_class(config)
        if issubclass(found, TensorLayer):
            return found(config, *bottom_shapes)
        return super().__new__(cls)

    def setup(self, *bottom_shapes: Shape) -> None:
        config = self.config
        self.bottoms = RawBlobVec(Blob(shape) for shape in bottom_shapes)
        self.tops = RawBlobVec(
            # As in Caffe, an in-place top is the same blob as its bottom.
            self.bottoms[k] if list(config.bottom[k : k + 1]) == [name] else Blob()
            for k, name in enumerate(config.top)
        )
        self._passes = 0
        with _users_code(config):
            self.users_object = _find_class(config)(config)
            self.users_object.param_str = self.param_str
            self.users_object.phase = config.phase
            self.users_object.setup(self.bottoms, self.tops)

    def make_parameters(self, *_: Shape) -> dict[str, nn.Parameter]:
        made = {}
        for k, blob in enumerate(self.users_object.blobs):
            made[default_name(k)] = weight = nn.Parameter(torch.from_numpy(blob.data))
            blob.show_parameter(weight)
        return made

    def make_blobs(self) -> BlobVec:
        return self.users_object.blobs

    def share_weight(self, index: int, weight: nn.Parameter) -> None:
        super().share_weight(index, weight)
        self.users_object.blobs[index].show_parameter(weight)

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        for blob, shape in zip(self.bottoms, bottom_shapes, strict=True):
            blob.reshape(*shape)
        with _users_code(self.config):
            self.users_object.reshape(self.bottoms, self.tops)
        return [tuple(blob.shape) for blob in self.tops]

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        return _Call.apply(self, *bottoms, *self.weights_unseen())  # type: ignore[no-untyped-call]

    def compute(self, bottoms: Sequence[Tensor]) -> list[Tensor]:
        """Run the user's reshape and forward; returns the tops."""
        self._passes += 1
        with self._parameters_in_view():
            for blob, tensor in zip(self.bottoms, bottoms, strict=True):
                blob.data_memory.put(tensor.contiguous())
            with _users_code(self.config):
                self.users_object.reshape(self.bottoms, self.tops)
                self.users_object.forward(self.bottoms, self.tops)
        like = bottoms[0] if bottoms else torch.empty(())
        return [blob.data_memory.cpu_data().clone().to(like) for blob in self.tops]

    def differentiate(
        self, bottoms: Sequence[Tensor], wanted: Sequence[bool], tops: Sequence[Tensor]
    ) -> list[Tensor]:
        """Run the user's backward; returns the gradients of bottoms and parameters.

        A bottom's diff that the user does not write stays as it was: some layers write it in
        `forward`.
        """
        for blob, grad in zip(self.tops, tops, strict=True):
            blob.diff_memory.put(grad.contiguous())
        with (
            self._parameters_in_view(),
            self._new_gradients() as gradients,
            _users_code(self.config),
        ):
            self.users_object.backward(
                self.tops, BoolVec(map(bool, wanted[: len(bottoms)])), self.bottoms
            )
        diffs = [torch.from_numpy(blob.diff) for blob in self.bottoms]
        diffs += [memory.cpu_data() for memory in gradients]
        return [  # in the net's shapes: the user's `reshape` may have changed a bottom's
            diff.clone().reshape(tensor.shape).to(tensor)
            for diff, tensor in zip(diffs, (*bottoms, *self.weights_unseen()), strict=True)
        ]

    @contextmanager
    def _parameters_in_view(self) -> Iterator[None]:
        """Show the parameters in the user's blobs; afterwards copy back what the user wrote."""
        blobs = self.users_object.blobs
        for blob, weight in zip(blobs, self.weights_unseen(), strict=True):
            memory = blob.data_memory
            if not isinstance(memory, ParameterMemory) or memory.parameter is not weight:
                blob.show_parameter(weight)
        memories = [b.data_memory for b in blobs if isinstance(b.data_memory, ParameterMemory)]
        with parameters_on_device(memories), parameters_in_users_hands(memories):
            yield

    @contextmanager
    def _new_gradients(self) -> Iterator[list[Memory]]:
        """Give the user's blobs diffs of zeros for a while; they collect one pass's gradients."""
        blobs = self.users_object.blobs
        kept = [blob.diff_memory for blob in blobs]
        fresh = [Memory(memory.shape) for memory in kept]
        try:
            for blob, memory in zip(blobs, fresh, strict=True):
                blob.diff_memory = memory
            yield fresh
        finally:
            for blob, memory in zip(blobs, kept, strict=True):
                blob.diff_memory = memory


class _Call(Function):
    """The user's forward and backward as one step of autograd.

    The user's object may keep values from forward to backward. So if it has run another pass in
    between, backward first repeats its own forward pass.
    """

    @staticmethod
    def forward(ctx: Any, layer: Python, *tensors: Tensor) -> tuple[Tensor, ...]:
        bottoms = tensors[: len(layer.bottoms)]
        tops = layer.compute(bottoms)
        ctx.layer, ctx.number = layer, layer._passes
        ctx.save_for_backward(*bottoms)
        return tuple(tops)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        bottoms = ctx.saved_tensors
        if ctx.layer._passes != ctx.number:
            ctx.layer.compute(bottoms)
            ctx.number = ctx.layer._passes
        return None, *ctx.layer.differentiate(bottoms, ctx.needs_input_grad[1:], grads)


TensorLayer.entry = Python.entry

_built_in: dict[tuple[str, str], type[TensorLayer]] = {}


def built_in(module: str) -> Callable[[T], T]:
    """Let a class stand for the class of its name in a module that the user does not have.

    Well-known Python layers of other code bases run this way. A module that can be imported wins.
    """

    def keep(cls: T) -> T:
        _built_in[module, cls.__name__] = cls
        return cls

    return keep


def _module_of_file(name: str) -> str | None:
    """What to write in place of a file's name; None: it is no file's name either."""
    folder, _, file = name.replace("\\", "/").rpartition("/")
    module = file.removesuffix(".py")
    if not module.isidentifier():
        return None
    place = f"the folder {folder}" if folder else "its folder"
    return f'Write module: "{module}" and put {place} on PYTHONPATH.'


def _find_class(config: caffe_pb2.LayerParameter) -> type[Any]:
    """Import the class that a prototxt names.

    Raises:
        NetError: there is no such module or class, or the class is not a layer.
    """
    module_option, class_option, *_ = Python.options
    name, class_name = (
        o.read(config, Python.entry.messages) for o in (module_option, class_option)
    )
    if not all(part.isidentifier() for part in name.split(".")):
        raise NetError(f'"{name}" is not the name of a module.', advice=_module_of_file(name))
    try:
        with _users_code(config):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something else that the module itself imports
        if (name, class_name) in _built_in:
            return _built_in[name, class_name]
        if name.endswith(".py"):
            raise NetError(
                f'"{name}" is not the name of a module.', advice=_module_of_file(name)
            ) from None
        code_base = code_base_of(name)
        raise NetError(
            f'cannot import the module "{name}".',
            advice=(f"It may be that of {code_base}. " if code_base else "")
            + "Put its folder on PYTHONPATH; a path of folders is written with dots.",
        ) from None
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, (ArrayLayer, TensorLayer)):
        raise NetError(
            f'the module "{name}" ({getattr(module, "__file__", "built in")}) has no layer'
            f' "{class_name}".',
            advice="It has to be a class derived from caffe.Layer or moka.Layer.",
        )
    return found


@contextmanager
def _users_code(config: caffe_pb2.LayerParameter) -> Iterator[None]:
    """Run the user's code with autograd enabled; add the layer's name to exceptions as a note."""
    try:
        with torch.enable_grad():
            yield
    except NetError:
        raise
    except Exception as error:
        python = config.python_param
        note = f'raised by layer "{config.name}" (Python, {python.module}.{python.layer})'
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
