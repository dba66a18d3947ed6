"""Nets and solvers that are built, and run if they are small: prototxts whose fields are changed by
their types, so that most of them can be parsed and many can nearly be built."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from mutate import mutate_text
from tests.layers.one_layer import MINIMAL, text_of
from tests.layers.test_registry import make_data_files

from moka.engine.layerwise import Layerwise
from moka.errors import MokaError
from moka.net import Net, build_net
from moka.net.cost import layer_multiply_adds
from moka.schema import caffe_pb2, format_text, parse_text
from moka.schema.fields import is_repeated
from moka.solver.solver import Solver

Field = FieldDescriptor
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 255, 1000, 65537, 10**6, 10**9, 2**31 - 1, -1, -2,
         -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))  # fmt: skip
FLOATS = (0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, 3.4e38, -3.4e38, float("nan"), float("inf"),
          float("-inf"), 100.0, 1e-3)  # fmt: skip
STRINGS = ("", "data", "bottom0", "top0", "it", "label", "nothing", "\u00e9\0", "a/b", "..", "%d%s",
           "constant", "xavier", "gaussian", "bilinear", "msra", "TRAIN", "images.txt", "rows.txt",
           "images.lmdb", "pairs.txt", "windows.txt", "clips.txt", "objects.txt", "ReLU",
           "Convolution", "Concat", "Slice", "InnerProduct", "Python", "{}", "x" * 300)  # fmt: skip
SMALL_PASS = 20_000_000  # multiply-adds
SMALL_BYTES = 1 << 24
LONG_BATCH = 1000
# Layers that reach out of the process: cameras, files that are written, code of the user's.
LEFT_OUT = {"HDF5Output", "VideoData", "MatWrite", "Python"}
WITH_DATA = """layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 2 }
  data_param { source: "images.lmdb" batch_size: 2 backend: LMDB } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" param { lr_mult: 1 }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "label" top: "acc"
  include { phase: TEST } }
