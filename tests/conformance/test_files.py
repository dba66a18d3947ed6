"""Files that BVLC Caffe wrote are read as it reads them, and ours hold what its own hold."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from moka.cli.main import main
from moka.data import datum
from moka.data.store import open_store
from moka.schema import caffe_pb2, parse_text, read_binary
from moka.schema.blobproto import is_legacy, shape_of

if TYPE_CHECKING:
    from tests.conformance.conftest import Case

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("files/*/case.json"))
PHASES = {"TRAIN": caffe.TRAIN, "TEST": caffe.TEST}

Results = dict[str, Any]  # arrays, and everything else as in the case's json


def params(net: caffe.Net, prefix: str) -> Results:
    return {
        f"{prefix}/{layer}/{i}": blob.data.copy()
        for layer, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }


def blob_array(blob: caffe_pb2.BlobProto) -> NDArray[np.float32]:
    return np.array(blob.data, np.float32).reshape(shape_of(blob))


def model_content(file: str) -> Results:
    model = read_binary(file, caffe_pb2.NetParameter)
    content: Results = {"net_name": model.name, "layers": []}
    for layer in model.layer:
        content["layers"].append(
            [
                layer.name,
                layer.type,
                list(layer.bottom),
                list(layer.top),
                [list(shape_of(blob)) for blob in layer.blobs],
                [is_legacy(blob) for blob in layer.blobs],
                [bool(blob.diff) for blob in layer.blobs],
            ]
        )
        for i, blob in enumerate(layer.blobs):
            content[f"blob/{layer.name}/{i}"] = blob_array(blob)
    return content


def hdf5_content(file: str) -> Results:
    content: Results = {}

    def visit(name: str, member: object) -> None:
        if isinstance(member, h5py.Dataset):
            content[f"h5/{name}"] = member[()]

    with h5py.File(file) as opened:
        opened.visititems(visit)
    return content


def state_content(file: str) -> Results:
    state = read_binary(file, caffe_pb2.SolverState)
    content: Results = {
        "iter": state.iter,
        "learned_net": state.learned_net,
        "current_step": state.current_step,
        "history_shapes": [list(blob.shape.dim) for blob in state.history],
    }
    content.update((f"history/{i}", blob_array(b)) for i, b in enumerate(state.history))
    return content


def weights_load(case: Case) -> Results:
    file, how = case.options["weights"], case.options["how"]
    net = caffe.Net(case.options["net"], caffe.TEST, weights=file if how == "init" else None)
    if how != "init":
        getattr(net, how)(file)  # copy_from or load_hdf5
    return params(net, "param")


def weights_save(case: Case) -> Results:
    net, file = caffe.Net(case.options["net"], caffe.TEST), case.options["out"]
    net.copy_from(case.options["weights"])
    if file.endswith(".h5"):
        net.save_hdf5(file)
        return hdf5_content(file)
    net.save(file)
    return model_content(file)


def upgrade_tool(case: Case) -> Results:
    """The program's exit code, log and file; `contains` are fragments of the log."""
    with pytest.MonkeyPatch.context() as patch:
        log = io.StringIO()
        patch.setattr(sys, "stderr", log)
        results: Results = {"exit": main(case.options["argv"])}
    said = " ".join(log.getvalue().split())
    results.update((f"log: {part}", part in said) for part in case.options["contains"])
    file = case.options["out"]
    if not file.endswith(".prototxt"):
        return results | model_content(file)
    kind = (
        caffe_pb2.SolverParameter if "solver" in case.options["argv"][0] else caffe_pb2.NetParameter
    )
    mine = parse_text(Path(file).read_text(), kind)
    theirs = case.json("json")["out__prototxt"]
    return {**results, "out__prototxt": theirs if mine == parse_text(theirs, kind) else str(mine)}


def net_listing(case: Case) -> Results:
    net = caffe.Net(case.options["net"], PHASES[case.options["phase"]])
    return {
        "blob_names": list(net.blobs),
        "blob_shapes": {name: list(blob.shape) for name, blob in net.blobs.items()},
        "layer_names": list(net.layer_dict),
        "layer_types": [layer.type for layer in net.layers],
        "inputs": net.inputs,
        "outputs": net.outputs,
        "param_shapes": {n: [list(b.shape) for b in blobs] for n, blobs in net.params.items()},
    }


def solver_resume(case: Case) -> Results:
    solver = caffe.get_solver(case.options["solver"])
    solver.restore(case.options["state"])
    results = {"iter_restored": solver.iter, **params(solver.net, "param/0")}
    rates: list[float] = []
    losses: dict[str, list[Any]] = {name: [] for name in case.group("loss")}
    for k in range(1, case.options["steps"] + 1):
        rates.append(solver.lr)
        solver.step(1)
        results |= params(solver.net, f"param/{k}")
        for name, values in losses.items():
            values.append(solver.net.blobs[name].data.copy())
    loss_results = {f"loss/{name}": values for name, values in losses.items()}
    return {**results, **loss_results, "lr": rates, "iter": solver.iter}


