"""The API of data sets, below /api/data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from moka.data.decode import Image
from moka.data.fit_size import FITS
from moka.data.images import read_file, read_image_list
from moka.data.store import is_database
from moka.data.transform import Transform, read_mean_image
from moka.errors import MokaError, UsageError
from moka.graph.filter import filter_net
from moka.net import read_net
from moka.schema import caffe_pb2, format_text, parse_text
from moka.tools.image_mean import compute_image_mean
from moka.tools.image_records import StoredForm
from moka.web.answers import Answer, Values, get, post, wanted, whole
from moka.web.app import Part
from moka.web.data.making import MOST_SIDE, Makers
from moka.web.data.pictures import data_url, png_answer
from moka.web.data.sets import DataSets, folder_contents, with_label
from moka.web.folder import Folder
from moka.web.uploads import read_upload

PAGE, MOST = 60, 240  # records at a time
TIMES = 8  # that an image is augmented
SHOWN = 256  # pixels of a side


class Data:
    """The answers."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.sets = DataSets(folder)
        self.makers = Makers(folder)

    def routes(self) -> list[BaseRoute]:
        return [
            get("/list", self.all_sets),
            get("/set", self.one_set),
            get("/records", self.records),
            get("/image", self.image),
            get("/mean", self.mean),
            post("/mean", self.make_mean),
            get("/source", self.source),
            get("/resized", self.resized),
            post("/make", self.make),
            get("/making", lambda values: self.makers.state(wanted(values, "id"))),
            post("/stop", self.stop),
            get("/transform", self.transform),
            Route("/augment", self.augment, methods=["POST"]),
        ]

    def all_sets(self, _: Values) -> dict[str, Any]:
        """What there is, and what is being made."""
        return {
            "sets": self.sets.found(),
            "making": self.makers.all(),
            "folder": str(self.folder.path),
        }

    def one_set(self, values: Values) -> dict[str, Any]:
        """What a database or a folder of classes holds."""
        name = wanted(values, "name")
        path = self.folder.existing(name)
        if not is_database(path):
            found = folder_contents(path)
            told = {"name": name, "kind": "folder", "entries": found["count"], **found, "first": ""}
            return told | {"training": self._training(name, found["classes"])}
        contents = self.sets.contents(name)
        if contents.error:
            raise UsageError(contents.error)
        known: dict[str, Any] = {
            "name": name,
            "kind": "database",
            "stamp": contents.stamp[0],
            "done": contents.done,
            "total": contents.total,
            "has_mean": self.sets.mean_file(name).exists(),
            "mean_file": self.folder.name(self.sets.mean_file(name)),
        }
        survey = contents.survey
        if survey is None:
            return known | {"reading": True}
        names = self.sets.class_names(name)
        labels = [
            {"label": label, "name": _name(names, label), "count": count}
            for label, count in sorted(survey.labels.items())
        ]
        shapes = [{"shape": list(s), "count": n} for s, n in survey.shapes.most_common(20)]
        return known | {
            "reading": False,
            "backend": survey.backend,
            "bytes": survey.disk_bytes,
            "entries": survey.entries,
            "kinds": dict(survey.kinds),
            "shapes": shapes,
            "different_shapes": len(survey.shapes),
            "classes": labels,
            "several": survey.several,
            "broken": len(contents.broken),
            "training": self._training(name, labels),
        }

    def _training(self, name: str, classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the form of a job that trains on a data set begins with: the data set for testing
        and the mean image that `caffe make_data` has put beside it, the number of classes."""
        begun: dict[str, Any] = {"train_data": name}
        here = Path(name)
        phase, mark, rest = here.name.partition("_")
        tests = here.with_name(f"test_{rest}").as_posix()
        if (phase, mark) == ("train", "_") and is_database(self.folder.inside(tests)):
            begun["test_data"] = tests
        mean = self.sets.mean_file(name)
        if is_database(self.folder.inside(name)) and mean.exists():
            begun["mean_file"] = self.folder.name(mean)
        if len(classes) > 1:
            begun["classes"] = classes[-1]["label"] + 1
        return begun

    def records(self, values: Values) -> dict[str, Any]:
        """A page of records: of all, of a label, or the broken ones."""
        name = wanted(values, "name")
        contents = self.sets.contents(name)
        offset = whole(values, "offset", 0)
        limit = whole(values, "limit", PAGE, 1, MOST)
        if contents.survey is None:
            return {"records": [], "count": 0, "reading": True}
        if values.get("broken"):
            numbers = contents.broken
        elif str(values.get("label", "")) != "":
            numbers = with_label(contents, whole(values, "label", 0, -(2**31)))
        else:
            numbers = list(range(contents.survey.entries))
        some = numbers[offset : offset + limit]
        names = self.sets.class_names(name)
        rows = []
        for number, key in zip(some, self.sets.keys(name, some), strict=True):
            label = contents.labels[number]
            rows.append(
                {
                    "number": number,
                    "key": key,
                    "label": label if label > -(2**31) else None,
                    "name": _name(names, label),
                    "broken": number in contents.broken,
                }
            )
        return {"records": rows, "count": len(numbers), "reading": False}

    def image(self, values: Values) -> Response:
        """The image of a record."""
        number = whole(values, "number", 0)
        image = self.sets.image(wanted(values, "name"), number)[3]
        return png_answer(image, whole(values, "side", SHOWN, 1, 4096))

    def mean(self, values: Values) -> Response:
        """The mean image of a data set, as far as it has been computed."""
        file = self.sets.mean_file(wanted(values, "name"))
        if not file.exists():
            raise UsageError(f"there is no {self.folder.name(file)}.")
        return png_answer(np.clip(read_mean_image(str(file)), 0, 255).astype(np.uint8), SHOWN)

    def make_mean(self, values: Values) -> dict[str, Any]:
        """Compute the mean image, as `compute_image_mean` does."""
        name = wanted(values, "name")
        file = self.sets.mean_file(name)
        mean = compute_image_mean(self.folder.existing(name), file)
        return {"file": self.folder.name(file), "channels": mean.mean((1, 2)).tolist()}

    # --- making ------------------------------------------------------------------------------

    def source(self, values: Values) -> dict[str, Any]:
        """What a data set could be made of."""
        name = wanted(values, "source")
        path = self.folder.existing(name)
        image, count, classes = self._first(path)
        return {
            "kind": "database" if is_database(path) else "folder" if path.is_dir() else "list",
            "count": count,
            "classes": classes,
            "shape": list(image.shape),
        }

    def _first(self, path: Path, root: str = "") -> tuple[Image, int, list[dict[str, Any]]]:
        """The first image of a source, how many there are, and its classes if it names them."""
        if is_database(path):
            name = self.folder.name(path)
            return self.sets.image(name, 0)[3], len(self.sets.open(name)), []
        if path.is_dir():
            found = folder_contents(path)
            return read_upload(read_file(found["first"])), found["count"], found["classes"]
        files = read_image_list(path)
        file = (self.folder.existing(root) if root else path.parent) / files[0].path
        return read_upload(read_file(self.folder.inside(str(file)))), len(files), []

    def resized(self, values: Values) -> Response:
        """The first image of a source, as it would be stored."""
        mode = str(values.get("mode") or "squash")
        if mode not in FITS:
            raise UsageError(f"mode has to be one of {', '.join(FITS)}, got {mode}.")
        image, _, _ = self._first(self.folder.existing(wanted(values, "source")))
        form = StoredForm(
            color=not values.get("gray"),
            height=whole(values, "height", 0, 0, MOST_SIDE),
            width=whole(values, "width", 0, 0, MOST_SIDE),
            resize_mode=mode,
        )
        return png_answer(form.converted(image), 512)

    def make(self, values: Values) -> dict[str, Any]:
        """Begin to make a data set."""
        return {"id": self.makers.start(values)}

    def stop(self, values: Values) -> dict[str, Any]:
        """End one that is being made, or put away the note of one that failed."""
        self.makers.stop(wanted(values, "id"))
        return {}

    # --- augmentation ------------------------------------------------------------------------

    def transform(self, values: Values) -> dict[str, Any]:
        """The transform_param with which a net of the folder takes its training data, as text."""
        name = wanted(values, "net")
        net = read_net(self.folder.existing(name))[0]
        for layer in filter_net(net, caffe_pb2.NetState(phase=caffe_pb2.TRAIN)).layer:
            if not layer.bottom and layer.HasField("transform_param"):
                return {"text": format_text(layer.transform_param).strip()}
        raise UsageError(f"no data layer of {name} has a transform_param for training.")

    async def augment(self, request: Request) -> Response:
        """One image through a transform_param, several times: a record, or an upload."""
        async with request.form(max_files=1, max_fields=10, max_part_size=1 << 20) as form:
            values: dict[str, Any] = dict(form)
            upload = values.pop("file", None)
            data = await upload.read() if hasattr(upload, "read") else None
        return Answer(await run_in_threadpool(self.augmented, values, data))

    def augmented(self, values: Mapping[str, Any], upload: bytes | None = None) -> dict[str, Any]:
        """The original, and TIMES results: as pixels, and the range of the numbers a net gets."""
        if upload:
            image = read_upload(upload)
        else:
            image = self.sets.image(wanted(values, "name"), whole(values, "number", 0))[3]
        param = transform_of(str(values.get("transform", "")))
        if param.mean_file:
            param.mean_file = str(self.folder.existing(param.mean_file))
        transform = Transform(param, training=values.get("phase") != "TEST")
        transform.out_shape(image.shape)  # refuses what does not fit
        rng = np.random.default_rng(whole(values, "seed", 0))
        images, low, high = [], np.inf, -np.inf
        for _ in range(TIMES):
            draw = transform.draw([image.shape], rng)
            numbers = transform.apply([image], draw)
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
            images.append(data_url(transform.pixels([image], draw)[0], SHOWN))
        shape = list(numbers.shape[1:])
        original = {"original": data_url(image, SHOWN), "original_shape": list(image.shape)}
        return {**original, "images": images, "shape": shape, "low": low, "high": high}


def transform_of(text: str) -> caffe_pb2.TransformationParameter:
    """A transform_param from its text, with or without its name and braces.

    Raises:
        SchemaError: it cannot be parsed.
    """
    inner = text.strip()
    if inner.startswith("transform_param"):
        try:
            return parse_text(inner, caffe_pb2.LayerParameter).transform_param
        except MokaError as error:
            raise UsageError(str(error)) from None
    return parse_text(inner, caffe_pb2.TransformationParameter)


def _name(names: list[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else ""


def data_part(folder: Folder) -> Part:
    """The data sets of a folder, as a part of the site."""
    data = Data(folder)
    return Part("Data", "data", data.routes(), data.makers.close)
