"""Memory that a net asks for is checked before it is taken."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.data_layers import write_images

from moka.errors import MokaError, NetError
from moka.free_memory import UNKNOWN, check_free, free_memory, most_memory, out_of_memory
from moka.heap import kept_memory
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.conftest import NetMaker

IMAGE = (
    'layer { name: "d" type: "Input" top: "d"'
    " input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } } "
)
IT = IMAGE + 'layer { name: "it" type: "TYPE" bottom: "d" top: "t" OPTIONS }'
INT = 2**31 - 1


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    machine = free_memory(tmp_path)
    assert 1e6 < machine <= most_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 1e6
    (tmp_path / "memory.max").write_text("700000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    assert free_memory(tmp_path) == 100_000
    assert most_memory(tmp_path) == 700_000
    (tmp_path / "memory.stat").write_text("anon 9\nactive_file 5000\ninactive_file 20000\n")
    assert free_memory(tmp_path) == 125_000  # a cache of files is given up


def test_the_limit_of_the_address_space_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 50, 1 << 50))
    assert most_memory(tmp_path) < 1 << 50
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (5, 5))
    assert most_memory(tmp_path) == 5
    assert free_memory(tmp_path) < 5


def test_a_system_that_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moka.free_memory.MEMINFO", tmp_path / "none")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert free_memory(tmp_path) == most_memory(tmp_path) == UNKNOWN
    check_free(2**80, "all")


def test_kept_memory_is_free() -> None:
    assert kept_memory() >= 0


@pytest.mark.parametrize(
    ("type_name", "options", "size"),
    [
        ("InnerProduct", f"inner_product_param {{ num_output: {INT} }}", "1,649.3 GB"),
        ("Convolution", f"convolution_param {{ num_output: {INT} kernel_size: 3 }}", "231.9 GB"),
        (
            "Convolution",
            "convolution_param { num_output: 2 kernel_size: 3 pad: 1000000 }",
            "32,000",
        ),
        (
            "Deconvolution",
            "convolution_param { num_output: 2 kernel_size: 3 stride: 999999 }",
            "GB",
        ),
        ("Tile", f"tile_param {{ tiles: {INT} }}", "1,649.3 GB"),
        ("Upsample", "upsample_param { scale: 100000 }", "7,680.0 GB"),
        ("Embed", f"embed_param {{ num_output: {INT} input_dim: {INT} }}", "GB"),
        ("Padding", f"padding_param {{ pad_beg: {INT} pad_end: 0 }}", "larger than any memory"),
    ],
)
def test_a_layer_that_asks_for_too_much(type_name: str, options: str, size: str) -> None:
    text = IT.replace("TYPE", type_name).replace("OPTIONS", options)
    with pytest.raises(NetError) as found:
        build_net(parse_text(text, caffe_pb2.NetParameter))
    assert f'layer "it" ({type_name}): ' in str(found.value)
    assert size in str(found.value)


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "d" type: "Input" top: "d"'
        " input_param { shape { dim: 1000000 dim: 1000000 } } }",
        'name: "d" input: "d" input_dim: 1000000 input_dim: 3 input_dim: 5000 input_dim: 5000',
        'layer { name: "d" type: "DummyData" top: "d"'
        " dummy_data_param { num: 1000000 channels: 3 height: 500 width: 500 } }",
        'layer { name: "d" type: "Parameter" top: "d"'
        " parameter_param { shape { dim: 1000000 dim: 1000000 } } }",
    ],
)  # fmt: skip
def test_a_source_that_asks_for_too_much(text: str) -> None:
    with pytest.raises(NetError, match=r"take[s]? [\d,.]+ GB, and "):
        build_net(parse_text(text, caffe_pb2.NetParameter))


def test_many_blobs_that_are_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    text = IMAGE + "".join(
        f'layer {{ name: "e{k}" type: "Exp" bottom: "d" top: "e{k}" }}' for k in range(9)
    )
    param = parse_text(text, caffe_pb2.NetParameter)
    monkeypatch.setattr("moka.net.memory.most_memory", lambda: 4 * 3 * 64 * 9)
    with pytest.raises(NetError, match="largest tops of a net that takes at least"):
        build_net(param)
    monkeypatch.setattr("moka.net.memory.most_memory", lambda: 4 * 3 * 64 * 12)
    build_net(param)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "there is not enough memory."),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate"
                " memory: you tried to allocate 9600 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "there is not enough memory: 9600 bytes were asked for.",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"),
            "there is not enough memory on the GPU: 20.00 GiB were asked for.",
        ),
        (
            RuntimeError("Storage size calculation overflowed with sizes=[2147483647, 2147483647]"),
            "there is not enough memory.",
        ),
        (
            RuntimeError("can't start new thread"),
            "no further thread can be started: a limit of memory or of processes is reached.",
        ),
        (RuntimeError("shapes do not fit"), None),
        (ValueError("out of memory"), None),
    ],
)
def test_allocators_errors(error: BaseException, sentence: str | None) -> None:
    assert out_of_memory(error) == sentence


def test_an_allocation_that_fails_in_a_pass_names_its_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = build_net(
        parse_text(IT.replace("TYPE", "Exp").replace("OPTIONS", ""), caffe_pb2.NetParameter)
    )

    def fail(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.empty(2**58, np.float32))

    monkeypatch.setattr(net.layers[1], "forward", fail)
    with pytest.raises(
        MokaError, match=r'layer "it" \(Exp\): there is not enough memory: 1\.00 EiB'
    ):
        net(torch.zeros(1, 3, 8, 8))


def test_batches_ahead_that_are_too_much_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_net: NetMaker
) -> None:
    write_images(tmp_path / "db")
    text = (
        'layer { name: "data" type: "Data" top: "x" top: "y"'
        f' data_param {{ source: "{tmp_path / "db"}" batch_size: 2 prefetch: PREFETCH }} }}'
    )
    net = make_net(text.replace("PREFETCH", "2000000000"))
    monkeypatch.setattr("moka.layers.data.most_memory", lambda: 1e9)
    with pytest.raises(NetError, match=r'layer "data" .*prefetch: 2000000000 batches of 40 bytes'):
        net.prepare()
    net.close()
    net = make_net(text.replace("PREFETCH", "20"))
    net.prepare()
    net.close()
