"""Records from LMDB to float32 batches: the Data layer beside torch's DataLoader; and two tools.

    python benchmarks/data_feed.py [raw] [jpeg] [convert] [mean] [--cifar FOLDER] [--rounds N]

raw: Datum records of 3 x 256 x 256 bytes, a random crop of 227, mirror, mean file. jpeg: the same
of encoded records, 500 x 375 pixels and some 100 KB each. Batches of 64; the DataLoader has two
workers; contenders are processes of their own and take turns; the databases are in the page cache.
convert: convert_imageset on 60,000 JPEG files of 32 x 32. mean: compute_image_mean on raw records.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
from numpy.typing import NDArray
from side_by_side import compare
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import moka
from moka.data.lmdb import LmdbWriter
from moka.engine.channels_last import channels_last
from moka.layers.data import Data
from moka.schema import blobproto, caffe_pb2, parse_text, read_binary, write_binary
from moka.tools import convert_imageset, image_mean

BATCH, CROP, COUNT = 64, 227, 2048
SMALL_COUNT = 60_000


def natural(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) with as much detail at every scale as photographs have."""
    image = np.zeros((height, width, 3), np.float32)
    size = 2
    while size < max(height, width):
        layer = rng.normal(size=(size, size, 3)).astype(np.float32)
        image += cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) / size**0.45
        size *= 2
    low, high = image.min(), image.max()
    image = (image - low) * (255 / (high - low)) + rng.normal(0, 7, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def make_records(folder: Path, kind: str) -> None:
    """A database of COUNT records, and the mean file to subtract."""
    rng = np.random.default_rng(0)
    height, width = (256, 256) if kind == "raw" else (375, 500)
    images = [natural(rng, height, width) for _ in range(64)]
    with LmdbWriter(folder / kind) as writer:
        for i in range(COUNT):
            image = images[i % len(images)]
            datum = caffe_pb2.Datum(label=i % 1000, channels=3, height=height, width=width)
            if kind == "raw":
                datum.data = image.transpose(2, 0, 1).tobytes()
            else:
                datum.encoded = True
                datum.data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[
                    1
                ].tobytes()
            writer.put(b"%08d" % i, datum.SerializeToString())
    mean = np.stack(images).mean(0).transpose(2, 0, 1)
    write_binary(folder / f"{kind}.binaryproto", blobproto.from_array(mean[None]))


def moka_layer(folder: Path, kind: str) -> Callable[[int], None]:
    moka.keep_freed_memory()  # as `caffe train` does
    layer = Data(
        parse_text(
            f'name: "data" type: "Data" top: "data" top: "label" phase: TRAIN'
            f' data_param {{ source: "{folder}/{kind}" backend: LMDB batch_size: {BATCH} }}'
            f" transform_param {{ crop_size: {CROP} mirror: true"
            f' mean_file: "{folder}/{kind}.binaryproto" }}',
            caffe_pb2.LayerParameter,
        )
    )

    def run(count: int) -> None:
        for _ in range(count):
            data, _ = layer()
            # What the training step takes: batches leave the feed in this layout.
            assert channels_last(data).shape == (BATCH, 3, CROP, CROP)

    return run


class Records(Dataset[tuple[Tensor, int]]):
    """The same records and transformation as a map-style data set."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.path = str(folder / kind)
        mean = read_binary(folder / f"{kind}.binaryproto", caffe_pb2.BlobProto)
        self.mean = np.ascontiguousarray(blobproto.to_array(mean)[0].transpose(1, 2, 0))
        self.env: Any = None

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.env is None:  # once in each worker
            self.env = lmdb.open(self.path, readonly=True, lock=False)
            self.transaction = self.env.begin()
        datum = caffe_pb2.Datum()
        datum.ParseFromString(self.transaction.get(b"%08d" % index))
        if datum.encoded:
            return self.encoded(datum), datum.label
        return self.raw(datum), datum.label

    def raw(self, datum: caffe_pb2.Datum) -> Tensor:
        image = np.frombuffer(datum.data, np.uint8).reshape(3, datum.height, datum.width)
        top, left = self.spot(datum.height, datum.width)
        spot = np.s_[:, top : top + CROP, left : left + CROP]
        pixels = image[spot].astype(np.float32)
        pixels -= self.mean.transpose(2, 0, 1)[spot]
        if np.random.rand() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        return torch.from_numpy(pixels)

    def encoded(self, datum: caffe_pb2.Datum) -> Tensor:
        image = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert image is not None
        top, left = self.spot(*image.shape[:2])
        spot = np.s_[top : top + CROP, left : left + CROP]
        pixels = image[spot].astype(np.float32) - self.mean[spot]
        if np.random.rand() < 0.5:
            pixels = cv2.flip(pixels, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def spot(self, height: int, width: int) -> tuple[int, int]:
        return np.random.randint(height - CROP + 1), np.random.randint(width - CROP + 1)


def data_loader(folder: Path, kind: str) -> Callable[[int], None]:
    loader = DataLoader(Records(folder, kind), BATCH, num_workers=2, persistent_workers=True)

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()

    def run(count: int) -> None:
        for _ in range(count):
            data, _ = next(batches)
            assert data.shape == (BATCH, 3, CROP, CROP)

    return run


def feed(kind: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_records(folder, kind)
        size = (folder / kind / "data.mdb").stat().st_size / COUNT
        times = compare(
            {
                "Moka": partial(moka_layer, folder, kind),
                "DataLoader": partial(data_loader, folder, kind),
            },
            rounds=rounds,
            iterations=COUNT // BATCH,
            warm_up=COUNT // BATCH,
        )
    print(f"{kind}: {size / 1e3:.0f} KB a record, batches of {BATCH}")
    for contender, timing in times.items():
        print(
            f"  {contender:<11} {timing.ms:6.1f} ms a batch {BATCH / timing.ms * 1e3:8.0f} images/s"
            f" {size * BATCH / timing.ms / 1e6:6.2f} GB/s {timing.peak_mb:6.0f} MB"
        )
    ratio = times["DataLoader"].ms / times["Moka"].ms
    print(f"  Moka is {ratio:.2f} times as fast as the DataLoader")


def convert(cifar: Path | None, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        images = cifar or make_small_files(Path(name) / "images")
        files = sorted(str(p.relative_to(images)) for p in images.rglob("*.jp*g"))[:SMALL_COUNT]
        lines = Path(name) / "list.txt"
        lines.write_text("".join(f"{file} {i % 10}\n" for i, file in enumerate(files)))
        rates = []
        for i in range(rounds):
            start = time.perf_counter()
            convert_imageset.main([f"{images}/", str(lines), f"{name}/db{i}"])
            rates.append(len(files) / (time.perf_counter() - start))
    print(f"convert_imageset: {np.median(rates):.0f} images/s of {len(files)}")


def make_small_files(folder: Path) -> Path:
    """As many JPEG files of 32 x 32 as CIFAR-10 has images."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    encoded = [cv2.imencode(".jpg", natural(rng, 32, 32))[1].tobytes() for _ in range(500)]
    for i in range(SMALL_COUNT):
        (folder / f"{i:05d}.jpg").write_bytes(encoded[i % len(encoded)])
    return folder


def mean(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        make_records(Path(name), "raw")
        size = os.path.getsize(f"{name}/raw/data.mdb")
        rates = []
        for _ in range(rounds):
            start = time.perf_counter()
            image_mean.main([f"{name}/raw", f"{name}/mean.binaryproto"])
            rates.append(size / (time.perf_counter() - start))
    print(f"compute_image_mean: {np.median(rates) / 1e9:.2f} GB/s of {size / 1e9:.1f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="raw, jpeg, convert, mean; all by default")
    parser.add_argument("--cifar", type=Path, help="a folder of small JPEG files to convert")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    parts = {
        "raw": partial(feed, "raw", args.rounds),
        "jpeg": partial(feed, "jpeg", args.rounds),
        "convert": partial(convert, args.cifar, 3),
        "mean": partial(mean, args.rounds),
    }
    unknown = set(args.parts) - set(parts)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(parts)}")
    for part in args.parts or parts:
        parts[part]()


if __name__ == "__main__":
    main()
