"""Limits of the process and variables that change what Moka does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from moka.cores import usable_cores
from moka.doctor.facts import BROKEN, FINE, WORTH_KNOWING, Fact
from moka.errors import UsageError
from moka.inference.engines import AUTO, BACKENDS, VARIABLE, chosen
from moka.waiting import SPINS

TOPIC = "settings"
LEAST_FILES = 1024
SHOWN = (  # variables that change numbers, speed or messages
    "CUDA_VISIBLE_DEVICES",
    "GLOG_log_dir",
    "GLOG_minloglevel",
    "GLOG_v",
    "GOMP_SPINCOUNT",
    "MKL_NUM_THREADS",
    VARIABLE,
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PYTHONPATH",
)


def settings(variables: Mapping[str, str] = os.environ) -> Iterator[Fact]:
    """Yield facts about engines, limits and variables."""
    yield engine()
    yield from limits()
    for name in SHOWN:
        if name in variables:
            yield variable(name, variables[name])


def engine() -> Fact:
    """What runs nets in testing."""
    try:
        name = chosen()
    except UsageError as error:
        return Fact(TOPIC, "engine", "none", BROKEN, str(error))
    installed = [backend.name for backend in BACKENDS if backend.is_installed()]
    among = f", the fastest of {', '.join(installed)}" if name == AUTO else ""
    return Fact(TOPIC, "engine", f"{name}{among}")


def limits() -> Iterator[Fact]:
    """Yield the limits that the system sets this process."""
    try:
        import resource
    except ImportError:  # Windows
        return
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = files != resource.RLIM_INFINITY and files < LEAST_FILES
    yield Fact(
        TOPIC,
        "open files",
        "no limit" if files == resource.RLIM_INFINITY else f"at most {files}",
        WORTH_KNOWING if few else FINE,
        _more_files(most) if few else "",
    )
    for name, limit in (
        ("address space", resource.RLIMIT_AS),
        ("size of a file", resource.RLIMIT_FSIZE),
    ):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield Fact(
                TOPIC,
                name,
                f"at most {soft / 1e9:.1f} GB",
                WORTH_KNOWING,
                "Databases and models are mapped and written as a whole: raise it with ulimit.",
            )


def _more_files(most: int) -> str:
    """How to have more open files, of which the system allows at most so many."""
    if 0 <= most < LEAST_FILES:  # no limit is -1
        return (
            f"Only the administrator can allow more than {most}: in limits.conf, or by LimitNOFILE"
            " of a service."
        )
    return f"ulimit -n {most if 0 < most < 4096 else 4096}"


def variable(name: str, value: str) -> Fact:
    """A variable that is set, and whether its value can be meant so."""
    found = f"{name}={value}"
    if name == "GOMP_SPINCOUNT" and value == SPINS:
        return Fact(TOPIC, "variable", f"{found}, which the commands set")
    if name == "OMP_NUM_THREADS" and value.isdigit() and int(value) > usable_cores():
        return Fact(
            TOPIC,
            "variable",
            found,
            WORTH_KNOWING,
            f"There are {usable_cores()} cores; more threads than that wait for each other.",
        )
    if name == "CUDA_VISIBLE_DEVICES" and not value:
        return Fact(TOPIC, "variable", found, WORTH_KNOWING, "It hides all GPUs: unset it.")
    if name == "PYTHONPATH":
        missing = [path for path in value.split(os.pathsep) if path and not os.path.exists(path)]
        if missing:
            return Fact(TOPIC, "variable", found, WORTH_KNOWING, f"{missing[0]} does not exist.")
    return Fact(TOPIC, "variable", found)
