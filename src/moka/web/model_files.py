"""The models that a command line names, or that lie in a folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moka.checks.pairs import own_name
from moka.command.flags import parse_flags, read_flag_file
from moka.command.pages import MODEL_FLAGS
from moka.errors import UsageError
from moka.files import write_text_file
from moka.net import read_net
from moka.schema import format_text
from moka.serving.image_input import Look
from moka.serving.model import ModelFiles
from moka.tools.preprocessing import integers, read_mean
from moka.types import PathLike
from moka.web.trained_files import TrainedFiles
from moka.weights import named_files

FLAG_FILE = "serve.flags"
NETS = ("deploy.prototxt", "*deploy*.prototxt", "*train_val*.prototxt")
WEIGHTS = ("*.caffemodel", "*.caffemodel.h5")
LABELS = ("labels.txt", "synset_words.txt", "*labels*.txt")
MEANS = ("mean.binaryproto", "mean.npy", "*mean*.binaryproto", "*mean*.npy")
_NAMED = re.compile(r"(?:^|,)([\w.-]+)=")
_VALUES = re.compile(r"[\d.eE+-]+(,[\d.eE+-]+)*")


def named_models(flags: Mapping[str, Any]) -> dict[str, ModelFiles]:
    """The models of --model, by name: NAME=FILE,NAME=FILE, or one file. That one is called after
    itself or, if it is a deploy.prototxt, its folder.

    Raises:
        UsageError: flags that do not belong together.
    """
    nets = split_names(flags["model"])
    if list(nets) == [""]:
        if not flags["model"]:
            return {}
        net = Path(flags["model"])
        own = net.stem if own_name(net) else net.resolve().parent.name
        return {own: files_of(flags, Path())}
    parts = {name: split_names(flags[name]) for name in _PER_MODEL}
    for name, part in parts.items():
        unknown = [key for key in part if key and key not in nets]
        if unknown:
            raise UsageError(f"--{name} names {unknown[0]}, which --model does not name.")
    return {
        model: files_of(
            {
                **flags,
                "model": net,
                **{k: part.get(model, part.get("", "")) for k, part in parts.items()},
            },
            Path(),
        )
        for model, net in nets.items()
    }


_PER_MODEL = ("weights", "labels", "mean")


def split_names(text: str) -> dict[str, str]:
    """`a=x,b=y,z` as {"a": "x", "b": "y,z"}; a text without names as {"": text}."""
    found = list(_NAMED.finditer(text))
    if not found or found[0].start():
        return {"": text}
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {match[1]: text[match.end() : end] for match, end in zip(found, ends, strict=True)}


def files_of(flags: Mapping[str, Any], folder: Path) -> ModelFiles:
    """One model's files and how it takes images; names are relative to the folder.

    Raises:
        UsageError: a flag that cannot be read.
        DataError: a mean that cannot be read.
    """
    if not flags["weights"]:
        raise UsageError(f"--weights is missing for the net {flags['model']}.")
    weights = ",".join(str(folder / name) for name in named_files(flags["weights"]))
    return TrainedFiles(
        net=folder / flags["model"],
        weights=weights,
        labels=folder / flags["labels"] if flags["labels"] else None,
        look=look_of(flags, folder),
    )


def look_of(flags: Mapping[str, Any], folder: Path) -> Look:
    """How flags say that images are prepared. Raises UsageError for one that cannot be read."""
    swap = integers(flags["channel_swap"], "channel_swap") if flags["channel_swap"] else [0, 1, 2]
    size = integers(flags["images_dim"], "images_dim") if flags["images_dim"] else []
    if size and (len(size) != 2 or min(size) < 1):
        raise UsageError(f"--images_dim is height,width, found '{flags['images_dim']}'.")
    mean = flags["mean"]
    values = None
    if _VALUES.fullmatch(mean):
        try:
            values = np.array([float(part) for part in mean.split(",")], np.float32)
        except ValueError:
            raise UsageError(f"--mean takes numbers joined by commas, found '{mean}'.") from None
    elif mean:
        values = read_mean(folder / mean)
    return Look(
        mean=values,
        scale=flags["scale"],
        raw_scale=flags["raw_scale"],
        channel_swap=tuple(swap),
        resize=(size[0], size[1]) if size else None,
    )


def models_in(folder: PathLike) -> dict[str, ModelFiles]:
    """The models of a folder: of itself, or of each folder in it that holds a net (NETS) and
    weights, by the folder's name.

    Labels and a mean are taken by their names, as DIGITS packs them; a file `serve.flags` with
    flags of `caffe serve`, one a line, says anything else.

    Raises:
        UsageError: it is no folder, or holds no model.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder} is no folder.")
    places = [root] if _first(root, NETS) else sorted(p for p in root.iterdir() if p.is_dir())
    found = {place.resolve().name: files for place in places if (files := files_in(place))}
    if not found:
        raise UsageError(
            f"{folder} holds no model.",
            advice="A model is a folder with a .caffemodel and a deploy.prototxt (or the"
            " train_val.prototxt).",
        )
    return found


