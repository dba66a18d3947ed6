"""A loss that the user computes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape


@layer(
    "MemoryLoss",
    bottoms=(1, None),
    tops=1,
    fork="MyCaffe",
    is_loss=True,
    runs_user_code=True,
)
class MemoryLoss(Layer):
    """A loss that the user computes, as in reinforcement learning.

    Bottoms: any. Top: a scalar. Before the first pass, set its `function`, which takes the bottoms
    as tensors and returns the loss, one number; gradients flow through it:

        dict(net.named_layers())["loss"].function = lambda x: x.square().mean()

    Message: loss_param; `normalization` and `normalize` have no effect: the function decides.

    Errors: no function; a function that returns anything but one number.
    """

    function: Callable[..., Tensor] | None = None

    normalization: str | None = option(of="loss_param")
    normalize: bool | None = option(of="loss_param")

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return [()]

    def forward(self, *bottoms: Tensor) -> Tensor:
        if self.function is None:
            raise NetError(
                "its loss comes from a function of yours: set the layer's `function` first."
            )
        loss = self.function(*bottoms)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = shape_text(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise NetError(f"its function must return a tensor of one number, got {found}.")
        return loss.reshape(())
