"""The models that lie in a folder: nets for use, and runs with their newest snapshot."""

from __future__ import annotations

import re
from pathlib import Path

from moka.checks.files import recognize_file
from moka.checks.pairs import own_name
from moka.errors import MokaError
from moka.serving.model import ModelFiles
from moka.web.folder import Folder
from moka.web.model_files import files_in
from moka.web.trained_files import TrainedFiles

WEIGHTS = (".caffemodel", ".caffemodel.h5")
NETS = (".prototxt",)
MOST_MODELS = 500
_ITERATION = re.compile(r"_iter_(\d+)\.")


def find_models(folder: Folder) -> dict[str, ModelFiles]:
    """The models below a folder, by the path of their folder; the ones that changed last first.

    A folder with a deploy.prototxt is packed as for `caffe serve`; else the net is the prototxt
    whose name goes best with that of its weights.
    """
    found: dict[str, tuple[float, ModelFiles]] = {}
    for place, entries in folder.walk():
        weights = [Path(e.path) for e in entries if e.name.endswith(WEIGHTS) and e.is_file()]
        nets = [Path(e.path) for e in entries if e.name.endswith(NETS) and e.is_file()]
        if not weights or not nets:
            continue
        name = folder.name(place)
        name = folder.path.name if name == "." else name
        newest = max(weights, key=lambda file: (iteration_of(file.name), file.stat().st_mtime))
        files = _packed(place) or _trained(newest, nets)
        if files is not None:
            found[name] = (newest.stat().st_mtime, files)
        if len(found) == MOST_MODELS:
            break
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    return {name: files for name, (_, files) in ordered}


def iteration_of(name: str) -> int:
    """The iteration in a snapshot's name; -1: none."""
    found = _ITERATION.search(name)
    return int(found[1]) if found else -1


def _packed(place: Path) -> ModelFiles | None:
    try:
        return files_in(place)
    except MokaError:
        return None


def _trained(weights: Path, nets: list[Path]) -> ModelFiles | None:
    kinds = [net for net in nets if recognize_file(str(net)).kind == "net"]
    if not kinds:
        return None
    wanted = own_name(weights)
    best = max(kinds, key=lambda net: (own_name(net) == wanted, "deploy" in net.name))
    labels = best.parent / "labels.txt"
    return TrainedFiles(best, str(weights), labels if labels.exists() else None)
