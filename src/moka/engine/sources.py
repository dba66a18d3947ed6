"""Fetches the next batch: the tops of a net's layers without bottoms, for one pass."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from moka.engine.channels_last import channels_last
from moka.net import Net


class Sources:
    """The layers of a net that make the data of a pass.

    Args:
        net: the net.
        lay_out: brings an array into the layout in which the net runs.

    Attributes:
        places: the layers that are asked anew in each pass.
    """

    def __init__(self, net: Net, lay_out: Callable[[Tensor], Tensor] = channels_last) -> None:
        self.net = net
        self._lay_out = lay_out
        self.places = [
            place
            for place in net.places
            if not place.node.bottoms and not net.user_filled.issuperset(place.node.tops)
        ]
        later = {top for place in net.places if place.node.bottoms for top in place.node.tops}
        self._overwritten = net.user_filled & later  # by in-place layers, before the backward pass

    def next_batch(self) -> dict[str, Tensor]:
        """Tops by name, on the net's device."""
        net = self.net
        net.follow_input_shapes()
        tops: dict[str, Tensor] = {}
        for place in self.places:
            tops.update(zip(place.node.tops, net.run_layer(place, ()), strict=True))
        for name in net.user_filled:
            tensor = net.blobs[name].data_memory.tensor()
            tops[name] = tensor.clone() if name in self._overwritten else tensor
        return {name: self._lay_out(tensor) for name, tensor in tops.items()}
