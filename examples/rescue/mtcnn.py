#!/usr/bin/env python3
"""Find faces and their eyes, noses and mouths with the three nets of MTCNN, on pycaffe.

    python examples/rescue/mtcnn.py FOLDER IMAGE [--output faces.png] [--smallest 20]

FOLDER holds det1.prototxt, det1.caffemodel, and det2 and det3 likewise (README.md says where to get
them). K. Zhang, Z. Zhang, Z. Li, Y. Qiao, *Joint Face Detection and Alignment using Multi-task
Cascaded Convolutional Networks*, IEEE Signal Processing Letters, 2016.

Each net looks closer at what the one before has left: P-Net at every window of 12 x 12 pixels of
the image in many sizes, R-Net at the boxes found so, brought to 24 x 24, O-Net at the rest in
48 x 48. Each gives a box a score and moves its sides; the last one names five points as well.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from faces import Box, draw
from numpy.typing import NDArray
from shelf import Image, read_image

import caffe

Floats = NDArray[np.float32]

WINDOW, STEP = 12, 2  # pixels: what P-Net sees, and how far its next window is
SHRINK = 0.709  # each image of the pyramid has about half the area of the one before
THRESHOLDS = (0.6, 0.7, 0.7)  # the least scores that P-Net, R-Net and O-Net let through
SIDES = (24, 48)  # pixels, of R-Net's and O-Net's inputs
CENTER, SPREAD = 127.5, 1 / 128  # bytes become numbers of about -1 to 1
YELLOW = (0, 255, 255)


class Nets(NamedTuple):
    """The cascade.

    Attributes:
        transposed: they take images lying on their side, as the authors' do, who trained with
            MATLAB: (N, 3, width, height).
    """

    proposal: caffe.Net
    refine: caffe.Net
    output: caffe.Net
    transposed: bool = True


class Faces(NamedTuple):
    """What was found, in pixels of the image.

    Attributes:
        boxes: (n, 4): left, top, right, bottom.
        scores: (n,), 0 to 1, falling.
        points: (n, 5, 2): x and y of the eyes, the nose, the corners of the mouth.
    """

    boxes: Floats
    scores: Floats
    points: Floats


def load(folder: str | Path, *, transposed: bool = True) -> Nets:
    """The three nets of a folder. Ends the program if a file is missing."""
    nets: list[caffe.Net] = []
    for name in ("det1", "det2", "det3"):
        files = [Path(folder) / f"{name}.prototxt", Path(folder) / f"{name}.caffemodel"]
        for file in files:
            if not file.is_file():
                sys.exit(f"{file} is missing.")
        nets.append(caffe.Net(str(files[0]), caffe.TEST, weights=str(files[1])))
    proposal, refine, output = nets
    return Nets(proposal, refine, output, transposed)


def find_faces(
    nets: Nets, image: Image, *, smallest: int = 20, thresholds: Sequence[float] = THRESHOLDS
) -> Faces:
    """The faces of an image (height, width, 3), BGR, 0 to 255.

    Args:
        smallest: the side of the smallest face to look for, in pixels.
        thresholds: the least scores for each of the three nets.
    """
    pixels = (image[..., ::-1].astype(np.float32) - CENTER) * np.float32(SPREAD)
    found = _propose(nets, pixels, smallest, thresholds[0])
    found = found.of(suppressed(found.boxes, found.scores, 0.7)).moved()
    found = _look(nets.refine, pixels, found, SIDES[0], thresholds[1], nets.transposed)
    found = found.of(suppressed(found.boxes, found.scores, 0.7)).moved()
    found = _look(nets.output, pixels, found, SIDES[1], thresholds[2], nets.transposed).moved()
    found = found.of(suppressed(found.boxes, found.scores, 0.7, of_smaller=True))
    return Faces(found.boxes, found.scores, found.points)


# --- the three nets ---------------------------------------------------------------------------


class _Found(NamedTuple):
    """Boxes (n, 4), their scores (n,), how to move their sides (n, 4), their points (n, 5, 2)."""

    boxes: Floats
    scores: Floats
    moves: Floats
    points: Floats

    def of(self, which: NDArray[Any]) -> _Found:
        """Some of them, by index or by mask."""
        return _Found(*(values[which] for values in self))

    def moved(self) -> _Found:
        """With each side moved by a share of the box's width or height."""
        sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        return self._replace(boxes=self.boxes + self.moves * np.hstack([sizes, sizes]))


def _propose(nets: Nets, pixels: Floats, smallest: int, threshold: float) -> _Found:
    """What P-Net finds on the image in all sizes."""
    found = [_Found(*(np.zeros((0, *shape), np.float32) for shape in ((4,), (), (4,), (5, 2))))]
    for scale, small in pyramid(pixels, smallest):
        scores, moves, _ = _run(nets.proposal, small[None], nets.transposed)
        rows, columns = np.nonzero(scores[0, 1] >= threshold)
        corners = np.stack([columns, rows], 1) * STEP
        boxes = np.hstack([corners, corners + WINDOW]).astype(np.float32) / np.float32(scale)
        here = _Found(
            boxes,
            scores[0, 1, rows, columns],
            moves[0][:, rows, columns].T,
            np.zeros((len(boxes), 5, 2), np.float32),
        )
        found.append(here.of(suppressed(here.boxes, here.scores, 0.5)))
    return _Found(*(np.concatenate(values) for values in zip(*found, strict=True)))


