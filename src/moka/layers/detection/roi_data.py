"""py-faster-rcnn's data layer: images and boxes of a roidb, for Faster R-CNN and Fast R-CNN."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from moka.data.images import read_image
from moka.errors import DataError, NetError
from moka.files import read_text_file
from moka.layers.detection.param_str import parse_param_str
from moka.layers.python import TensorLayer, built_in
from moka.types import Floats, Shape

# py-faster-rcnn's settings, as far as this layer reads them. IMS_PER_BATCH is 1 with an RPN.
SETTINGS: dict[str, Any] = {
    "SCALES": (600,),
    "MAX_SIZE": 1000,
    "IMS_PER_BATCH": 2,
    "PIXEL_MEANS": (102.9801, 115.9465, 122.7717),
    "BATCH_SIZE": 128,
    "FG_FRACTION": 0.25,
    "FG_THRESH": 0.5,
    "BG_THRESH_HI": 0.5,
    "BG_THRESH_LO": 0.1,
    "BBOX_INSIDE_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
}
RPN_TOPS = frozenset({"im_info", "gt_boxes"})
# What an entry of the roidb has to have.
FOR_RPN: tuple[str, ...] = ("image", "boxes", "gt_classes")
FOR_REGIONS: tuple[str, ...] = ("image", "boxes", "max_overlaps", "max_classes")
FOR_DELTAS = (*FOR_REGIONS, "bbox_targets")


@built_in("roi_data_layer.layer")
class RoIDataLayer(TensorLayer):
    """Images of a roidb with their boxes, in a random order, over and over.

    Tops for Faster R-CNN, of which one is called im_info or gt_boxes: data (1, 3, H, W); im_info
    (1, 3), height, width, scale; boxes (G, 5), x1, y1, x2, y2, class. Else for Fast R-CNN: data
    (IMS_PER_BATCH, 3, H, W); regions (R, 5), image and corners; labels (R,); optionally deltas
    (R, 4 num_classes), inside and outside weights. Images are scaled so that the short side is one
    of SCALES (600), but the long side at most MAX_SIZE (1000), less PIXEL_MEANS.

    The roidb is a list of a dict for each image, as py-faster-rcnn makes it: image (the path),
    boxes (n, 4), gt_classes (n), flipped (the image is mirrored, its boxes are already); for Fast
    R-CNN max_overlaps, max_classes (n) and bbox_targets (n, 5) of class and deltas. `set_roidb`
    takes it, in pycaffe net.layers[0].set_roidb(roidb); or an entry 'roidb' of param_str names a
    JSON file that holds such a list. param_str: num_classes, for Fast R-CNN. Settings as entries of
    param_str: see SETTINGS. (ASPECT_GROUPING is not done: images of all shapes are mixed.)
    """

    def setup(self) -> None:
        given = parse_param_str(self.param_str)
        names = list(self.config.top)
        self.has_rpn = bool(RPN_TOPS & set(names))
        self.settings = SETTINGS | ({"IMS_PER_BATCH": 1} if self.has_rpn else {})
        self.settings |= {k: v for k, v in given.items() if k in self.settings}
        self.has_deltas = len(names) > 3
        self.classes = int(given.get("num_classes", 0))
        if self.has_deltas and not self.classes:
            raise NetError("param_str has no 'num_classes'.")
        if self.has_rpn and self.settings["IMS_PER_BATCH"] != 1:
            raise NetError("with im_info and gt_boxes IMS_PER_BATCH is 1.")
        self.roidb: Sequence[Mapping[str, Any]] = ()
        self._file = str(given.get("roidb", ""))
        self._order = torch.empty(0, dtype=torch.long)
        self._next = 0

    @property
    def users_object(self) -> Any:
        """This layer, which pycaffe shows as it is."""
        return self

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        side, longest = max(self.settings["SCALES"]), self.settings["MAX_SIZE"]
        data = (self.settings["IMS_PER_BATCH"], 3, side, longest)
        if self.has_rpn:
            return [data, (1, 3), (1, 5)]
        shapes: list[Shape] = [data, (1, 5), (1,), *[(1, 4 * self.classes)] * 3]
        return shapes[: 6 if self.has_deltas else 3]

    def set_roidb(self, roidb: Sequence[Mapping[str, Any]]) -> None:
        """Read these images from now on.

        Raises:
            DataError: no image, or an entry that lacks something.
        """
        if not len(roidb):
            raise DataError("the roidb has no image.")
        wanted = FOR_RPN if self.has_rpn else FOR_DELTAS if self.has_deltas else FOR_REGIONS
        for number, entry in enumerate(roidb):
            missing = [key for key in wanted if key not in entry]
            if missing:
                raise DataError(f"entry {number} of the roidb has no {missing[0]}.")
        self.roidb = roidb
        self._shuffle()

    def run_state(self) -> list[Tensor]:
        return [self._order, torch.tensor(self._next)]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        self._order, self._next = tensors[0], int(tensors[1])

    def _shuffle(self) -> None:
        self._order, self._next = torch.randperm(len(self.roidb)), 0

    def _entries(self) -> list[Mapping[str, Any]]:
        """The entries of the next batch."""
        if not len(self.roidb):
            if not self._file:
                raise NetError(
                    "has no roidb yet.",
                    advice="Call set_roidb (pycaffe: net.layers[0].set_roidb(roidb)), or name a"
                    " JSON file in param_str: \"'roidb': 'file.json'\".",
                )
            order, position = self._order, self._next
            self.set_roidb(_read(self._file))
            if len(order) == len(self.roidb):  # of a snapshot
                self._order, self._next = order, position
        count = self.settings["IMS_PER_BATCH"]
        if self._next + count > len(self._order):
            self._shuffle()
        picked = self._order[self._next : self._next + count].tolist()
        self._next += count
        return [self.roidb[k] for k in picked]

    def forward(self) -> list[Tensor]:
        entries = self._entries()
        images, scales = zip(*(self._image(entry) for entry in entries), strict=True)
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        data = np.zeros((len(images), 3, height, width), np.float32)
        for target, image in zip(data, images, strict=True):
            target[:, : image.shape[1], : image.shape[2]] = image
        if self.has_rpn:
            entry, scale = entries[0], scales[0]
            classes = np.asarray(entry["gt_classes"], np.float32)
            boxes = np.asarray(entry["boxes"], np.float32).reshape(-1, 4) * scale
            rows = np.concatenate([boxes, classes[:, None]], 1)[classes != 0]
            info = np.array([[height, width, scale]], np.float32)
            return [torch.from_numpy(each) for each in (data, info, rows)]
        return [torch.from_numpy(data), *self._regions(entries, scales)]

    def _image(self, entry: Mapping[str, Any]) -> tuple[Floats, float]:
        """The scaled image (3, H, W), and its scale."""
        pixels: Floats = (
            read_image(entry["image"], color=True).transpose(1, 2, 0).astype(np.float32)
        )
        if entry.get("flipped", False):
            pixels = pixels[:, ::-1]
        pixels = pixels - np.array(self.settings["PIXEL_MEANS"], np.float32)
        sides, longest = self.settings["SCALES"], self.settings["MAX_SIZE"]
        side = sides[int(torch.randint(len(sides), ()))]
        scale = side / min(pixels.shape[:2])
        if round(scale * max(pixels.shape[:2])) > longest:
            scale = longest / max(pixels.shape[:2])
        scaled = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        return scaled.astype(np.float32, copy=False).transpose(2, 0, 1), scale

    def _regions(
        self, entries: Sequence[Mapping[str, Any]], scales: Sequence[float]
    ) -> list[Tensor]:
        """Fast R-CNN's tops after the images."""
        each = self.settings["BATCH_SIZE"] // len(entries)
        parts: list[list[Tensor]] = []
        for number, (entry, scale) in enumerate(zip(entries, scales, strict=True)):
            overlaps = torch.as_tensor(np.asarray(entry["max_overlaps"]))
            kept, foreground = self._sampled(overlaps, each)
            boxes = torch.as_tensor(np.asarray(entry["boxes"], np.float32))[kept] * scale
            labels = torch.as_tensor(np.asarray(entry["max_classes"], np.float32))[kept]
            labels[foreground:] = 0
            parts.append([torch.cat([torch.full((len(kept), 1), float(number)), boxes], 1), labels])
            if self.has_deltas:
                targets = torch.as_tensor(np.asarray(entry["bbox_targets"], np.float32))[kept]
                parts[-1] += self._by_class(targets)
        return [torch.cat(tops) for tops in zip(*parts, strict=True)]

    def _sampled(self, overlaps: Tensor, count: int) -> tuple[Tensor, int]:
        """Indices of the regions to train on, foreground first, and how many are."""
        s = self.settings
        found = (overlaps >= s["FG_THRESH"]).nonzero()[:, 0]
        most = round(s["FG_FRACTION"] * count)
        foreground = found[torch.randperm(len(found))[:most]]
        found = ((overlaps < s["BG_THRESH_HI"]) & (overlaps >= s["BG_THRESH_LO"])).nonzero()[:, 0]
        background = found[torch.randperm(len(found))[: count - len(foreground)]]
        return torch.cat([foreground, background]), len(foreground)

    def _by_class(self, targets: Tensor) -> list[Tensor]:
        """Deltas and both weights (K, 4 classes), of class and deltas (K, 5)."""
        place = targets[:, 0].long()
        if len(place) and int(place.max()) >= self.classes:
            raise DataError(f"class {int(place.max())} is outside of the {self.classes} classes.")
        row = (place > 0).nonzero()[:, 0]
        deltas = targets.new_zeros(len(targets), self.classes, 4)
        within = deltas.clone()
        deltas[row, place[row]] = targets[row, 1:]
        within[row, place[row]] = deltas.new_tensor(self.settings["BBOX_INSIDE_WEIGHTS"])
        weights = within.flatten(1)
        return [deltas.flatten(1), weights, (weights > 0).to(weights.dtype)]


def _read(file: str) -> list[Mapping[str, Any]]:
    """The roidb in a JSON file. Raises DataError if it is none."""
    try:
        found = json.loads(read_text_file(file))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the roidb: {error}.", file=file) from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError("a roidb is a list of a dict for each image.", file=file)
    return found
