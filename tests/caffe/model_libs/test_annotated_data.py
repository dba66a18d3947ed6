from __future__ import annotations

from tests.caffe.model_libs.written import layer, layers_of

import caffe
from caffe.model_libs import CreateAnnotatedDataLayer, caffe_pb2

TRAINING = """
name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
transform_param { mirror: true mean_value: 104 resize_param { height: 32 width: 32
  interp_mode: LINEAR interp_mode: AREA } }
data_param { source: "voc_lmdb" batch_size: 4 backend: LMDB }
annotated_data_param { label_map_file: "map.prototxt" anno_type: BBOX batch_sampler {
  sampler { min_scale: 0.5 } sample_constraint { min_jaccard_overlap: 0.5 } max_trials: 50 } }
"""
TEST = """
name: "data" type: "AnnotatedData" top: "data" include { phase: TEST }
data_param { source: "voc_lmdb" batch_size: 32 backend: LEVELDB }
annotated_data_param { label_map_file: "" batch_sampler { } }
"""


def test_for_training() -> None:
    net = caffe.NetSpec()
    net.data, net.label = CreateAnnotatedDataLayer(
        "voc_lmdb",
        batch_size=4,
        label_map_file="map.prototxt",
        anno_type=caffe_pb2.AnnotatedDatum.BBOX,
        transform_param=dict(
            mirror=True,
            mean_value=[104],
            resize_param=dict(height=32, width=32, interp_mode=[1, 2]),
        ),
        batch_sampler=[
            dict(
                sampler=dict(min_scale=0.5),
                sample_constraint=dict(min_jaccard_overlap=0.5),
                max_trials=50,
            )
        ],
    )
    assert layers_of(net)["data"] == layer(TRAINING)


def test_for_tests_and_without_labels() -> None:
    net = caffe.NetSpec()
    net.data = CreateAnnotatedDataLayer(
        "voc_lmdb", backend=caffe_pb2.DataParameter.LEVELDB, output_label=False, train=False
    )
    assert layers_of(net)["data"] == layer(TEST)
