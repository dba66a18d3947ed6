"""Operators that compare and choose. True is 1 and false 0, as Caffe's Threshold makes them."""

from __future__ import annotations

import numpy as np

from moka.errors import NetError
from moka.importer.arithmetic import combine, with_constant
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.table import imports, refuse_operators
from moka.types import Array


def is_positive(site: NodeSite, x: MadeBlob, part: str = "positive") -> MadeBlob:
    """1 where x > 0, else 0."""
    return site.add("Threshold", x, part=part)


def negated(site: NodeSite, x: MadeBlob, part: str = "not") -> MadeBlob:
    """1 - x."""
    return site.power(x, scale=-1, shift=1, part=part)


def _difference(site: NodeSite, more: int, less: int) -> MadeBlob:
    """Input number `more` less input number `less`; either may be a constant."""
    if not site.is_variable(less):
        return with_constant(
            site, "SUM", site.blob(more), -site.weights(less), learned=False, part="difference"
        )
    negative = site.power(site.blob(less), scale=-1, part="negative")
    if not site.is_variable(more):
        values = site.weights(more)
        return with_constant(site, "SUM", negative, values, learned=False, part="difference")
    return combine(site, "SUM", site.blob(more), negative, part="difference")


@imports("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def import_comparison(site: NodeSite) -> None:
    more, less = (0, 1) if site.node.op in ("Greater", "LessOrEqual") else (1, 0)
    y = is_positive(site, _difference(site, more, less))
    site.give(negated(site, y) if site.node.op.endswith("Equal") else y)


@imports("Sign")
def import_sign(site: NodeSite) -> None:
    x = site.blob(0)
    negative = is_positive(site, site.power(x, scale=-1, part="negative"), part="below")
    above = is_positive(site, x, part="above")
    site.give(site.eltwise("SUM", above, negative, coeff=[1.0, -1.0]))


@imports("Not")
def import_not(site: NodeSite) -> None:
    site.give(negated(site, site.blob(0)))


@imports("And", "Or")
def import_and_or(site: NodeSite) -> None:
    operation = "PROD" if site.node.op == "And" else "MAX"
    site.give(combine(site, operation, site.blob(0), site.blob(1)))


@imports("Where")
def import_where(site: NodeSite) -> None:
    """c a + (1 - c) b."""
    if not site.is_variable(0):
        mask = site.weights(0)
        a, b = _times_mask(site, 1, mask), _times_mask(site, 2, 1 - mask)
    else:
        chosen = site.blob(0)
        a, b = _times(site, 1, chosen), _times(site, 2, negated(site, chosen))
    site.give(combine(site, "SUM", a, b))


def _times(site: NodeSite, index: int, mask: MadeBlob) -> MadeBlob:
    """Input number `index` times a mask."""
    part = f"part{index}"
    if site.is_variable(index):
        return combine(site, "PROD", site.blob(index), mask, part=part)
    return with_constant(site, "PROD", mask, _finite(site, index), learned=False, part=part)


def _times_mask(site: NodeSite, index: int, mask: Array) -> MadeBlob:
    """Input number `index` times a constant mask."""
    if not site.is_variable(index):
        raise NetError("it chooses between constants and inputs by a constant.")
    return with_constant(site, "PROD", site.blob(index), mask, learned=False, part=f"part{index}")


def _finite(site: NodeSite, index: int) -> Array:
    values = site.weights(index)
    if not np.isfinite(values).all():
        raise NetError("it chooses a number that is not finite, and Caffe's layers choose by"
                       " multiplying.")  # fmt: skip
    return values


refuse_operators("Caffe has no layer that tells whether numbers are equal.", "Equal")
refuse_operators("Caffe has no layers that branch or repeat.", "If", "Loop", "Scan")
