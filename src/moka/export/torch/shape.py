"""Layers that copy, join, cut and reorder values."""

from __future__ import annotations

from typing import Any

import torch

from moka.errors import NetError
from moka.export.torch.table import writes
from moka.export.torch.writer import ModuleSite, number


@writes("Split")
def write_split(site: ModuleSite) -> list[str]:
    return [str(site.bottoms[0])] * len(site.tops)


@writes("Concat")
def write_concat(site: ModuleSite) -> str:
    if len(site.bottoms) == 1:
        return str(site.bottoms[0])
    return f"torch.cat([{', '.join(map(str, site.bottoms))}], {site.option('join')})"


@writes("Slice")
def write_slice(site: ModuleSite) -> str | list[str]:
    axis = site.option("cut") % len(site.bottoms[0].shape)
    sizes = [top[axis] for top in site.tops]
    call = f"torch.split({site.bottoms[0]}, {sizes}, {axis})"
    return [f"{call}[0]"] if len(sizes) == 1 else call


@writes("Flatten")
def write_flatten(site: ModuleSite) -> str:
    axis, end = site.option("axis"), site.option("end_axis")
    rank = len(site.bottoms[0].shape)
    if end % rank < axis % rank:  # a new axis of size 1
        return f"{site.bottoms[0]}.unsqueeze({axis})"
    return f"{site.bottoms[0]}.flatten({axis}{'' if end == -1 else f', {end}'})"


@writes("Reshape")
def write_reshape(site: ModuleSite) -> str:
    """Sizes that the layer copies are read from the bottom, so that batches may differ."""
    x = site.bottoms[0]
    rank, axis, count = len(x.shape), site.option("axis"), site.option("num_axes")
    start = axis if axis >= 0 else rank + axis + 1
    end = rank if count == -1 else start + count
    middle = [
        f"{x}.shape[{start + k}]" if d == 0 else str(d) for k, d in enumerate(site.option("dims"))
    ]
    kept = [f"{x}.shape[{k}]" for k in range(rank)]
    return f"{x}.reshape({', '.join([*kept[:start], *middle, *kept[end:]])})"


@writes("Squeeze")
def write_squeeze(site: ModuleSite) -> str:
    """The axes that are of size 1 here; a batch keeps its axis unless the net names it."""
    x, named = site.bottoms[0], site.option("axis")
    axes = tuple(axis % len(x.shape) for axis in named) or tuple(
        axis for axis, size in enumerate(x.shape) if size == 1
    )
    return f"{x}.squeeze({axes})"


@writes("Tile")
def write_tile(site: ModuleSite) -> str:
    x, axis = site.bottoms[0], site.option("axis") % len(site.bottoms[0].shape)
    times = [1] * len(x.shape)
    times[axis] = site.option("tiles")
    return f"{x}.repeat({', '.join(map(str, times))})"


@writes("Crop", "AutoCrop")
def write_crop(site: ModuleSite) -> str:
    x, reference = site.bottoms
    layer: Any = site.layer
    y = str(x)
    for axis, offset in layer.offsets(x.shape, reference.shape).items():
        y += f".narrow({axis}, {offset}, {reference}.shape[{axis}])"
    return y


@writes("Permute")
def write_permute(site: ModuleSite) -> str:
    x = site.bottoms[0]
    order = list(site.option("order"))
    order += [axis for axis in range(len(x.shape)) if axis not in order]
    return f"{x}.permute({', '.join(map(str, order))})"


@writes("ShuffleChannel")
def write_shuffle(site: ModuleSite) -> str:
    x, group = site.bottoms[0], site.option("group")
    if len(x.shape) > 2:
        return f"F.channel_shuffle({x}, {group})"
    return f"F.channel_shuffle({x}[..., None], {group}).squeeze(-1)"  # it takes no (N, C)


@writes("Interp")
def write_interp(site: ModuleSite) -> str:
    size = tuple(site.tops[0][2:])
    cut = (site.option("pad_beg"), site.option("pad_end"))
    x = str(site.bottoms[0])
    if any(cut):
        x = f"F.pad({x}, {(*cut, *cut)})"
    return f'F.interpolate({x}, {size}, mode="bilinear", align_corners=True)'


@writes("ResizeBilinear")
def write_resize_bilinear(site: ModuleSite) -> str:
    """Products with the weights of rows and of columns."""
    x = site.bottoms[0]
    layer: Any = site.layer
    maps = [weights.float() for weights in layer.maps(tuple(x.shape))]
    rows, columns = site.buffer("rows", maps[0]), site.buffer("columns", maps[1].t().contiguous())
    if site.option("data_format") == "NCHW":
        return f"{rows} @ {x} @ {columns}"
    return f"({rows} @ {x}.permute(0, 3, 1, 2) @ {columns}).permute(0, 2, 3, 1)"


