"""Label sequences read off class scores; how many are right is left out of exported nets."""

from __future__ import annotations

import numpy as np

from moka.errors import NetError
from moka.export.onnx.builder import FLOAT, INT64, Site, Value
from moka.export.onnx.table import exports, leave_out
from moka.layers.sequence.labels import CTCGreedyDecoder, LabelsequenceAccuracy

leave_out(LabelsequenceAccuracy)

END = int(np.iinfo(np.int64).max)


@exports(CTCGreedyDecoder)
def export_ctc_greedy_decoder(
    site: Site, layer: CTCGreedyDecoder, x: Value, *others: Value
) -> list[str]:
    if layer.has_all_time:
        raise NetError("cannot be exported: caffe_ocr's form has no exporter yet.")
    cont, truth = others[0], others[1] if len(others) > 1 else None
    steps, streams, classes = x.dims[:3]
    scores = site.reshape(x, (steps, streams, classes))
    best = site.add("ArgMax", scores, axis=2, keepdims=0)
    labels = site.add("Cast", site.add("Transpose", best, perm=[1, 0]), to=FLOAT)
    inside = _before_the_end(site, site.reshape(cont, (steps, streams)))
    kept = site.add("And", site.add("Transpose", inside, perm=[1, 0]),
                    _differs(site, labels, site.number(layer.blank_of(classes))))  # fmt: skip
    if layer.ctc_merge_repeated:
        before = site.pad(site.slice(labels, 1, 0, -1), [0, 1], [0, 0], -1)
        kept = site.add("And", kept, _differs(site, labels, before))
    text = _packed(site, labels, kept)
    tops = [site.reshape(Value(text, (streams, steps)), site.tops[0])]
    if len(site.tops) > 1 + (truth is not None):
        highest = site.reduce("ReduceMax", scores, [2], keep=False)
        counted = site.add("Mul", highest, site.add("Cast", inside, to=FLOAT))
        total = site.add("Neg", site.reduce("ReduceSum", counted, [0], keep=False))
        tops.append(site.reshape(Value(total, (streams,)), site.tops[1]))
    if truth is not None and len(site.tops) > 1:
        given = site.reshape(truth, (steps, streams))
        tops.append(_share_of_right(site, text, site.add("Transpose", given, perm=[1, 0])))
    return tops


def _before_the_end(site: Site, indicators: str) -> str:
    """Which timesteps (T, N) lie before the first indicator of 0 after the first step."""
    zero = site.add("Less", site.add("Abs", site.scaled(indicators, 1.0, 0.5)), site.number(1))
    later = site.slice(site.add("Cast", zero, to=FLOAT), 0, 1, END)
    return _none_yet(site, site.pad(later, [1, 0], [0, 0]), 0)


def _none_yet(site: Site, marks: str, axis: int) -> str:
    """Whether no mark (0 or 1) is at or before a place along an axis."""
    count = site.add("CumSum", marks, site.constant(np.array(axis, np.int64)))
    return site.add("Less", count, site.number(0.5))


def _differs(site: Site, a: str, b: str) -> str:
    return site.add("Not", site.add("Equal", a, b))


def _packed(site: Site, labels: str, kept: str) -> str:
    """The labels (N, T) that are kept, moved to the front of each row; the rest is -1."""
    axis = site.constant(np.array(1, np.int64))
    place = site.add("CumSum", site.add("Cast", kept, to=INT64), axis)
    place = site.add("Sub", place, site.ints(1))
    shape = site.add("Shape", labels)
    index = site.add("Where", kept, place, site.slice(shape, 0, 1, 2))
    nothing = site.tensor(np.array([-1], np.float32))
    table = site.pad(site.add("ConstantOfShape", shape, value=nothing), [0, 0], [0, 1])
    filled = site.add("ScatterElements", table, index, labels, axis=1)
    return site.slice(filled, 1, 0, -1)


def _share_of_right(site: Site, found: str, truth: str) -> str:
    """The fraction (1, 1, 1, 1) of rows that are the true labels; the first below 0 ends them."""
    below = site.add("Cast", site.add("Less", truth, site.number(0)), to=FLOAT)
    labels = site.add("Floor", site.scaled(truth, 1.0, 0.5))
    wanted = _packed(site, labels, _none_yet(site, below, 1))
    same = site.add("Cast", site.add("Equal", found, wanted), to=FLOAT)
    right = site.reduce("ReduceMin", same, [1], keep=False)
    return site.add("Reshape", site.reduce("ReduceMean", right, [0], keep=False),
                    site.ints(1, 1, 1, 1))  # fmt: skip
