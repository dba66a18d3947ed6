"""`caffe serve` under load, on this machine's loopback: SqueezeNet 1.1, JPEGs of 227 x 227.

    python benchmarks/serving.py [--minutes 1] [--seconds 10] [--json FILE]

Four measurements, each bounded in time:

* engine: batches through the net alone, and with decoding, by the same workers without a server;
* full load: as many requests as are answered, from 32 connections, with one image in each request,
  and with eight;
* 70 % of that load, evenly spaced: latencies, errors;
* 300 % of it: refusals, latencies of what is accepted, the server's memory.

Client and server share the processors, so a server on a machine of its own does better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from export import random_net
from moka.cores import usable_cores
from moka.serving.image_input import Look
from moka.serving.model import Job, ModelFiles, Pace, ServedModel
from moka.serving.net_inputs import Example
from moka.weights import save_weights

NET = Path(__file__).parents[1] / "models/squeezenet_v1.1/deploy.prototxt"
SIDE = 227
IMAGES = 64
MEAN = "104,117,123"
CLIENTS = 32  # connections of the full load
MOST_CLIENTS = 400  # of an evenly spaced load
BATCH = 8
TOGETHER = 8  # images in one request
BOUNDARY = "5d1a7c0e"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
CORES = usable_cores()


def jpegs() -> list[bytes]:
    """Images with soft shapes, as photographs have them: some 15 kB each."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(IMAGES):
        noise = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        image = cv2.GaussianBlur(noise, (0, 0), 1.5)
        image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
        made.append(bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]))
    return made


def engine_rates(files: ModelFiles, images: list[bytes], seconds: float) -> dict[str, float]:
    """Images a second of the workers without a server: the net alone, and with decoding."""
    pace = Pace(batch=BATCH, workers=CORES, threads=1)
    model = ServedModel("engine", files, pace)
    (name,) = model.inputs.images
    blob = {name: np.zeros((BATCH, *model.input.shape), np.float32)}
    jobs = [Job(Example("", {name: data})) for data in images[:BATCH]]

    def rate(work: Callable[[], object]) -> float:
        counts = []

        def repeat() -> None:
            count, end = 0, time.perf_counter() + seconds
            while time.perf_counter() < end:
                work()
                count += BATCH
            counts.append(count)

        threads = [threading.Thread(target=repeat) for _ in range(pace.workers)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)

    found = {"net": rate(lambda: model.compute(blob)), "decoded": rate(lambda: model.run(jobs))}
    model.close()
    return found


