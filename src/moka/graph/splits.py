"""Insert a Split layer after each blob that is used more than once; there its gradients add up.

Names are Caffe's, because they show in logs, in `net.blobs` and in saved models: layer
`<blob>_<producer>_<top index>_split`, tops `..._split_0`, `..._split_1` and so on. The producer is
the layer that wrote the blob last; after a chain of in-place layers this is the last of them. A
nonzero `loss_weight` on a top counts as one more use of it, the first one.
"""

from __future__ import annotations

from collections import defaultdict

from moka.errors import NetError, did_you_mean
from moka.schema import caffe_pb2

TopIndex = tuple[int, int]  # (layer index, top index in that layer)


def insert_splits(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """The net with Split layers after every top that has more than one use.

    Raises:
        NetError: no earlier layer makes a bottom.
    """
    sources, uses = _count_uses(net)
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    new.ClearField("layer")
    taken: defaultdict[TopIndex, int] = defaultdict(int)
    for i, old in enumerate(net.layer):
        layer = new.layer.add()
        layer.CopyFrom(old)
        for j, blob in enumerate(old.bottom):
            source = sources[i, j]
            if uses[source] > 1:
                owner = net.layer[source[0]].name
                layer.bottom[j] = _split_blob(owner, blob, source[1], taken[source])
                taken[source] += 1
        for j in range(len(old.top)):
            if uses[i, j] > 1:
                weight = old.loss_weight[j] if j < len(old.loss_weight) else 0.0
                _add_split(new, old, j, uses[i, j], weight)
                if weight:
                    layer.loss_weight[j] = 0.0
                    taken[i, j] += 1
    return new


def _count_uses(
    net: caffe_pb2.NetParameter,
) -> tuple[dict[tuple[int, int], TopIndex], defaultdict[TopIndex, int]]:
    """Two maps: (layer index, bottom index) to the top that is read; top to its number of uses."""
    last: dict[str, TopIndex] = {}
    sources: dict[tuple[int, int], TopIndex] = {}
    uses: defaultdict[TopIndex, int] = defaultdict(int)
    for i, layer in enumerate(net.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in last:
                raise _unknown_bottom(net, i, j, last)
            sources[i, j] = last[blob]
            uses[last[blob]] += 1
        for j, blob in enumerate(layer.top):
            last[blob] = (i, j)
            if j < len(layer.loss_weight) and layer.loss_weight[j]:
                uses[i, j] += 1
    return sources, uses


def _unknown_bottom(
    net: caffe_pb2.NetParameter, layer_index: int, bottom_index: int, known: dict[str, TopIndex]
) -> NetError:
    layer = net.layer[layer_index]
    blob = layer.bottom[bottom_index]
    later = [other.name for other in net.layer[layer_index:] if blob in other.top]
    if later:
        advice = (
            f'It is made only later, by layer "{later[0]}": put that layer first; if the two'
            " depend on each other, the net has a cycle, which Caffe's nets cannot have."
        )
    else:
        advice = did_you_mean(blob, known) or (
            f"Known here: {', '.join(known)}." if known else "No layer before it makes any blob."
        )
    return NetError(
        f"Unknown bottom blob '{blob}' (layer '{layer.name}', bottom index {bottom_index}).",
        advice=advice,
    )


def _split_name(layer: str, blob: str, top_index: int) -> str:
    return f"{blob}_{layer}_{top_index}_split"


def _split_blob(layer: str, blob: str, top_index: int, copy: int) -> str:
    return f"{_split_name(layer, blob, top_index)}_{copy}"


def _add_split(
    net: caffe_pb2.NetParameter,
    producer: caffe_pb2.LayerParameter,
    top_index: int,
    copies: int,
    loss_weight: float,
) -> None:
    blob = producer.top[top_index]
    split = net.layer.add(
        name=_split_name(producer.name, blob, top_index),
        type="Split",
        bottom=[blob],
        top=[_split_blob(producer.name, blob, top_index, k) for k in range(copies)],
    )
    if loss_weight:
        split.loss_weight.extend([loss_weight] + [0.0] * (copies - 1))
