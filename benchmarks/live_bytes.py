"""Bytes of the tensors that a program makes and holds, without those of allocators and caches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, notes the memory that PyTorch's operations make and let go.

    What an operation makes and lets go before it ends is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._number: dict[int, int] = {}  # of each storage that lives, by its address
        self._changes: list[tuple[int, int]] = []  # (number, bytes that it takes or gives back)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        for storage in _storages((args, kwargs)):
            self._note(storage, 0)  # made before, or outside
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            self._note(storage, storage.nbytes())
        return made

    def peak(self, without: Iterable[Tensor] = ()) -> int:
        """The most bytes at once; those of some tensors that still live are left out."""
        left_out = {self._number.get(s._cdata) for s in _storages(list(without))}
        changes = (size for number, size in self._changes if number not in left_out)
        return max(accumulate(changes, initial=0))

    def _note(self, storage: UntypedStorage, size: int) -> None:
        if storage._cdata not in self._number:
            self._number[storage._cdata] = number = len(self._changes)
            self._changes.append((number, size))
            weakref.finalize(storage, self._forget, storage._cdata, number, size)

    def _forget(self, address: int, number: int, size: int) -> None:
        del self._number[address]
        self._changes.append((number, -size))


def _storages(values: Any) -> Iterator[UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
