"""All layer types. Importing this package imports every module in it, which registers them."""

import importlib
import pkgutil

from moka.layers.base import Layer
from moka.layers.registry import REGISTRY, Entry, all_entries

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):  # in alphabetical order
    importlib.import_module(_module.name)

__all__ = ["REGISTRY", "Entry", "Layer", "all_entries"]
