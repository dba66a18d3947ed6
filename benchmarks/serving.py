"""`caffe serve` under load, on this machine's loopback: SqueezeNet 1.1, JPEGs of 227 x 227.

    python benchmarks/serving.py [--minutes 10] [--seconds 10] [--out DIR]

Four measurements, each bounded in time:

* engine: batches through the net alone, and with decoding, by the same workers without a server;
  in turns with
* full load: as many requests as are answered, from 32 connections, with one image in each request,
  and with eight; the median of ROUNDS turns, as shares of the engine's;
* 70 % of that load, evenly spaced: latencies, errors;
* 300 % of it: refusals, latencies of what is accepted, the server's memory.

Client and server share the processors, so a server on a machine of its own does better: the
client's share of the processors' time is told. Writes serving.json and serving.md.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import machine
import numpy as np
from http_load import CLIENTS, CORES, FORM, TOGETHER, forms, full_load, spaced_load

from export import random_net
from moka.serving.image_input import Look
from moka.serving.model import Job, ModelFiles, Pace, ServedModel
from moka.serving.net_inputs import Example
from moka.weights import save_weights

NET = Path(__file__).parents[1] / "models/squeezenet_v1.1/deploy.prototxt"
SIDE = 227
IMAGES = 64
MEAN = "104,117,123"
BATCH = 8
ROUNDS = 5  # of engine and server in turns
RESULTS = Path(__file__).with_name("results")


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


class Engine:
    """The workers of a model without a server."""

    def __init__(self, files: ModelFiles, images: list[bytes]) -> None:
        self.model = ServedModel("engine", files, Pace(batch=BATCH, workers=CORES, threads=1))
        (name,) = self.model.inputs.images
        self._blob = {name: np.zeros((BATCH, *self.model.input.shape), np.float32)}
        self._jobs = [Job(Example("", {name: data})) for data in images[:BATCH]]

    def net_rate(self, seconds: float) -> float:
        """Images a second through the net alone."""
        return self._rate(lambda: self.model.compute(self._blob), seconds)

    def decoded_rate(self, seconds: float) -> float:
        """Images a second with decoding."""
        return self._rate(lambda: self.model.run(self._jobs), seconds)

    def _rate(self, work: Callable[[], object], seconds: float) -> float:
        counts = []

        def repeat() -> None:
            count, end = 0, time.perf_counter() + seconds
            while time.perf_counter() < end:
                work()
                count += BATCH
            counts.append(count)

        threads = [threading.Thread(target=repeat) for _ in range(CORES)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)


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


def full_loads(port: int, engine: Engine, images: list[bytes], seconds: float) -> dict[str, Any]:
    """The engine and the server at full load, in turns: medians."""
    turn_s = seconds / ROUNDS
    net, decoded, single, several = [], [], [], []
    client, client_8 = [], []
    for _ in range(ROUNDS):
        net.append(engine.net_rate(turn_s))
        one = asyncio.run(full_load(port, images, turn_s))
        decoded.append(engine.decoded_rate(turn_s))
        many = asyncio.run(
            full_load(port, forms(images), turn_s, FORM, clients=CLIENTS // TOGETHER)
        )
        assert set(one.statuses) == set(many.statuses) == {200}, (one.statuses, many.statuses)
        single.append(one.per_s)
        several.append(TOGETHER * many.per_s)
        client.append(one.client_cpu_s / (CORES * one.seconds))
        client_8.append(many.client_cpu_s / (CORES * many.seconds))
    rates = {"net": median(net), "decoded": median(decoded)}
    return {
        "engine_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "full": _shares(median(single), rates, median(client)),
        "full_8": _shares(median(several), rates, median(client_8)),
    }


def _shares(rate: float, engine: Mapping[str, float], client: float) -> dict[str, float]:
    return {
        "images_per_s": round(rate, 1),
        **{f"of_{name}": round(rate / most, 3) for name, most in engine.items()},
        "client_share": round(client, 3),
    }


def as_markdown(head: str, result: Mapping[str, Any]) -> str:
    engine, full, eight = (result[name] for name in ("engine_per_s", "full", "full_8"))
    at_70, at_300 = result["at_70"], result["at_300"]
    lines = [
        f"# caffe serve under load\n\n{head} `python benchmarks/serving.py`: SqueezeNet 1.1, JPEGs"
        f" of {SIDE} x {SIDE}, batches of up to {BATCH}; the client runs on the same cores.\n",
        "| full load | images/s | of the net alone | of net and decoding | client's share |",
        "|---|---|---|---|---|",
        f"| engine, net alone | {engine['net']} | 1 | | |",
        f"| engine, with decoding | {engine['decoded']} | | 1 | |",
    ]
    for name, row in (("one image a request", full), (f"{TOGETHER} images a request", eight)):
        cells = (row[key] for key in ("images_per_s", "of_net", "of_decoded", "client_share"))
        lines.append(f"| {name} | {' | '.join(str(cell) for cell in cells)} |")
    lines += [
        "\n| load | minutes | answers/s | statuses | p50 ms | p99 ms | longest ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in (("70 %", at_70), ("300 %", at_300)):
        cells = (
            row[key] for key in ("minutes", "per_s", "statuses", "p50_ms", "p99_ms", "p100_ms")
        )
        lines.append(f"| {name} | {' | '.join(str(cell) for cell in cells)} |")
    memory = ", ".join(str(mb) for mb in at_300["memory_mb"])
    lines.append(
        f"\nAt 300 % {at_300['refused']} requests were refused; the server took {memory} MB before,"
        " after the first and after the second time."
    )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="caffe serve under load")
    parser.add_argument("--seconds", type=float, default=10, help="of each short measurement")
    parser.add_argument("--minutes", type=float, default=1, help="at 70 %% of the full load")
    parser.add_argument("--out", default=str(RESULTS), help="a folder for the results")
    parser.add_argument("--flags", default="", help="more flags of caffe serve")
    args = parser.parse_args()
    images = jpegs()
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/squeezenet.caffemodel"
        save_weights(random_net("squeezenet_v1.1"), weights)
        mean = np.array([float(x) for x in MEAN.split(",")], np.float32)
        engine = Engine(ModelFiles(NET, weights, look=Look(mean)), images)
        with server(weights, *args.flags.split()) as port:
            asyncio.run(full_load(port, images, 1))  # warm
            result = full_loads(port, engine, images, args.seconds)
            engine.model.close()
            print({name: result[name] for name in ("engine_per_s", "full", "full_8")}, flush=True)
            rate = result["full"]["images_per_s"]
            partial = asyncio.run(spaced_load(port, images, 60 * args.minutes, 0.7 * rate))
            result["at_70"] = partial.summary() | {"minutes": round(partial.seconds / 60, 2)}
            print("70 %:", result["at_70"], flush=True)
            before = memory_mb(port)
            over = asyncio.run(spaced_load(port, images, args.seconds, 3 * rate))
            first = memory_mb(port)
            asyncio.run(spaced_load(port, images, args.seconds, 3 * rate))
            result["at_300"] = over.summary() | {
                "minutes": round(over.seconds / 60, 2),
                "memory_mb": [round(before), round(first), round(memory_mb(port))],
            }
            print("300 %:", result["at_300"])
    out = Path(args.out)
    result = {"machine": machine.described(CORES) + ".", **result}
    out.mkdir(exist_ok=True, parents=True)
    (out / "serving.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "serving.md").write_text(as_markdown(result["machine"], result))


if __name__ == "__main__":
    main()
