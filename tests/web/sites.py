"""A folder and a client of its pages, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.web.app import make_app
from moka.web.folder import Folder
from moka.web.security import CSRF_HEADER, Access
from moka.web.serve import OPEN_PATHS
from moka.web.site import parts_of

NET = """
name: "small"
layer {
  name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 5 backend: LMDB } transform_param { scale: 0.004 }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer {
  name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  include { phase: TEST }
}
"""
PATIENCE_S = 120.0


def make_database(path: Path, count: int = 20) -> None:
    """Gray images of 8 x 8 pixels with the labels 0, 1, 2, 0, ..."""
    rng = np.random.default_rng(3)
    with LmdbWriter(path) as writer:
        for i in range(count):
            image = rng.integers(0, 256, (1, 8, 8), np.uint8)
            image[:, i % 3] = 255
            writer.put(b"%02d" % i, datum.encode(image, i % 3).SerializeToString())


@contextmanager
def client_of(folder: Path) -> Iterator[TestClient]:
    """A browser's requests to the pages of a folder."""
    access = Access.to("127.0.0.1", open_paths=OPEN_PATHS)
    app = make_app(parts_of(Folder(folder)), access)
    headers = {CSRF_HEADER: access.csrf}
    with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


def wait_until(what: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first result that counts as true. Raises AssertionError if it takes too long."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if result := what():
            return result
        time.sleep(0.05)
    raise AssertionError("waited in vain")
