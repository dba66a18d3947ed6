from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch

from moka.errors import WeightsError
from moka.net import Net
from moka.weights import load_weights, save_hdf5, save_weights

if TYPE_CHECKING:
    from tests.conftest import NetMaker

NET = """
layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } param { }
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
layer { name: "two" type: "InnerProduct" bottom: "z" top: "b" param { name: "w" }
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
layer { name: "deep/er/s" type: "Bias" bottom: "a" top: "c" bias_param { num_axes: 0
  filler { value: 2 } } }
"""
FILE = "w.caffemodel"  # the name says nothing


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    return make_net(NET)


def datasets(file: str) -> dict[str, Any]:
    """Every dataset by its path; None for an empty group."""
    found: dict[str, Any] = {}

    def visit(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            found[name] = member[()]
        elif not len(member):
            found[name] = None

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return found


def values_of(net: Net) -> dict[str, Any]:
    return {
        f"{node.name}/{k}": blob.data.copy()
        for i, node in enumerate(net.graph.nodes)
        for k, blob in enumerate(net.layer_blobs(i))
    }


def same(one: Net, other: Net) -> bool:
    a, b = values_of(one), values_of(other)
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_what_is_saved(net: Net, device: torch.device) -> None:
    save_hdf5(net, FILE)
    found, values = datasets(FILE), values_of(net)
    assert set(found) == {"data/in", "data/one/0", "data/one/1", "data/two/1", "data/deep/er/s/0"}
    assert found["data/in"] is None
    for key in set(found) - {"data/in"}:
        assert found[key].dtype == np.float32
        assert found[key].shape == values[key.removeprefix("data/")].shape
        np.testing.assert_array_equal(found[key], values[key.removeprefix("data/")])


def test_diffs_are_saved_for_sharers_too(net: Net) -> None:
    net.layer_blobs(1)[0].diff[...] = 5
    save_hdf5(net, FILE, with_diffs=True)
    found = datasets(FILE)
    assert {name for name in found if name.startswith("diff")} == {
        "diff/in", "diff/one/0", "diff/one/1", "diff/two/0", "diff/two/1", "diff/deep/er/s/0",
    }  # fmt: skip
    for name in ("diff/one/0", "diff/two/0"):
        np.testing.assert_array_equal(found[name], np.full((4, 3), 5, np.float32))
    assert "data/two/0" not in found


def test_round_trip(net: Net, make_net: NetMaker, device: torch.device) -> None:
    save_hdf5(net, FILE)
    other = make_net(NET)
    assert not same(net, other)
    load_weights(other, FILE)
    assert same(net, other)
    assert np.shares_memory(other.layer_blobs(1)[0].data, other.layer_blobs(2)[0].data)


def test_a_layer_without_parameters_is_an_empty_group_also_behind_a_split(
    make_net: NetMaker,
) -> None:
    net = make_net(NET + 'layer { name: "s" type: "Silence" bottom: "x" }')
    save_hdf5(net, FILE)
    assert datasets(FILE)["data/x_in_0_split"] is None


def test_binary_and_hdf5_files_together(net: Net, make_net: NetMaker) -> None:
    first = make_net(NET)
    save_weights(first, "a")
    save_hdf5(net, "b")
    with h5py.File("b", "a") as file:
        del file["data/one"]
    other = make_net(NET)
    load_weights(other, "a,b")
    np.testing.assert_array_equal(other.layer_blobs(1)[1].data, first.layer_blobs(1)[1].data)
    np.testing.assert_array_equal(other.layer_blobs(2)[1].data, net.layer_blobs(2)[1].data)


def test_layers_the_net_lacks_are_named_and_not_looked_into(
    net: Net, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moka.detail")
    save_hdf5(net, FILE)
    with h5py.File(FILE, "a") as file:
        file["data/more/er/0"] = "text"
        file["data/alone"] = 3.0
        file.create_group("data/empty")
    load_weights(net, FILE)
    ignored = [m for m in caplog.messages if m.startswith("Ignoring")]
    assert ignored == ["Ignoring source layer empty", "Ignoring source layer more/er"]


def test_a_sharer_that_is_in_the_file_is_taken(net: Net) -> None:
    save_hdf5(net, FILE)
    with h5py.File(FILE, "a") as file:
        file["data/two/0"] = np.full((4, 3), 8.0)
    load_weights(net, FILE)
    assert (net.layer_blobs(1)[0].data == 8).all()


def test_whole_numbers_are_numbers(net: Net) -> None:
    save_hdf5(net, FILE)
    with h5py.File(FILE, "a") as file:
        del file["data/one/1"]
        file["data/one/1"] = np.array([1, 2, 3, 4], np.uint8)
    load_weights(net, FILE)
    assert net.layer_blobs(1)[1].data.tolist() == [1, 2, 3, 4]


def replace(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (replace("data", None), r"has no group /data: it is no model \(found nothing\)"),
        (replace("data", [1.0, 2.0]), r"has no group /data: it is no model \(found data\)"),
        (replace("data/one/0", None), "Incompatible number of blobs for layer one: .*has 1, .*2"),
        (replace("data/two/1", None), "Incompatible number of blobs for layer two: .*has 0, .*2"),
        (replace("data/one/2", [1.0]), "Incompatible number of blobs for layer one: .*has 3, .*2"),
        (
            replace("data/one/0", np.zeros((3, 4))),
            r"Cannot copy param 0 weights from layer 'one'; shape mismatch\. Source param shape is"
            r" 3 4 \(12\); target param shape is 4 3 \(12\)",
        ),
        (replace("data/one/1", np.zeros((1, 1, 1, 4))), r"shape is 1 1 1 4 \(4\); target"),
        (replace("data/one/1", "text"), 'layer "one": dataset 1 holds .*, not numbers'),
        (replace("data/one/weight", [1.0]), 'layer "one": its group holds "weight", which is no p'),
        (replace("data/one/1", h5py.SoftLink("/gone")), 'layer "one": its group holds "1", which'),
    ],
)
def test_files_that_do_not_fit_change_nothing(
    net: Net, make_net: NetMaker, change: Callable[[h5py.File], None], says: str
) -> None:
    save_hdf5(make_net(NET), FILE)
    with h5py.File(FILE, "a") as file:
        change(file)
    before = values_of(net)
    with pytest.raises(WeightsError, match=rf"^{FILE}: .*{says}"):
        load_weights(net, FILE)
    for key, values in values_of(net).items():
        np.testing.assert_array_equal(values, before[key])


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file(net: Net, kept: float) -> None:
    save_hdf5(net, FILE)
    whole = Path(FILE).read_bytes()
    Path(FILE).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match=rf"{FILE}: this HDF5 file is truncated or damaged"):
        load_weights(net, FILE)


