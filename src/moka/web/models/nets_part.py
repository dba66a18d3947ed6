"""The API of the page Nets: a text that is checked, drawn, timed and compared; and what the
parameters and blobs of a loaded model hold."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Route

from moka.checks.compare_nets import compare_nets
from moka.checks.pasted import FILE, LayerFacts, PastedNet, check_text
from moka.cli.time import time_layers
from moka.draw.layer_graph import LayerGraph, fold_blocks, lay_out_layers, layer_graph
from moka.draw.viz import column_count, tiled
from moka.engine.layerwise import Layerwise
from moka.errors import UsageError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.net.outline import silence
from moka.net.summary import parameter_count, size_text
from moka.predict.activity import activity, first_filters, parameter_spreads
from moka.schema import caffe_pb2
from moka.serving.model import ServedModel
from moka.types import Array, Floats
from moka.web.answers import get, post, wanted, whole
from moka.web.api.bodies import Body
from moka.web.api.endpoint import answering
from moka.web.api.service import Service
from moka.web.app import Part
from moka.web.folder import Folder
from moka.web.models.net_files import net_names, net_text

MOST_BOXES = 1500  # that are drawn
MOST_TIMED_BYTES = 2_000_000_000
MOST_TIMED_MULTIPLY_ADDS = 50_000_000_000
MOST_TIMED = 20  # passes
MOST_FILTERS = 256
MOST_IMAGES = 16  # whose blobs are looked at, all of them at once
FLOAT_BYTES = 4


def nets_part(service: Service, folder: Folder | None = None) -> Part:
    """The page about nets; models of a service can be looked into, nets of a folder opened."""

    async def look(request: Request, body: Body) -> Any:
        model = await service.model(str(body.values.get("model", "")))
        images = model.images_of(body.images)
        for image in images:
            service.limits.check(image)
        return await run_in_threadpool(activations, model, images)

    def parameters(values: Mapping[str, Any]) -> Any:
        return parameters_of(service.store.get(str(values.get("model", ""))))

    routes = [
        post("/check", checked),
        post("/graph", drawn),
        post("/time", timed),
        post("/compare", compared),
        post("/parameters", parameters),
        Route("/activations", answering(service, look), methods=["POST"]),
    ]
    routes.append(get("/files", lambda _: {"names": net_names(folder) if folder else []}))
    if folder:
        routes.append(get("/file", partial(net_text, folder)))
    return Part("Nets", "nets", routes)


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is wrong with `text`, or its layers."""
    _found.cache_clear()
    found = _found(str(values.get("text", "")), str(values.get("state", "")))
    net = found.net
    return {
        "name": found.param.name,
        "problem": asdict(found.problem) if found.problem else None,
        "notes": list(found.notes),
        "states": [str(state) for state in found.states],
        "state": str(found.state) if found.state else "",
        "layers": [_layer(facts) for facts in found.layers],
        "totals": {
            "layers": len(found.layers),
            "parameters": parameter_count(net) if net else None,
            "multiply_adds": _sum(found, "multiply_adds") if net else None,
            "output_bytes": _sum(found, "output_bytes") if net else None,
        },
    }


@lru_cache(maxsize=4)
def _found(text: str, state: str) -> PastedNet:
    """What a check has found; a net that is checked is soon drawn."""
    return check_text(text, state)


def _sum(found: PastedNet, name: str) -> int:
    return sum(getattr(facts, name) or 0 for facts in found.layers)


def _layer(facts: LayerFacts) -> dict[str, Any]:
    row = facts.row
    return {
        "name": row.name,
        "type": row.type,
        "line": facts.line,
        "bottoms": list(row.bottoms),
        "tops": [{"name": top.name, "shape": size_text(top.sizes) if top.sizes is not None else ""}
                 for top in row.tops],
        "parameters": [str(each) for each in row.parameters],
        "count": row.count,
        "parameter_bytes": None if row.count is None else FLOAT_BYTES * row.count,
        "multiply_adds": facts.multiply_adds,
        "output_bytes": facts.output_bytes,
    }  # fmt: skip


