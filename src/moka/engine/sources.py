"""Fetches the next batch: the tops of a net's layers without bottoms, for one pass."""

from __future__ import annotations

from torch import Tensor

from moka.engine.channels_last import channels_last
from moka.net import Net


class Sources:
    """The layers of a net that make the data of a pass.

    Args:
        net: the net.

    Attributes:
        places: the layers that are asked anew in each pass.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.places = [
            place
            for place in net.places
            if not place.node.bottoms and not net.user_filled.issuperset(place.node.tops)
        ]
        later = {top for place in net.places if place.node.bottoms for top in place.node.tops}
        self._overwritten = net.user_filled & later  # by in-place layers, before the backward pass

    def next_batch(self) -> dict[str, Tensor]:
        """Tops by name, on the net's device, images channels-last on a CPU."""
        net = self.net
        net.follow_input_shapes()
        tops: dict[str, Tensor] = {}
        for place in self.places:
            tops.update(zip(place.node.tops, net.run_layer(place, ()), strict=True))
        for name in net.user_filled:
            tensor = net.blobs[name].data_memory.tensor()
            tops[name] = tensor.clone() if name in self._overwritten else tensor
        return {name: channels_last(tensor) for name, tensor in tops.items()}
