"""New jobs: from a form, from another job, from a snapshot."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moka.checks.epoch import Epoch, epoch_of
from moka.checks.runs import file_problems
from moka.errors import MokaError, NetError, UsageError
from moka.files import write_text_file
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.models import zoo_folder
from moka.net import read_net
from moka.net.other_data import with_classes, with_sources
from moka.schema import caffe_pb2, format_text, parse_text, read_text
from moka.schema.upgrade import upgrade_net
from moka.solver.config import NetToBuild
from moka.tools.make_data import class_names, write_class_names
from moka.web.folder import Folder
from moka.web.jobs import devices, form
from moka.web.jobs.job import NET, PREFIX, SOLVER, Job, new_folder
from moka.web.jobs.runner import Runner
from moka.web.processes import start_caffe

Net = caffe_pb2.NetParameter
HEAD = 1 << 16  # bytes of a prototxt in which its kind shows
ZOO = "standard:"  # before the name of a reference model
CHECKED = ".moka/check"
LONGEST_CHECK_S = 300
_LOG_LINE = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ ")


def net_files(folder: Folder) -> list[str]:
    """Names of prototxt files that look like nets to train, and of the reference models."""
    found = []
    for place, entries in folder.walk():
        for entry in entries:
            if entry.name.endswith(".prototxt") and entry.is_file():
                text = _head(place / entry.name)
                if "layer" in text and ("TRAIN" in text or "loss" in text.lower()):
                    found.append(folder.name(place / entry.name))
    zoo = zoo_folder()
    models = sorted(zoo.iterdir()) if zoo.is_dir() else []
    return found + [ZOO + m.name for m in models if (m / "train_val.prototxt").exists()]


def _head(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD).decode(errors="replace")
    except OSError:
        return ""


def net_of(folder: Folder, values: Mapping[str, Any]) -> Net:
    """The net that a form names or holds, for the data that it names.

    Fields: `net_text`, or `net` (a file in the folder, or a reference model); `train_data`,
    `test_data`, `mean_file`, `classes` change it.

    Raises:
        UsageError: there is none; it would run code or write files of its own choice.
        MokaError: it cannot be read.
    """
    text, name = str(values.get("net_text") or ""), str(values.get("net") or "")
    if text.strip():
        net = upgrade_net(parse_text(text, Net, file="the net"), "the net")
        refuse_code(net)
    elif name.startswith(ZOO):
        model = name.removeprefix(ZOO)
        if model not in {path.name for path in zoo_folder().iterdir()}:
            raise UsageError(f"there is no reference model {model}.")
        net = read_net(zoo_folder() / model / "train_val.prototxt")[0]
    elif name:
        net = read_net(folder.existing(name))[0]
    else:
        raise UsageError("a job needs a net: choose a file, or paste one.")
    sources = {
        phase: str(values[key])
        for phase, key in ((caffe_pb2.TRAIN, "train_data"), (caffe_pb2.TEST, "test_data"))
        if values.get(key)
    }
    for source in sources.values():
        folder.existing(source)
    net = with_sources(net, sources, str(values.get("mean_file") or ""))
    return with_classes(net, int(values["classes"])) if values.get("classes") else net


def refuse_code(net: Net) -> None:
    """Raise NetError for a layer that runs code of somebody's, or writes files where it likes.

    A net that was pasted may come from anywhere. Such a net can be put into the folder as a file.
    """
    for layer in net.layer:
        entry = REGISTRY.get(layer.type)
        if entry is not None and (entry.runs_user_code or entry.writes_files):
            does = "runs code of its own" if entry.runs_user_code else "writes files"
            raise NetError(
                f"this type {does}, which a pasted net may not.",
                layer=layer.name,
                layer_type=layer.type,
                advice="Save the net as a file in the folder, and choose it.",
            )


def problems_of_net(net: Net, file: str) -> list[str]:
    """Everything that is known to be wrong with a net before it is built."""
    found = []
    for phase in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        try:
            for node in build_graph(net, REGISTRY, phase=phase, file=file).nodes:
                found += list(file_problems(node, file))
        except MokaError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def epoch_in(net: Net, file: str) -> Epoch | None:
    """The records and batch of a net in training; None if nothing tells."""
    try:
        built = Net()
        built.CopyFrom(net)
        built.state.phase = caffe_pb2.TRAIN
        return epoch_of(NetToBuild(built, file, ""))
    except MokaError:
        return None


def write_labels(net: Net, place: Path) -> None:
    """Keep the names of the classes that a net learns beside it, if its data tells them and it has
    as many outputs: the pages, and `caffe serve`, look for them there."""
    for layer in net.layer:
        entry = REGISTRY.get(layer.type)
        if entry is None or entry.source != "files" or not entry.message:
            continue
        source = getattr(getattr(layer, entry.message), "source", "")
        names = class_names(source) if isinstance(source, str) and source else []
        if names and with_classes(net, len(names)) == net:
            write_class_names(place, names)
            return


def make_jobs(runner: Runner, values: Mapping[str, Any]) -> list[Job]:
    """The jobs of a form, one for each combination of its sweep, made but not started.

    Raises:
        MokaError: the form is not complete, or wrong.
    """
    folder, fields = runner.folder, dict(values.get("fields") or {})
    sets = form.sweep(fields)
    changed = form.varied(fields)
    net = net_of(folder, values)
    problems = problems_of_net(net, str(values.get("net") or "the net"))
    if problems:
        raise NetError(problems[0])
    weights = str(values.get("weights") or "")
    if weights:
        folder.existing(weights)
    for each in sets:
        checked = form.preview(each)
        if checked.problem:
            raise UsageError(checked.problem)
    chosen = devices.devices_of(values)
    epoch = epoch_in(net, "the net")
    title = str(values.get("title") or net.name or "job").strip()
    jobs = []
    for each in sets:
        solver = form.solver_of(each)
        words = ", ".join(f"{name} {each[name]}" for name in changed)
        job = Job(
            new_folder(folder.path, f"{title} {words}" if words else title),
            f"{title} ({words})" if words else title,
            time.time(),
            start=[f"--weights={weights}"] if weights else [],
            devices=chosen.flags,
            origin=str(values.get("origin") or ""),
            epoch=(epoch.records, form.taken(epoch, solver, chosen.batches)) if epoch else None,
        )
        _write(job.folder, folder, net, solver)
        write_labels(net, job.folder)
        job.save()
        runner.add(job)
        jobs.append(job)
    return jobs


def dry_run(folder: Folder, values: Mapping[str, Any]) -> dict[str, Any]:
    """What `caffe train --dry_run` says of the form's first job: memory, time, every problem.

    Raises:
        MokaError: the form is not complete, or wrong.
        UsageError: it takes longer than LONGEST_CHECK_S.
    """
    net = net_of(folder, values)
    solver = form.solver_of(form.sweep(dict(values.get("fields") or {}))[0])
    aside = folder.path / CHECKED
    aside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=aside) as place:
        _write(Path(place), folder, net, solver)
        name = f"{folder.name(place)}/{SOLVER}"
        with tempfile.TemporaryFile() as out:
            child = start_caffe(["train", f"--solver={name}", "--dry_run"], folder.path, out)
            try:
                code = child.wait(LONGEST_CHECK_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                raise UsageError(f"the check took longer than {LONGEST_CHECK_S} s.") from None
            out.seek(0)
            text = out.read().decode(errors="replace")
    lines = text.splitlines()
    told = [line for line in lines if not _LOG_LINE.match(line)]
    problems = [line.partition("] ")[2] for line in lines if line[:1] == "E"]
    return {"ok": code == 0, "text": "\n".join(told).strip(), "problems": problems}


def _write(place: Path, folder: Folder, net: Net, solver: caffe_pb2.SolverParameter) -> None:
    here = folder.name(place)
    solver.net = f"{here}/{NET}"
    solver.snapshot_prefix = f"{here}/{PREFIX}"
    write_text_file(place / NET, format_text(net))
    write_text_file(place / SOLVER, format_text(solver))


def form_of(runner: Runner, name: str) -> dict[str, Any]:
    """The form that makes a job like another."""
    job = runner.job(name)
    solver = read_text(job.folder / SOLVER, caffe_pb2.SolverParameter)
    weights = [flag.partition("=")[2] for flag in job.start if flag.startswith("--weights=")]
    return {
        "title": job.title,
        "fields": form.fields_of(solver),
        "net": runner.folder.name(job.folder / NET),
        "weights": "".join(weights),
        "devices": devices.fields_of(job.devices),
        "origin": name,
    }
