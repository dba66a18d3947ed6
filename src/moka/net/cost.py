"""How much a net computes."""

from __future__ import annotations

from moka.layers.conv import Convolution, Deconvolution
from moka.layers.linear import InnerProduct
from moka.net import Net


def multiply_adds(net: Net) -> int:
    """Multiplications with weights, each with its addition, in one forward pass of the batch.

    Those of convolutions and fully connected layers, as papers count; zeros of the padding count,
    biases and all other layers do not.
    """
    count = 0
    for place in net.places:
        node, layer = place.node, place.layer
        if not isinstance(layer, Convolution | InnerProduct):
            continue
        # Each weight is used once at each place: a convolution's tops have places, and the bottoms
        # of a deconvolution.
        spread = node.bottoms if isinstance(layer, Deconvolution) else node.tops
        weight = layer.weights[0]
        rows = weight.shape[0] if isinstance(layer, Convolution) else layer.num_output
        places = sum(net.blobs[name].count for name in spread) // rows
        count += places * weight.numel()
    return count