def drawn(values: Mapping[str, Any]) -> dict[str, Any]:
    """The boxes and edges of `text`, with places. `fold`: in-place layers and blocks are folded;
    `open`: the blocks that are not."""
    found = _found(str(values.get("text", "")), str(values.get("state", "")))
    if not found.param.layer:
        raise UsageError("there is no net to draw yet.")
    graph = layer_graph(found.param, found.state.phase if found.state else None)
    blocks = len(graph.boxes) - len(fold_blocks(graph).boxes)
    if values.get("fold", True):
        open_blocks = values.get("open", [])
        graph = fold_blocks(graph, open_blocks if isinstance(open_blocks, list) else [])
    if len(graph.boxes) > MOST_BOXES:
        raise UsageError(f"the net has {len(graph.boxes):,} boxes; {MOST_BOXES:,} are drawn.")
    placed = lay_out_layers(graph, _notes(graph, found))
    return {
        "width": placed.width,
        "height": placed.height,
        "can_fold": blocks > 0,
        "boxes": [
            {
                "key": key,
                "x": placed.centers[key][0],
                "y": placed.centers[key][1],
                "width": placed.sizes[key][0],
                "height": placed.sizes[key][1],
                "lines": [*box.lines, *([note] if (note := _note(box.layers, found)) else [])],
                "layers": list(box.layers),
                "color": box.color,
                "block": box.block if box.is_block else "",
                "inside": box.block,
                "repeats": box.repeats,
            }
            for key, box in graph.boxes.items()
        ],
        "edges": [
            {"source": source, "target": target, "blobs": list(graph.edges[source, target]),
             "points": way}
            for (source, target), way in placed.ways.items()
        ],
    }  # fmt: skip


def _notes(graph: LayerGraph, found: PastedNet) -> dict[str, str]:
    notes = {key: _note(box.layers, found) for key, box in graph.boxes.items()}
    return {key: note for key, note in notes.items() if note}


def _note(layers: tuple[str, ...], found: PastedNet) -> str:
    """The shape of what a box gives out."""
    if found.net is None:
        return ""
    last = next((f for f in reversed(found.layers) if f.row.name == layers[-1]), None)
    sizes = last.row.tops[0].sizes if last and last.row.tops else None
    return size_text(sizes) if sizes is not None else ""


