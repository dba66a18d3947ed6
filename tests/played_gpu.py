"""A CPU that plays a GPU: finds what PyTorch would refuse on a real one, where there is none.

Inside of `playing_a_gpu` there is one CUDA device. Its tensors are marked tensors of the CPU: they
say `cuda:0` when they are asked, they keep their values, and an operator that mixes them with those
of the host raises what PyTorch raises. So code that makes a tensor on the wrong side, or hands one
to NumPy, fails as it would on a GPU. Streams, events and pinned memory do nothing. What it cannot
show: kernels that CUDA lacks for a type, speed, work that has not come to its end yet.

    pytest -m gpu --played-gpu tests/solver tests/weights tests/engine
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from moka.engine.host_reads import OperatorMode

GPU = torch.device("cuda", 0)
# Where a storage lies. Memory that an operator makes inside of another one, or of the backward
# pass, may lie on either side, until it comes to light beside others.
ON_GPU, ON_HOST, ON_EITHER = "gpu", "host", "either"

# They take indices, or a source, of the host.
MAY_MIX = ("aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put", "aten::index_put_",
           "aten::_index_put_impl_", "aten::_local_scalar_dense", "aten::set_")  # fmt: skip
# They take not even a single number of the host.
NEVER_MIX = ("aten::cat", "aten::stack", "aten::gather", "aten::index_select", "aten::embedding",
             "aten::scatter", "aten::scatter_", "aten::scatter_add", "aten::scatter_add_",
             "aten::scatter_reduce", "aten::bincount", "aten::searchsorted")  # fmt: skip
GETTER, SETTER = "__get__", "__set__"


def side_of(x: Tensor) -> str:
    """Where a tensor lies."""
    found: str = getattr(x.untyped_storage(), "side", ON_HOST)
    return found


def _put(x: Tensor, side: str) -> Tensor:
    x.untyped_storage().side = side  # type: ignore[attr-defined]
    return x


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _is_gpu(value: object) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.partition(":")[0] == "cuda"


def _is_device(value: object) -> bool:
    return isinstance(value, torch.device) or (
        isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu")
    )


class _Functions(TorchFunctionMode):
    """What a program calls: factories, moves between the sides, questions about a tensor's side."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, torch._ops.OpOverload):  # a dispatch mode's call, not the program's
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in (GETTER, SETTER):
            return self._attribute(func, args)
        if own := _METHODS.get(name):
            return own(*args, **kwargs)
        device = kwargs.get("device")
        if _is_device(device):
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        result = func(*args, **kwargs)
        inputs = _tensors((args, kwargs))
        for x in _tensors(result):
            if any(x is y for y in inputs):
                continue
            if _is_device(device):
                _put(x, ON_GPU if _is_gpu(device) else ON_HOST)
            elif side_of(x) == ON_EITHER:
                on_gpu = any(side_of(y) == ON_GPU for y in inputs)
                _put(x, ON_GPU if on_gpu else ON_HOST)
        return result

    def _attribute(self, func: Any, args: Sequence[Any]) -> Any:
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        if func.__name__ == GETTER and args and isinstance(args[0], Tensor):
            if name == "device" and side_of(args[0]) == ON_GPU:
                return GPU
            if name in ("is_cuda", "is_cpu"):
                return (side_of(args[0]) == ON_GPU) == (name == "is_cuda")
        return func(*args)


def _to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    side: str | None
    types: list[Any]
    given = [*args, kwargs.pop("device", None), kwargs.pop("other", None)]
    kwargs.pop("non_blocking", None)
    side, types = None, []
    for value in given:
        if isinstance(value, Tensor):
            side, types = side_of(value), [value.dtype]
        elif _is_device(value):
            side = ON_GPU if _is_gpu(value) else ON_HOST
        elif isinstance(value, torch.device):
            return x.to(*args, **kwargs)
        elif isinstance(value, torch.dtype):
            types = [value]
    own = side_of(x)
    moved = side is not None and side != own
    if moved and own == ON_GPU:
        _synchronizes("a copy to the host")
    result = x.to(*types, **kwargs) if types or kwargs else x
    if moved and side is not None:
        if result.untyped_storage() is x.untyped_storage():
            result = result.clone()
        return _put(result, side)
    return result


def _cpu(x: Tensor, **_: Any) -> Tensor:
    return _to(x, "cpu")


def _cuda(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _to(x, "cuda")


def _numpy(x: Tensor, *, force: bool = False) -> Any:
    _refuse_array(x, force=force)
    return x.numpy(force=force)


def _array(x: Tensor, dtype: Any = None) -> Any:
    _refuse_array(x)
    return x.numpy() if dtype is None else x.numpy().astype(dtype, copy=False)


def _refuse_array(x: Tensor, *, force: bool = False) -> None:
    if side_of(x) == ON_GPU and not force:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor"
            " to host memory first."
        )


def _pin_memory(x: Tensor, *_: Any) -> Tensor:
    if side_of(x) == ON_GPU:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be")
    return _put(x.clone(), ON_HOST)


def _as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    if isinstance(data, Tensor):
        return _to(data, *([] if device is None else [device]), *([] if dtype is None else [dtype]))
    made = torch.as_tensor(data, dtype=dtype)
    return made if device is None else _to(made, device)


