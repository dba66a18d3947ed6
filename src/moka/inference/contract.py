"""What a backend offers: it makes a function of one piece of a net.

A new backend is one file that offers this, and a line in `moka.inference.engines`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from moka.net import Net, Place
from moka.rewrite import Model, fold_scales, fold_scales_forward

Run = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Task:
    """One piece of a net, to be made a function of tensors.

    Attributes:
        model: its layers, none of them in-place; its inputs have the shapes that the function
            will get.
        inputs, outputs: the names of blobs, in the order of the function's arguments and results.
        threads: how many it may use.
        is_whole: whether it is the whole program, so that no other code computes before its next
            run.
    """

    model: Model
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    threads: int
    is_whole: bool = True

    def folded_net(self) -> Net:
        """A net of the piece with all that can be folded folded into other layers."""
        model = fold_scales(self.model, keep=self.outputs)
        return fold_scales_forward(model, keep=self.outputs).build(silent=True)


class Backend(Protocol):
    """Runs pieces of nets on the CPU.

    Attributes:
        name: what users call it.
        gives_new_memory: whether nobody else refers to the results of its functions.
    """

    name: str
    gives_new_memory: bool

    def is_installed(self) -> bool:
        """Whether its packages are there."""
        ...

    def takes(self, place: Place) -> bool:
        """Whether it knows layers of this kind."""
        ...

    def times(self, task: Task, inputs: Sequence[Tensor], passes: int) -> dict[str, float]:
        """Median seconds of each operation in a pass. Its name begins with that of its layer, the
        last one if several run as one. Empty: the backend does not tell."""
        ...

    def make(self, task: Task) -> Run:
        """The function of a piece. Several threads may call it at once.

        Raises:
            MokaError: it cannot run the piece. If one layer is to blame, the error names it.
        """
        ...
