"""In Moka's programs `import caffe` gives Moka's, whatever stands on PYTHONPATH.

Who has built BVLC Caffe has its folder there, as its instructions say; Python layers that the
program runs import `caffe`, and would get that one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import moka

_BESIDE = str(Path(moka.__file__).parents[1])


class OwnCaffe:
    """Finds the module `caffe` beside `moka`."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's place; None for all other modules."""
        return PathFinder.find_spec(fullname, [_BESIDE], target) if fullname == "caffe" else None


@contextmanager
def as_programs_import() -> Iterator[None]:
    """Within it modules are found as in a program of the user's."""
    finders = sys.meta_path[:]
    sys.meta_path[:] = [finder for finder in finders if finder is not OwnCaffe]
    try:
        yield
    finally:
        sys.meta_path[:] = finders


def prefer_own_caffe() -> None:
    """From now on `import caffe` gives Moka's in this process."""
    if OwnCaffe not in sys.meta_path:
        sys.meta_path.insert(0, OwnCaffe)
