"""The models of a folder as a service, for `caffe web`."""

from __future__ import annotations

from functools import partial

from moka.serving.limits import Limits
from moka.serving.model import Pace, ServedModel
from moka.serving.store import ModelStore
from moka.web.api.service import Service
from moka.web.folder import Folder
from moka.web.models.found import find_models
from moka.web.serve import make_service

DEADLINE_S = 60.0
MOST_LOADED = 2
PACE = Pace(batch=8, capacity=256, workers=1, threads=2)


def folder_service(folder: Folder) -> Service:
    """A service of all models below a folder, looked for when a page asks for them."""
    store = ModelStore({}, partial(ServedModel, pace=PACE), most=MOST_LOADED)
    return make_service(store, Limits(), DEADLINE_S, partial(find_models, folder))