def timed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds of each layer, forward and backward, with numbers by chance."""
    found = check_text(wanted(values, "text"), str(values.get("state", "")))
    if found.net is None or found.state is None:
        raise UsageError("the net cannot be built, so it cannot be timed.")
    net = _runnable(found)
    count = whole(values, "passes", 3, 1, MOST_TIMED)
    engine = Layerwise(net, every_layer=True)
    engine.forward()
    engine.backward()
    timing = time_layers(net, engine, count)
    net.close()
    rows = [layer for layer in timing.layers if not REGISTRY[layer.type].is_plumbing]
    return {
        "passes": count,
        "forward_ms": timing.forward_ms,
        "backward_ms": timing.backward_ms,
        "layers": [asdict(row) for row in rows],
    }


def _runnable(found: PastedNet) -> Net:
    """The net with memory. Raises UsageError for one that is too large, or would write files."""
    assert found.net is not None
    assert found.state is not None
    outline = found.net
    for place in outline.places:
        if REGISTRY[place.node.type].writes_files:
            raise UsageError(
                f'layer "{place.node.name}" ({place.node.type}) writes files when it runs, so the'
                " net is not timed here.",
                advice="Use `caffe time`.",
            )
    needed = _sum(found, "output_bytes") + FLOAT_BYTES * parameter_count(outline)
    if 2 * needed > MOST_TIMED_BYTES or _sum(found, "multiply_adds") > MOST_TIMED_MULTIPLY_ADDS:
        raise UsageError(
            "the net with this batch is too large to be timed here.",
            advice="Give it a smaller batch, or use `caffe time`.",
        )
    param = with_inputs(outline)
    with silence():
        graph = build_graph(param, REGISTRY, phase=found.state.phase, file=FILE)
        return Net(graph, silent=True)


def with_inputs(net: Net) -> caffe_pb2.NetParameter:
    """The layers of a net, with an Input of the same shapes in the place of each that reads
    files."""
    param = caffe_pb2.NetParameter(name=net.name)
    for layer in net.graph.filtered.layer:
        if layer.bottom or REGISTRY[layer.type].source != "files":
            param.layer.add().CopyFrom(layer)
            continue
        given = param.layer.add(name=layer.name, type="Input", top=layer.top)
        for top in layer.top:
            given.input_param.shape.add(dim=net.blobs[top].data_memory.shape)
    for layer in param.layer:
        layer.ClearField("include")
        layer.ClearField("exclude")
    return param


def compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """The layers of `a` and `b` that differ."""
    nets = []
    for name in ("a", "b"):
        found = check_text(wanted(values, name))
        if not found.param.layer:
            said = found.problem.message if found.problem else "it has no layers."
            raise UsageError(f"net {name.upper()} cannot be read: {said}")
        nets.append(found)
    pairs = compare_nets(nets[0].param, nets[1].param)
    return {
        "pairs": [asdict(pair) for pair in pairs],
        "totals": [
            {
                "layers": len(found.layers),
                "parameters": parameter_count(found.net) if found.net else None,
                "multiply_adds": _sum(found, "multiply_adds") if found.net else None,
                "output_bytes": _sum(found, "output_bytes") if found.net else None,
            }
            for found in nets
        ],
    }


def parameters_of(model: ServedModel) -> dict[str, Any]:
    """The spread of all parameters, and the filters of the first layer as a PNG in base64."""
    filters = first_filters(model.net)
    return {
        "parameters": [
            {"layer": layer, "type": kind, "name": name, **asdict(spread)}
            for layer, kind, name, spread in parameter_spreads(model.net)
        ],
        "filters": None if filters is None else _png_text(_filter_sheet(filters)),
        "filter_count": 0 if filters is None else len(filters),
    }


def activations(model: ServedModel, images: list[bytes]) -> dict[str, Any]:
    """What each layer makes of images. Raises UsageError for too many of them."""
    if len(images) > MOST_IMAGES:
        raise UsageError(f"{len(images)} images were given, at most {MOST_IMAGES} are looked at.")
    blob = np.zeros((len(images), *model.input.shape), np.float32)
    for values, data in zip(blob, images, strict=True):
        model.input.fill(data, values, "an image", upright=True)  # as the page shows it
    return {
        "images": len(images),
        "blobs": [
            {
                "blob": found.blob,
                "layer": found.layer,
                "type": found.type,
                **asdict(found.spread),
                "channels": found.channels,
                "dead": found.dead,
                "png": _planes_text(found.planes),
            }
            for found in activity(model.net, blob)
        ],
    }


def _planes_text(planes: Floats | None) -> str | None:
    return None if planes is None else _png_text(_sheet(_each_full(planes)))


def _filter_sheet(filters: Floats) -> Array:
    """Filters of three channels in color (of BGR nets), others channel by channel, as one image."""
    if filters.shape[1] == 3:
        most = np.abs(filters).max() or 1
        return _sheet(0.5 + 0.5 * filters[:MOST_FILTERS].transpose(0, 2, 3, 1) / most)
    planes = filters.reshape(-1, *filters.shape[2:])[:MOST_FILTERS]
    return _sheet(_each_full(planes))


def _each_full(planes: Floats) -> Floats:
    """Each plane from 0 to 1."""
    least = planes.min((1, 2), keepdims=True)
    reach = planes.max((1, 2), keepdims=True) - least
    full: Floats = (planes - least) / np.where(reach == 0, 1, reach)
    return full


def _sheet(planes: Array) -> Array:
    sheet = tiled(planes, column_count(len(planes)))
    return (255 * np.nan_to_num(np.clip(sheet, 0, 1), nan=1.0)).astype(np.uint8)


def _png_text(image: Array) -> str:
    return base64.b64encode(bytes(cv2.imencode(".png", image)[1])).decode()
