"""Records of images with boxes, databases of them, and nets that read those."""

from __future__ import annotations

from pathlib import Path

import cv2
import lmdb
import numpy as np

from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

Box = tuple[int, int, float, float, float, float, bool]  # label, instance, corners, difficult


def record(pixels: Array, boxes: list[Box], *, encoded: bool = False) -> bytes:
    annotated = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    channels, height, width = pixels.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, encoded=encoded)
    if encoded:
        datum.data = cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()
    else:
        datum.data = pixels.tobytes()
    annotated.datum.CopyFrom(datum)
    for label, instance, x1, y1, x2, y2, difficult in boxes:
        group = annotated.annotation_group.add(group_label=label)
        box = caffe_pb2.NormalizedBBox(xmin=x1, ymin=y1, xmax=x2, ymax=y2, difficult=difficult)
        group.annotation.add(instance_id=instance).bbox.CopyFrom(box)
    return annotated.SerializeToString()


def fill(path: Path, records: list[bytes]) -> None:
    with lmdb.open(str(path), map_size=1 << 22) as database, database.begin(write=True) as out:
        for k, value in enumerate(records):
            out.put(b"%08d" % k, value)


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8)).astype(np.uint8)
A: Box = (3, 0, 0.25, 0.5, 0.5, 1.0, False)
B: Box = (1, 2, 0.0, 0.0, 0.125, 0.25, True)


def build(
    folder: Path,
    records: list[bytes],
    fields: str = "",
    *,
    batch_size: int = 2,
    phase: caffe_pb2.Phase = caffe_pb2.TEST,
) -> Net:
    """A net of one AnnotatedData, whose database is made in `folder`."""
    fill(folder / "boxes_lmdb", records)
    text = (
        'layer { name: "data" type: "AnnotatedData" top: "data" top: "label" data_param {'
        f' source: "{folder}/boxes_lmdb" batch_size: {batch_size} backend: LMDB }}'
        f" {fields} }}"
    )
    return build_net(parse_text(text, caffe_pb2.NetParameter), phase)
