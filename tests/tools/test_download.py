"""Downloads from a server on this machine, which can break off, lie and forget."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from moka.cli.main import main
from moka.errors import DataError, UsageError
from moka.models import zoo_folder
from moka.tools import download as module
from moka.tools.download import (
    Remote,
    description,
    download,
    download_ilsvrc12,
    fetch,
    front_matter,
    remotes,
)

if TYPE_CHECKING:
    from tests.messages import Messages

CONTENT = bytes(range(256)) * 5000  # more than a chunk
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; ranges too, if `ranges`.

    Attributes:
        requests: the Range header of each request, None if it had none.
        sends: how many bytes of an answer are sent at most before the connection is closed.
        modified: when the files were changed last, in seconds since 1970.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/a.caffemodel": CONTENT}
        self.requests: list[str | None] = []
        self.sends = 1 << 30
        self.ranges = True
        self.modified = 1_000_000_000
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.requests.append(wanted)
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        date = formatdate(self.server.modified, usegmt=True)
        if self.headers.get("If-Range", date) != date or not self.server.ranges:
            wanted = None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Last-Modified", date)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start : start + self.server.sends])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def write_readme(folder: str, head: str) -> Path:
    path = Path(folder, "readme.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\n{head}---\n\nText, with a-line: too.\n")
    return path


def write_model(server: Server, sha1: str = SHA1) -> Path:
    """The folder of a model with these weights."""
    return write_readme(
        "m",
        f"name: A model\ncaffemodel: a.caffemodel\ncaffemodel_url: {server.url}/a.caffemodel\n"
        f"license: unrestricted\nsha1: {sha1}\n",
    ).parent


def test_download(server: Server, messages: Messages) -> None:
    folder = write_model(server)
    assert main(["download", str(folder)]) == 0
    assert (folder / "a.caffemodel").read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == ["a.caffemodel", "readme.md"]
    assert messages() == [
        f"I Downloading {server.url}/a.caffemodel",
        f"I Wrote m/a.caffemodel, {len(CONTENT)} bytes, SHA-1 {SHA1}, as it should be.",
    ]
    assert main(["download", str(folder)]) == 0
    assert messages() == ["I m/a.caffemodel is there already."]
    assert len(server.requests) == 1


def test_what_breaks_off_goes_on(server: Server, messages: Messages) -> None:
    folder = write_model(server)
    server.sends = 300_000
    part = folder / "a.caffemodel.part"
    for i in range(1, 3):
        with pytest.raises(DataError, match=r"has broken off: .*Run it again to go on\.$"):
            download(str(folder))
        assert part.read_bytes() == CONTENT[: i * 300_000]
    assert not (folder / "a.caffemodel").exists()
    server.sends = 1 << 30
    messages()
    assert main(["download", str(folder)]) == 0
    assert server.requests == [None, "bytes=300000-", "bytes=600000-"]
    assert (folder / "a.caffemodel").read_bytes() == CONTENT
    assert not part.exists()
    assert "I Going on after 600000 bytes." in messages()


def test_a_server_without_ranges_sends_all_again(server: Server) -> None:
    folder = write_model(server)
    (folder / "a.caffemodel.part").write_bytes(b"wrong")
    server.ranges = False
    download(str(folder))
    assert server.requests == ["bytes=5-"]
    assert (folder / "a.caffemodel").read_bytes() == CONTENT


def test_all_was_there_but_the_name(server: Server) -> None:
    folder = write_model(server)
    (folder / "a.caffemodel.part").write_bytes(CONTENT)
    download(str(folder))
    assert (folder / "a.caffemodel").read_bytes() == CONTENT


def test_more_was_there_than_the_file_has(server: Server) -> None:
    folder = write_model(server)
    (folder / "a.caffemodel.part").write_bytes(CONTENT + b"x")
    with pytest.raises(DataError, match=r"no part of it\. Run it again\.$"):
        download(str(folder))
    download(str(folder))
    assert (folder / "a.caffemodel").read_bytes() == CONTENT


def test_without_a_checksum_only_the_same_version_goes_on(
    server: Server, messages: Messages
) -> None:
    remote = Remote("a.caffemodel", f"{server.url}/a.caffemodel")
    server.sends = 300_000
    for _ in range(2):
        with pytest.raises(DataError, match="broken off"):
            fetch(remote, Path("a.caffemodel"))
    assert Path("a.caffemodel.part").stat().st_size == 600_000
    server.files["/a.caffemodel"] = new = CONTENT[::-1]
    server.modified += 1
    server.sends = 1 << 30
    messages()
    fetch(remote, Path("a.caffemodel"))
    assert Path("a.caffemodel").read_bytes() == new
    fetch(remote, Path("a.caffemodel"))
    assert len(server.requests) == 3


def test_a_wrong_checksum(server: Server) -> None:
    folder = write_model(server, "0" * 40)
    with pytest.raises(DataError, match=rf"the SHA-1 {SHA1}, not 0{{40}}: .*It has been removed"):
        download(str(folder))
    assert [path.name for path in folder.iterdir()] == ["readme.md"]


def test_another_file_of_the_name_is_left_alone(server: Server) -> None:
    folder = write_model(server, SHA1.upper())
    weights = folder / "a.caffemodel"
    weights.write_bytes(b"mine")
    with pytest.raises(
        DataError, match=r"is there, but its SHA-1 is \w{40}, not \w{40}\. .*remove"
    ):
        download(str(folder))
    assert weights.read_bytes() == b"mine"
    assert server.requests == []
    weights.write_bytes(CONTENT)
    download(str(folder))


def test_servers_that_do_not_help(server: Server) -> None:
    url = f"{server.url}/none"
    with pytest.raises(DataError, match=r"/none cannot be fetched: the server answers 404 Not Fou"):
        fetch(Remote("x", url), Path("x"))
    server.shutdown()
    server.server_close()
    with pytest.raises(
        DataError, match=r"the server cannot be reached \(.*refused.*put it into /.* by hand\.$"
    ):
        fetch(Remote("x", url), Path("x"))
    with pytest.raises(DataError, match="only http and https"):
        fetch(Remote("x", "file:///etc/passwd"), Path("x"))
    assert list(Path().iterdir()) == []


def test_more_files(server: Server) -> None:
    readme = write_readme(
        "m",
        "caffemodel: 'a.caffemodel'\ncaffemodel_url: http://x/a\nsha1: AB\n"
        'mean: "mean.binaryproto"\nmean_url: http://x/b\nmean_sha1: cd\n'
        "words: w.txt\nwords_url: http://x/c\ngist_id:\n",
    )
    assert remotes(readme) == [
        Remote("a.caffemodel", "http://x/a", "ab"),
        Remote("mean.binaryproto", "http://x/b", "cd"),
        Remote("w.txt", "http://x/c"),
    ]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("name: x\n", r"^m/readme.md: no address of the weights is known .*Put the weights beside"),
        ("caffemodel: y\n", r"Put y beside it by hand\.$"),
        ("caffemodel_url: http://x\n", r'a plain file name as its "caffemodel", not ""\.$'),
        ("mean: ../y\nmean_url: http://x\n", r'a plain file name as its "mean", not "../y"\.$'),
    ],
)
def test_heads_that_do_not_help(head: str, message: str) -> None:
    readme = write_readme("m", head)
    with pytest.raises(DataError, match=message):
        remotes(readme)


def test_no_head() -> None:
    Path("readme.md").write_text("# A model\n\n---\nname: no\n---\n")
    with pytest.raises(DataError, match=r"^readme.md: it does not begin with a head"):
        front_matter(Path("readme.md"))


def test_the_zoo_by_name() -> None:
    folder = description("bvlc_googlenet")
    assert folder == Path("models/bvlc_googlenet")
    files = sorted(path.name for path in folder.iterdir())
    assert files == [
        "deploy.prototxt",
        "quick_solver.prototxt",
        "readme.md",
        "solver.prototxt",
        "train_val.prototxt",
    ]
    (folder / "solver.prototxt").write_text("mine")
    (folder / "deploy.prototxt").unlink()
    assert description("bvlc_googlenet") == folder
    assert (folder / "solver.prototxt").read_text() == "mine"
    assert description("zoo/nin") == Path("zoo/nin")
    assert (Path("zoo/nin/deploy.prototxt")).exists()


def test_heads_of_the_zoo() -> None:
    heads = {path.parent.name: front_matter(path) for path in zoo_folder().glob("*/readme.md")}
    assert all(head["name"] for head in heads.values())
    for name, head in heads.items():
        if "caffemodel_url" in head:
            (remote,) = remotes(zoo_folder() / name / "readme.md")
            assert remote.name == Path(remote.url).name
            assert remote.sha1 is None or re.fullmatch("[0-9a-f]{40}", remote.sha1)
    assert heads["bvlc_alexnet"]["sha1"] == "9116a64c0fbe4459d18f4bb6b56d647b63920377"


def test_models_that_are_not_there() -> None:
    with pytest.raises(
        UsageError, match=r'no model "bvlc_gogglenet".*Did you mean "bvlc_googlenet"'
    ):
        download("bvlc_gogglenet")
    with pytest.raises(UsageError, match=r"Known: bvlc_alexnet, .*, vgg19, ilsvrc12\.$"):
        download("zzz")
    Path("empty").mkdir()
    with pytest.raises(DataError, match=r"^empty: there is no readme\.md"):
        download("empty")


def test_the_usage_lists_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "--help"]) == 0
    out = capsys.readouterr().out
    assert "caffe download MODEL" in out
    assert all(name in out for name in ("bvlc_alexnet", "vgg19", "ilsvrc12"))


def archive(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return data.getvalue()


def test_ilsvrc12(server: Server, monkeypatch: pytest.MonkeyPatch, messages: Messages) -> None:
    files = {"synset_words.txt": b"n1 cat", "./imagenet_mean.binaryproto": b"m", "../val.txt": b"v"}
    server.files["/aux.tar.gz"] = archive(files)
    remote = Remote("aux.tar.gz", f"{server.url}/aux.tar.gz")
    monkeypatch.setattr(module, "ILSVRC12", remote)
    assert main(["download", "ilsvrc12"]) == 0
    folder = Path("data/ilsvrc12")
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {
        "synset_words.txt": b"n1 cat",
        "imagenet_mean.binaryproto": b"m",
        "val.txt": b"v",
    }
    assert [path.name for path in Path().iterdir()] == ["data"]
    assert messages()[-1] == "I Unpacked data/ilsvrc12."
    download("ilsvrc12")
    assert len(server.requests) == 1


def test_ilsvrc12_damaged(server: Server) -> None:
    whole = archive({"synset_words.txt": CONTENT[::7]})
    for damaged in (whole[: len(whole) // 2], b"<html>moved</html>"):
        server.files["/aux.tar.gz"] = damaged
        with pytest.raises(
            DataError, match=r"aux\.tar\.gz: this archive cannot be unpacked: .*Remo"
        ):
            download_ilsvrc12(Path(), Remote("aux.tar.gz", f"{server.url}/aux.tar.gz"))
        Path("aux.tar.gz").unlink()
