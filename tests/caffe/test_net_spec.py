from __future__ import annotations

import caffe
from caffe import NetSpec, to_proto
from caffe import layers as L
from caffe import params as P
from caffe.net_spec import Function, Layers, Parameters, Top
from moka.net import spec as net_spec


def test_the_face_is_mokas() -> None:
    assert caffe.layers is L is caffe.net_spec.layers
    assert isinstance(L, Layers)
    assert isinstance(P, Parameters)
    assert (NetSpec, to_proto, Top, Function) == (
        net_spec.NetSpec,
        net_spec.to_proto,
        net_spec.Top,
        net_spec.Function,
    )


def test_a_net_of_pycaffe() -> None:
    top = caffe.layers.Pooling(
        caffe.layers.Input(shape=dict(dim=[1])), pool=caffe.params.Pooling.AVE
    )
    assert caffe.to_proto(top).layer[1].pooling_param.pool == P.Pooling.AVE