@contextmanager
def server(weights: str, *flags: str) -> Iterator[int]:
    """A server as a process of its own; gives its port."""
    line = ["serve", "--model", str(NET), "--weights", weights, "--mean", MEAN, "--port", "0"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moka", *line, "--batch", str(BATCH), *flags],
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            assert process.stdout is not None
            first = process.stdout.readline().decode()
            port = int(first.rstrip().rstrip("/").rpartition(":")[2])
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
            while not _is_ready(port):
                time.sleep(0.1)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def memory_mb(port: int) -> float:
    """The server's resident memory, as its metrics tell it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("process_resident_memory_bytes "):
                return float(line.split()[1]) / 1e6
    return float("nan")


@dataclass
class Seen:
    """What the client saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.accepted_s.append(seconds)

    def summary(self) -> dict[str, Any]:
        ms = 1000 * np.sort(self.accepted_s or [float("nan")])
        return {
            "per_s": round(self.statuses[200] / self.seconds, 1),
            "statuses": {str(k): n for k, n in sorted(self.statuses.items())},
            **{f"p{p}_ms": round(float(np.percentile(ms, p)), 1) for p in (50, 95, 99, 100)},
        }


class Connection(asyncio.Protocol):
    """One connection that sends a request at a time; it reads no more than it must."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: Any = None
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future is the status of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        text = bytes(self._buffer[:head]).lower()
        at = text.find(b"content-length:")
        length = int(text[at + 15 : text.find(b"\r", at) if b"\r" in text[at:] else None])
        if len(self._buffer) < head + 4 + length:
            return
        del self._buffer[: head + 4 + length]
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(text[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    def close(self) -> None:
        self._transport.close()


async def connect(port: int) -> Connection:
    _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return made


def forms(images: list[bytes]) -> list[bytes]:
    """Bodies with several images each."""
    begin = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    parts = [begin.encode() + image + b"\r\n" for image in images]
    end = f"--{BOUNDARY}--\r\n".encode()
    return [
        b"".join(parts[i : i + TOGETHER]) + end for i in range(0, len(parts) - TOGETHER, TOGETHER)
    ]


def requests(port: int, images: list[bytes], kind: str = "image/jpeg") -> list[bytes]:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
    return [f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data for data in images]


async def full_load(
    port: int, bodies: list[bytes], seconds: float, kind: str = "image/jpeg", clients: int = CLIENTS
) -> Seen:
    """Each connection asks again as soon as it has its answer."""
    seen, asked = Seen(), requests(port, bodies, kind)
    end = time.perf_counter() + seconds

    async def client(i: int) -> None:
        connection = await connect(port)
        while (start := time.perf_counter()) < end:
            status = await connection.ask(asked[i % len(asked)])
            seen.add(status, time.perf_counter() - start)
            i += clients
        connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(client(i) for i in range(clients)))
    seen.seconds = time.perf_counter() - start
    return seen


async def spaced_load(port: int, images: list[bytes], seconds: float, rate: float) -> Seen:
    """Requests at a steady rate, whatever the server does; latencies count from the moment when
    a request was due. What finds all connections busy counts as status -1."""
    seen, asked = Seen(), requests(port, images)
    free: deque[Connection] = deque()
    running: set[asyncio.Task[None]] = set()
    opened = 0

    async def one(i: int, due: float) -> None:
        nonlocal opened
        if free:
            connection = free.pop()
        elif opened < MOST_CLIENTS:
            opened += 1
            connection = await connect(port)
        else:
            seen.add(-1, 0)
            return
        status = await connection.ask(asked[i % len(asked)])
        seen.add(status, time.perf_counter() - due)
        if status:
            free.append(connection)
        else:
            opened -= 1

    start = time.perf_counter()
    for i in range(int(seconds * rate)):
        due = start + i / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(i, due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running, timeout=60)
    seen.seconds = time.perf_counter() - start
    for connection in free:
        connection.close()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description="caffe serve under load")
    parser.add_argument("--seconds", type=float, default=10, help="of each short measurement")
    parser.add_argument("--minutes", type=float, default=1, help="at 70 %% of the full load")
    parser.add_argument("--json", default="", help="a file for the results")
    parser.add_argument("--flags", default="", help="more flags of caffe serve")
    args = parser.parse_args()
    images = jpegs()
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/squeezenet.caffemodel"
        save_weights(random_net("squeezenet_v1.1"), weights)
        mean = np.array([float(x) for x in MEAN.split(",")], np.float32)
        engine = engine_rates(ModelFiles(NET, weights, look=Look(mean)), images, args.seconds / 2)
        result: dict[str, Any] = {"engine_per_s": {k: round(v, 1) for k, v in engine.items()}}
        print(f"engine: {engine['net']:.0f} images/s, with decoding {engine['decoded']:.0f}")
        with server(weights, *args.flags.split()) as port:
            asyncio.run(full_load(port, images, 1))  # warm
            full = asyncio.run(full_load(port, images, args.seconds))
            rate = full.statuses[200] / full.seconds
            result["full"] = full.summary() | {
                "of_net": round(rate / engine["net"], 3),
                "of_decoded": round(rate / engine["decoded"], 3),
            }
            print("full load:", result["full"])
            many = asyncio.run(
                full_load(port, forms(images), args.seconds / 2, FORM, CLIENTS // TOGETHER)
            )
            result["full_8"] = many.summary() | {
                "images_per_s": round(TOGETHER * many.statuses[200] / many.seconds, 1),
                "of_net": round(TOGETHER * many.statuses[200] / many.seconds / engine["net"], 3),
            }
            print("full load, 8 images in a request:", result["full_8"])
            partial = asyncio.run(spaced_load(port, images, 60 * args.minutes, 0.7 * rate))
            result["at_70"] = partial.summary()
            print("70 %:", result["at_70"])
            before = memory_mb(port)
            over = asyncio.run(spaced_load(port, images, args.seconds, 3 * rate))
            first = memory_mb(port)
            asyncio.run(spaced_load(port, images, args.seconds, 3 * rate))
            result["at_300"] = over.summary() | {
                "memory_mb": [round(before), round(first), round(memory_mb(port))]
            }
            print("300 %:", result["at_300"])
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
