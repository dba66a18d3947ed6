"""YOLO's layers that rearrange or activate a whole map."""

from __future__ import annotations

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.detection.yolo_maps import RegionYolo, Reorg, ReorgYolo


@exports(Reorg, ReorgYolo, fixed_from=1)
def export_reorg(site: Site, layer: Reorg | ReorgYolo, x: Value) -> str:
    (n, c, h, w), s = x.dims, layer.stride
    if layer.reverse:
        cut, order = (n, s, s, c // (s * s), h, w), [0, 3, 4, 1, 5, 2]
    else:
        cut, order = (n, c // (s * s), h, s, w, s), [0, 3, 5, 1, 2, 4]
    moved = site.add("Transpose", site.reshape(x, cut), perm=order)
    return site.reshape(Value(moved, tuple(cut[axis] for axis in order)), site.tops[0])


@exports(RegionYolo, fixed_from=1)
def export_region_yolo(site: Site, layer: RegionYolo, x: Value) -> str:
    n, _, h, w = x.dims
    dims = (n, layer.count, layer.coords + 1 + layer.classes, h, w)
    sizes = [2, layer.coords - 2, 1, layer.classes]
    wanted = site.ints(*(size for size in sizes if size))
    parts = site.add_several(
        "Split", site.reshape(x, dims), wanted, outputs=3 + (layer.coords > 2), axis=2
    )
    center, *size, objectness, classes = parts
    if layer.do_softmax:
        classes = site.add("Softmax", classes, axis=2)
    else:
        classes = site.add("Sigmoid", classes)
    active = [site.add("Sigmoid", center), *size, site.add("Sigmoid", objectness), classes]
    return site.reshape(Value(site.add("Concat", *active, axis=2), dims), site.tops[0])
