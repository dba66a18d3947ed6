from __future__ import annotations

import logging

import pytest

from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import net_problems, upgrade_net, v0

V0_FIELDS = caffe_pb2.V0LayerParameter.DESCRIPTOR.fields_by_name


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def layers(*texts: str) -> str:
    """A net with input "x", each layer from its V0 fields followed by its bottoms and tops."""
    return 'input: "x" input: "y"' + "".join(f" layers {{ {text} }}" for text in texts)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ('layers { layer { type: "relu" } }', True),
        ('layers { type: RELU } layers { layer { type: "relu" } }', True),
        ("layers { type: RELU }", False),
        ('layer { type: "ReLU" }', False),
    ],
)
def test_needed(text: str, needed: bool) -> None:
    assert v0.needed(net(text)) == needed


# Fields of a V0 layer, and of the V1 layer it has to become.
TYPES = {
    'type: "accuracy"': "type: ACCURACY",
    'type: "bnll"': "type: BNLL",
    'type: "concat" concat_dim: 0': "type: CONCAT concat_param { concat_dim: 0 }",
    """type: "conv" num_output: 4 biasterm: false weight_filler { type: "xavier" }
       bias_filler { value: -1 } pad: 1 kernelsize: 3 group: 2 stride: 2""": """type: CONVOLUTION
       convolution_param { num_output: 4 bias_term: false weight_filler { type: "xavier" }
         bias_filler { value: -1 } pad: 1 kernel_size: 3 group: 2 stride: 2 }""",
    'type: "data" source: "db" batchsize: 2 rand_skip: 9': """type: DATA
       data_param { source: "db" batch_size: 2 rand_skip: 9 }""",
    'type: "data" scale: -0.5 meanfile: "m" cropsize: 7 mirror: false': """type: DATA
       transform_param { scale: -0.5 mean_file: "m" crop_size: 7 mirror: false }""",
    'type: "dropout" dropout_ratio: 0.25': "type: DROPOUT dropout_param { dropout_ratio: 0.25 }",
    'type: "euclidean_loss"': "type: EUCLIDEAN_LOSS",
    'type: "flatten"': "type: FLATTEN",
    'type: "hdf5_data" source: "l" batchsize: 2': """type: HDF5_DATA
       hdf5_data_param { source: "l" batch_size: 2 }""",
    'type: "hdf5_output" hdf5_output_param { file_name: "f" }': """type: HDF5_OUTPUT
       hdf5_output_param { file_name: "f" }""",
    'type: "im2col"': "type: IM2COL",
    """type: "images" source: "l" batchsize: 2 rand_skip: 1 shuffle_images: true new_height: 5
       new_width: 6""": """type: IMAGE_DATA image_data_param { source: "l" batch_size: 2
       rand_skip: 1 shuffle: true new_height: 5 new_width: 6 }""",
    'type: "infogain_loss" source: "h"': 'type: INFOGAIN_LOSS infogain_loss_param { source: "h" }',
    """type: "innerproduct" num_output: 4 biasterm: false weight_filler { std: 2 }
       bias_filler { value: 3 }""": """type: INNER_PRODUCT inner_product_param { num_output: 4
       bias_term: false weight_filler { std: 2 } bias_filler { value: 3 } }""",
    'type: "lrn" local_size: 3 alpha: 2 beta: -1 k: 5': """type: LRN
       lrn_param { local_size: 3 alpha: 2 beta: -1 k: 5 }""",
    'type: "multinomial_logistic_loss"': "type: MULTINOMIAL_LOGISTIC_LOSS",
    'type: "pool" pad: 1 kernelsize: 3 stride: 2': """type: POOLING
       pooling_param { pad: 1 kernel_size: 3 stride: 2 }""",
    **{
        f'type: "pool" pool: {pool}': f"type: POOLING pooling_param {{ pool: {pool} }}"
        for pool in ("MAX", "AVE", "STOCHASTIC")
    },
    'type: "relu"': "type: RELU",
    'type: "sigmoid"': "type: SIGMOID",
    'type: "softmax"': "type: SOFTMAX",
    'type: "softmax_loss"': "type: SOFTMAX_LOSS",
    'type: "split"': "type: SPLIT",
    'type: "tanh"': "type: TANH",
    """type: "window_data" source: "w" batchsize: 2 det_fg_threshold: 0.1 det_bg_threshold: 0.2
       det_fg_fraction: 0.3 det_context_pad: 4 det_crop_mode: "square" """: """type: WINDOW_DATA
       window_data_param { source: "w" batch_size: 2 fg_threshold: 0.1 bg_threshold: 0.2
         fg_fraction: 0.3 context_pad: 4 crop_mode: "square" }""",
    # Of every type.
    """type: "relu" name: "r" blobs { num: 1 data: 3 } blobs { height: 2 } blobs_lr: 1 blobs_lr: 2
       weight_decay: 0""": """type: RELU name: "r" blobs { num: 1 data: 3 } blobs { height: 2 }
       blobs_lr: 1 blobs_lr: 2 weight_decay: 0""",
    'type: "relu" new_num: 1 new_channels: 2': "type: RELU",
    'name: "no type"': 'name: "no type"',
}


