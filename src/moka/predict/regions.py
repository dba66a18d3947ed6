"""Detections from what the test nets of R-CNN give out: scores and deltas of regions."""

from __future__ import annotations

import numpy as np
import torch

from moka.layers.detection.boxes import apply_deltas, clip_to_image
from moka.layers.detection.detect import ROW
from moka.layers.detection.nms import Suppression, best_boxes
from moka.types import Floats, HeightWidth

LEAST_SCORE = 0.05  # as py-faster-rcnn tests its nets
SUPPRESSION = Suppression(threshold=0.3)
MOST = 100  # detections of an image


def detections_of_regions(
    scores: Floats, deltas: Floats, regions: Floats, size: HeightWidth
) -> Floats:
    """The objects in one image, as py-faster-rcnn and R-FCN find them: for each class but the
    first the regions of at least LEAST_SCORE, moved by their deltas and cut to the image; greedy
    suppression within each class; the MOST best of all.

    Args:
        scores: (R, C, ...), after a softmax; class 0 is the background.
        deltas: (R, 4 C, ...), or (R, 8, ...), of which the second four count for all classes.
        regions: (R, 5), the image's number and corners in pixels of the net's input.
        size: height and width of the net's input.

    Returns:
        (K, 7), rows of 0, class, score and corners x1, y1, x2, y2 in the same pixels, the highest
        score first.
    """
    table = torch.from_numpy(scores.reshape(len(scores), -1))
    classes = table.shape[1]
    moves = torch.from_numpy(deltas.reshape(len(deltas), -1, 4))
    moves = moves if moves.shape[1] == classes else moves[:, 1:2].expand(-1, classes, -1)
    places = torch.from_numpy(regions.reshape(-1, 5)[:, None, 1:])
    boxes = clip_to_image(apply_deltas(places, moves), *size)
    rows = [torch.zeros(0, ROW)]
    for number in range(1, classes):
        enough = (table[:, number] >= LEAST_SCORE).nonzero().flatten()
        kept = enough[best_boxes(boxes[enough, number], table[enough, number], SUPPRESSION)]
        head = torch.zeros(len(kept), 3)
        head[:, 1], head[:, 2] = number, table[kept, number]
        rows.append(torch.cat([head, boxes[kept, number]], 1))
    found = torch.cat(rows).numpy()
    order = np.argsort(-found[:, 2], kind="stable")[:MOST]
    return np.ascontiguousarray(found[order])
