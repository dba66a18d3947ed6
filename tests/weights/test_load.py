from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.weights.nets import TWO

from moka.byte_text import to_bytes, to_text
from moka.errors import WeightsError
from moka.net import Net
from moka.schema import caffe_pb2, read_binary, write_binary
from moka.weights import copy_weights, load_weights, mismatch, save_hdf5, save_weights, to_message

if TYPE_CHECKING:
    from tests.conftest import NetMaker

RECORDED = Path(__file__).parents[1] / "conformance" / "files"


# The layers of the recorded models that have parameters known here.
MLP = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 6 } } }
layer { name: "h" type: "InnerProduct" bottom: "x" top: "h" inner_product_param { num_output: 5 } }
layer { name: "o" type: "InnerProduct" bottom: "h" top: "o" inner_product_param { num_output: 2 } }
"""
WIDE = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "in2" type: "Input" top: "z" input_param { shape { dim: 1 dim: 128 } } }
layer { name: "ip" type: "InnerProduct" bottom: "z" top: "y"
  inner_product_param { num_output: 4 } }
"""


def values_of(net: Net) -> dict[str, list[float]]:
    return {
        f"{node.name}/{k}": blob.data.flatten().tolist()
        for i, node in enumerate(net.graph.nodes)
        for k, blob in enumerate(net.layer_blobs(i))
    }


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    return make_net(TWO)


def test_round_trip(net: Net, make_net: NetMaker, tmp_path: Path) -> None:
    save_weights(net, tmp_path / "a.caffemodel")
    other = make_net(TWO)
    assert values_of(other) != values_of(net)
    load_weights(other, [tmp_path / "a.caffemodel"])
    assert values_of(other) == values_of(net)


@pytest.mark.parametrize(("name", "text", "exact"), [("mlp", MLP, True), ("wide", WIDE, False)])
def test_a_model_that_bvlc_caffe_wrote(
    make_net: NetMaker,
    caplog: pytest.LogCaptureFixture,
    device: torch.device,
    name: str,
    text: str,
    exact: bool,
) -> None:
    caplog.set_level(logging.INFO, "moka.detail")
    net = make_net(text)
    load_weights(net, [RECORDED / f"{name}.caffemodel"])
    with np.load(RECORDED / f"{name}.npz") as recorded:
        for address, values in values_of(net).items():
            assert values == recorded[f"param/{address}"].flatten().tolist()
    ignored = {m for m in caplog.messages if m.startswith("Ignoring source layer")}
    expected = ["d", "s", "loss"] if exact else ["data", "bn", "sc", "pr", "dec"]
    assert ignored == {f"Ignoring source layer {name}" for name in expected}


def test_arrays_handed_out_show_loaded_weights(make_net: NetMaker, device: torch.device) -> None:
    net = make_net(MLP)
    array = net.layer_blobs(1)[1].data
    load_weights(net, [RECORDED / "mlp.caffemodel"])
    with np.load(RECORDED / "mlp.npz") as recorded:
        assert array.tolist() == recorded["param/h/1"].tolist()


def test_several_files_one_after_the_other(net: Net, make_net: NetMaker, tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    sources = [make_net(TWO), make_net(TWO)]
    for source, file in zip(sources, files, strict=True):
        save_weights(source, file)
    message = read_binary(files[1], caffe_pb2.NetParameter)
    del message.layer[1]  # conv
    write_binary(files[1], message)
    load_weights(net, f"{files[0]},{files[1]}")
    first, second, have = values_of(sources[0]), values_of(sources[1]), values_of(net)
    assert have["conv/0"] == first["conv/0"]
    assert have["ip/0"] == second["ip/0"]
    copy_weights(net, to_message(sources[1]))
    assert values_of(net) == second


def test_layers_that_a_model_has_nothing_for(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    message = to_message(net)
    assert copy_weights(net, message) == []
    del message.layer[1]  # conv
    assert copy_weights(net, message, say_what_is_missing=False) == ["conv"]
    assert not caplog.messages
    assert copy_weights(net, message, "m") == ["conv"]
    assert caplog.messages == ["m has no parameters for the layer conv, which keeps its own."]


@pytest.mark.parametrize(
    ("layer", "index", "legacy"),
    [("ip", 0, (1, 1, 5, 27)), ("ip", 1, (1, 1, 1, 5)), ("conv", 0, (3, 2, 2, 2))],
)
def test_legacy_shapes_are_aligned_at_the_end(
    net: Net, make_net: NetMaker, layer: str, index: int, legacy: tuple[int, ...]
) -> None:
    source = make_net(TWO)
    message = to_message(source)
    (stored,) = (x for x in message.layer if x.name == layer)
    blob = stored.blobs[index]
    blob.ClearField("shape")
    blob.num, blob.channels, blob.height, blob.width = legacy
    copy_weights(net, message)
    assert values_of(net) == values_of(source)


def damage_shape(blob: caffe_pb2.BlobProto) -> None:
    blob.shape.dim[:] = [27, 5]


def damage_legacy(blob: caffe_pb2.BlobProto) -> None:
    blob.ClearField("shape")
    blob.num, blob.channels, blob.height, blob.width = 5, 27, 1, 1


def damage_data(blob: caffe_pb2.BlobProto) -> None:
    blob.data.pop()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            damage_shape,
            r"Cannot copy param 0 weights from layer 'ip'; shape mismatch\. Source param shape is"
            r" 27 5 \(135\); target param shape is 5 27 \(135\)",
        ),
        (damage_legacy, r"Source param shape is 5 27 1 1 \(135\)"),
        (damage_data, r'layer "ip": a blob of shape \(5, 27\) holds 134 numbers'),
    ],
)
def test_nothing_is_changed_if_one_blob_does_not_fit(
    net: Net, make_net: NetMaker, damage: object, message: str
) -> None:
    assert callable(damage)
    model = to_message(make_net(TWO))
    damage(model.layer[2].blobs[0])
    before = values_of(net)
    with pytest.raises(WeightsError, match=message):
        copy_weights(net, model, "m.caffemodel")
    assert values_of(net) == before


