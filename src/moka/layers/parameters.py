"""The parameters of a layer, in a dict that counts who gets hold of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

from torch import nn


class Parameters(dict[str, nn.Parameter | None]):
    """A layer's parameters by name; it takes the place of the dict that `nn.Module` makes.

    Whoever gets hold of a parameter may write to it in ways that PyTorch does not count (`.data`,
    NumPy). All ways to a parameter lead through this dict, PyTorch's own too, and it counts them.
    The layer itself reads it by `dict`'s methods.

    Attributes:
        exposures: how often somebody outside of the layer has got hold of parameters.
        exposures_of_all: how often that has happened to any layer.
    """

    exposures = 0
    exposures_of_all: ClassVar[int] = 0

    def expose(self) -> None:
        """Count somebody who gets hold of the parameters."""
        self.exposures += 1
        Parameters.exposures_of_all += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameters:
        """A copy that nobody else has got hold of."""
        copied = memo[id(self)] = Parameters()
        dict.update(copied, {name: deepcopy(value, memo) for name, value in dict.items(self)})
        return copied


def _counted(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def counted(parameters: Parameters, *args: Any, **kwargs: Any) -> Any:
        parameters.expose()
        return method(parameters, *args, **kwargs)

    return counted


for _name in (
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__ior__",
    "clear",
    "copy",
    "get",
    "items",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
):
    setattr(Parameters, _name, _counted(_name))