@pytest.mark.parametrize("old", TYPES)
def test_every_type(old: str) -> None:
    given = net(f'layers {{ layer {{ {old} }} top: "t" top: "u" }} name: "n"')
    before = given.SerializeToString()
    assert v0.problems(given) == []
    new = v0.upgrade(given)
    assert new == net(f'layers {{ {TYPES[old]} top: "t" top: "u" }} name: "n"')
    assert given.SerializeToString() == before


def test_the_table_above_is_complete() -> None:
    tried = {f.name for text in TYPES for f, _ in net_layer(text).ListFields()}
    assert tried == set(V0_FIELDS)
    types = {net_layer(text).type for text in TYPES} - {""}
    assert types == set(v0._TYPES)


def net_layer(text: str) -> caffe_pb2.V0LayerParameter:
    return net(f"layers {{ layer {{ {text} }} }}").layers[0].layer


# A value for each field, in text.
VALUES = {
    **dict.fromkeys(V0_FIELDS, "1"),
    **dict.fromkeys(("biasterm", "mirror", "shuffle_images"), "true"),
    **dict.fromkeys(("source", "meanfile", "det_crop_mode"), '"s"'),
    **dict.fromkeys(("weight_filler", "bias_filler", "hdf5_output_param", "blobs"), "{ }"),
    "pool": "MAX",
}
ANYWHERE = {"name", "type", "blobs", "blobs_lr", "weight_decay", "scale", "meanfile", "cropsize",
            "mirror", "new_num", "new_channels"}  # fmt: skip


@pytest.mark.parametrize("field", sorted(set(V0_FIELDS) - ANYWHERE))
def test_a_field_that_does_not_fit_is_named_and_dropped(field: str) -> None:
    colon = "" if VALUES[field].startswith("{") else ":"
    old = net(f'layers {{ layer {{ type: "tanh" name: "n" {field}{colon} {VALUES[field]} }} }}')
    assert v0.problems(old) == [
        f'Unknown parameter {field} for layer type tanh (layer "n"); it is dropped.'
    ]
    assert v0.upgrade(old) == net('layers { type: TANH name: "n" }')
    assert net_problems(old) == v0.problems(old)


def test_the_log_names_what_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    upgrade_net(net('layers { layer { name: "i" type: "im2col" kernelsize: 3 } }'), "a.prototxt")
    assert caplog.messages[:4] == [
        "Attempting to upgrade input file specified using deprecated V0LayerParameter: a.prototxt",
        'Unknown parameter kernelsize for layer type im2col (layer "i"); it is dropped.',
        "Warning: had one or more problems upgrading (see above); continuing anyway.",
        "Attempting to upgrade input file specified using deprecated V1LayerParameter: a.prototxt",
    ]
    assert [r.levelname for r in caplog.records[:3]] == ["INFO", "ERROR", "ERROR"]


def test_an_unknown_type() -> None:
    with pytest.raises(
        SchemaError, match=r'^a: layer "p": Unknown layer name: pol \(known: .*Did you mean "pool"'
    ):
        upgrade_net(net('layers { layer { name: "p" type: "pol" } }'), "a")


