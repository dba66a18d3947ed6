"""Detection: boxes that depend on shapes only are constants of the module."""

from __future__ import annotations

import torch

from moka.export.torch.table import writes
from moka.export.torch.writer import Site


@writes("PriorBox", "PriorBoxClustered")
def write_prior_box(site: Site) -> str:
    """The boxes for the shapes that the net was built for."""
    x, image = (torch.zeros(1, 1, *bottom.shape[2:]) for bottom in site.bottoms)
    return site.buffer("boxes", site.layer.forward(x, image))
