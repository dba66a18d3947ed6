"""Detection with prior boxes, as in SSD."""

from __future__ import annotations

import torch

from moka.errors import NetError
from moka.export.torch.plain import _boxes, _detect, _suppress
from moka.export.torch.table import writes
from moka.export.torch.writer import ModuleSite, text_of
from moka.layers.detection.detect import DetectionLimits


@writes("PriorBox", "PriorBoxClustered")
def write_prior_box(site: ModuleSite) -> str:
    """The boxes for the shapes that the net was built for."""
    x, image = (torch.zeros(1, 1, *bottom.shape[2:]) for bottom in site.bottoms)
    return site.buffer("boxes", site.layer.forward(x, image))


@writes("DetectionOutput")
def write_detection_output(site: ModuleSite) -> str:
    limits: DetectionLimits = site.option("limits")
    if len(site.bottoms) > 3 or (limits.eta < 1 and limits.threshold > 0.5):
        raise NetError("only SSD's three bottoms, and a threshold that does not fall, have a form"
                       " in PyTorch.")  # fmt: skip
    for function in (_boxes, _suppress, _detect):
        site.function(function)
    lowest = torch.finfo(torch.float32).min if limits.score is None else limits.score
    options = {
        "classes": site.option("num_classes"),
        "background": site.option("background_label_id"),
        "code": f'"{site.option("code_type")}"',
        "scaled": site.option("variance_encoded_in_target"),
        "clip": site.option("clip"),
        "lowest": lowest,
        "threshold": limits.threshold,
        "top_k": limits.top_k if limits.top_k >= 0 else None,
        "keep_top_k": limits.keep_top_k if limits.keep_top_k >= 0 else None,
    }
    named = [f"{key}={text_of(value)}" for key, value in options.items()]
    return f"_detect({', '.join([*map(str, site.bottoms), *named])})"
