"""Every source that reads files: several processes read what one would, in the same order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from tests.layers.annotated_records import fill, record

from moka.data.place import CursorState, Share
from moka.layers import REGISTRY
from moka.layers.stream import StreamSource
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker
    from torch import Tensor

COUNT, ROUND, SIDE = 7, 12, 24  # records; what all processes read in an iteration; pixels
CORNERS = "4 6 19 17"
DATABASE = 'data_param { source: "%s" batch_size: BATCH shuffle: true }'
LIST = '%s { source: "%s.txt" batch_size: BATCH shuffle: true %s }'
CROP = "transform_param { crop_size: 16 mirror: true }"
MIRROR = "transform_param { mirror: true }"
FIELDS = "field_h: 8 field_w: 8 resize_height: 32 resize_width: 32 fg_threshold: 0.3"
LAYERS = {
    "Data": DATABASE % "plain" + CROP,
    "ImageData": LIST % ("image_data_param", "images", "") + CROP,
    "HDF5Data": LIST % ("hdf5_data_param", "rows", ""),
    "WindowData": 'window_data_param { source: "windows.txt" batch_size: BATCH } ' + CROP,
    "AnnotatedData": DATABASE % "boxes" + MIRROR,
    "BoxData": DATABASE % "floats" + MIRROR,
    "DenseImageData": LIST % ("dense_image_data_param", "maps", "") + CROP,
    "ImageLabelData": 'image_label_data_param { image_list_path: "alone.txt" label_list_path:'
    ' "labels.txt" batch_size: BATCH shuffle: true rand_scale: true min_scale: 0.8 max_scale: 1.4'
    " label_slice { dim: 4 dim: 5 stride: 3 stride: 2 offset: 2 offset: 3 } } " + CROP,
    "ImageLabelmapData": LIST % ("image_data_param", "maps", "") + CROP,
    "ImageSegData": LIST % ("image_data_param", "maps", "label_type: PIXEL") + CROP,
    "VideoData": LIST % ("video_data_param", "clips", "new_length: 2") + CROP,
    "EvalData": 'eval_data_param { source: "rated.txt" batch_size: BATCH resize_width: 32'
    " resize_height: 32 }",
    "ImageGtData": LIST % ("image_gt_data_param", "objects", "downsample_rate: 8 " + FIELDS),
    "DetectionData": 'detection_data_param { source: "cascade.txt" batch_size: BATCH stride: 8 '
    + FIELDS
    + "}",
}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven images of one size in random colors, as each source wants them."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(3).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    plain, boxes, floats = [], [], []
    lines: dict[str, list[str]] = {}
    for k, pixels in enumerate(images):
        cv2.imwrite(f"{k}.png", pixels)
        cv2.imwrite(f"map{k}.png", pixels[:, :, 0])
        Path(f"clip{k}").mkdir()
        for frame in (1, 2):
            cv2.imwrite(f"clip{k}/{frame:06}.png", pixels // frame)
        channels_first = pixels.transpose(2, 0, 1)
        datum = caffe_pb2.Datum(channels=3, height=SIDE, width=SIDE, label=k)
        datum.data = channels_first.tobytes()
        plain.append(datum.SerializeToString())
        datum.float_data.extend((k, 0, 0.5, 0.5, 0.25, 0.5))
        floats.append(datum.SerializeToString())
        boxes.append(record(channels_first, [(k, 0, 0.25, 0.25, 0.5, 0.75, False)]))
        head = f"# {k}\n{k}.png\n3 {SIDE} {SIDE}"
        for name, line in {
            "images": f"{k}.png {k}",
            "maps": f"{k}.png map{k}.png",
            "alone": f"{k}.png",
            "labels": f"map{k}.png",
            "clips": f"clip{k} 1 {k}",
            "windows": f"{head}\n2\n{k + 1} 0.9 {CORNERS}\n0 0.1 1 1 20 20",
            "objects": f"{head}\n1\n1 0 {CORNERS}\n0",
            "rated": f"{head}\n1\n1 0 0 {CORNERS}\n0",
            "cascade": f"{head} 1\n1\n0 1 {CORNERS}\n0",
        }.items():
            lines.setdefault(name, []).append(line)
    for name, records in {"plain": plain, "boxes": boxes, "floats": floats}.items():
        fill(Path(name), records)
    for name, texts in lines.items():
        Path(f"{name}.txt").write_text("\n".join(texts))
    for name, rows in {"one": slice(0, 3), "two": slice(3, COUNT)}.items():
        with h5py.File(f"{name}.h5", "w") as file:
            file["data"], file["label"] = images[rows].astype(np.float32), np.arange(COUNT)[rows]
    Path("rows.txt").write_text("one.h5\ntwo.h5\n")


def source(make_layer: LayerMaker, kind: str, share: Share) -> StreamSource[Any]:
    torch.manual_seed(4)
    fields = LAYERS[kind].replace("BATCH", str(ROUND // share.size))
    made = make_layer(f'type: "{kind}" top: "data" top: "label" {fields}', training=True)
    assert isinstance(made, StreamSource)
    made.attach(torch.device("cpu"), share)
    return made


def test_all_sources_of_files_are_tested() -> None:
    assert set(LAYERS) == {name for name in REGISTRY if REGISTRY[name].source == "files"}


@pytest.mark.parametrize("kind", LAYERS)
def test_processes_share_an_iteration(make_layer: LayerMaker, kind: str) -> None:
    """Images, crops, mirrors, names and positions are those of one process; 3 go on where 2 were,
    and 1 where 3 were."""
    whole = source(make_layer, kind, Share())
    wanted: list[tuple[Tensor, list[str], CursorState]] = []
    for _ in range(6):
        images = whole()[0]
        wanted.append((images, whole.batch_names(), whole.state()))
    assert len({images.numpy().tobytes() for images, _, _ in wanted}) == 6
    for size, rounds in {2: range(2), 3: range(2, 4), 1: range(4, 6)}.items():
        for rank in range(size):
            part = source(make_layer, kind, Share(rank, size))
            if rounds.start:
                part.load_state(wanted[rounds.start - 1][2])
            for images, names, state in (wanted[r] for r in rounds):
                assert torch.equal(part()[0], images[rank::size])
                assert part.batch_names() == names[rank::size]
                assert part.state() == state
            part.close()
    whole.close()
