"""Mean average precision, which tests of detectors report: a solver's `eval_type: "detection"`.

The test net's outputs are those of DetectionEvaluate layers: rows of five numbers. A row that
begins with -1 says how many true boxes a label has: -1, label, count, -1, -1. Any other row is a
detection: image, label, score, whether it is right, whether it is wrong; one that is neither (it
hit a difficult box) does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from moka.engine.contract import Engine
from moka.errors import NetError, SolverError, did_you_mean
from moka.report.records import Output
from moka.schema.caffe_pb2 import SolverParameter
from moka.types import Array

Precisions = tuple[tuple[int, float], ...]  # label, average precision

SAME = 1e-6  # recalls that differ by less are one


@dataclass
class ScoredDetections:
    """The detections of each label: the count of true boxes; score and right of each
    detection that counts."""

    boxes: dict[int, float] = field(default_factory=dict)
    found: dict[int, list[tuple[float, bool]]] = field(default_factory=dict)

    def add(self, rows: Array) -> None:
        """Take the rows (R, 5) of one batch."""
        for first, label, value, right, wrong in rows.tolist():
            if first == -1:
                self.boxes[int(label)] = self.boxes.get(int(label), 0) + value
            elif right or wrong:
                self.found.setdefault(int(label), []).append((value, bool(right)))

    def mean_precision(self, version: str) -> float:
        """The mean of the average precisions of all labels, 0 for one without true boxes or
        detections."""
        if not self.boxes:
            return 0.0
        return sum(self._precision(label, version) for label in self.boxes) / len(self.boxes)

    def precisions(self, version: str) -> Precisions:
        """The average precision of each label that has detections, in their order."""
        labels = sorted(self.boxes.keys() & self.found.keys())
        return tuple((label, self._precision(label, version)) for label in labels)

    def _precision(self, label: int, version: str) -> float:
        found, count = self.found.get(label, []), self.boxes[label]
        if not found or not count:
            return 0.0
        best_first = sorted(found, key=lambda each: -each[0])
        right = np.cumsum([hit for _, hit in best_first])
        ranks = np.arange(1, len(right) + 1)
        # Single precision, as in SSD: a recall of 7 / 10 does not reach 0.7 then.
        recall, precision = (v.astype(np.float32) for v in (right / count, right / ranks))
        return VERSIONS[version](recall.astype(np.float64), precision.astype(np.float64))


def at_points(recall: Array, precision: Array, *, count: int) -> float:
    """The mean of the best precision at a recall of at least r, for `count` r from 0 to 1."""
    least = np.arange(count) / (count - 1)
    return sum(float(precision[recall >= r].max(initial=0)) for r in least) / count


def max_integral(recall: Array, precision: Array) -> float:
    """The area under the best precision at a recall of at least r, nearly PASCAL VOC 2012's.

    As in SSD, the precision before a step of the recall counts for it too.
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall)
    return float(recall[0] * best[0] + np.sum(np.where(steps > SAME, steps * best[:-1], 0)))


def integral(recall: Array, precision: Array) -> float:
    """The sum of the precision at each step of the recall, times the step."""
    steps = np.diff(recall, prepend=0)
    return float(np.sum(np.where(steps > SAME, steps * precision, 0)))


VERSIONS: dict[str, Callable[[Array, Array], float]] = {
    "11point": partial(at_points, count=11),  # PASCAL VOC 2007
    "101point": partial(at_points, count=101),  # COCO; Cascade R-CNN
    "MaxIntegral": max_integral,
    "Integral": integral,
    "integral": integral,  # MyCaffe
}
EVALUATIONS = ("classification", "detection")


def mean_precisions(
    engine: Engine,
    batches: int,
    version: str,
    is_stopped: Callable[[], bool],
    see_classes: Callable[[str, Precisions], object] | None = None,
) -> tuple[tuple[Output, ...], float] | None:
    """The mean average precision of each output over some batches, and the mean loss.

    Args:
        version: the `ap_version`.
        is_stopped: asked after each batch; True gives up.
        see_classes: called with each output's name and the average precisions of its classes.

    Returns:
        (outputs, loss), or None if given up.

    Raises:
        NetError: an output that has no rows of five numbers.
    """
    net, loss = engine.net, 0.0
    found = {name: ScoredDetections() for name in net.graph.outputs}
    for _ in range(batches):
        loss += float(engine.forward())
        for name, detections in found.items():
            values = net.blobs[name].data_memory.tensor().detach().cpu().double().flatten().numpy()
            if values.size % 5:
                raise NetError(
                    f"output '{name}' has {values.size} numbers, no rows of five, as eval_type"
                    " detection needs.",
                    advice="Let a DetectionEvaluate layer make it, and a Silence layer take other"
                    " blobs.",
                )
            detections.add(values.reshape(-1, 5))
        if is_stopped():
            return None
    if see_classes is not None:
        for name, detections in found.items():
            see_classes(name, detections.precisions(version))
    means = (Output(name, d.mean_precision(version), 0.0) for name, d in found.items())
    return tuple(means), loss / batches


def check_evaluation(config: SolverParameter) -> None:
    """Raises SolverError for an eval_type or ap_version that does not exist."""
    for name, known in (("eval_type", EVALUATIONS), ("ap_version", tuple(VERSIONS))):
        value = getattr(config, name)
        if value not in known:
            raise SolverError(
                f"Unknown {name}: {value} (known: {', '.join(known)}).",
                advice=did_you_mean(value, known),
            )
