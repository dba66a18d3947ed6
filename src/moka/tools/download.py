"""`caffe download MODEL`: the weights of a model of the zoo, into the folder of its description.

The head of a folder's readme.md says what there is to fetch, as in Caffe's model zoo:

    ---
    name: BVLC GoogleNet Model
    caffemodel: bvlc_googlenet.caffemodel
    caffemodel_url: http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel
    sha1: 405fc5acd08a3bb12de8ee5e23a96bec22f08204
    ---

More files may stand there in the same way: `mean`, `mean_url`, `mean_sha1`.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import logging
import os
import re
import shutil
import tarfile
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from moka.command.run import run
from moka.errors import DataError, UsageError, did_you_mean
from moka.files import write_atomically
from moka.models import zoo_folder
from moka.report.progress import progress

log = logging.getLogger("moka")

TIMEOUT = 60  # seconds without an answer
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Remote:
    """A file to fetch: its name here, its address, its SHA-1 in hexadecimal (None: not known)."""

    name: str
    url: str
    sha1: str | None = None


# Of ImageNet 2012 the names of the classes, the lists of images and the mean image, as BVLC has
# them; where Caffe's examples look for them; two of the files, which tell that it is there.
ILSVRC12 = Remote(
    "caffe_ilsvrc12.tar.gz", "http://dl.caffe.berkeleyvision.org/caffe_ilsvrc12.tar.gz"
)
ILSVRC12_FOLDER = Path("data/ilsvrc12")
ILSVRC12_FILES = ("synset_words.txt", "imagenet_mean.binaryproto")


def download(model: str) -> None:
    """Fetch what belongs to a model.

    Args:
        model: a folder with a readme.md; or a model of the zoo by its name, whose description is
            put into models/<name> below the current directory if it is not there; or "ilsvrc12",
            which goes into data/ilsvrc12.

    Raises:
        UsageError: there is no such model.
        DataError: nothing can be fetched, or the server sent something other than what was
        expected.
    """
    if model == "ilsvrc12":
        download_ilsvrc12(ILSVRC12_FOLDER, ILSVRC12)
        return
    folder = description(model)
    for remote in remotes(folder / "readme.md"):
        fetch(remote, folder / remote.name)


def description(model: str) -> Path:
    """The folder of a model, made of the zoo's if need be."""
    given = Path(model)
    if (given / "readme.md").is_file():
        return given
    known = zoo()
    if given.name not in known:
        if given.is_dir():
            raise DataError("there is no readme.md that says what to fetch.", file=given)
        raise UsageError(
            f'There is no model "{model}", and no folder of this name.',
            advice=did_you_mean(given.name, known) or f"Known: {', '.join(known)}, ilsvrc12.",
        )
    folder = given if given.is_dir() or len(given.parts) > 1 else Path("models") / model
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(known[given.name].iterdir()):
        if path.suffix in (".prototxt", ".md") and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    return folder


def zoo() -> dict[str, Path]:
    """The folders of all models of the zoo, by name."""
    return {path.parent.name: path.parent for path in sorted(zoo_folder().glob("*/readme.md"))}


def remotes(readme: Path) -> list[Remote]:
    """What the head of a readme tells to fetch: for each `X_url`, the file `X`."""
    head = front_matter(readme)
    found = []
    for key, url in head.items():
        kind = key.removesuffix("_url")
        if kind == key:
            continue
        name = head.get(kind, "")
        if not name or Path(name).name != name:
            raise DataError(
                f'{key} needs a plain file name as its "{kind}", not "{name}".', file=readme
            )
        checksum = head.get("sha1" if kind == "caffemodel" else f"{kind}_sha1")
        found.append(Remote(name, url, checksum.lower() if checksum else None))
    if not found:
        weights = head.get("caffemodel", "the weights")
        raise DataError(
            "no address of the weights is known (caffemodel_url).",
            file=readme,
            advice=f"Put {weights} beside it by hand.",
        )
    return found


