"""Files of detections, as SSD's DetectionOutput and Cascade R-CNN's FrcnnOutput write them."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any

from torch import Tensor

from moka.errors import DataError
from moka.layers.detection.sizes import all_there, image_to_pixels, read_name_sizes
from moka.schema import caffe_pb2, read_text

log = logging.getLogger("moka")


def is_wanted(param: caffe_pb2.SaveOutputParameter) -> bool:
    """Whether save_output_param names a folder, a label map and a list of images."""
    return bool(param.output_directory and param.label_map_file and param.name_size_file)


def check_files(param: caffe_pb2.SaveOutputParameter) -> None:
    """Log what a layer will miss when it writes its files."""
    if is_wanted(param):
        _are_there(param)
    elif param.output_directory:
        log.warning("Provide label_map_file and name_size_file if output results to files.")


def _are_there(param: caffe_pb2.SaveOutputParameter) -> bool:
    return all_there(
        param.label_map_file, param.name_size_file, without="detections are not written to files"
    )


@dataclass
class ResultFiles:
    """Collects detections of images and writes them once all test images have been seen.

    output_format VOC: a file `<output_name_prefix><label name>.txt` for each label, with lines of
    image name, score, x1, y1, x2, y2 in whole pixels. ILSVRC: one file `<prefix>.txt`, lines of
    image name, label, score and corners. COCO: one file `<prefix>.json`, a list of records with
    image_id, category_id, bbox (x, y, width, height) and score.

    Attributes:
        folder: output_directory; made when files are written if it is not there; the files of its
            last run are replaced.
        prefix: output_name_prefix.
        form: output_format.
        names: label -> name.
        images: name, height and width of each image, in the order in which they come.
        count: how many images make a whole test (num_test_image, or all).
        resize: how images were resized (resize_param), or None.
        labels: those that get a file.
        label_map: the file of the names.
    """

    folder: Path
    prefix: str
    form: str
    names: dict[int, str]
    images: list[tuple[str, int, int]]
    count: int
    resize: caffe_pb2.ResizeParameter | None
    labels: Collection[int]
    label_map: str
    found: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0

    @classmethod
    def wanted(
        cls, param: caffe_pb2.SaveOutputParameter, labels: Collection[int]
    ) -> ResultFiles | None:
        """The result files that a save_output_param asks for; None unless `is_wanted`, or if
        one of the files that it names is not there.

        Raises:
            DataError: a file that is not understood.
        """
        if not is_wanted(param) or not _are_there(param):
            return None
        label_map = read_text(param.label_map_file, caffe_pb2.LabelMap)
        images = read_name_sizes(param.name_size_file)
        count = param.num_test_image or len(images)
        if count > len(images):
            raise DataError(
                f"{param.name_size_file}: lists {len(images)} images, num_test_image is {count}."
            )
        return cls(
            Path(param.output_directory),
            param.output_name_prefix,
            param.output_format,
            {item.label: item.name for item in label_map.item},
            images,
            count,
            param.resize_param if param.HasField("resize_param") else None,
            labels,
            param.label_map_file,
        )

    def add(self, rows: Tensor, images: int) -> None:
        """Take the rows (K, 7) of image, label, score and corners (fractions) of a batch.

        Raises:
            DataError: a label that the label map lacks.
        """
        listed = rows.detach().cpu()
        for index in range(images):
            name, height, width = self.next_image
            mine = listed[(listed[:, 0] == index) & (listed[:, 1] >= 0)]
            corners = image_to_pixels(mine[:, 3:], height, width, self.resize)
            self.add_image(name, mine[:, 1].tolist(), mine[:, 2].tolist(), corners.tolist())

    @property
    def next_image(self) -> tuple[str, int, int]:
        """Name, height and width of the image whose detections come next."""
        return self.images[self.seen]

    def add_image(
        self,
        name: str,
        labels: Sequence[float],
        scores: Sequence[float],
        corners: Sequence[Sequence[float]],
    ) -> None:
        """Take the detections of one image, corners in its pixels."""
        for label, score, (x1, y1, x2, y2) in zip(labels, scores, corners, strict=True):
            if int(label) not in self.names:
                known = ", ".join(map(str, sorted(self.names))) or "none"
                raise DataError(
                    f"{self.label_map}: Cannot find label: {label:g} in the label map, which has"
                    f" {known}.",
                    advice="Give the label map of the data that the net was trained on.",
                )
            box = [_hundredths(v) for v in (x1, y1, x2 - x1, y2 - y1)]
            self.found.append(
                {
                    "image_id": name,
                    "category_id": int(label),
                    "bbox": box,
                    "score": score,
                }
            )
        self.seen += 1
        if self.seen % self.count == 0:
            self.write()
            self.found.clear()
            self.seen = 0

    def write(self) -> None:
        """Write what was collected, in `form`; other forms write nothing, as in SSD.

        Raises:
            DataError: the files cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror}.") from None

    def _write(self) -> None:
        if self.form == "VOC":
            for label in sorted(self.labels):
                name = self.names.get(label, "")
                lines = [_line(hit) for hit in self.found if hit["category_id"] == label]
                self._file(f"{name}.txt").write_text("".join(lines), encoding="utf-8")
        elif self.form == "ILSVRC":
            lines = [_line(hit, with_label=True) for hit in self.found]
            self._file(".txt").write_text("".join(lines), encoding="utf-8")
        elif self.form == "COCO":
            records = [hit | {"category_id": self._category(hit), "image_id": _number(hit)}
                       for hit in self.found]  # fmt: skip
            self._file(".json").write_text(json.dumps(records, indent=4) + "\n", encoding="utf-8")

    def _file(self, rest: str) -> Path:
        return self.folder / f"{self.prefix}{rest}"

    def _category(self, hit: dict[str, Any]) -> int | str:
        """COCO's label maps have numbers for names."""
        return _as_number(self.names[hit["category_id"]])


def _number(hit: dict[str, Any]) -> int | str:
    return _as_number(hit["image_id"])


def _as_number(text: str) -> int | str:
    return int(text) if text.isdecimal() and text == str(int(text)) else text


def _hundredths(value: float) -> float:
    """Rounded to two places, a half away from zero."""
    return floor(abs(value) * 100 + 0.5) / 100 * (-1 if value < 0 else 1)


def _line(hit: dict[str, Any], with_label: bool = False) -> str:
    x, y, width, height = (int(v) for v in hit["bbox"])
    label = f" {hit['category_id']}" if with_label else ""
    return f"{hit['image_id']}{label} {hit['score']:.6g} {x} {y} {x + width} {y + height}\n"
