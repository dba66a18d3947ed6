"""What all pictures drawn by matplotlib share: the style, the colours, the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moka.errors import UsageError
from moka.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can tell apart, the palest left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of that many inches; the style holds while it is drawn.

    Raises:
        UsageError: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "charts need matplotlib, which is not installed.",
            advice="Install it: pip install matplotlib",
        ) from None
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, file: PathLike) -> None:
    """Write a picture; its suffix, .png, .svg or another of matplotlib's, says in what form.

    Raises:
        UsageError: an unknown form, or the file cannot be written.
    """
    import matplotlib

    known = figure.canvas.get_supported_filetypes()
    suffix = Path(file).suffix.lstrip(".").lower()
    if suffix not in known:
        raise UsageError(
            f"{file}: a picture's name ends in {', '.join(f'.{each}' for each in known)}."
        )
    always_the_same: Any = {"svg.hashsalt": "moka"}  # names in the file would be random else
    try:
        with matplotlib.rc_context(always_the_same):
            figure.savefig(file, dpi=200, metadata={"Date": None} if suffix == "svg" else None)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