_METHODS: dict[str, Callable[..., Any]] = {
    "to": _to,
    "cpu": _cpu,
    "cuda": _cuda,
    "numpy": _numpy,
    "__array__": _array,
    "pin_memory": _pin_memory,
    "as_tensor": _as_tensor,
    "get_device": lambda x: 0 if side_of(x) == ON_GPU else -1,
    "is_pinned": lambda x: False,
}


class _Operators(OperatorMode):
    """Every operator, those of the backward pass too: refuses to mix sides, marks the results."""

    def run_operator(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        with torch._C.DisableTorchFunction():
            return self._run(func, args, kwargs)

    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        name = func.name().partition(".")[0]
        inputs = _tensors((args, kwargs))
        sides = [side_of(x) for x in inputs]
        self._check(name, inputs, sides)
        result = func(*args, **kwargs)
        if name == "aten::copy_":
            return result
        if name == "aten::lift_fresh":  # of numbers that a factory takes
            sides = [ON_EITHER]
        side = sides[0] if sides and name in MAY_MIX else _common(sides)
        for x in _tensors(result):
            if name == "aten::lift_fresh":
                _put(x, side)
            elif not any(x is y for y in inputs):
                old = getattr(x.untyped_storage(), "side", None)
                if old is None or old == ON_EITHER:
                    _put(x, side)
        return result

    def _check(self, name: str, inputs: Sequence[Tensor], sides: Sequence[str]) -> None:
        if ON_GPU not in sides:
            return
        if name in ("aten::_local_scalar_dense", "aten::nonzero"):
            _synchronizes(name)
        strays = [
            x
            for x, side in zip(inputs, sides, strict=True)
            if side == ON_HOST and (x.dim() or name in NEVER_MIX)
        ]
        if name in MAY_MIX:
            if not name.startswith(("aten::index", "aten::_index")):
                return
            strays = [x for x, side in zip(inputs[:1], sides[:1], strict=True) if side == ON_HOST]
            values = inputs[-1], sides[-1]
            if "put" in name and values[1] == ON_HOST and values[0].dim():
                strays.append(values[0])
        if strays:
            shapes = ", ".join(str(tuple(x.shape)) for x in strays)
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices,"
                f" cuda:0 and cpu! ({name}; of the host: {shapes})"
            )


def _common(sides: Sequence[str]) -> str:
    if not sides:
        return ON_EITHER
    return next((s for s in (ON_GPU, ON_EITHER) if s in sides), ON_HOST)


_watch = SimpleNamespace(mode="default")


def _synchronizes(what: str) -> None:
    if _watch.mode == "error":
        raise RuntimeError(f"called a synchronizing CUDA operation: {what}")


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = GPU

    def wait_stream(self, _: Any) -> None:
        pass

    def wait_event(self, _: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Noted(OperatorMode):
    """Notes every operator, those of the backward pass too, as a CUDA graph does: the same tensors,
    the same Python numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[tuple[Any, Any, Any, Any]] = []

    def run_operator(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = func(*args, **kwargs)
        self._noted.append((func, args, kwargs, result))
        return result

    def run(self) -> None:
        """Run them again, and put the results where the first run has put them."""
        with torch.no_grad():
            for func, args, kwargs, result in self._noted:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Graph:
    def __init__(self, *_: Any, **__: Any) -> None:
        self.operators: Any = None
        self.has_run = False

    def replay(self) -> None:
        if self.has_run:
            self.operators.run()
        self.has_run = True


@contextmanager
def _recording(graph: _Graph, *_: Any, **__: Any) -> Iterator[None]:
    """Records; what was done meanwhile counts as the first run."""
    with _Noted() as graph.operators:
        yield


@contextmanager
def playing_a_gpu() -> Iterator[torch.device]:
    """Inside there is a GPU, in this thread and in those that begin."""
    _watch.mode = "default"
    properties = SimpleNamespace(
        name="played", total_memory=8 << 30, major=9, minor=0, multi_processor_count=1
    )
    replaced: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "device": lambda _: nullcontext(),
        "synchronize": lambda *_: None,
        "get_device_name": lambda *_: "played",
        "get_device_properties": lambda *_: properties,
        "mem_get_info": lambda *_: (8 << 30, 8 << 30),
        "Stream": _Stream,
        "current_stream": _Stream,
        "stream": lambda _: nullcontext(),
        "Event": _Event,
        "CUDAGraph": _Graph,
        "default_generators": (mock.Mock(),),
        "graph": _recording,
        "graph_pool_handle": lambda: (0, 1),
        "set_stream": lambda _: None,
        "manual_seed_all": lambda _: None,
        "manual_seed": lambda _: None,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "set_sync_debug_mode": lambda mode: setattr(_watch, "mode", mode),
        "get_sync_debug_mode": lambda: _watch.mode,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
    }
    autocast, run, backward = torch.autocast, threading.Thread.run, torch.autograd.graph
    engine = backward._engine_run_backward

    def of_cpu(device_type: str, *args: Any, **more: Any) -> Any:
        return autocast("cpu" if device_type == "cuda" else device_type, *args, **more)

    def run_here(thread: threading.Thread) -> None:
        with _Operators(), _Functions():
            run(thread)

    def backward_here(*args: Any, **more: Any) -> Any:
        with _Functions():
            return engine(*args, **more)

    with ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch("torch.autocast", of_cpu))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run_here))
        stack.enter_context(mock.patch("torch.autograd._engine_run_backward", backward_here))
        stack.enter_context(mock.patch.object(Tensor, "record_stream"))
        stack.enter_context(_Operators())
        stack.enter_context(_Functions())
        yield GPU