def test_v1_layers_among_them_stay() -> None:
    text = (
        'layers { type: CONVOLUTION name: "c" bottom: "x" top: "t" convolution_param { pad: 1 } }'
    )
    old = net(layers('layer { type: "relu" } bottom: "x" top: "x"') + text)
    assert v0.upgrade(old) == net(layers('type: RELU bottom: "x" top: "x"') + text)


PAD = 'layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "t"'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            [PAD, 'layer { type: "conv" kernelsize: 5 } bottom: "t" top: "c"'],
            ['type: CONVOLUTION bottom: "x" top: "c" convolution_param { pad: 2 kernel_size: 5 }'],
        ),
        (
            [PAD, 'layer { type: "pool" } bottom: "t" top: "c"'],
            ['type: POOLING bottom: "x" top: "c" pooling_param { pad: 2 }'],
        ),
        (  # the padding layer's pad replaces the layer's own
            [PAD, 'layer { type: "conv" pad: 1 } bottom: "t" top: "c"'],
            ['type: CONVOLUTION bottom: "x" top: "c" convolution_param { pad: 2 }'],
        ),
        (  # two readers
            [PAD, *(f'layer {{ type: "{t}" }} bottom: "t" top: "{t}"' for t in ("conv", "pool"))],
            [
                'type: CONVOLUTION bottom: "x" top: "conv" convolution_param { pad: 2 }',
                'type: POOLING bottom: "x" top: "pool" pooling_param { pad: 2 }',
            ],
        ),
        ([PAD], []),  # none
        (  # in place: only what follows is padded
            [
                'layer { type: "relu" } bottom: "x" top: "x"',
                'layer { type: "padding" pad: 3 } bottom: "x" top: "x"',
                'layer { type: "conv" } bottom: "x" top: "x"',
                'layer { type: "tanh" } bottom: "x" top: "h"',
            ],
            [
                'type: RELU bottom: "x" top: "x"',
                'type: CONVOLUTION bottom: "x" top: "x" convolution_param { pad: 3 }',
                'type: TANH bottom: "x" top: "h"',
            ],
        ),
        (  # without a pad it pads by 0
            ['layer { type: "padding" } bottom: "x" top: "t"',
             'layer { type: "conv" pad: 1 } bottom: "t" top: "c"'],
            ['type: CONVOLUTION bottom: "x" top: "c" convolution_param { pad: 0 }'],
        ),
    ],
)  # fmt: skip
def test_padding_merges_into_what_follows(old: list[str], new: list[str]) -> None:
    assert v0.upgrade(net(layers(*old))) == net(layers(*new))


@pytest.mark.parametrize(
    ("old", "says"),
    [
        (
            [PAD, 'layer { name: "l" type: "lrn" } bottom: "t" top: "n"'],
            r'layer "l": its bottom is padded by layer "p": only a "conv" or "pool".*is a "lrn"',
        ),
        (
            [PAD, 'layer { name: "q" type: "padding" } bottom: "t" top: "n"'],
            r'layer "q": its bottom is padded by layer "p": .*is a "padding"',
        ),
        (
            [PAD, 'layer { name: "c" type: "conv" } bottom: "t" bottom: "x" top: "n"'],
            r'layer "c": takes a single bottom behind padding layer "p", got 2',
        ),
        (
            [PAD + ' bottom: "y"', 'layer { type: "conv" } bottom: "t" top: "n"'],
            r'layer "p": a padding layer takes a single bottom.*got 2 and 1',
        ),
        (
            [PAD + ' top: "u"', 'layer { type: "conv" } bottom: "t" top: "n"'],
            r'layer "p": a padding layer takes a single bottom.*got 1 and 2',
        ),
        (
            ['layer { name: "c" type: "conv" } bottom: "z" top: "n"'],
            r'layer "c": Unknown blob input z\.',
        ),
    ],
)
def test_padding_that_cannot_merge(old: list[str], says: str) -> None:
    with pytest.raises(SchemaError, match=f"^old.prototxt: {says}"):
        upgrade_net(net(layers(*old)), "old.prototxt")
