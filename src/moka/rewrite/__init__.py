"""Pure passes over models: each takes a model and returns another that computes the same."""

from moka.rewrite.drop import drop_layers
from moka.rewrite.fold import fold_scales
from moka.rewrite.fold_after import fold_scales_forward
from moka.rewrite.model import Model, WeightedLayer

__all__ = ["Model", "WeightedLayer", "drop_layers", "fold_scales", "fold_scales_forward"]