def front_matter(readme: Path) -> dict[str, str]:
    """`key: value` lines between the two lines `---` that a file begins with."""
    found = re.match(r"---\s*\n(.*?)^---\s*$", readme.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if not found:
        raise DataError('it does not begin with a head between two lines "---".', file=readme)
    pairs = re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", found[1], re.MULTILINE)
    return {key: value.strip("\"'") for key, value in pairs if value}


def fetch(remote: Remote, target: Path) -> None:
    """Fetch a file, unless it is there.

    It is written to `<name>.part`, where an interrupted download goes on. It gets its name when it
    is complete and has the right checksum.

    Raises:
        DataError: `target` is another file; or the server cannot be reached, has no such file, or
            breaks off; or a file of another checksum has come, which is removed.
    """
    if target.exists():
        if remote.sha1 and (found := sha1_of(target)) != remote.sha1:
            raise DataError(
                f"this file is there, but its SHA-1 is {found}, not {remote.sha1}.",
                file=target,
                advice="It is damaged or another model's: remove it to fetch it anew.",
            )
        log.info("%s is there already%s.", target, "" if remote.sha1 else ", as somebody left it")
        return
    log.info("Downloading %s", remote.url)
    part = target.with_name(f"{target.name}.part")
    try:
        _fetch_rest(remote, part)
    except urllib.error.HTTPError as error:
        raise _failed(
            remote, target.parent, f"the server answers {error.code} {error.reason}"
        ) from None
    except urllib.error.URLError as error:
        raise _failed(
            remote, target.parent, f"the server cannot be reached ({error.reason})"
        ) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _broken_off(remote, part, str(error) or type(error).__name__) from None
    found = sha1_of(part)
    if remote.sha1 and found != remote.sha1:
        part.unlink()
        raise DataError(
            f"what {remote.url} gives has the SHA-1 {found}, not {remote.sha1}: it is damaged, or"
            " not the same file any more. It has been removed.",
            file=target,
        )
    os.replace(part, target)
    checked = "as it should be" if remote.sha1 else "with none to compare it with"
    log.info("Wrote %s, %d bytes, SHA-1 %s, %s.", target, target.stat().st_size, found, checked)


def _fetch_rest(remote: Remote, part: Path) -> None:
    """Add to `part` what it lacks of the file."""
    with _reply(remote, part) as reply:
        if reply is None:
            return
        resumed = reply.status == http.client.PARTIAL_CONTENT
        have = part.stat().st_size if resumed else 0
        length = reply.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        modified = reply.headers.get("Last-Modified")
        with (
            open(part, "ab" if resumed else "wb", buffering=0) as file,
            progress(part.stem, total, in_bytes=True) as show,
        ):
            while chunk := reply.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                show(have)
                if modified:  # `_reply` asks for the rest of this version only
                    stamp = email.utils.parsedate_to_datetime(modified).timestamp()
                    os.utime(part, (stamp, stamp))
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise _broken_off(remote, part, f"{have} of {total} bytes have come")


@contextlib.contextmanager
def _reply(remote: Remote, part: Path) -> Iterator[Any]:
    """The server's answer: the file, or the rest of it; None if `part` is all there is."""
    if not remote.url.startswith(("http://", "https://")):
        raise _failed(remote, part.parent, "only http and https are known here")
    request = urllib.request.Request(remote.url, headers={"User-Agent": "moka"})
    have = part.stat().st_size if part.exists() else 0
    if have:
        request.add_header("Range", f"bytes={have}-")
        if not remote.sha1:  # nothing else would tell a file that has changed in between
            stamp = email.utils.formatdate(part.stat().st_mtime, usegmt=True)
            request.add_header("If-Range", stamp)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            if have and reply.status == http.client.PARTIAL_CONTENT:
                log.info("Going on after %d bytes.", have)
            yield reply
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer, too
        if not have or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":  # longer than the file
            part.unlink()
            raise _broken_off(remote, part, "what there was of it was no part of it") from None
        yield None


def _failed(remote: Remote, folder: Path, fact: str) -> DataError:
    return DataError(
        f"{remote.url} cannot be fetched: {fact}.",
        advice=f"If you find {remote.name} elsewhere, put it into {folder.absolute()} by hand.",
    )


def _broken_off(remote: Remote, part: Path, fact: str) -> DataError:
    return DataError(
        f"{remote.url} has broken off: {fact}.",
        advice="Run it again to go on." if part.exists() else "Run it again.",
    )


def sha1_of(path: Path) -> str:
    """The SHA-1 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def download_ilsvrc12(folder: Path, remote: Remote) -> None:
    """Fetch and unpack the files that go with ImageNet 2012."""
    if all((folder / name).exists() for name in ILSVRC12_FILES):
        log.info("%s is there already.", folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / remote.name
    fetch(remote, archive)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)):
                    target = folder / Path(member.name).name  # never out of the folder
                    write_atomically(target, partial(shutil.copyfileobj, file))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"this archive cannot be unpacked: {error}.",
            file=archive,
            advice="Remove it and run this again.",
        ) from None
    archive.unlink()
    log.info("Unpacked %s.", folder)


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe download MODEL`, and `download_model_binary FOLDER`."""
    return run("download", lambda words, _: download(words[0]), argv)


def known_models() -> str:
    """The models of the zoo, for the help."""
    return f"  Models:\n{textwrap.indent(textwrap.fill(', '.join(zoo()), 76), '    ')}"
