"""The layer that reads images with boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2


def CreateAnnotatedDataLayer(
    source: str,
    batch_size: int = 32,
    backend: int = P.Data.LMDB,
    output_label: bool = True,
    train: bool = True,
    label_map_file: str = "",
    anno_type: int | None = None,
    transform_param: Mapping[str, Any] | None = None,
    batch_sampler: Sequence[Mapping[str, Any]] = ({},),
) -> Any:
    """The layer "data", of images with boxes, for training or for tests.

    Its tops belong to no net yet: name them, as in `net.data, net.label = ...`. They are data
    (batch_size, 3, H, W) and label (1, 1, boxes, 8); without `output_label` data alone.

    Args:
        source: a database of AnnotatedDatum records.
        train: the layer is for training, else for tests.
        transform_param: how images are resized and augmented.
        batch_sampler: ways to cut out a part of an image; the default takes the whole image.
    """
    annotated: dict[str, Any] = dict(label_map_file=label_map_file, batch_sampler=batch_sampler)
    if anno_type is not None:
        annotated["anno_type"] = anno_type
    return L.AnnotatedData(
        name="data",
        ntop=2 if output_label else 1,
        include=dict(phase=caffe_pb2.TRAIN if train else caffe_pb2.TEST),
        transform_param=transform_param or {},
        data_param=dict(batch_size=batch_size, backend=backend, source=source),
        annotated_data_param=annotated,
    )
