"""Data layers over images that a test has made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from moka.data.datum import encode
from moka.data.store import make_store
from moka.layers.data import Data, ImageData

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


def with_tops(kind: str, tops: str, more: str) -> str:
    return f'type: "{kind}" {" ".join(f"""top: "{t}" """ for t in tops.split())} {more}'


def write_images(folder: Path, backend: str = "lmdb", count: int = 5) -> None:
    """Images 1 x 2 x 2 with the values 4k, ..., 4k + 3 and the label k."""
    with make_store(folder, backend) as writer:
        for k in range(count):
            image = np.arange(4 * k, 4 * k + 4, dtype=np.uint8).reshape(1, 2, 2)
            writer.put(b"%08d" % k, encode(image, k).SerializeToString())


def data_layer(make_layer: LayerMaker, folder: Path, more: str = "", tops: str = "a b") -> Data:
    fields = f'data_param {{ source: "{folder}" batch_size: 2 backend: LMDB }} {more}'
    made = make_layer(with_tops("Data", tops, fields))
    assert isinstance(made, Data)
    return made


def write_list(folder: Path, count: int = 5) -> Path:
    """A list of images, 4 x 6 pixels in three colors of the value 10k + color, labeled k."""
    for k in range(count):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((4, 6, 3), 10 * k, np.uint8) + np.arange(3))
    (folder / "list.txt").write_text("".join(f"{k}.png {k}\n" for k in range(count)))
    return folder / "list.txt"


def image_layer(
    make_layer: LayerMaker,
    list_file: Path,
    more: str = "",
    param: str = "",
    root: Path | None = None,
) -> ImageData:
    own = f'source: "{list_file}" root_folder: "{root or list_file.parent}/" batch_size: 2 {param}'
    made = make_layer(
        with_tops("ImageData", "a b", f"image_data_param {{ {own} }} {more}"), training=True
    )
    assert isinstance(made, ImageData)
    return made
