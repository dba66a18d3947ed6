"""What all pictures drawn by matplotlib share: the style, the colors, the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moka.errors import UsageError
from moka.files import write_atomically
from moka.types import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colors, which color-blind people can tell apart, without the palest one.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
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
FILES: Any = {
    "svg.fonttype": "none",  # text, which can be searched and read aloud, not outlines
    "svg.hashsalt": "moka",  # else the names in the file would be random
}
INSTALL = "Install it: pip install matplotlib"
DPI = 200.0  # of a saved picture


def check_matplotlib(advice: str = INSTALL) -> None:
    """Raise a UsageError with this advice if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "pictures need matplotlib, which is not installed.", advice=advice
        ) from None


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of this many inches; the style holds while it is drawn.

    Raises:
        UsageError: matplotlib is missing.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def file_forms() -> list[str]:
    """The forms of files that matplotlib writes: png, svg, ..."""
    from matplotlib.backend_bases import FigureCanvasBase

    return list(FigureCanvasBase.get_supported_filetypes())


def picture_bytes(figure: Figure, form: str, *, dpi: float = DPI, title: str = "") -> bytes:
    """A figure as the content of a file; the same figure gives the same bytes.

    Args:
        form: one of `file_forms`.
        dpi: pixels for each inch.
        title: what a screen reader says of an SVG picture.
    """
    import matplotlib

    file = io.BytesIO()
    metadata: Any = None  # which most forms refuse
    if form == "svg":
        metadata = {"Date": None, **({"Title": title} if title else {})}
    with matplotlib.rc_context(FILES):
        figure.savefig(file, format=form, dpi=dpi, metadata=metadata)
    return file.getvalue()


def save(figure: Figure, file: PathLike) -> None:
    """Write a picture; its suffix (.png, .svg or another of matplotlib's) chooses the form.

    Raises:
        UsageError: an unknown form, or the file cannot be written.
    """
    known = file_forms()
    form = Path(file).suffix.lstrip(".").lower()
    if form not in known:
        raise UsageError(
            f"{file}: a picture's name ends in {', '.join(f'.{each}' for each in known)}."
        )
    content = picture_bytes(figure, form, title=_title(figure))
    try:
        write_atomically(file, lambda opened: opened.write(content))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None


def _title(figure: Figure) -> str:
    """The first title in a figure, or what its vertical axes show."""
    titles = [axes.get_title() for axes in figure.axes]
    labels = [axes.get_ylabel() for axes in figure.axes]
    return next(filter(None, titles), ", ".join(filter(None, labels)))
