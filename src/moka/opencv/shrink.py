"""`shrinkCaffeModel`: a model of half the size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moka.opencv.errors import raises_cv2_error
from moka.schema import blobproto, caffe_pb2, read_binary, write_binary
from moka.schema.upgrade import upgrade_net
from moka.types import PathLike

USUAL_TYPES = ("Convolution", "InnerProduct")


@raises_cv2_error
def shrinkCaffeModel(src: PathLike, dst: PathLike, layersTypes: Sequence[str] = ()) -> None:
    """Write a model whose parameters are stored as float16, as OpenCV 4 did.

    Args:
        src: a .caffemodel.
        dst: the file to write.
        layersTypes: of the layers whose parameters change; by default Convolution and InnerProduct.

    Raises:
        OpenCVError: the model cannot be read.
    """
    model = upgrade_net(read_binary(src, caffe_pb2.NetParameter), src)
    for layer in model.layer:
        if layer.type in (layersTypes or USUAL_TYPES):
            for blob in layer.blobs:
                with np.errstate(over="ignore"):  # numbers beyond float16 are infinite
                    values = blobproto.to_array(blob).astype(np.float16)
                for name in ("data", "diff", "double_data", "double_diff", "raw_diff"):
                    blob.ClearField(name)
                blob.raw_data_type = caffe_pb2.FLOAT16
                blob.raw_data = values.tobytes()
    write_binary(dst, model)
