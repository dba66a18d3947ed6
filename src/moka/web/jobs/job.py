"""A job: a `caffe train` process of its own in a folder of its own."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from moka.errors import DataError
from moka.files import write_atomically
from moka.free_name import free_name
from moka.web.jobs.logs import JOB, RECORDS
from moka.web.processes import Process

SOLVER, NET, LOG = "solver.prototxt", "net.prototxt", "train.log"
PREFIX = "snapshot"  # what the names of its snapshots begin with


@dataclass
class Job:
    """What stands in a job's job.json.

    Attributes:
        folder: where it lies; not in the file.
        title: as people call it; it may change, the folder's name does not.
        created_s: seconds since 1970.
        start: how it begins or goes on: flags of `caffe train`, such as --snapshot=FILE.
        devices: what it runs on: flags of `caffe train`, such as --workers=2; none: one process.
        waiting: whether it is to be started when its turn comes.
        process: the last that ran it, None before the first.
        exit_code: of that, as far as it is known.
        origin: the job that it was cloned from, or fine-tunes, "" for none.
        epoch: (records, how many of them an iteration of all its processes takes) of its net when
            it was made, None if that is not known.
    """

    folder: Path
    title: str
    created_s: float
    start: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    waiting: bool = False
    process: Process | None = None
    exit_code: int | None = None
    origin: str = ""
    epoch: tuple[int, int] | None = None

    def save(self) -> None:
        """Write the file."""
        fields = asdict(self)
        del fields["folder"]
        text = json.dumps(fields, indent=1)
        write_atomically(self.folder / JOB, lambda out: out.write(text.encode()))

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.is_running()

    def arguments(self, root: Path) -> list[str]:
        """What stands after `caffe`, in the folder `root`."""
        here = self.folder.relative_to(root).as_posix()
        files = [f"--solver={here}/{SOLVER}", f"--json_log={here}/{RECORDS}"]
        return ["train", *files, *self.devices, *self.start]

    def shell_line(self, root: Path) -> str:
        """The line with which a shell does what the page does."""
        log = shlex.quote((self.folder.relative_to(root) / LOG).as_posix())
        return f"cd {shlex.quote(str(root))} && caffe {shlex.join(self.arguments(root))} 2>> {log}"


def read_job(folder: Path) -> Job:
    """The job of a folder.

    Raises:
        DataError: job.json is missing or is something else.
    """
    file = folder / JOB
    try:
        fields: dict[str, Any] = json.loads(file.read_bytes())
        process = fields.pop("process", None)
        epoch = fields.pop("epoch", None)
        return Job(
            folder,
            process=Process(**process) if process else None,
            epoch=(int(epoch[0]), int(epoch[1])) if epoch else None,
            **fields,
        )
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", file=file) from None
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError):
        raise DataError("is no file of a job.", file=file) from None


def new_folder(root: Path, title: str) -> Path:
    """A new folder for a job of this title."""
    jobs = root / "jobs"
    jobs.mkdir(exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", title.lower()).strip("-._")[:60] or "job"
    while True:
        folder = jobs / free_name(name, {path.name for path in jobs.iterdir()}, first=2, mark="-")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