def test_the_number_of_blobs_has_to_agree(net: Net, make_net: NetMaker) -> None:
    model = to_message(make_net(TWO))
    del model.layer[2].blobs[1]
    wanted = r"Incompatible number of blobs for layer ip: the file has 1, the net 2"
    with pytest.raises(WeightsError, match=wanted):
        copy_weights(net, model)


def test_files_that_are_no_models(net: Net, tmp_path: Path) -> None:
    file = tmp_path / "m.caffemodel"
    with pytest.raises(WeightsError, match="File not found"):
        load_weights(net, [file])
    whole = (RECORDED / "mlp.caffemodel").read_bytes()
    for content, message in (
        (whole[:-7], 'truncated: it ends in layer 5 "loss", of which 7 of 40 bytes are missing'),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "this HDF5 file is truncated or damaged"),
        (b"name: 'a text'", "this is text, not weights"),
        (b"", "the file is empty: it is no model"),
        (b"\x0a\x01n\x28\x01", "this file holds no layers: it is no model"),
    ):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            load_weights(net, [file])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_layers_that_get_no_parameters_are_named(
    net: Net, make_net: NetMaker, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    models = [tmp_path / "conv", tmp_path / "ip"]
    for file, other in zip(models, ("ip", "conv"), strict=True):
        save_weights(make_net(TWO.replace(f'name: "{other}"', 'name: "other"')), file)
    load_weights(net, models[0])
    assert warnings(caplog) == [
        f"{models[0]} has no parameters for the layer ip, which keeps its own."
    ]
    caplog.clear()
    load_weights(net, models)  # together they have both
    copy_weights(net, to_message(net))
    load_weights(net, [])
    load_weights(net, models[0], say_what_is_missing=False)
    assert warnings(caplog) == []


def test_a_model_of_another_net(
    net: Net, make_net: NetMaker, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    save_weights(make_net(MLP), tmp_path / "mlp")
    load_weights(net, tmp_path / "mlp")
    assert warnings(caplog) == [
        f"{tmp_path / 'mlp'} has no parameters for any layer of this net, which keeps its own. The"
        " layers here are named conv, ip."
    ]


def test_a_sharer_is_given_what_the_owner_gets(
    make_net: NetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    shared = (
        MLP.replace('name: "o"', 'name: "o" param { name: "w" }')
        .replace('name: "h"', 'name: "h" param { name: "w" }')
        .replace("num_output: 2", "num_output: 5 bias_term: false")
        .replace("dim: 6", "dim: 5")
    )
    net = make_net(shared)
    model = to_message(net)
    del model.layer[2]
    copy_weights(net, model)
    assert warnings(caplog) == []


GBK = "卷积".encode("gbk")


@pytest.mark.parametrize("save", [save_weights, save_hdf5])
@pytest.mark.parametrize("name", [GBK, "é".encode(), b"a/" + GBK])
def test_names_are_the_same_if_their_bytes_are(
    tmp_path: Path, make_net: NetMaker, save: Callable[[Net, Path], None], name: bytes
) -> None:
    net = make_net(to_text(b"# caf\xe9" + TWO.encode().replace(b'"ip"', b'"' + name + b'"')))
    assert [to_bytes(node.name) for node in net.graph.nodes][-1] == name
    file = tmp_path / "w"
    save(net, file)
    assert to_bytes(name.decode("latin-1")) != name
    assert name in file.read_bytes() or b"/" in name
    octal = "".join(f"\\{byte:03o}" for byte in name)
    other = make_net(TWO.replace('"ip"', f'"{octal}"'))
    load_weights(other, file)
    assert values_of(other) == values_of(net)


SHARED = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 4 bias_term: false } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 4 bias_term: false } }
"""


@pytest.mark.parametrize("save", [save_weights, save_hdf5])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TWO, None),
        (SHARED, None),
        (TWO.replace("num_output: 5", "num_output: 6"), "weights from layer 'ip'; shape mismatch"),
        (TWO.replace('"ip"', '"fc"'), "has no layer fc."),
    ],
)
def test_whose_model_it_is(
    make_net: NetMaker, tmp_path: Path, save: Callable[..., None], text: str, says: str | None
) -> None:
    file = tmp_path / "m"
    save(make_net(SHARED if text == SHARED else TWO), file)
    net = make_net(text)
    before = [p.clone() for p in net.parameters()]
    found = mismatch(net, file)
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert says in found
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))


def test_a_model_that_cannot_be_read_is_an_error(make_net: NetMaker, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"\xff")
    with pytest.raises(WeightsError):
        mismatch(make_net(TWO), tmp_path / "m")
