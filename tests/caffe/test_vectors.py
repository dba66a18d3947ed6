from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import caffe
from caffe import vectors
from moka.blob import Blob


@pytest.mark.parametrize("name", vectors.__all__)
def test_a_list_type_is_a_list(name: str) -> None:
    made: Any = getattr(vectors, name)([1, 2, 3])
    made.append(4)
    made.extend([5, 6])
    del made[0]
    assert list(made) == [2, 3, 4, 5, 6]
    assert (made[0], made[-1], list(made[1:3]), len(made)) == (2, 6, [3, 4], 5)
    assert 3 in made
    assert 1 not in made


def test_a_shape_equals_a_list_or_a_tuple() -> None:
    shape = Blob((2, 3)).shape
    assert isinstance(shape, vectors.IntVec)
    assert shape == (2, 3)
    assert shape == [2, 3]
    assert shape != (2, 4)
    assert shape != [2]
    assert tuple(shape) == (2, 3)


def test_a_shape_is_a_copy() -> None:
    blob = Blob((2, 3))
    blob.shape.append(4)
    assert blob.shape == (2, 3)


def test_blobs_can_be_added() -> None:
    blobs = vectors.BlobVec()
    blobs.add_blob(2, 3)
    blobs.add_blob()
    assert [tuple(blob.shape) for blob in blobs] == [(2, 3), ()]
    assert not blobs[0].data.any()


@pytest.mark.parametrize("kind", [vectors.BlobVec, vectors.RawBlobVec])
def test_a_list_of_blobs_takes_blobs_alone(kind: Any) -> None:
    first, second = caffe.Net("net.prototxt", caffe.TEST).params["ip1"]
    blobs = kind([first, first])
    blobs[1] = second
    assert blobs[1] is second
    with pytest.raises(TypeError, match=r"takes Blobs, found ndarray; .*write blobs\[i\]\.data"):
        blobs[0] = np.zeros((2, 3))
    with pytest.raises(TypeError, match="found list"):
        blobs[:] = [second, 1]
    assert blobs == [first, second]


def test_where_they_are_handed_out() -> None:
    net = caffe.Net("net.prototxt", caffe.TEST)
    assert {
        "params": type(net.params["ip1"]),
        "layers": type(net.layers),
        "blobs of a layer": type(net.layers[1].blobs),
        "_layer_names": type(net._layer_names),
        "_blob_names": type(net._blob_names),
        "_blobs": type(net._blobs),
        "_blob_loss_weights": type(net._blob_loss_weights),
        "_inputs": type(net._inputs),
        "_top_ids": type(net._top_ids(1)),
        "test_nets": type(caffe.get_solver("solver.prototxt").test_nets),
        "types": type(caffe.layer_type_list()),
    } == {
        "params": vectors.BlobVec,
        "layers": vectors.LayerVec,
        "blobs of a layer": vectors.BlobVec,
        "_layer_names": vectors.StringVec,
        "_blob_names": vectors.StringVec,
        "_blobs": vectors.BlobVec,
        "_blob_loss_weights": vectors.DtypeVec,
        "_inputs": vectors.IntVec,
        "_top_ids": vectors.IntVec,
        "test_nets": vectors.NetVec,
        "types": vectors.StringVec,
    }
