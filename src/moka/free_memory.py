"""How much memory this process may take, and one sentence for what asks for more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from moka.errors import NetError
from moka.heap import kept_memory

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
UNKNOWN = float("inf")
WORTH_ASKING = 1 << 26  # bytes; less is taken without a question
_ALLOCATORS = re.compile(
    r"can't allocate memory|not enough memory|out of memory|calculation overflowed"
    r"|start new thread",
    re.IGNORECASE,
)
_TRIED = re.compile(r"allocate ([\d.,]+ ?(?:bytes|[KMGT]iB))")


def free_memory(cgroup: Path = CGROUP) -> float:
    """How many bytes this process can still get: of the machine's memory and swap, a container's
    limit and the limit of its address space the least. Infinite where the system does not say."""
    machine = _meminfo()
    free = machine.get("MemAvailable", UNKNOWN) + machine.get("SwapFree", 0) + kept_memory()
    return min(free, _left_in_container(cgroup), _address_space(used=True))


def most_memory(cgroup: Path = CGROUP) -> float:
    """How many bytes this process can have if nobody else has any; infinite if unknown."""
    machine = _meminfo()
    total = machine.get("MemTotal", UNKNOWN) + machine.get("SwapTotal", 0)
    limit = _number(cgroup / "memory.max")
    return min(total, UNKNOWN if limit is None else limit, _address_space(used=False))


def check_free(wanted: int, what: str) -> None:
    """Raises NetError if so many bytes are not free.

    Args:
        what: what takes them, as the beginning of a sentence.
    """
    if wanted >= WORTH_ASKING and wanted > (free := free_memory()):
        raise NetError(f"{what} takes {gigabytes(wanted)}, and {gigabytes(free)} are free.")


def gigabytes(count: float) -> str:
    """`3.2 GB`, of a number of bytes."""
    return f"{count / 1e9:,.1f} GB"


def out_of_memory(error: BaseException) -> str | None:
    """One sentence for an error of an allocator, Python's, NumPy's or PyTorch's; None: it is no
    such error."""
    text = str(error)
    says_so = isinstance(error, RuntimeError) and _ALLOCATORS.search(text)
    if not (says_so or isinstance(error, MemoryError)):
        return None
    if "start new thread" in text:
        return "no further thread can be started: a limit of memory or of processes is reached."
    tried = re.search(r"[\d.]+ [KMGTPE]?i?B", text) or _TRIED.search(text)
    size = f": {tried[tried.lastindex or 0]} were asked for" if tried else ""
    where = " on the GPU" if "CUDA" in text else ""
    return f"there is not enough memory{where}{size}."


def _meminfo() -> Mapping[str, float]:
    """Numbers of bytes by name; none where the system does not say."""
    try:
        lines = MEMINFO.read_text().splitlines()
        return {
            line.split(":")[0]: float(line.split()[1]) * 1024 for line in lines if " kB" in line
        }
    except (OSError, ValueError, IndexError):
        return {}


def _left_in_container(cgroup: Path) -> float:
    """What a container's limit leaves; the cache of its files counts as free."""
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is None or used is None:
        return UNKNOWN
    try:
        words = [line.split() for line in (cgroup / "memory.stat").read_text().splitlines()]
        cached = sum(int(n) for name, n in words if name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        cached = 0
    return limit - used + cached


def _address_space(*, used: bool) -> float:
    """The limit of the process's address space, less what it uses of it if `used`."""
    try:
        import resource
    except ImportError:  # Windows
        return UNKNOWN
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return UNKNOWN
    if not used:
        return limit
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        pages = 0
    return limit - pages * resource.getpagesize()


def _number(file: Path) -> float | None:
    try:
        return float(int(file.read_text()))
    except (OSError, ValueError):  # "max": no limit
        return None
