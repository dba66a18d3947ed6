from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import NetMaker
from torch import nn

from moka.errors import MokaError, WeightsError
from moka.importer.named_weights import copy_named, read_map, read_tensors
from moka.net import Net

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "ip" type: "InnerProduct" bottom: "scale" top: "ip"
        inner_product_param { num_output: 2 bias_term: false } }
"""
NAMES = {"conv": "0", "bn": "1", "scale": "1", "ip.weight": "3.weight"}


@pytest.fixture
def module() -> nn.Sequential:
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(24, 2, bias=False)
    )
    made[1].running_mean.uniform_()  # type: ignore[operator]
    made[1].running_var.uniform_(1, 2)  # type: ignore[operator]
    return made.eval()


@pytest.fixture
def net(make_net: NetMaker) -> Net:
    return make_net(NET)


@pytest.mark.parametrize("form", ["pt", "safetensors", "old", "wrapped"])
def test_weights_of_pytorch(form: str, net: Net, module: nn.Sequential, tmp_path: Path) -> None:
    state, file = module.state_dict(), tmp_path / "weights"
    if form == "safetensors":
        save_file(state, file)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": state}, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "pt")
    copy_named(net, read_tensors(file), NAMES, file)
    x = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(net(x)["ip"], module(x))


def test_equal_names_need_no_map(net: Net, make_net: NetMaker) -> None:
    other = make_net(NET)
    for weight in other.parameters():
        nn.init.uniform_(weight)
    tensors = {k: v.detach() for k, v in other.state_dict().items()}
    copy_named(net, tensors, {}, "x.pt")
    x = torch.randn(2, 3, 5, 4)
    assert torch.equal(net(x)["ip"], other(x)["ip"])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"cnv": "0"}, 'the map names "cnv", which the net lacks. Did you mean "conv"?'),
        (
            {**NAMES, "ip.weight": "3.weigt"},
            'x.pt: has no tensor for ip.weight (looked for 3.weigt). Did you mean "3.weight"?',
        ),
        (
            {},
            "x.pt: has no tensor for conv.weight (looked for conv.weight), conv.bias (looked for"
            " conv.bias), bn.mean (looked for bn.mean), bn.variance (looked for bn.variance),"
            " scale.weight (looked for scale.weight) and 2 more.",
        ),
        (
            {**NAMES, "conv.weight": "3.weight"},
            'x.pt: layer "conv": the tensor 3.weight has the shape (2, 24), the net\'s weight has'
            " (4, 3, 3, 3).",
        ),
    ],
)
def test_names_that_do_not_fit(
    names: dict[str, str], says: str, net: Net, module: nn.Sequential
) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        copy_named(net, module.state_dict(), names, "x.pt")
    assert str(error.value) == says
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_maps(tmp_path: Path) -> None:
    file = tmp_path / "map.txt"
    file.write_text("# the net: the module\nconv 0\n\n'res 2a/b'  layer1.0  # first\n")
    assert read_map(file) == {"conv": "0", "res 2a/b": "layer1.0"}
    for text, says in {
        "conv\n": "line 1 has 1 words; it names a layer and a tensor.",
        "a b\na c\n": "line 2 names a a second time.",
    }.items():
        file.write_text(text)
        with pytest.raises(WeightsError) as error:
            read_map(file)
        assert str(error.value) == f"{file}: {says}"


@pytest.mark.parametrize(
    "data", [b"", b"nothing of that kind", b"\x80\x02.", b"\x10" + b"\0" * 7 + b"{}"]
)
def test_other_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(WeightsError) as error:
        read_tensors(tmp_path / "x")
    assert str(error.value).startswith(f"{tmp_path / 'x'}: ")
    assert "\n" not in str(error.value)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="neither a safetensors file nor a state_dict"):
        read_tensors(tmp_path / "x.pt")


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"holds no state_dict\.$"):
        read_tensors(tmp_path / "x.pt")


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(MokaError, match=r"needs the package safetensors\. Install it: pip"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("cut", [20, -1])
def test_a_truncated_safetensors_file(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"conv.weight": torch.zeros(2, 3)}, file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="is no whole safetensors file"):
        read_tensors(file)