def solver_snapshot(case: Case) -> Results:
    solver = caffe.get_solver(case.options["solver"])
    solver.net.copy_from(case.options["weights"])
    solver.step(case.options["steps"])
    solver.snapshot()
    files = case.options["model"], case.options["state"]
    if files[0].endswith(".h5"):
        model, state = map(hdf5_content, files)
        del state["h5/run_state"]  # ours alone
        state["h5/learned_net"] = state["h5/learned_net"].decode()
    else:
        model, state = model_content(files[0]), state_content(files[1])
    return {
        **{f"model/{key}": value for key, value in model.items()},
        **{f"state/{key}": value for key, value in state.items()},
    }


def solver_listing(case: Case) -> Results:
    solver = caffe.get_solver(case.options["solver"])
    return {
        "type": type(solver).__name__,
        "max_iter": solver.param.max_iter,
        "base_lr": solver.param.base_lr,
        "lr": solver.lr,
    }


def batches(case: Case) -> Results:
    net = caffe.Net(case.options["net"], PHASES[case.options["phase"]])
    results: Results = {}
    for k in range(case.options["batches"]):
        results.update((f"batch/{k}/{n}", a.copy()) for n, a in net.forward().items())
    net._net.close()
    return results


def run_program(case: Case) -> Results:
    """An installed program's exit code; `contains` are fragments of what it says."""
    name, *arguments = case.options["argv"]
    (program,) = entry_points(group="console_scripts", name=name)
    with pytest.MonkeyPatch.context() as patch:
        log = io.StringIO()
        patch.setattr(sys, "stderr", log)
        code = program.load()(arguments)
    said = " ".join(log.getvalue().split())
    aborted = case.options["exit"] == 134 and code != 0  # any other code is as good
    results: Results = {"exit": 134 if aborted else code}
    results.update((f"log: {part}", part in said) for part in case.options["contains"])
    means = re.findall(r"mean_value channel \[(\d+)\]: (\S+)", said)
    return results | ({"channel_means": [[int(c), float(m)] for c, m in means]} if means else {})


def database_content(path: str, as_bytes: bool) -> Results:
    """What tools put into a database, under the names of the recorded results."""
    records = [(key.decode(), datum.parse(value)) for key, value in open_store(path).read()]
    content: Results = {
        f"{path}:entries": [
            [key, d.channels, d.height, d.width, d.label, d.encoded, len(d.float_data)]
            for key, d in records
        ]
    }
    for i, (_, record) in enumerate(records):
        if record.float_data:
            content[f"{path}:float/{i}"] = list(record.float_data)
        elif record.encoded and as_bytes:
            content[f"{path}:bytes/{i}"] = list(record.data)
        else:
            content[f"{path}:pixels/{i}"] = datum.decode(record)
    return content


def tool_db(case: Case) -> Results:
    results = run_program(case)
    for path in case.options["lmdb"]:
        results |= database_content(path, case.options.get("encoded_bytes", False))
    return results | (batches(case) if "net" in case.options else {})


def image_mean(case: Case) -> Results:
    results = run_program(case)
    if file := case.options["out"]:
        mean = read_binary(file, caffe_pb2.BlobProto)
        shape = list(shape_of(mean))
        results |= {"legacy": is_legacy(mean), "shape": shape, "data": blob_array(mean)}
    return results


def blobproto(case: Case) -> Results:
    array = caffe.io.blobproto_to_array(read_binary(case.options["blob"], caffe_pb2.BlobProto))
    return {"array": array, "shape": list(array.shape)}


RUNNERS: dict[str, Callable[[Case], Results]] = {
    "weights_load": weights_load,
    "weights_save": weights_save,
    "upgrade_tool": upgrade_tool,
    "net_listing": net_listing,
    "solver_resume": solver_resume,
    "solver_snapshot": solver_snapshot,
    "solver_listing": solver_listing,
    "tool_db": tool_db,
    "image_mean": image_mean,
    "lmdb_read": batches,
    "data_layer": batches,
    "blobproto": blobproto,
}


@pytest.mark.parametrize("case", FOLDERS, ids=lambda folder: folder.name, indirect=True)
def test_files(case: Case) -> None:
    results = RUNNERS[case.options["kind"]](case)
    exact = case.json("json")
    arrays = case.values.keys() - {"json"}
    assert results.keys() == exact.keys() | arrays
    assert {key: results[key] for key in exact} == exact
    for key in sorted(arrays):
        case.check(key, results[key])
