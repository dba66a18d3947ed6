"""ENet's Python layer, so that its nets run without that code."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from moka.errors import NetError
from moka.layers.detection.param_str import literal
from moka.layers.dropout import drop_channels
from moka.layers.python import TensorLayer, built_in
from moka.types import Shape


@built_in("spatial_dropout")
class SpatialDropoutLayer(TensorLayer):
    """ENet's dropout of whole channels.

    Where `phase` says TRAIN a channel of an item is 0 with probability p, else multiplied by
    1 / (1 - p). Elsewhere, as in that code, all channels are multiplied by 1 / (1 - p).

    Bottom and top: (N, C, H, W). param_str: "{'phase': 'TRAIN', 'p': '0.1'}"; not the net's phase
    counts. Paszke et al., 2016.

    Errors: no phase; a p outside of (0, 1).
    """

    def setup(self, x: Shape) -> None:
        try:
            given: Any = literal(self.param_str, None)
            self.drops, self.ratio = given["phase"] == "TRAIN", float(given["p"])
        except (ValueError, TypeError, LookupError, OverflowError):
            raise NetError(
                f"param_str must be \"{{'phase': 'TRAIN', 'p': '0.1'}}\", got \"{self.param_str}\"."
            ) from None
        if not 0 < self.ratio < 1:
            raise NetError(f"p must be between 0 and 1, got {self.ratio:g}.")

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        return list(bottom_shapes)

    def forward(self, x: Tensor) -> Tensor:
        return drop_channels(x, self.ratio) if self.drops else x / (1 - self.ratio)
