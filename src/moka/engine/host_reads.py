"""Finds what makes the host wait for a device in the middle of a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
# Operators that read although their tags do not say so.
READS_TOO = frozenset({"aten::is_nonzero", "aten::bincount"})
INDEXED = frozenset(
    {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}
)
MASKS = (torch.bool, torch.uint8)
METHODS: frozenset[Any] = frozenset(
    {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}  # no operators on a CPU
)


class HostReads:
    """What has been found, in the order in which it was met.

    Attributes:
        found: sentences; they name the layer where it is known.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._told = 0

    def layer_done(self, top: str, _: object = None) -> None:
        """Say that what was found since the last call happened in the layer that makes `top`."""
        new = self.found[self._told :]
        self.found[self._told :] = [f"{text}, in the layer that makes {top}" for text in new]
        self._told = len(self.found)


@contextmanager
def noting_host_reads() -> Iterator[HostReads]:
    """Inside this context each operator is noted that needs values of a tensor on the host, or
    brings values of the host to a device.

    Such are `item`, `tolist` and `bool` of a tensor, results whose shape depends on values
    (`nonzero`, an index with a mask), tensors made of Python numbers, and copies between devices.
    A CPU can play the device: all but the last are found there too.
    """
    reads = HostReads()
    with _Methods(reads.found.append), _Operators(reads.found.append):
        yield reads


class _Methods(TorchFunctionMode):
    """Sees methods of tensors that are no operators."""

    def __init__(self, note: Callable[[str], object]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in METHODS:
            self._note(f"Tensor.{func.__name__} reads values")
        return func(*args, **(kwargs or {}))


class OperatorMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, those of the backward pass too."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def run_operator(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Called in place of each operator; returns what it gives."""
        raise NotImplementedError

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.run_operator(func, args, kwargs or {})

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch's question whether its compiler is to leave this class alone. That would import
        the compiler, which takes a second and 80 MB; it never sees these operators."""
        return False


class _Operators(OperatorMode):
    def __init__(self, note: Callable[[str], object]) -> None:
        super().__init__()
        self._note = note

    def run_operator(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if why := why_it_waits(func, args, result):
            self._note(f"{func.name()} {why}")
        return result


def why_it_waits(func: Any, args: Sequence[Any], result: Any) -> str | None:
    """Why an operator makes the host wait, as the end of a sentence; None: it does not."""
    name = func.name().partition(".")[0]
    if name in INDEXED:
        masks = [i for i in args[1] if isinstance(i, Tensor) and i.dtype in MASKS]
        return "takes a mask as its index" if masks else None
    if name in READS_TOO or any(tag in func.tags for tag in READS):
        return "needs values on the host"
    if name == "aten::lift_fresh":
        return "makes a tensor of numbers of the host"
    if name in ("aten::_to_copy", "aten::copy_"):
        places = {x.device.type for x in (*args, result) if isinstance(x, Tensor)}
        if len(places) > 1:
            return f"copies between {' and '.join(sorted(places))}"
    return None