@writes("ResizeNearestNeighbor")
def write_resize_nearest(site: ModuleSite) -> str:
    x, y = site.bottoms[0], str(site.bottoms[0])
    layer: Any = site.layer
    maps = zip(("rows", "columns"), layer.maps(tuple(x.shape)), strict=True)
    for axis, (name, index) in enumerate(maps, layer.first_axis):
        y += f".index_select({axis}, {site.buffer(name, index)})"
    return y


@writes("GSTiling")
def write_gs_tiling(site: ModuleSite) -> str:
    """PyTorch's own order has the channel vary slowest, this one fastest."""
    x, s, reverse = site.bottoms[0], site.option("stride"), site.option("reverse")
    y = str(x) if reverse else f"F.pixel_unshuffle({x}, {s})"
    table = (s * s, -1) if reverse else (-1, s * s)
    y += f".unflatten(1, {table}).transpose(1, 2).flatten(1, 2)"
    return f"F.pixel_shuffle({y}, {s})" if reverse else y


@writes("MIL")
def write_mil(site: ModuleSite) -> str:
    x, rows = site.bottoms[0], site.option("context_per_roi")
    if rows:
        return f"{x}.reshape(-1, {rows}, {x.shape[1]}).amax(1)[..., None, None]"
    parts = f"{x}.reshape(*{x}.shape[:2], -1)"
    y = f"{parts}.amax(2)"
    if site.option("kind") == "NOR":
        y = f"torch.maximum(1 - (1 - {parts}).prod(2), {y})"
    return f"{y}[..., None, None]"


@writes("Tiling")
def write_tiling(site: ModuleSite) -> str:
    return f"F.pixel_shuffle({site.bottoms[0]}, {site.option('tile_dim')})"


@writes("Pad")
def write_pad(site: ModuleSite) -> str:
    pairs = zip(site.option("paddings")[::2], site.option("paddings")[1::2], strict=True)
    sides = tuple(side for pair in reversed(list(pairs)) for side in pair)
    return f"F.pad({site.bottoms[0]}, {sides}, value={number(site.option('constant_values'))})"


@writes("Transpose")
def write_transpose(site: ModuleSite) -> str:
    return f"{site.bottoms[0]}.permute({', '.join(map(str, site.option('dim')))})"


@writes("Flip")
def write_flip(site: ModuleSite) -> str:
    names = ((2, "flip_height"), (3, "flip_width"))
    return f"{site.bottoms[0]}.flip({tuple(axis for axis, on in names if site.option(on))})"


@writes("Reverse")
def write_reverse(site: ModuleSite) -> str:
    axes = tuple(axis % len(site.bottoms[0].shape) for axis in site.option("axis") or (0,))
    return f"{site.bottoms[0]}.flip({axes})"


@writes("Upsample")
def write_upsample(site: ModuleSite) -> str:
    """Pixels that are repeated; a mask's places have no short form."""
    x, form = site.bottoms[0], site.option("form")
    if form == "mask":
        raise NetError("only repeated pixels have a short form in PyTorch, not places of maxima.")
    y = str(x)
    for axis, (factor, size) in enumerate(
        zip(site.option("factors"), site.tops[0][2:], strict=True), 2
    ):
        if factor == int(factor) and size == x.shape[axis] * factor:
            y += f".repeat_interleave({int(factor)}, {axis})"
        else:
            source = (torch.arange(size) / factor).long()
            y += f".index_select({axis}, {site.buffer(f'source {axis}', source)})"
    scale = site.option("scale") if form == "stride" else 1
    return y if scale == 1 else f"{y} * {number(scale)}"


@writes("Reorg", "ReorgYolo")
def write_reorg(site: ModuleSite) -> str:
    """Space to depth in darknet's order, which reads an item as if it were large."""
    x, s = site.bottoms[0], site.option("stride")
    _, c, h, w = x.shape
    few = c // (s * s)
    if site.option("reverse"):
        cut = f"{x}.reshape(-1, {s}, {s}, {few}, {h}, {w}).permute(0, 3, 4, 1, 5, 2)"
        return f"{cut}.reshape(-1, {few}, {h * s}, {w * s})"
    cut = f"{x}.reshape(-1, {few}, {h}, {s}, {w}, {s}).permute(0, 3, 5, 1, 2, 4)"
    return f"{cut}.reshape(-1, {c * s * s}, {h // s}, {w // s})"
