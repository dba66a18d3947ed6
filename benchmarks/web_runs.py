"""How fast `caffe web` shows many runs: the list, a comparison, and the page in a browser.

    python benchmarks/web_runs.py [--runs 200] [--iterations 100000]

Writes logs as BVLC Caffe does (a display each 100 iterations, a test each 500) into a folder that
is removed, starts the server on a free port of this machine, and prints medians in milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

REPEATS = 9
COMPARED = 8
PATIENCE_S = 300.0


def write_log(file: Path, seed: int, iterations: int) -> None:
    """A training log of BVLC Caffe's form."""
    rng = random.Random(seed)
    now = datetime(2026, 1, 1) + timedelta(hours=3 * seed)
    lines = [f"max_iter: {iterations}"]

    def say(message: str) -> None:
        lines.append(f"I{now:%m%d %H:%M:%S.%f} 12345 solver.cpp:239] {message}")

    say(f"Solving Net{seed % 5}")
    for i in range(0, iterations + 1, 100):
        now += timedelta(seconds=8)
        loss = 2.3 * math.exp(-i / 30000) + 0.3 * rng.random() + 0.1
        if i % 500 == 0:
            say(f"Iteration {i}, Testing net (#0)")
            say(f"    Test net output #0: accuracy = {1 - loss / 3:.4g}")
            say(f"    Test net output #1: loss = {loss:.4g} (* 1 = {loss:.4g} loss)")
        say(f"Iteration {i}, loss = {loss:.4g}")
        say(f"    Train net output #0: loss = {loss:.4g} (* 1 = {loss:.4g} loss)")
        say(f"Iteration {i}, lr = {0.01 * 0.1 ** (i // 30000):g}")
    say("Optimization Done.")
    file.write_text("\n".join(lines) + "\n")


def ask(port: int, path: str) -> tuple[float, bytes]:
    """Milliseconds until the whole answer is there, and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    start = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse().read()
    taken = (time.perf_counter() - start) * 1e3
    connection.close()
    return taken, answer


def draw(port: int) -> float | None:
    """Milliseconds from opening the page to its last row; None without a browser."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, args=["--no-sandbox"])
        times = []
        for _ in range(REPEATS):
            page = browser.new_page()
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/jobs")
            page.locator("tbody tr").last.wait_for()
            times.append((time.perf_counter() - start) * 1e3)
            page.close()
        browser.close()
    return median(times)


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.runs):
            write_log(Path(folder, f"run_{seed:03d}.log"), seed, given.iterations)
        words = [sys.executable, "-m", "moka", "web", folder, "--port=0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            found = re.search(r":(\d+)/", server.stdout.readline())
            assert found, "the server has not started"
            port = int(found[1])
            try:
                first, _ = ask(port, "/api/jobs/list")
                start = time.perf_counter()
                while ask(port, "/api/jobs/list")[1].count(b'"id"') < given.runs:
                    assert time.perf_counter() - start < PATIENCE_S, "not all logs were read"
                    time.sleep(0.1)
                read_s = time.perf_counter() - start
                names = ",".join(f"run_{i:03d}.log" for i in range(min(COMPARED, given.runs)))
                curves = f"/api/jobs/curves?runs={names}&smooth=0.6"
                rows = {
                    "the list, while logs are read": first,
                    f"the list of {given.runs} runs": median(
                        ask(port, "/api/jobs/list")[0] for _ in range(REPEATS)
                    ),
                    f"curves of {COMPARED} runs": median(
                        ask(port, curves)[0] for _ in range(REPEATS)
                    ),
                    "the page in Chromium, to its last row": draw(port),
                }
            finally:
                server.send_signal(signal.SIGINT)
    print(f"{given.runs} runs of {given.iterations:,} iterations; read once in {read_s:.1f} s")
    for name, value in rows.items():
        print(f"{name:40} {'no browser' if value is None else f'{value:.0f} ms'}")


if __name__ == "__main__":
    main()