def files_in(folder: Path) -> ModelFiles | None:
    """The model of a folder with a net and weights; None: it is none.

    Raises:
        MokaError: flags or a mean that cannot be read.
    """
    known = {flag.name: flag for flag in MODEL_FLAGS}
    given: dict[str, Any] = {name: flag.default for name, flag in known.items()}
    own = folder / FLAG_FILE
    if own.exists():
        words, given = parse_flags(read_flag_file(str(own)), known)
        if words:
            raise UsageError(f"{own} holds '{words[0]}', which is no flag.")
    given["model"] = given["model"] or _first(folder, NETS)
    given["weights"] = given["weights"] or _newest(folder)
    given["labels"] = given["labels"] or _first(folder, LABELS)
    given["mean"] = given["mean"] or _first(folder, MEANS)
    return files_of(given, folder) if given["model"] and given["weights"] else None


def pack_model(files: ModelFiles, folder: Path) -> None:
    """Write a model into a new folder that `models_in` finds: its net for use, its weights, its
    labels, and in FLAG_FILE how it takes images.

    Raises:
        UsageError: the folder is there already.
        MokaError: the model cannot be read.
    """
    net, look = files.opened()
    param = read_net(net)[0]
    if folder.exists():
        raise UsageError(f"{folder} is there already.", advice="Choose another name.")
    folder.mkdir(parents=True)
    write_text_file(folder / "deploy.prototxt", format_text(param))
    kept = [Path(name) for name in named_files(str(files.weights))]
    for file in kept:
        shutil.copyfile(file, folder / file.name)
    lines = [f"--weights={','.join(file.name for file in kept)}"]
    if files.labels:
        shutil.copyfile(files.labels, folder / LABELS[0])
    if look.mean is not None and look.mean.ndim == 1:
        lines.append(f"--mean={','.join(f'{value:g}' for value in look.mean.tolist())}")
    elif look.mean is not None:
        np.save(folder / "mean.npy", look.mean)
    lines += [f"--scale={look.scale:.9g}", f"--raw_scale={look.raw_scale:g}"]
    lines.append(f"--channel_swap={','.join(map(str, look.channel_swap))}")
    if look.resize:
        lines.append(f"--images_dim={look.resize[0]},{look.resize[1]}")
    (folder / FLAG_FILE).write_text("".join(f"{line}\n" for line in lines))


def _first(folder: Path, patterns: tuple[str, ...]) -> str:
    return next((file.name for pattern in patterns for file in sorted(folder.glob(pattern))), "")


def _newest(folder: Path) -> str:
    """The weights of the highest iteration."""
    files = [file.name for pattern in WEIGHTS for file in folder.glob(pattern)]
    return max(
        files, key=lambda name: ([int(n) for n in re.findall(r"\d+", name)], name), default=""
    )
