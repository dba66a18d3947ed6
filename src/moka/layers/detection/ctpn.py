"""CTPN's Python layer: lines of text as rows of narrow boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.detection.anchors import grid_anchors
from moka.layers.detection.param_str import parse_param_str
from moka.layers.python import TensorLayer, built_in
from moka.types import Shape

WIDTH = 16  # of all anchors, in pixels
HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)


def text_anchors() -> Tensor:
    """The anchors (10, 4) of the first cell: x1, y1, x2, y2 around its middle, whole pixels."""
    middle = (WIDTH - 1) / 2
    sizes = [(WIDTH, height) for height in HEIGHTS]
    corners = [
        [int(middle - w // 2), int(middle - h // 2), int(middle + w // 2), int(middle + h // 2)]
        for w, h in sizes
    ]
    return torch.tensor(corners, dtype=torch.float32)


@built_in("layers.text_proposal_layer")
class ProposalLayer(TensorLayer):
    """Pieces of text: all anchors, moved up or down and made higher or lower, never sideways.

    With cy and h the middle and the height of an anchor, and (dy, dh) its deltas: the piece is
    exp(dh) h high around dy h + cy, as wide as the anchor, and cut at the edges of the image.

    Bottoms: scores (1, 20, H, W), of which the second ten channels count; deltas (1, 20, H, W), dy
    and dh for each of the ten anchors; im_info (1, 2 or more): height and width of the image. Tops:
    boxes (10 H W, 4) of x1, y1, x2, y2; scores (10 H W, 1); by row, column and anchor. param_str:
    feat_stride. No gradient. Tian et al., 2016.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        given = parse_param_str(self.param_str)
        if "feat_stride" not in given:
            raise NetError("param_str has no 'feat_stride'.")
        self.stride = float(given["feat_stride"])

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        scores, deltas = bottom_shapes[:2]
        wanted = (1, 2 * len(HEIGHTS), *scores[2:])
        if len(scores) != 4 or scores != wanted or deltas != wanted:
            raise NetError(
                f"takes scores and deltas (1, {2 * len(HEIGHTS)}, H, W) of one image, got shapes"
                f" {scores} and {deltas}."
            )
        count = len(HEIGHTS) * scores[2] * scores[3]
        return [(count, 4), (count, 1)]

    def forward(self, scores: Tensor, deltas: Tensor, im_info: Tensor) -> list[Tensor]:
        with torch.no_grad():
            height, width = scores.shape[2:]
            anchors = grid_anchors(text_anchors().to(scores), height, width, self.stride)
            x1, y1, x2, y2 = anchors.reshape(-1, 4).unbind(1)
            dy, dh = deltas[0].permute(1, 2, 0).reshape(-1, 2).unbind(1)
            size = y2 - y1 + 1
            top = dy * size + (y1 + y2) / 2 - dh.exp() * size / 2
            boxes = torch.stack([x1, top, x2, top + dh.exp() * size], 1)
            limits = (im_info.flatten()[[1, 0, 1, 0]] - 1).to(boxes)
            boxes = torch.minimum(boxes.clamp_min(0), limits)
            best = scores[0, len(HEIGHTS) :].permute(1, 2, 0).reshape(-1, 1)
            return [boxes, best]
