"""Normalization over batches, in the two layers that Caffe has for it."""

from __future__ import annotations

from typing import Any

from moka.net.spec import NetSpec, Top, layers


def normalized_by_batch(
    n: NetSpec,
    x: Top,
    norm: str,
    scale: str,
    deploy: bool,
    *,
    fields: Any = None,
    **norm_fields: Any,
) -> Top:
    """BatchNorm and Scale in place, under these names; in use with what training has gathered.

    Args:
        fields: of Scale.
        norm_fields: of BatchNorm.
    """
    if deploy:
        norm_fields["use_global_stats"] = True
    n[norm] = layers.BatchNorm(x, in_place=True, **norm_fields)
    n[scale] = layers.Scale(n[norm], bias_term=True, in_place=True, **(fields or {}))
    return n[scale]
