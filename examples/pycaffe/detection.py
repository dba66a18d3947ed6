#!/usr/bin/env python3
"""Find things in an image: a net says what is in each of many windows, the best ones are drawn.

    caffe download bvlc_reference_rcnn_ilsvrc13         once
    caffe download ilsvrc12                             once: the names of the classes
    python examples/pycaffe/detection.py [IMAGE]        default: a flower; windows slide over it
    python examples/pycaffe/detection.py IMAGE --windows windows.csv

Writes detections.png, and detections.csv with the scores of all windows. R-CNN's windows come from
selective search; a file of windows of one's own has the columns filename,ymin,xmin,ymax,xmax.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zoo
from numpy.typing import NDArray

import caffe
import moka
from moka.draw.figures import COLORS, drawing, save
from moka.predict.detect import Detection
from moka.predict.labels import read_labels, short_label
from moka.tools.window_table import WindowTable, read_table, write_table

Boxes = NDArray[np.int64]  # (n, 4): ymin, xmin, ymax, xmax in pixels


class Found(NamedTuple):
    """A window, the number of its best class and the score of that."""

    window: NDArray[np.int64]
    label: int
    score: float


def slide(height: int, width: int) -> Boxes:
    """Square windows of three sizes all over an image, half a window apart."""
    boxes = []
    for part in (1, 2, 3):
        side = min(height, width) // part
        rows, columns = (
            np.linspace(0, extent - side, -(-2 * (extent - side) // side) + 1).round()
            for extent in (height, width)
        )
        boxes += [(y, x, y + side, x + side) for y in rows for x in columns]
    return np.array(boxes, np.int64)


def overlap(box: NDArray[np.int64], boxes: Boxes) -> NDArray[np.float64]:
    """The area that a box has in common with each of others, as a share of their joint area."""
    first, last = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(last - first, 0), 1)
    area, areas = np.prod(box[2:] - box[:2]), np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    return common / (area + areas - common)


def suppress(boxes: Boxes, scores: NDArray[np.float32], most: float) -> list[int]:
    """Non-maximum suppression: the indices of boxes, best first, that overlap by no more than
    `most` with a better one that stays."""
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[overlap(boxes[best], boxes[left]) <= most]
    return kept


def best_windows(
    windows: Boxes, scores: NDArray[np.float32], count: int, most: float
) -> list[Found]:
    """The best windows, each of its own best class; of one class only those that stand apart."""
    labels = scores.argmax(1)
    found = []
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        for i in members[suppress(windows[members], scores[members, label], most)]:
            found.append(Found(windows[i], int(label), float(scores[i, label])))
    return sorted(found, key=lambda each: -each.score)[:count]


def draw(file: str, found: Iterable[Found], names: Sequence[str], path: Path) -> None:
    """An image with windows, each with its class and score."""
    image = caffe.io.load_image(file)
    with drawing(8, 8 * image.shape[0] / image.shape[1]) as figure:
        ax = figure.subplots()
        ax.imshow(image)
        ax.set_axis_off()
        for k, (window, label, score) in enumerate(found):
            y1, x1, y2, x2 = window
            color = COLORS[k % len(COLORS)]
            ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=color, linewidth=2.5)
            behind = dict(facecolor=color, edgecolor="none", pad=2)
            text = f"{names[label]} {score:.2f}"
            ax.text(x1, y1, text, color="white", va="top", bbox=behind)
    save(figure, path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = zoo.parser("detection", __doc__, "bvlc_reference_rcnn_ilsvrc13/deploy.prototxt")
    parser.add_argument("image", nargs="?", default=zoo.sample_image("flower"))
    parser.add_argument("--windows", metavar="CSV", help="default: they slide over the image")
    parser.add_argument("--labels", default="data/ilsvrc12/det_synset_words.txt", metavar="FILE")
    parser.add_argument("--context", type=int, default=16, help="pixels of a crop around a window")
    parser.add_argument("--overlap", type=float, default=0.3, help="at most, of two of a class")
    parser.add_argument("--count", type=int, default=5, help="of windows to draw")
    given = parser.parse_args(argv)
    weights = zoo.use(given)
    try:
        detector = caffe.Detector(
            str(given.model),
            weights,
            mean=zoo.MEAN,
            raw_scale=255,
            channel_swap=(2, 1, 0),
            context_pad=given.context,
        )
        if given.windows:
            wanted = dict(read_table(given.windows).by_image())
            if given.image not in wanted:
                sys.exit(f"detection.py: {given.windows} has no window of {given.image}.")
            windows = wanted[given.image]
        else:
            windows = slide(*caffe.io.load_image(given.image).shape[:2])
        detections = detector.detect_windows([(given.image, windows)])
        table = WindowTable.of([Detection(**found) for found in detections])
        names = [
            short_label(line) for line in read_labels(given.labels, table.predictions.shape[1])
        ]
    except (moka.MokaError, OSError, ValueError) as error:
        sys.exit(f"detection.py: {error}")
    write_table(given.out / "detections.csv", table)
    found = best_windows(table.windows, table.predictions, given.count, given.overlap)
    print(f"The best of {len(windows)} windows of {given.image}:")
    for window, label, score in found:
        print(f"  {score:8.3f}  {names[label]:<20} {window.tolist()}")
    draw(given.image, found, names, given.out / "detections.png")
    print(f"The picture is in {given.out}")


if __name__ == "__main__":
    main()
