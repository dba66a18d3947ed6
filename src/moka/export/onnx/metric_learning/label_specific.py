"""Layers that change the score of the true class, which testing leaves out by default."""

from __future__ import annotations

from math import pi

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.metric_learning.additive import own_scores, with_own_scores
from moka.export.onnx.table import exports
from moka.layers.metric_learning.label_specific import (
    LEAST_SINE_STEP,
    LabelSpecificHardMargin,
    LabelSpecificMargin,
    LabelSpecificRescale,
)


@exports(LabelSpecificMargin)
def export_label_specific_margin(
    site: Site, layer: LabelSpecificMargin, x: Value, label: Value, given: Value | None = None
) -> list[str]:
    margin = site.weight(0) if given is None else site.reshape(given, (1,))
    y = x.name
    if layer.is_active:
        rows, own, score = own_scores(site, x, label)
        kept = site.add("Equal", margin, site.number(0))
        changed = site.add("Where", kept, score, _changed(site, layer.type, score, margin))
        y = with_own_scores(site, rows.name, own, changed, rows.dims)
    return [y, margin][: len(site.tops)]


def _changed(site: Site, kind: str, score: str, margin: str) -> str:
    if kind == "SOFT":
        largest = site.number(pi - LEAST_SINE_STEP)
        angle = site.add("Acos", site.add("Clip", score, site.number(-1), site.number(1)))
        above = site.add("Greater", site.add("Mul", angle, margin), largest)
        angle = site.add("Where", above, largest, angle)
    else:
        least, most = site.number(-1 + LEAST_SINE_STEP), site.number(1 - LEAST_SINE_STEP)
        angle = site.add("Acos", site.add("Clip", score, least, most))
    turned = (
        site.add("Mul", angle, margin)
        if kind == "SOFT"
        else site.add("Add", angle, site.scaled(margin, pi / 180))
    )
    return site.add("Cos", turned)


@exports(LabelSpecificRescale)
def export_label_specific_rescale(
    site: Site, layer: LabelSpecificRescale, x: Value, label: Value
) -> list[str]:
    weight, y = layer.current_weight(), x.name
    if layer.is_active:
        rows, own, score = own_scores(site, x, label)
        changed = site.scaled(score, weight, 1 - weight if layer.bias_fix else 0.0)
        if layer.for_ip:
            above = site.add("Greater", score, site.number(0))
            changed = site.add("Where", above, changed, score)
        others = site.scaled(rows.name, layer.negative_weight)
        y = with_own_scores(site, others, own, changed, rows.dims)
    return [y, site.parts([weight])][: len(site.tops)]


@exports(LabelSpecificHardMargin)
def export_label_specific_hard_margin(
    site: Site, layer: LabelSpecificHardMargin, x: Value, label: Value
) -> list[str]:
    return [x.name, site.parts([0.0])][: len(site.tops)]
