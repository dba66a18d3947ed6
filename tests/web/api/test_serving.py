"""A server under stress: full queues, deadlines, its end, and hostile uploads."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.serving.colors import BLUE, GREEN, RED, picture, write_model
from tests.web.api.serving_server import SOON, Answer, Server, form, read, serving

FOR_EVER_MS = "3600000"
PICTURE = picture(RED)


def told(server: Server, gauge: str) -> int:
    """A gauge's value, as the metrics tell."""
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    found = [line.split()[1] for line in lines if line.startswith((f"{gauge}{{", f"{gauge} "))]
    return int(float(found[0])) if found else 0


def send(server: Server, data: bytes = PICTURE, query: str = "") -> HTTPConnection:
    """Ask without reading the answer."""
    connection = server.connect()
    connection.request("POST", f"/v1/classify{query}", data, {"Content-Type": "image/png"})
    return connection


def answer_of(connection: HTTPConnection) -> Answer:
    """The answer to what was sent, and the end of the connection."""
    try:
        return read(connection)
    finally:
        connection.close()


def until_waiting(server: Server, count: int) -> None:
    """Return once so many images wait."""
    until_told(server, "moka_queue_images", count)


def until_told(server: Server, gauge: str, value: int) -> None:
    """Return once a gauge has a value; each question to the server takes its time."""
    for _ in range(2000):
        if told(server, gauge) == value:
            return
    raise AssertionError(f"{gauge} is {told(server, gauge)}, not {value}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "m")
    return str(folder)


def test_a_full_queue_and_its_end_without_a_lost_answer(model: str) -> None:
    """Images wait for a batch that never fills; the end of the server lets them run."""
    colors = [RED, BLUE, GREEN, RED, BLUE]
    with serving(model, "--batch", "8", "--delay_ms", FOR_EVER_MS, "--queue", "5",
                 "--deadline_ms", FOR_EVER_MS) as server:  # fmt: skip
        asked = [send(server, picture(color)) for color in colors]
        until_waiting(server, 5)
        refused = server.ask("POST", "/v1/classify", PICTURE)
        assert refused.status == 429
        assert refused.json["error"] == "5 images wait already, and the queue has 5 places."
        assert int(refused.headers["retry-after"]) >= 1
        server.process.send_signal(signal.SIGTERM)
        answers = [answer_of(connection) for connection in asked]
        assert server.process.wait(SOON) == 0
    assert [answer.status for answer in answers] == [200] * 5
    best = [answer.json["images"][0]["classes"][0]["index"] for answer in answers]
    assert best == [max(range(3), key=color.__getitem__) for color in colors]


def test_its_end_under_load_loses_no_answer(model: str) -> None:
    """Clients ask without a pause while the server ends: whatever it has begun it answers."""
    enough = threading.Semaphore(0)
    answered: list[int] = []

    def client(port: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=SOON)
        try:
            while True:
                connection.request("POST", "/v1/classify", PICTURE)
                answered.append(read(connection).status)
                enough.release()
        except (OSError, HTTPException):
            pass  # the server has gone
        finally:
            connection.close()

    with serving(model, "--batch", "4") as server:
        clients = [threading.Thread(target=client, args=(server.port,)) for _ in range(8)]
        for each in clients:
            each.start()
        for _ in range(40):
            assert enough.acquire(timeout=SOON)
        assert server.end() == 0
        for each in clients:
            each.join(SOON)
        begun = [line["status"] for line in server.requests()]
    assert Counter(answered) == Counter(begun)
    assert set(answered) <= {200, 503}


def test_clients_that_are_gone(model: str) -> None:
    """One in the middle of its body, one before its answer: both give back what they held."""
    with serving(model, "--batch", "8", "--delay_ms", FOR_EVER_MS) as server:
        for body in (PICTURE[:40], PICTURE):
            with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as gone:
                head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
                gone.sendall(head.format(len(PICTURE)).encode() + body)
                if body == PICTURE:
                    until_waiting(server, 1)
        until_waiting(server, 0)
        until_told(server, "moka_requests_in_work", 0)
        until_told(server, "moka_held_bytes", 0)
        assert server.end() == 0


def test_a_deadline(model: str) -> None:
    with serving(model, "--batch", "8", "--delay_ms", FOR_EVER_MS, "--queue", "1") as server:
        late = server.ask("POST", "/v1/classify?deadline_ms=50", PICTURE)
        assert late.status == 504
        assert late.json["error"] == "the answer was not there after 50 ms."
        again = server.ask("POST", "/v1/classify?deadline_ms=50", PICTURE)
        assert again.status == 504  # not 429: what is given up leaves the queue
        assert server.end() == 0


def test_a_body_that_does_not_come(model: str) -> None:
    with serving(model, "--deadline_ms", "100") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as half:
            half.sendall(
                b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab"
            )
            assert half.recv(100).startswith(b"HTTP/1.1 408")
        assert server.end() == 0


def test_many_clients_share_batches(model: str) -> None:
    with serving(model, "--batch", "4", "--delay_ms", FOR_EVER_MS, "--workers", "1") as server:
        asked = [send(server, picture(color)) for color in (RED, BLUE, GREEN, RED)]
        answers = [answer_of(connection) for connection in asked]
        assert server.end() == 0
        told = [line["batch"] for line in server.requests()]
    assert [a.json["images"][0]["classes"][0]["index"] for a in answers] == [2, 0, 1, 2]
    assert told == [4] * 4


def test_readiness(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with serving(str(tmp_path), "--lazy", from_shell=True) as server:
        assert server.ask("GET", "/healthz").status == 200
        assert server.ask("GET", "/readyz").status == 503
        assert server.ask("POST", "/v1/classify", PICTURE).status == 200
        assert server.ask("GET", "/readyz").status == 200
        assert server.end(signal.SIGINT) == 0


def test_a_token_where_one_is_asked_for(model: str) -> None:
    with serving(model, "--token") as server:
        token = server.address.partition("token=")[2]
        assert server.ask("POST", "/v1/classify", PICTURE).status == 401
        good = server.ask("POST", "/v1/classify", PICTURE, authorization=f"Bearer {token}")
        assert good.status == 200
        assert server.ask("GET", "/healthz").status == 200
        assert server.ask("GET", "/metrics").status == 401
        assert server.end() == 0
        assert all(token not in str(line) for line in server.requests())


# --- hostile uploads ----------------------------------------------------------------------------


def hostile(rng: random.Random) -> Iterator[tuple[bytes, str]]:
    """Bodies, with their content types, that no honest client sends."""
    seeds = [bytes(cv2.imencode(ending, np.zeros((9, 9, 3), np.uint8))[1])
             for ending in (".png", ".jpg", ".bmp", ".webp", ".ppm", ".gif")]  # fmt: skip
    while True:
        image = bytearray(rng.choice(seeds))
        match rng.randrange(8):
            case 0:  # bytes changed
                for _ in range(rng.randint(1, 8)):
                    image[rng.randrange(len(image))] = rng.randrange(256)
            case 1:  # cut off
                del image[rng.randrange(len(image)) :]
            case 2:  # a PNG that promises many pixels
                size = rng.choice([10_000, 65_535, 2**31 - 1]).to_bytes(4, "big")
                image = bytearray(seeds[0])
                image[16:24] = size + size
                image[29:33] = zlib.crc32(image[12:29]).to_bytes(4, "big")
            case 3:  # a JPEG that promises many pixels
                image = bytearray(seeds[1])
                at = image.find(b"\xff\xc0")
                image[at + 5 : at + 9] = b"\xff\xff\xff\xff"
            case 4:  # a JPEG of many scans
                image = bytearray(seeds[1])
                at = image.find(b"\xff\xda")
                image[at:at] = bytes(image[at:-2]) * 300
            case 5:  # other files
                begin = rng.choice(
                    [b"PK\x03\x04", b"%PDF-1.4", b"\x1f\x8b", b"<svg/>", b"II*\0", b"GIF89a"]
                )
                image = bytearray(begin + rng.randbytes(50))
            case 6:  # JSON of all kinds
                text = rng.choice(
                    ['{"image": "%s"}', '{"images": ["%s"]}', "[%s", '{"image": {"a": %s}}']
                )
                yield (
                    (text % rng.choice(["!", "A" * 999, "[" * 5000, "\\ud800"])).encode(),
                    "application/json",
                )
                continue
            case 7:  # forms that break off, or have odd names
                name = rng.choice(
                    ["../../etc/passwd", "\0", "x" * 3000, '"; filename="y', "\r\n\r\n"]
                )
                body, kind = form(("image", name, bytes(image)))
                yield body[: rng.randrange(len(body))] if rng.random() < 0.5 else body, kind
                continue
        yield bytes(image), rng.choice(["image/png", "application/octet-stream", "text/html", ""])


def be_hostile(server: Server, count: int) -> Counter[int]:
    """Send such bodies; every answer is JSON and no fault of the server."""
    statuses: Counter[int] = Counter()
    connection = server.connect()
    bodies = hostile(random.Random(0))
    for _ in range(count):
        body, kind = next(bodies)
        connection.request("POST", "/v1/classify", body, {"Content-Type": kind} if kind else {})
        answer = read(connection)
        statuses[answer.status] += 1
        assert answer.status in (200, 400, 413, 415), (answer, body[:200], kind)
        told = json.loads(answer.body)
        if answer.status != 200:
            assert told["error"]
    connection.close()
    return statuses


def memory(server: Server) -> float:
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return float(next(x for x in lines if x.startswith("process_resident_memory")).split()[1])


def hold_against(model: str, count: int) -> None:
    with serving(model, "--max_megapixels", "1") as server:
        be_hostile(server, 50)
        before = memory(server)
        statuses = be_hostile(server, count)
        assert memory(server) < before + 60e6
        good: Answer = server.ask("POST", "/v1/classify", PICTURE)
        assert good.json["images"][0]["classes"][0]["index"] == 2
        assert server.end() == 0
    assert {400, 413, 415} <= statuses.keys()


def test_hostile_uploads(model: str) -> None:
    hold_against(model, 250)


@pytest.mark.slow
def test_ten_thousand_hostile_uploads(model: str) -> None:
    hold_against(model, 10_000)


def test_uploads_that_are_hostile_together(model: str) -> None:
    """Several clients at once, with bodies that are refused while they come."""
    with serving(model, "--max_image_mb", "0.1", "--max_images", "2") as server:
        found: list[int] = []

        def client() -> None:
            body, kind = form(("image", "a", PICTURE), ("image", "b", bytes(90_000)))
            found.append(server.ask("POST", "/v1/classify", body, content_type=kind).status)
            found.append(server.ask("POST", "/v1/classify", bytes(150_000)).status)

        clients = [threading.Thread(target=client) for _ in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(SOON)
        assert sorted(found) == [200] * 8 + [413] * 8
        assert server.end() == 0
