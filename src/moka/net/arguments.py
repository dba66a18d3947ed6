"""The tensors that a net is called with, by the names of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from moka.errors import NetError, did_you_mean
from moka.graph import Graph


def by_name(
    graph: Graph, arrays: Sequence[Tensor], inputs: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """All tensors by name.

    Args:
        arrays: for the net's inputs, in their order.
        inputs: by name; tops of data layers may be among them.

    Raises:
        NetError: a name that is no input, too many tensors, or two for one input.
    """
    if inputs:
        known = [top for node in graph.nodes if not node.bottoms for top in node.tops]
        if unknown := [name for name in inputs if name not in known]:
            raise NetError(
                f"no input is named {', '.join(unknown)}; inputs are {', '.join(known)}.",
                file=graph.file,
                advice=did_you_mean(unknown[0], known),
            )
    if not arrays:
        return inputs
    names = graph.inputs
    if len(arrays) > len(names) or inputs.keys() & set(names[: len(arrays)]):
        raise NetError(
            f"got {len(arrays)} tensors without a name for the inputs"
            f" {', '.join(names) or '(none)'}.",
            file=graph.file,
            advice="Give each input once, in this order or by its name.",
        )
    return {**dict(zip(names, arrays, strict=False)), **inputs}