def test_damaged_files(net: Net) -> None:
    """Whatever byte is wrong: an error of ours, or other numbers."""
    save_hdf5(net, FILE)
    whole = Path(FILE).read_bytes()
    used = [at for at in range(8, len(whole)) if whole[at]]
    refused = 0
    for at in used:
        Path(FILE).write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            load_weights(net, FILE)
        except WeightsError:
            refused += 1
    assert 0 < refused < len(used)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("one", "another layer has the same name"),
        ("", "cannot be that of a group"),
        ("/abs", "it would become /abs"),
        (".", "it would become /data"),
        ("a//b", "it would become /data/a/b"),
        ("one/0", "cannot be that of a group"),
    ],
)
def test_names_that_are_no_groups(make_net: NetMaker, name: str, says: str) -> None:
    net = make_net(NET + f'layer {{ name: "{name}" type: "TanH" bottom: "a" top: "t" }}')
    with pytest.raises(WeightsError, match=rf"{says}.*Rename the layer, or save a \.caffemodel"):
        save_hdf5(net, FILE)
    assert not Path(FILE).exists()


@pytest.mark.parametrize("order", [["a", "a/b"], ["a/b", "a"]])
def test_a_name_that_begins_as_another(make_net: NetMaker, order: list[str]) -> None:
    text = "".join(
        f'layer {{ name: "{name}" type: "Bias" bottom: "x" top: "t{i}" '
        f"bias_param {{ num_axes: 0 filler {{ value: {len(name)} }} }} }}"
        for i, name in enumerate(order)
    )
    source = make_net(NET + text)
    save_hdf5(source, FILE)
    zero = make_net(NET + text.replace("value: ", "value: 10"))
    assert not same(zero, source)
    load_weights(zero, FILE)
    assert same(zero, source)


def test_a_file_that_cannot_be_written(net: Net) -> None:
    with pytest.raises(FileNotFoundError):
        save_hdf5(net, "gone/a.h5")


def test_a_group_inside_of_a_layers_group_may_come_before_its_parameters(
    make_net: NetMaker,
) -> None:
    text = NET.replace("deep/er/s", "one/!")  # "!" sorts before "0"
    net, other = make_net(text), make_net(text)
    assert not same(net, other)
    save_hdf5(net, FILE)
    load_weights(other, FILE)
    assert same(net, other)