def pyramid(pixels: Floats, smallest: int) -> Iterator[tuple[float, Floats]]:
    """(scale, image): the image in ever smaller sizes, first so that the smallest face fills a
    window, last so that the image does."""
    scale = WINDOW / smallest
    height, width = pixels.shape[:2]
    while min(height, width) * scale >= WINDOW:
        size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
        yield scale, resized(pixels, size)
        scale *= SHRINK


def _look(
    net: caffe.Net, pixels: Floats, found: _Found, side: int, threshold: float, transposed: bool
) -> _Found:
    """What R-Net or O-Net says of squares around boxes, for those with a score that is enough."""
    if not len(found.boxes):
        return found
    boxes = squares(found.boxes)
    crops = np.stack([crop(pixels, box, side) for box in boxes])
    scores, moves, points = _run(net, crops, transposed)
    places = found.points
    if points is not None:  # shares of the box: x of all five, then y
        shares = points.reshape(-1, 2, 5).swapaxes(1, 2)
        places = boxes[:, None, :2] + shares * (boxes[:, 2:] - boxes[:, :2])[:, None]
    result = _Found(boxes, scores.reshape(-1, 2)[:, 1], moves.reshape(-1, 4), places)
    return result.of(result.scores >= threshold)


def _run(net: caffe.Net, images: Floats, transposed: bool) -> tuple[Floats, Floats, Floats | None]:
    """One forward pass: scores (n, 2, ...), moves (n, 4, ...) and points (n, 10), if the net has
    them. Its outputs are told apart by their channels, so their names do not matter.

    Args:
        images: (n, height, width, 3).
    """
    data = images.transpose(0, 3, 2, 1) if transposed else images.transpose(0, 3, 1, 2)
    blob = net.blobs[net.inputs[0]]
    blob.reshape(*data.shape)
    blob.data[...] = data
    found = {values.shape[1]: values.copy() for values in net.forward().values()}
    if transposed:
        found = {k: v.swapaxes(2, 3) if v.ndim == 4 else v for k, v in found.items()}
    if not {2, 4} <= found.keys():
        sys.exit(f"A net of the cascade has outputs of 2 and of 4 channels, found {[*found]}.")
    return found[2], found[4], found.get(10)


# --- boxes ------------------------------------------------------------------------------------


def suppressed(
    boxes: Floats, scores: Floats, limit: float, *, of_smaller: bool = False
) -> NDArray[np.int64]:
    """The indices of the boxes to keep, the best first: a box goes if it has more than `limit` in
    common with a better one.

    Args:
        of_smaller: the common area counts as a share of the smaller of the two, else of both.
    """
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), 1)
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        first = np.maximum(boxes[best, :2], boxes[waiting, :2])
        last = np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        common = np.prod(np.maximum(last - first, 0), 1)
        if of_smaller:
            whole = np.minimum(areas[best], areas[waiting])
        else:
            whole = areas[best] + areas[waiting] - common
        waiting = waiting[common <= limit * whole]
    return np.array(kept, np.int64)


def squares(boxes: Floats) -> Floats:
    """The squares around the centers of boxes with their longer sides."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.max(boxes[:, 2:] - boxes[:, :2], 1, keepdims=True) / 2
    result: Floats = np.hstack([centers - half, centers + half])
    return result


def crop(pixels: Floats, box: Floats, side: int) -> Floats:
    """A box of the image, brought to side x side; what lies outside of the image is 0."""
    left, top, right, bottom = (round(float(x)) for x in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    whole = np.zeros((bottom - top, right - left, 3), np.float32)
    inside = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.size:
        at_top, at_left = max(-top, 0), max(-left, 0)
        whole[at_top : at_top + inside.shape[0], at_left : at_left + inside.shape[1]] = inside
    return resized(whole, (side, side))


def resized(pixels: Floats, size: tuple[int, int]) -> Floats:
    """An image of another size, (width, height)."""
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


# --- the program ------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, find, print a line for each face, write the picture."""
    parser = argparse.ArgumentParser(description="Find faces with MTCNN.")
    parser.add_argument("folder", help="holds det1, det2 and det3, .prototxt and .caffemodel")
    parser.add_argument("image")
    parser.add_argument("--output", default="faces.png", help="the picture with boxes and points")
    parser.add_argument("--smallest", type=int, default=20, help="side of the smallest face")
    parser.add_argument("--upright", action="store_true", help="the nets take upright images")
    args = parser.parse_args(argv)
    os.environ.setdefault("GLOG_minloglevel", "2")  # before the first net: no log of every layer
    image = read_image(args.image)
    nets = load(args.folder, transposed=not args.upright)
    found = find_faces(nets, image, smallest=args.smallest)
    height, width = image.shape[:2]
    shown = []
    for corners, score in zip(found.boxes, found.scores, strict=True):
        left, right = (round(min(max(float(x), 0), width)) for x in corners[::2])
        top, bottom = (round(min(max(float(y), 0), height)) for y in corners[1::2])
        shown.append(Box(1, float(score), left, top, right, bottom))
        print(f"face, score {score:.3f}: {left},{top} to {right},{bottom}")
    drawn = draw(image, shown)
    for x, y in found.points.reshape(-1, 2):
        cv2.circle(drawn, (round(float(x)), round(float(y))), 2, YELLOW, cv2.FILLED)
    cv2.imwrite(args.output, drawn)
    print(f"{len(shown)} found: {args.output}")


if __name__ == "__main__":
    main()
