"""What holds for every registered layer type, whatever it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
import pytest
import torch
from tests.layers.one_layer import MINIMAL, UNREAD, text_of
from tests.played_gpu import playing_a_gpu

from moka.engine.autograd import Autograd
from moka.engine.host_reads import noting_host_reads
from moka.engine.layerwise import Layerwise
from moka.layers import REGISTRY, Layer
from moka.layers.late_checks import collecting_checks
from moka.layers.loss.memory import MemoryLoss
from moka.layers.source import MemoryData
from moka.net import Net, build_net
from moka.schema import caffe_pb2, format_text, parse_text

OWN_LAYER = """
import caffe

class Double(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff
"""


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the data that MINIMAL names."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        make_data_files()
        yield folder


@pytest.fixture
def _data_files(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_folder)


def make_data_files() -> None:
    """The data that MINIMAL names, in the current directory."""
    with h5py.File("rows.h5", "w") as file:
        file["top0"], file["top1"] = np.ones((3, 4)), np.ones(3)
    Path("rows.txt").write_text("rows.h5\n")
    Path("own_layers.py").write_text(OWN_LAYER)
    cv2.imwrite("image.png", np.ones((4, 4, 3), np.uint8))
    Path("images.txt").write_text("image.png 0\nimage.png 1\n")
    Path("pairs.txt").write_text("image.png image.png\n")
    Path("alone.txt").write_text("image.png\n")
    Path("clips").mkdir()
    cv2.imwrite("clips/1.png", np.ones((4, 4, 3), np.uint8))
    Path("clips.txt").write_text("clips 0\n")
    Path("windows.txt").write_text("# 0\nimage.png\n3\n4\n4\n1\n1 0 0 0 3 3\n")
    Path("objects.txt").write_text("# 0\nimage.png\n3 4 4\n1\n1 0 0 0 0 3 3\n0\n")
    Path("regions.txt").write_text("# 0\nimage.png\n3 4 4\n1\n1 0 0 0 3 3\n0\n")
    with lmdb.open("yolo.lmdb", map_size=1 << 20) as database, database.begin(write=True) as out:
        datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=bytes(4))
        datum.float_data.extend((1, 0, 0.5, 0.5, 1, 1))
        out.put(b"00000000", datum.SerializeToString())
    with lmdb.open("images.lmdb", map_size=1 << 20) as database, database.begin(write=True) as out:
        for k in range(3):
            datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=bytes(4), label=k)
            out.put(b"%08d" % k, datum.SerializeToString())
    with lmdb.open("boxes.lmdb", map_size=1 << 20) as database, database.begin(write=True) as out:
        datum = caffe_pb2.Datum(channels=1, height=2, width=2, data=bytes(4))
        out.put(b"00000000", caffe_pb2.AnnotatedDatum(datum=datum).SerializeToString())


@pytest.fixture(params=sorted(REGISTRY))
def net(request: pytest.FixtureRequest, _data_files: None) -> Iterator[Net]:
    """A net of nothing but one layer of each type and its inputs."""
    made = made_net(request.param)
    yield made
    made.close()


def made_net(kind: str, device: torch.device | None = None, *, losses: bool = False) -> Net:
    """A net with one layer.

    Args:
        losses: add the sum of squares of each of its tops to the loss.
    """
    param = parse_text(text_of(kind), caffe_pb2.NetParameter)
    for top in param.layer[-1].top if losses else ():
        name = f"square of {top}"
        param.layer.add(name=name, type="Power", bottom=[top], top=[name], loss_weight=[0.25])
        param.layer[-1].power_param.power = 2
    made = build_net(param, caffe_pb2.TRAIN, device=device)
    for _, source in made.sources:
        if isinstance(source, MemoryData):
            source.set_arrays(np.ones((2, *source.item_shape)), np.ones(2))
    give_functions(made)
    return made


def give_functions(net: Net) -> None:
    """Set what only the user of a net can."""
    for each in net.layers:
        if isinstance(each, MemoryLoss):
            each.function = lambda *x: torch.stack([values.square().sum() for values in x]).sum()


def layer_of(net: Net) -> Layer:
    return list(net.layers)[-1]


def test_the_table_has_no_unknown_types() -> None:
    assert set(MINIMAL) <= set(REGISTRY)
    assert set(UNREAD) <= set(REGISTRY)


def test_the_prototxt_of_a_net_makes_the_same_net(net: Net) -> None:
    text = format_text(net.graph.param)
    again = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    assert format_text(again.graph.param) == text
    assert [n.tops for n in again.graph.nodes] == [n.tops for n in net.graph.nodes]
    assert [b.shape for b in again.blobs.values()] == [b.shape for b in net.blobs.values()]
    again.close()


@pytest.mark.parametrize("kind", sorted(REGISTRY))
@pytest.mark.usefixtures("_data_files")
def test_runs_both_ways_on_a_gpu(kind: str) -> None:
    """A CPU plays it: nothing in the layer lies on the other side, or is handed to NumPy there."""
    with playing_a_gpu() as gpu:
        net = made_net(kind, gpu)
        run_both_ways(net)
        tops = [net.blobs[top].data_memory.tensor() for top in net.graph.nodes[-1].tops]
        assert all(top.device == gpu for top in tops)
        net.close()


def test_runs_both_ways(net: Net) -> None:
    run_both_ways(net)


@pytest.mark.parametrize("kind", sorted(REGISTRY))
@pytest.mark.usefixtures("_data_files")
def test_runs_from_a_recording(kind: str) -> None:
    """Training passes, of which later ones repeat operators, are those that the layer makes."""
    found, wanted = (passes_of(kind, record=record) for record in (True, False))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


def passes_of(kind: str, *, record: bool) -> list[torch.Tensor]:
    """What some training passes leave behind, each with other bottoms."""
    torch.manual_seed(3)
    net = made_net(kind, losses=True)
    engine = Autograd(net, keep_blobs=True)
    if record:
        engine.record(warm_ups=1)
    found: list[torch.Tensor] = []
    for k in range(4):
        give_bottoms(net, 5 + k)
        found.append(engine.forward_backward())
        for blob in net.blobs.values():
            found += [blob.data_memory.tensor().clone(), blob.diff_memory.tensor().clone()]
        for weight in net.parameters():
            found += [w.clone() for w in (weight.detach(), weight.grad) if w is not None]
    net.close()
    return found


def give_bottoms(net: Net, seed: int) -> None:
    kind = next(node.type for node in net.graph.nodes if node.name == "it")
    rng = np.random.default_rng(seed)
    for name in net.graph.inputs:
        case, shape = MINIMAL[kind], net.blobs[name].shape
        are_labels = tuple(shape) == (2,)
        net.blobs[name].data[...] = 1 if are_labels else rng.uniform(case.least, case.most, shape)


def run_both_ways(net: Net) -> None:
    node, made = net.graph.nodes[-1], layer_of(net)
    rng = np.random.default_rng(5)
    give_bottoms(net, 5)
    engine = Layerwise(net)
    engine.forward()
    for top, shape in zip(node.tops, made.top_shapes(*shapes_of(net)), strict=True):
        if not made.entry.shapes_from_data:
            assert net.blobs[top].data.shape == tuple(shape)
        assert np.isfinite(net.blobs[top].data).all()
        net.blobs[top].diff[...] = rng.normal(size=net.blobs[top].data.shape)
    engine.backward()
    for j, bottom in enumerate(node.bottoms):
        moved = net.blobs[bottom].diff.any()
        assert moved == (j not in node.fixed_bottoms and made.entry.differentiable)
    for k, blob in enumerate(net.layer_blobs(len(net.layers) - 1)):
        assert blob.diff.any() == (k not in made.state_blobs)


def shapes_of(net: Net) -> list[tuple[int, ...]]:
    return [tuple(net.blobs[b].shape) for b in net.graph.nodes[-1].bottoms]


def ones_for(net: Net) -> list[torch.Tensor]:
    """Bottoms of the last layer: ones, or zeros for a type that can take nothing else."""
    fill = float(MINIMAL[net.graph.nodes[-1].type].most > 0)
    return [torch.full(shape, fill) for shape in shapes_of(net)]


def test_runs_in_double_precision(net: Net) -> None:
    made = layer_of(net)
    if made.entry.source:
        return
    bottoms = [x.double() for x in ones_for(net)]
    tops = made.double()(*bottoms)
    for top in [tops] if isinstance(tops, torch.Tensor) else tops:
        assert top.dtype == torch.float64


def test_tops_in_the_memory_of_a_bottom_are_known(net: Net) -> None:
    made = layer_of(net)
    if made.entry.source or net.graph.nodes[-1].type == "Dropout":  # which copies only in training
        return
    bottoms = ones_for(net)
    tops = made(*bottoms)
    for top in [tops] if isinstance(tops, torch.Tensor) else tops:
        shared = top.untyped_storage().data_ptr() == bottoms[0].untyped_storage().data_ptr()
        assert shared == made.makes_views


def test_tops_that_it_spares_may_be_written_over(net: Net) -> None:
    made = layer_of(net)
    if not made.spares_top:
        return
    torch.manual_seed(1)
    bottoms = [(x + torch.rand_like(x)).requires_grad_() for x in ones_for(net)]
    inputs = [*bottoms, *(w for w in made.weights if w.requires_grad)]
    found = []
    for overwritten in (False, True):
        tops = made(*bottoms)
        tops = [tops] if isinstance(tops, torch.Tensor) else list(tops)
        if overwritten:
            tops = [torch.relu_(top.add_(100)) for top in tops]  # whose gradient is 1
        found.append(torch.autograd.grad(sum(top.sum() for top in tops), inputs, allow_unused=True))
    for have, want in zip(found[1], found[0], strict=True):
        assert (have is None and want is None) or torch.equal(have, want)


@pytest.mark.parametrize(
    "kind", [k for k in sorted(MINIMAL) if MINIMAL[k].bottoms and MINIMAL[k].bottoms[0][0] == "2"]
)
@pytest.mark.usefixtures("_data_files")
def test_an_empty_batch_runs_both_ways(kind: str) -> None:
    """A Filter that lets nothing pass makes one."""
    text = text_of(kind).replace("dim: 2 ", "dim: 0 ", 1)
    if kind not in ("AutoCrop", "BatchReindex", "Crop"):  # whose second bottom is no batch
        text = text.replace("{ dim: 2 ", "{ dim: 0 ")
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    give_functions(net)
    if kind == "BatchReindex":  # which picks nothing then
        net.blobs["bottom1"].reshape(0)
    engine = Layerwise(net)
    engine.forward()
    engine.backward()
    for top in net.graph.nodes[-1].tops:
        assert np.isfinite(net.blobs[top].data).all()
    for j, bottom in enumerate(net.graph.nodes[-1].bottoms):
        assert not net.blobs[bottom].diff.any(), j
    for blob in net.layer_blobs(len(net.layers) - 1):
        assert not blob.diff.any()


OF_BVLC = [kind for kind in sorted(MINIMAL) if not (REGISTRY[kind].fork or REGISTRY[kind].source)]


@pytest.mark.parametrize("net", OF_BVLC, indirect=True)
def test_what_can_be_recorded_reads_nothing_back(net: Net) -> None:
    """On a device no pass of BVLC Caffe's types waits; those of detection and others do."""
    made, kind = layer_of(net), net.graph.nodes[-1].type
    if not made.can_be_recorded:
        assert kind in ("Filter", "HDF5Output", "Python")
        return
    bottoms = ones_for(net)
    inputs = dict(zip(net.graph.nodes[-1].bottoms, bottoms, strict=True))
    for j, x in enumerate(bottoms):
        x.requires_grad_(j not in net.graph.nodes[-1].fixed_bottoms and x.numel() > 0)
    net.propagate(inputs)
    with noting_host_reads() as reads, collecting_checks():
        tops = net.propagate(inputs)
        loss = [t.sum() for name, t in tops.items() if t.requires_grad and name not in inputs]
        if loss:
            torch.stack(loss).sum().backward()  # type: ignore[no-untyped-call]
    assert reads.found == []
