"""Counters and histograms of a server, in the text form that Prometheus reads."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Labels = tuple[tuple[str, str], ...]
Gauge = Callable[[], Mapping[Labels, float]]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metric(NamedTuple):
    """A counter, or a histogram if it has bounds."""

    name: str
    help: str
    bounds: Sequence[float] = ()


REQUESTS = Metric("moka_requests_total", "Requests by route, method and status.")
REQUEST_SECONDS = Metric("moka_request_seconds", "From a request to its answer.", SECONDS)
IMAGES = Metric("moka_images_total", "Images that were computed, by model.")
BATCH_IMAGES = Metric("moka_batch_images", "Images in a batch, by model.", SIZES)
BATCH_SECONDS = Metric("moka_batch_seconds", "Decoding and computing a batch.", SECONDS)
LOADS = Metric("moka_model_changes_total", "Models loaded and unloaded.")
ALL = (REQUESTS, REQUEST_SECONDS, IMAGES, BATCH_IMAGES, BATCH_SECONDS, LOADS)


class Metrics:
    """The metrics of one server. Threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Metric, dict[Labels, float]] = {metric: {} for metric in ALL}
        self._buckets: dict[Metric, dict[Labels, list[float]]] = {metric: {} for metric in ALL}
        self._gauges: dict[str, tuple[str, Gauge]] = {}

    def add(self, metric: Metric, by: float = 1, **labels: str) -> None:
        """Count."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            counts = self._counts[metric]
            counts[key] = counts.get(key, 0) + by

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Enter a value in a histogram."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            row = self._buckets[metric].setdefault(key, [0.0] * (len(metric.bounds) + 1))
            row[bisect_left(metric.bounds, value)] += 1
            counts = self._counts[metric]
            counts[key] = counts.get(key, 0) + value  # the sum

    def gauge(self, name: str, help: str, values: Gauge) -> None:
        """Ask for values, by labels, whenever the text is made."""
        self._gauges[name] = (help, values)

    def text(self) -> str:
        """All of them, as Prometheus reads them (version 0.0.4)."""
        lines: list[str] = []
        with self._lock:
            for metric in ALL:
                kind = "histogram" if metric.bounds else "counter"
                lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {kind}"]
                for key, value in self._counts[metric].items():
                    if metric.bounds:
                        lines += self._histogram(metric, key, value)
                    else:
                        lines.append(f"{metric.name}{_shown(key)} {value:.17g}")
        for name, (help, values) in self._gauges.items():
            lines += [f"# HELP {name} {help}", f"# TYPE {name} gauge"]
            lines += [f"{name}{_shown(key)} {value:.17g}" for key, value in values().items()]
        return "\n".join([*lines, ""])

    def _histogram(self, metric: Metric, key: Labels, total: float) -> list[str]:
        lines, seen = [], 0.0
        row = self._buckets[metric][key]
        for bound, count in zip((*metric.bounds, float("inf")), row, strict=True):
            seen += count
            edge = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f"{metric.name}_bucket{_shown((*key, ('le', edge)))} {seen:.17g}")
        return [
            *lines,
            f"{metric.name}_sum{_shown(key)} {total:.9g}",
            f"{metric.name}_count{_shown(key)} {seen:.17g}",
        ]


def _shown(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