"""
SOLVER = f"""net_param {{ {WITH_DATA} }}
test_iter: 1 test_interval: 2 base_lr: 0.01 momentum: 0.9 lr_policy: "step" stepsize: 3 gamma: 0.1
weight_decay: 1e-4 max_iter: 3 display: 1 random_seed: 1 solver_mode: CPU
"""


def seeds() -> list[bytes]:
    """A net of each layer type, and small ones of several layers."""
    from seeds import NET, V1_NET

    kinds = [kind for kind in sorted(MINIMAL) if kind not in LEFT_OUT]
    return [*(text_of(kind).encode() for kind in kinds), *(NET.encode(),) * 20,
            *(V1_NET.encode(),) * 5, *(WITH_DATA.encode(),) * 20]  # fmt: skip


def solver_seeds() -> list[bytes]:
    others = ("AdaGrad", "Adam", "AdaDelta", "RMSProp", "Nesterov", "AdamW")
    with_type = [f'{SOLVER} type: "{kind}"' for kind in others]
    policies = [SOLVER.replace('"step"', f'"{p}"') for p in ("poly", "inv", "sigmoid", "multistep")]
    return [text.encode() for text in (SOLVER, *with_type, *policies)]


def mutate(data: bytes, rng: Random, kind: str) -> bytes:
    """Change one to three fields by their types; text that is no message is changed as text."""
    if rng.random() < 0.1:
        return mutate_text(data, rng)
    try:
        message = parse_text(data.decode("utf-8", "replace"), getattr(caffe_pb2, kind))
    except MokaError:
        return mutate_text(data, rng)
    for _ in range(rng.randint(1, 3)):
        _change(message, rng)
    return format_text(message).encode()


def _change(message: Message, rng: Random) -> None:
    """Change something at a random place below a message."""
    while True:
        inner: list[Message] = [
            each
            for field, value in message.ListFields()
            if field.cpp_type == Field.CPPTYPE_MESSAGE
            for each in (value if is_repeated(field) else (value,))
        ]
        if not inner or rng.random() < 0.15:
            break
        message = rng.choice(inner)
    given: list[FieldDescriptor] = [field for field, _ in message.ListFields()]
    known: list[FieldDescriptor] = [*message.DESCRIPTOR.fields]
    kind = rng.random()
    if kind < 0.65 and given:
        _set(message, rng.choice(given), rng)
    elif kind < 0.85 and known:
        _set(message, rng.choice(known), rng)
    elif given:
        _shorten_or_repeat(message, rng.choice(given), rng)


def _set(message: Message, field: FieldDescriptor, rng: Random) -> None:
    if field.cpp_type == Field.CPPTYPE_MESSAGE:
        target = getattr(message, field.name)
        added = target.add() if is_repeated(field) else target
        if not is_repeated(field):
            added.SetInParent()
        if rng.random() < 0.8 and added.DESCRIPTOR.fields:
            _set(added, rng.choice(added.DESCRIPTOR.fields), rng)
        return
    value = _value(field, rng)
    if is_repeated(field):
        values = getattr(message, field.name)
        if len(values) and rng.random() < 0.7:
            values[rng.randrange(len(values))] = value
        else:
            values.append(value)
    else:
        setattr(message, field.name, value)


def _value(field: FieldDescriptor, rng: Random) -> Any:
    """A value of the field's type, mostly an extreme one."""
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).number
    kind = field.cpp_type
    if kind in (Field.CPPTYPE_FLOAT, Field.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if kind == Field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == Field.CPPTYPE_STRING:
        text = rng.choice(STRINGS)
        return text.encode() if field.type == Field.TYPE_BYTES else text
    bits = 32 if kind in (Field.CPPTYPE_INT32, Field.CPPTYPE_UINT32) else 64
    signed = kind in (Field.CPPTYPE_INT32, Field.CPPTYPE_INT64)
    low, end = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    return min(max(rng.choice(SIZES), low), end - 1)


def _shorten_or_repeat(message: Message, field: FieldDescriptor, rng: Random) -> None:
    if not is_repeated(field):
        message.ClearField(field.name)
        return
    values = getattr(message, field.name)
    k = rng.randrange(len(values))
    if rng.random() < 0.5:
        del values[k]
    elif field.cpp_type == Field.CPPTYPE_MESSAGE:
        values.add().CopyFrom(values[k])
    else:
        values.extend([values[k]] * rng.choice((1, 1, 40)))


@cache
def _data_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder with the files that the seeds name; the current one from then on."""
    folder = tempfile.TemporaryDirectory(prefix="moka-fuzz-")
    os.chdir(folder.name)
    make_data_files()
    return folder


def build(file: Path) -> None:
    """Build the net in both phases; if it is small, run it forward and backward."""
    os.chdir(_data_folder().name)
    param = parse_text(file.read_text("utf-8", "surrogateescape"), caffe_pb2.NetParameter)
    if not LEFT_OUT.isdisjoint(layer.type for layer in param.layer):
        return
    for phase in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        net = build_net(param, phase)
        try:
            if is_small(net):
                engine = Layerwise(net)
                engine.forward()
                if phase == caffe_pb2.TRAIN:
                    engine.backward()
        finally:
            net.close()


def is_small(net: Net) -> bool:
    if net.memory.data + net.memory.parameters > SMALL_BYTES:
        return False
    if any(blob.shape and blob.shape[0] > LONG_BATCH for blob in net.blobs.values()):
        return False  # images are decoded one by one
    return sum(layer_multiply_adds(net, place) for place in net.places) < SMALL_PASS


def build_solver(file: Path) -> None:
    """Build the solver's nets; if they are small, train them for an iteration or two."""
    os.chdir(_data_folder().name)
    message = parse_text(file.read_text("utf-8", "surrogateescape"), caffe_pb2.SolverParameter)
    nets = [message.net_param, message.train_net_param, *message.test_net_param]
    if not LEFT_OUT.isdisjoint(layer.type for net in nets for layer in net.layer):
        return
    message.snapshot_prefix, message.snapshot_after_train = "s", False
    message.snapshot = 0
    solver = Solver(message)
    try:
        tests = max(message.test_iter, default=0)
        if message.iter_size < 100 > tests and all(map(is_small, (solver.net, *solver.test_nets))):
            solver.step(2)
    finally:
        solver.close()
