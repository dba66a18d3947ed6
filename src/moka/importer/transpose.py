"""Axes in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import prod

from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.table import imports

MOST_PARTS = 64  # into which a blob is cut to reorder its axes with BVLC's layers
JOINING = 3  # layers of a step beside those for each part


@imports("Transpose")
def import_transpose(site: NodeSite) -> None:
    x = site.blob(0)
    order = list(site.attribute("perm", range(len(x.shape))[::-1]))
    site.give(transposed(site, x, order))


def transposed(site: NodeSite, x: MadeBlob, order: Sequence[int]) -> MadeBlob:
    """x with its axes in another order.

    Moving axes of size 1 is a Reshape. Any other order is a layer of SSD's fork, or without such
    layers a row of steps in which two neighboring blocks of axes change places: they are cut apart
    and joined again, as when channels are shuffled.
    """
    shape = tuple(x.shape[axis] for axis in order)
    wanted = [axis for axis in order if axis == 0 or x.shape[axis] != 1]  # a batch may grow
    swaps = [[prod(x.shape[axis] for axis in block) for block in swap] for swap in _swaps(wanted)]
    steps = [_steps(*sizes) for sizes in swaps]
    if steps and (site.builder.extra_layers or None in steps):
        return site.add("Permute", x, part="permute", permute_param={"order": list(order)})
    for k, (before, m, n, after) in enumerate(step for found in steps for step in found or ()):
        x = _swapped(site, x, before, m, n, after, part=f"swap{k}")
    return site.reshape(x, shape)


Swap = tuple[list[int], list[int], list[int], list[int]]
Step = tuple[int, int, int, int]


def _swaps(wanted: Sequence[int]) -> Iterator[Swap]:
    """Swaps from the axes in rising order to the wanted order. Each is (before, first, second,
    after): the blocks `first` and `second` of axes change places."""
    axes = sorted(wanted)
    for k in range(len(axes)):
        if axes[k] == wanted[k]:
            continue
        start = axes.index(wanted[k])
        end = start + 1
        while end < len(axes) and axes[end] == wanted[k + end - start]:
            end += 1
        yield axes[:k], axes[k:start], axes[start:end], axes[end:]
        axes = axes[:k] + axes[start:end] + axes[k:start] + axes[end:]


def _steps(before: int, m: int, n: int, after: int) -> list[Step] | None:
    """How m and n change places: at once, or in several steps, factor by factor of the smaller
    one, whatever takes fewer layers. None: it cannot be cut into few enough parts."""
    factors = _factors(min(m, n))
    if factors is None:
        return None
    steps = []
    if m <= n:  # the last factor of m moves behind n first
        rest = m
        for factor in reversed(factors):
            rest //= factor
            steps.append((before * rest, factor, n, after))
            after *= factor
    else:  # the first factor of n moves before m first
        rest = n
        for factor in factors:
            rest //= factor
            steps.append((before, m, factor, rest * after))
            before *= factor
    return steps


@cache
def _factors(number: int) -> tuple[int, ...] | None:
    """The factors of a number whose steps take the fewest layers; none is above MOST_PARTS."""
    best: tuple[int, ...] | None = (number,) if number <= MOST_PARTS else None
    for factor in range(2, min(int(number**0.5), MOST_PARTS) + 1):
        if number % factor == 0 and (rest := _factors(number // factor)) is not None:
            found = (factor, *rest)
            if best is None or _cost(found) < _cost(best):
                best = found
    return best


def _cost(factors: Sequence[int]) -> int:
    return sum(factors) + JOINING * len(factors)


def _swapped(
    site: NodeSite, x: MadeBlob, before: int, m: int, n: int, after: int, part: str
) -> MadeBlob:
    """(before, m, n, after) to (before, n, m, after), cut along the smaller one of m and n."""
    wide = site.reshape(x, (before, m, n, after), part=f"{part}_blocks")
    cut, joined = (1, 2) if m <= n else (2, 1)
    parts = site.add_several("Slice", wide, tops=min(m, n), part=part,
                             slice_param={"axis": cut})  # fmt: skip
    small = (before, *((n, 1) if m <= n else (1, m)), after)
    turned = [site.reshape(p, small, part=f"{part}_{k}") for k, p in enumerate(parts)]
    return site.add("Concat", *turned, part=f"{part}_join", concat_param={"axis": joined})
