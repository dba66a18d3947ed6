"""The messages are complete, numbered as in BVLC Caffe, and compiled from today's caffe.proto."""

from __future__ import annotations

import copy
import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import (
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from moka.schema import caffe_pb2

FILE = caffe_pb2.DESCRIPTOR
OWN_MESSAGES = {
    *("RunState", "RandomState", "CursorState", "LayerState"),
    *("PlateauState", "BestState", "RankState", "LossScaleState"),
}
OWN_ENUMS = {"Better", "Compression", "Precision"}
FIRST_OWN_NUMBER = 20000


TEXT = Path(caffe_pb2.__file__).with_name("caffe.proto").read_text(encoding="utf-8")
OF_FORKS = set(
    re.findall(r"^message (\w+)", TEXT[TEXT.rindex("parameters of forks' layer types") :], re.M)
)
ENUMS_OF_FORKS = {
    *("Type", "Packing", "FuseType", "FusionType", "LabelType", "InterpolationAlgo"),
    *("CentroidLearning", "ColorOrder", "SparseMode"),
    "CuDNNConvolutionAlgorithmSeeker",
}
ENGINES_OF_FORKS = {
    "BatchNormParameter",
    "DropoutParameter",
    "InnerProductParameter",
    "RecurrentParameter",
}
SSD_STATE = {"minimum_loss", "iter_last_event"}  # of SolverState
RAW_BLOBS = {"raw_data_type", "raw_diff_type", "raw_data", "raw_diff"}  # NVCaffe's numbers


def bvlc_messages() -> list[Any]:
    messages = FILE.message_types_by_name.values()
    assert not any(message.nested_types for message in messages)
    return [message for message in messages if message.name not in OWN_MESSAGES | OF_FORKS]


def file_as_message() -> FileDescriptorProto:
    file = FileDescriptorProto()
    FILE.CopyToProto(file)
    return file


def field(path: str) -> Any:
    message, name = path.split(".")
    return FILE.message_types_by_name[message].fields_by_name[name]


def test_everything_of_bvlc_caffe_is_there() -> None:
    messages = bvlc_messages()
    enums = [*FILE.enum_types_by_name.values(), *(e for m in messages for e in m.enum_types)]
    enums = [
        enum
        for enum in enums
        if enum.name not in OWN_ENUMS | ENUMS_OF_FORKS
        and not (enum.containing_type and enum.containing_type.name in ENGINES_OF_FORKS)
    ]
    fields = [
        f
        for m in messages
        for f in m.fields
        if f.number < FIRST_OWN_NUMBER and f.name not in RAW_BLOBS | SSD_STATE
    ]
    assert len(messages) == 63
    assert len(fields) == 423
    assert len(enums) == 26
    assert sum(v.number < FIRST_OWN_NUMBER for enum in enums for v in enum.values) == 111


@pytest.mark.parametrize(
    ("path", "number", "default"),
    [
        ("NetParameter.layer", 100, []),
        ("NetParameter.layers", 2, []),
        ("NetState.phase", 1, caffe_pb2.TEST),
        ("LayerParameter.phase", 10, caffe_pb2.TRAIN),
        ("LayerParameter.convolution_param", 106, None),
        ("LayerParameter.clip_param", 148, None),
        ("ParamSpec.lr_mult", 3, 1.0),
        ("FillerParameter.type", 1, "constant"),
        ("FillerParameter.sparse", 7, -1),
        ("SolverParameter.type", 40, "SGD"),
        ("SolverParameter.clip_gradients", 35, -1.0),
        ("SolverParameter.snapshot_format", 37, caffe_pb2.SolverParameter.BINARYPROTO),
        ("SolverParameter.solver_mode", 17, caffe_pb2.SolverParameter.GPU),
        ("SolverParameter.average_loss", 33, 1),
        ("ConvolutionParameter.bias_term", 2, True),
        ("ConvolutionParameter.dilation", 18, []),
        ("CropParameter.axis", 1, 2),
        ("DataParameter.backend", 8, caffe_pb2.DataParameter.LEVELDB),
        ("DropoutParameter.dropout_ratio", 1, 0.5),
        ("LossParameter.normalization", 3, caffe_pb2.LossParameter.VALID),
        ("LRNParameter.beta", 3, 0.75),
        ("PoolingParameter.round_mode", 13, caffe_pb2.PoolingParameter.CEIL),
        ("ReshapeParameter.num_axes", 3, -1),
        ("WindowDataParameter.crop_mode", 11, "warp"),
        ("V1LayerParameter.type", 5, caffe_pb2.V1LayerParameter.NONE),
        ("V0LayerParameter.hdf5_output_param", 1001, None),
    ],
)
def test_number_and_default(path: str, number: int, default: object) -> None:
    assert field(path).number == number
    assert field(path).default_value == default


def test_packed_fields() -> None:
    packed = {
        f"{message.name}.{f.name}"
        for message in file_as_message().message_type
        for f in message.field
        if f.options.packed
    }
    blob = {f"BlobProto.{name}" for name in ("data", "diff", "double_data", "double_diff")}
    assert packed == {
        "BlobShape.dim", "Datum.labels", "RunState.recent_loss", "RunState.larc_cosine", *blob
    }  # fmt: skip


def test_bytes_on_the_wire() -> None:
    state = caffe_pb2.SolverState(iter=7, current_step=1)
    assert state.SerializeToString() == b"\x08\x07\x20\x01"
    assert caffe_pb2.BlobShape(dim=[2, 300]).SerializeToString() == b"\x0a\x03\x02\xac\x02"


def test_run_state_round_trip() -> None:
    state = caffe_pb2.SolverState(iter=7)
    state.run_state.random.add(name="dropout", state=b"\x00\x01")
    state.run_state.cursor.add(layer="data", records_read=640)
    state.run_state.recent_loss.extend([0.5, 0.25])
    assert caffe_pb2.SolverState.FromString(state.SerializeToString()) == state


def test_text_of_every_generation_parses() -> None:
    net = text_format.Parse(
        """
        layer { name: "conv" type: "Convolution" convolution_param { pad: 1 pad: 0 } }
        layers { name: "pool" type: POOLING blobs_lr: 2 pooling_param { pool: AVE } }
        layers { layer { name: "ip" type: "innerproduct" biasterm: false } }
        """,
        caffe_pb2.NetParameter(),
    )
    assert list(net.layer[0].convolution_param.pad) == [1, 0]
    assert net.layers[0].type == caffe_pb2.V1LayerParameter.POOLING
    assert net.layers[1].layer.biasterm is False


# --- caffe_pb2.py is generated; has it been, since caffe.proto changed?

# Name with its scope, number, label and type, default.
Entry = tuple[str, int, str, str | float | None]

OPENING = re.compile(r"\s*(?:message|enum) (\w+) \{")
DECLARATION = re.compile(
    r"\s*(?:(optional|required|repeated) ([\w.]+) )?(\w+) = (\d+)(?: \[(\w+) = (.+)\])?;"
)


def entries_of_text(text: str) -> Iterator[Entry]:
    scope: list[str] = []
    for line in text.splitlines():
        code = line.partition("//")[0]
        if opening := OPENING.match(code):
            scope.append(opening[1])
        elif code.strip() == "}":
            scope.pop()
        elif match := DECLARATION.match(code):
            label, type_name, name, number, option, value = match.groups()
            default = value if option == "default" else None
            if type_name == "float" and default is not None:
                default = single_precision(float(default))
            kind = (
                f"{label} {type_name.rpartition('.')[2]}" if label else ""
            )  # an enum value has neither
            yield ".".join([*scope, name]), int(number), kind, default


def entries_of_descriptor() -> Iterator[Entry]:
    file = file_as_message()
    for enum in file.enum_type:
        yield from entries_of_enum(enum, "")
    for message in file.message_type:
        for enum in message.enum_type:
            yield from entries_of_enum(enum, message.name + ".")
        for f in message.field:
            yield f"{message.name}.{f.name}", f.number, label_and_type(f), default_value(f)


def entries_of_enum(enum: EnumDescriptorProto, scope: str) -> Iterator[Entry]:
    for value in enum.value:
        yield f"{scope}{enum.name}.{value.name}", value.number, "", None


def label_and_type(f: FieldDescriptorProto) -> str:
    label = FieldDescriptorProto.Label.Name(f.label).removeprefix("LABEL_").lower()
    scalar = FieldDescriptorProto.Type.Name(f.type).removeprefix("TYPE_").lower()
    return f"{label} {f.type_name.rpartition('.')[2] or scalar}"


def default_value(f: FieldDescriptorProto) -> str | float | None:
    if not f.HasField("default_value"):
        return None
    if f.type == FieldDescriptorProto.TYPE_FLOAT:
        return single_precision(float(f.default_value))
    if f.type == FieldDescriptorProto.TYPE_STRING:
        return f'"{f.default_value}"'
    return str(f.default_value)


def single_precision(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def test_compiled_module_agrees_with_the_text() -> None:
    assert sorted(entries_of_text(TEXT), key=str) == sorted(entries_of_descriptor(), key=str), (
        "caffe.proto has changed since caffe_pb2.py was made from it. Run `make proto`."
    )


# --- beside a caffe_pb2 of the user's own


@pytest.mark.parametrize("first", ["moka.schema.caffe_pb2", "caffe_pb2"])
def test_another_caffe_pb2_in_the_same_process(tmp_path: Path, first: str) -> None:
    """Converters bring a caffe_pb2 that protoc made of an older caffe.proto."""
    generated = Path(caffe_pb2.__file__).read_text(encoding="utf-8")
    theirs = generated.replace("_descriptor_pool.DescriptorPool()", "_descriptor_pool.Default()")
    assert theirs != generated
    (tmp_path / "caffe_pb2.py").write_text(theirs, encoding="utf-8")
    program = f"""
import importlib
importlib.import_module({first!r})
import caffe_pb2
from moka.schema import caffe_pb2 as ours
mine, other = ours.NetParameter(name="n"), caffe_pb2.NetParameter(name="n")
assert type(mine) is not type(other)
assert mine.SerializeToString() == other.SerializeToString()
print("both")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "both\n", ran.stderr


def test_messages_are_pickled_and_copied() -> None:
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="a", loss_weight=[1.5])
    for message in (net, net.layer[0], caffe_pb2.Datum(label=3)):
        again = pickle.loads(pickle.dumps(message))
        assert type(again) is type(message)
        assert again == message
        assert copy.deepcopy(message) == message
    assert caffe_pb2.Datum.__module__ == "caffe.proto.caffe_pb2"
