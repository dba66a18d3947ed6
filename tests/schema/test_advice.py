"""A text that fits no field is answered with what to write."""

from __future__ import annotations

import pytest

from moka.errors import SchemaError
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, parse_text
from moka.schema.advice import is_layer_type


def answer(text: str) -> str:
    with pytest.raises(SchemaError) as caught:
        parse_text(text, caffe_pb2.NetParameter)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "what_to_write"),
    [
        (
            'layer { pooling_param { pool: "MAX" } }',
            'Enum names take no quotes, found "MAX". Write pool: MAX.',
        ),
        ("layer { pooling_param { pool: 'ave' } }", 'Did you mean "AVE"? Write pool: AVE.'),
        ('layer { phase: "TRAIN" }', "Write phase: TRAIN."),
        ('layer { data_param { backend: "LMDB" } }', "Write backend: LMDB."),
        ("layer { type: RELU }", 'Strings take quotes: write type: "ReLU".'),
        ("layer { type: Convolution }", 'Strings take quotes: write type: "Convolution".'),
        (
            "layer { detection_data_param { shuffle: true } }",
            'Here shuffle is a text, by default "random"; a fork that writes true means something'
            " else.",
        ),
        ("layer { name: false }", "Here name is a text; a fork that writes false means something"),
        ("layer { name: conv1 }", 'Strings take quotes: write name: "conv1".'),
        (
            'layers { type: "Convolution" }',
            'Write layers { type: CONVOLUTION ... } or layer { type: "Convolution" ... }.',
        ),
        (
            "layers { type: Convolution }",
            'Write layers { type: CONVOLUTION ... } or layer { type: "Convolution" ... }.',
        ),
        (
            'layer { python_param { param_str: "{"n": 4}" } }',
            "If param_str holds double quotes, put it between single ones: '{\"n\": 4}'.",
        ),
        ('layer { pooling_param { pad: "2" } }', "Numbers take no quotes: write 2."),
        ("layer { dropout_param { dropout_ratio: '0.5' } }", "Numbers take no quotes: write 0.5."),
        ('layer { pooling_param { pad: "two" } }', 'Expected integer, got: "two".'),
        ('layers { type: "Permute" }', 'Write layer { type: "Permute" ... }'),
        ("layers { type: RELUU }", "Write layers { type: RELU ... }"),
        (
            "layer { pooling_param { pad: 1e1 } }",
            "Integers take no point and no exponent: write 10.",
        ),
        ("layer { pooling_param { pad: 2.0 } }", "write 2."),
    ],
)
def test_enums_and_strings(text: str, what_to_write: str) -> None:
    assert what_to_write in answer(text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            'layer { type: "DataHeatmap" heatmap_data_param { } }',
            "Moka does not have the layer type DataHeatmap of caffe-heatmap.",
        ),
        ("layer { convolution_params { } }", 'Did you mean "convolution_param"?'),
        ("layer { kernel_size: 3 }", "Write it inside convolution_param { } or pooling_param { }."),
        ("layer { convolution_param { bottom: 'x' } }", "It is a field of the layer itself"),
        ("layer { zzzzzz: 3 }", "No fork of Caffe that Moka knows has it"),
        (
            'layer { type: "Quantizer" quantizer_param { } }',
            "Moka does not have the layer type Quantizer of the OpenCL branch.",
        ),
        (
            'layer { type: "Division" division_param { } }',
            'Moka does not have the layer type "Division" either. Write it as a Python layer, or'
            " leave it out.",
        ),
        (
            "layers { type: QUADRIC_SUM quadric_sum_param { } }",
            'Moka does not have the layer type "QUADRIC_SUM" either',
        ),
        (
            'layer { type: "MolGridData" molgrid_data_param { } }',
            'Moka does not have the layer type "MolGridData" either. Put an Input layer',
        ),
        (
            "layers { type: SHOTS_DATA shots_data_param { } }",
            'Moka does not have the layer type "SHOTS_DATA" either. Put an Input layer',
        ),
        (
            'layer { type: "RandomImageData2" random_image_param { } }',
            'Moka does not have the layer type "RandomImageData2" either. Put an Input layer',
        ),
        ("layers { type: ROI_POOLING zzzzzz: 3 }", "No fork of Caffe"),
        ('layer { type: "Permute" permut_param { } }', 'Did you mean "permute_param"?'),
        ("layer { loss_param { loss_weight: 1 } }", "It is a field of the layer itself"),
        ("layer { slicer_unit_param { } }", "No fork of Caffe"),
    ],
)
def test_fields(text: str, advice: str) -> None:
    assert answer(text).split('field named "')[1].partition('". ')[2].startswith(advice)


@pytest.mark.parametrize("number", ["0.5", "1e300", "1e400"])
def test_numbers_that_are_no_integers(number: str) -> None:
    assert answer(f"layer {{ pooling_param {{ pad: {number} }} }}").endswith(f'got: "{number}".')


def test_all_types_are_known_to_it() -> None:
    assert [name for name in REGISTRY if not is_layer_type(name)] == []


@pytest.mark.parametrize(
    ("text", "shown", "what_to_write"),
    [
        (
            "name: \u201cconv\u201d",
            'got: "\u201c"',
            'Strings take the straight quotes of ASCII: ".',
        ),
        ("layer\u00a0{ }", 'found "\u00a0"', "U+00A0 (no-break space), which looks like a blank"),
        ("name\uff1a 'x'", 'found "\uff1a"', "It is U+FF1A (fullwidth colon): write :."),
        ("layer { pooling_param { pad: \u20131 } }", 'got: "\u2013"', "(en dash): write -."),
        ("layer { \u00e9: 1 }", 'found "\u00e9"', "beyond strings and comments all is ASCII."),
        ("// a net\nname: 'x'", 'found "/"', "A comment begins with #."),
        ("name: 'x' /* a net */", 'found "/"', "A comment begins with #."),
    ],
)
def test_signs_of_web_pages(text: str, shown: str, what_to_write: str) -> None:
    assert shown in answer(text)
    assert what_to_write in answer(text)


@pytest.mark.parametrize(
    "place",
    ["$WIDTH", "${WIDTH}", "{{WIDTH}}", "{{ WIDTH }}", "%WIDTH%", "%d", "%(width)d"],
)
@pytest.mark.parametrize(
    "text", ["layer { slice_param { axis: # } }", "layer { name: # }", "input_dim: [1, #]"]
)
def test_places_of_a_template(text: str, place: str) -> None:
    said = answer(text.replace("#", place))
    assert f"{place} stands for a value that a program fills in: write the value instead." in said


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("image_data_param {\n root_folder:\n new_height: 3 }", "root_folder"),
        ("image_data_param {\n new_height:\n is_color: true }", "new_height"),
        ("transform_param {\n scale:  # of 1 / 256\n mirror : true }", "scale"),
        ("image_data_param {\n shuffle:\n batch_size: 3 }", "shuffle"),
        ("phase:\n transform_param { }", "phase"),
    ],
)
def test_a_field_without_a_value(text: str, field: str) -> None:
    said = answer(f"layer {{ {text} }}")
    assert f"Expected a value for {field}, found " in said
    assert said.endswith(f"Write a value after {field}:, or leave the line out.")


def test_a_word_in_a_later_line_may_be_the_value() -> None:
    text = "layer { phase:\n TEST pooling_param { pool:\n AVE } name: D:/a }"
    assert 'Strings take quotes: write name: "D".' in answer(text)
