"""Pictures of a net's filters, feature maps, predictions and embeddings, and of its training.

Each function takes arrays or tensors and returns a matplotlib Figure. If it is given a path, it
also saves the picture (.png, .svg or .pdf). For example

    from moka import viz

    viz.filters(net.params["conv1"][0].data, "filters.png")  # of a caffe.Net
    viz.embedding(viz.tsne(features), labels, "map.png")
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from moka.draw.charts import running_mean
from moka.draw.contact_sheet import picture
from moka.draw.figures import COLORS, drawing, save
from moka.errors import UsageError
from moka.types import Array, PathLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's "muted" colors (https://sronpersonalpages.nl/~pault), which color-blind people can
# tell apart, and black: for ten classes. The next ten have the same colors and other marks.
CLASS_COLORS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#000000",
)
MARKS = "o^sDvP*X"
GAP = 1  # pixels between the images of a grid
MOST_NUMBERS = 16  # of rows or columns in a grid; if there are more, only every second has one
LINE = 28  # letters in a line of a label

Values = ArrayLike | torch.Tensor
Curves = Mapping[str, tuple[Values, Values]]  # name to places (N,) and values (N,)


def filters(weights: Values, path: PathLike | None = None) -> Figure:
    """Draw the filters of a convolution, all on one scale on which zero is the middle gray.

    Args:
        weights: (N, C, h, w). Filters of three channels (BGR) are shown in color and filters of
            one channel in gray, in rows of equal length. With any other C, each filter is a row of
            C gray images.

    Raises:
        UsageError: another shape; the picture cannot be drawn or saved.
    """
    values = _array(weights, 4, "weights (N, C, h, w)")
    bound = float(np.abs(values).max()) or 1.0
    count, channels = values.shape[:2]
    if channels == 3:
        color = (values / bound + 1) / 2
        figure = _grid_figure(color[:, ::-1].transpose(0, 2, 3, 1), "filter")
    elif channels == 1:
        figure = _grid_figure(values[:, 0], "filter", "weight", "gray", (-bound, bound))
    else:
        figure = _grid_figure(
            values.reshape(-1, *values.shape[2:]),
            "channel",
            "weight",
            "gray",
            (-bound, bound),
            rows=(count, "filter"),
        )
    return _saved(figure, path)


def feature_maps(
    blob: Values, path: PathLike | None = None, *, image: Values | None = None
) -> Figure:
    """Draw each channel of a blob as a picture, all on one scale.

    Args:
        blob: (C, H, W), such as `net.blobs["conv1"].data[0]`.
        image: shown beside the channels, (C, H, W), BGR if C is 3. Bytes are shown as they are;
            other numbers are stretched from the least to the greatest.

    Raises:
        UsageError: another shape; the picture cannot be drawn or saved.
    """
    values = _array(blob, 3, "blob (C, H, W)")
    scale = float(values.min()), float(values.max())
    return _saved(_grid_figure(values, "channel", "value", "viridis", scale, image=image), path)


def guesses(
    probabilities: Values,
    labels: Sequence[str],
    path: PathLike | None = None,
    *,
    image: Values | None = None,
    count: int = 5,
) -> Figure:
    """Draw the most probable classes as bars, the most probable on top.

    Args:
        probabilities: (K,), 0 to 1.
        labels: the names of the K classes.
        image: shown beside the bars, as by `feature_maps`.
        count: how many classes are drawn.

    Raises:
        UsageError: another shape, or not as many labels; the picture cannot be drawn or saved.
    """
    values = _array(probabilities, 1, "probabilities (K,)")
    if len(labels) != len(values):
        raise UsageError(f"there are {len(values)} probabilities, but {len(labels)} labels.")
    best = np.argsort(-values, kind="stable")[:count]
    with drawing(4.5 + (2.5 if image is not None else 0), 0.8 + 0.42 * len(best)) as figure:
        axes = _beside_image(figure, image, width=2)
        bars = axes.barh(range(len(best)), values[best], color=COLORS[0], height=0.7)
        axes.bar_label(bars, [f"{values[i]:.1%}" for i in best], padding=3)
        axes.set_yticks(range(len(best)), [_short(labels[i]) for i in best])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.18)  # room for "100.0%"
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel("probability")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_axisbelow(True)
    return _saved(figure, path)


def _short(label: str) -> str:
    """A label, cut to at most two lines."""
    return "\n".join(textwrap.wrap(label, LINE, max_lines=2, placeholder=" …"))


def embedding(
    points: Values,
    classes: Values,
    path: PathLike | None = None,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    axes: tuple[str, str] = ("", ""),
) -> Figure:
    """Draw points in a plane, colored by class; each class has its name amid its points.

    Args:
        points: (N, 2), such as the output of a siamese net or of `tsne`.
        classes: (N,), integers from 0.
        names: the names of the classes; None: their numbers.
        title: written above the picture.
        axes: the names of the two axes. Axes without names have no numbers either, since the
            numbers of t-SNE mean nothing.

    Raises:
        UsageError: another shape, or a class without a name; the picture cannot be drawn or saved.
    """
    places = _array(points, 2, "points (N, 2)")
    members = _array(classes, 1, "classes (N,)").astype(np.int64)
    if places.shape != (len(members), 2):
        raise UsageError(
            f"points have to be (N, 2) and classes (N,), got {places.shape} and {members.shape}."
        )
    found = np.unique(members).tolist()
    if found[0] < 0:
        raise UsageError(f"classes are numbered from 0, got {found[0]}.")
    if names is not None and found[-1] >= len(names):
        raise UsageError(f"class {found[-1]} has no name: there are {len(names)}, from 0 on.")
    with drawing(7.0, 6.0) as figure:
        ax = figure.subplots()
        for i in found:
            name = str(i) if names is None else names[i]
            _draw_class(ax, places[members == i], i, name)
        ax.set_aspect("equal", adjustable="datalim")  # distances are what it is about
        ax.set_axisbelow(True)
        ax.set_title(title)
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
        if not any(axes):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return _saved(figure, path)


def _draw_class(ax: Axes, places: Array, number: int, name: str) -> None:
    from matplotlib.patheffects import withStroke

    color = CLASS_COLORS[number % len(CLASS_COLORS)]
    mark = MARKS[number // len(CLASS_COLORS) % len(MARKS)]
    size = float(np.clip(1200 / len(places), 4, 30))  # square points
    x, y = places.T
    ax.scatter(x, y, s=size, c=color, marker=mark, linewidths=0, alpha=0.75, label=name)
    halo = [withStroke(linewidth=4, foreground="white")]
    middle = float(np.median(x)), float(np.median(y))
    text = ax.annotate(name, middle, ha="center", va="center", weight="bold", path_effects=halo)
    text.set_fontsize(13 if len(name) < 3 else 10)


def tsne(features: Values, *, perplexity: float = 30, seed: int = 0) -> Array:
    """Points in a plane, (N, 2), that are close where their features are similar (van der Maaten
    and Hinton, 2008). Computed by scikit-learn.

    Args:
        features: (N, ...), a row for each point.
        perplexity: about how many neighbors of a point count; at most a third of all points.
        seed: of the random numbers.

    Raises:
        UsageError: fewer than four points, all of them equal, or scikit-learn is missing.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UsageError(
            "t-SNE needs scikit-learn, which is not installed.",
            advice="Install it: pip install scikit-learn",
        ) from None
    rows = _array(features, None, "features (N, ...)")
    if len(rows) < 4:
        raise UsageError(f"t-SNE needs at least four points, got {len(rows)}.")
    rows = rows.reshape(len(rows), -1)
    if (rows == rows[0]).all():
        raise UsageError("t-SNE needs points that differ; all features are equal.")
    start = "pca" if rows.shape[1] > 1 else "random"
    usable = min(perplexity, (len(rows) - 1) / 3)
    made = TSNE(2, perplexity=usable, init=start, random_state=seed).fit_transform(rows)
    return np.asarray(made, np.float32)


def curves(
    panels: Mapping[str, Curves],
    path: PathLike | None = None,
    *,
    x: str = "iteration",
    title: str = "",
) -> Figure:
    """Draw measurements of a training run, with a panel for each quantity.

    Args:
        panels: for each quantity (the label of its axis) its curves by name; "" is a curve without
            a name. A name has the same color in all panels. A curve of more than 100 points is
            pale, and its running mean is drawn over it.
        x: the label of the horizontal axis.
        title: written above the picture.

    Raises:
        UsageError: other shapes, or nothing to draw; the picture cannot be drawn or saved.
    """
    if not panels or not all(panels.values()):
        raise UsageError("there is no curve to draw.")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    with drawing(7.0, 0.6 + 2.3 * len(panels)) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        rows[0].set_title(title)
        for ax, (quantity, lines) in zip(rows, panels.items(), strict=True):
            for name, (places, values) in lines.items():
                _draw_curve(ax, places, values, name, COLORS[names.index(name) % len(COLORS)])
            ax.set_ylabel(quantity)
            if any(lines):
                ax.legend()
        rows[-1].set_xlabel(x)
    return _saved(figure, path)


def _draw_curve(ax: Axes, places: Values, values: Values, name: str, color: str) -> None:
    xs, ys = _array(places, 1, "places (N,)"), _array(values, 1, "values (N,)")
    if len(xs) != len(ys):
        raise UsageError(f'curve "{name}" has {len(xs)} places, but {len(ys)} values.')
    if len(xs) > 100:
        ax.plot(xs, ys, color=color, linewidth=0.6, alpha=0.35)
        ys = np.asarray(running_mean(ys.tolist(), len(ys) // 50))
    marker = "o" if len(xs) <= 40 else ""
    ax.plot(xs, ys, color=color, linewidth=1.5, marker=marker, markersize=3, label=name)


def _grid_figure(
    images: Array,
    what: str,
    scale_name: str = "",
    color_map: str | None = None,
    scale: tuple[float, float] | None = None,
    *,
    rows: tuple[int, str] | None = None,
    image: Values | None = None,
) -> Figure:
    """A figure of images in rows and columns, all on one scale.

    Args:
        images: (N, h, w), or (N, h, w, 3) in RGB from 0 to 1.
        what: what an image is called; its number is the sum of its row's and its column's.
        scale_name, color_map, scale: for images without colors: the name of the values, how they
            are colored, and the least and the greatest of them.
        rows: how many rows, and what a row is called; then columns are numbered on their own.
        image: another image, shown on the left.
    """
    count, height, width = images.shape[:3]
    columns = count // rows[0] if rows else column_count(count)
    row_count = math.ceil(count / columns)
    sheet = tiled(images, columns)
    inches = 5.5 / max(sheet.shape[:2])
    extra = 0.6 + (1.0 if scale else 0) + (2.2 if image is not None else 0)
    size = sheet.shape[1] * inches + extra, max(2.2, sheet.shape[0] * inches + 0.7)
    with drawing(*size) as figure:
        axes = _beside_image(figure, image, width=2.5)
        axes.grid(visible=False)
        vmin, vmax = scale or (None, None)
        shown = axes.imshow(sheet, cmap=color_map, vmin=vmin, vmax=vmax, interpolation="nearest")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        _number(axes.set_xticks, width, columns, 1)
        _number(axes.set_yticks, height, row_count, 1 if rows else columns)
        axes.set_xlabel(what if rows else f"{what} (row + column)")
        axes.set_ylabel(rows[1] if rows else "")
        if scale:
            figure.colorbar(shown, ax=axes, label=scale_name, shrink=0.8, aspect=25)
    return figure


def column_count(count: int) -> int:
    """The number of columns in a grid of `count` images: as in a square, or up to twice as many if
    then the last row is full."""
    square = math.ceil(math.sqrt(count))
    return next((n for n in range(square, 2 * square + 1) if count % n == 0), square)


def tiled(images: Array, columns: int) -> Array:
    """One image of the images (N, h, w) or (N, h, w, 3), in reading order, with gaps. Blank pixels
    are NaN, or white among colors."""
    count, height, width, *colors = images.shape
    rows = math.ceil(count / columns)
    blank = 1.0 if colors else np.nan
    sheet = np.full(
        (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, *colors), blank, np.float32
    )
    for k, image in enumerate(images):
        y, x = k // columns * (height + GAP), k % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = image
    return sheet


def _number(set_ticks: Any, side: int, count: int, step: int) -> None:
    """Write 0, step, 2 step, ... at the middles of a grid's rows or columns."""
    numbered = range(0, count, math.ceil(count / MOST_NUMBERS))
    middles = [i * (side + GAP) + (side - 1) / 2 for i in numbered]
    set_ticks(middles, [str(i * step) for i in numbered])


def _beside_image(figure: Figure, image: Values | None, width: float) -> Axes:
    """The axes of a figure; with an image on their left they are `width` times as wide as it."""
    if image is None:
        return figure.subplots()
    left, right = figure.subplots(1, 2, width_ratios=[1, width])
    values = _on_host(image)
    if values.ndim != 3:
        raise UsageError(f"an image is (C, H, W), got shape {values.shape}.")
    left.imshow(picture(values)[..., ::-1], interpolation="nearest")
    left.set_axis_off()
    return right


def _array(values: Values, dimensions: int | None, what: str) -> Array:
    """The values as a NumPy array with this number of dimensions.

    Raises:
        UsageError: another shape, no values, or a value that is not finite.
    """
    array = _on_host(values).astype(np.float32, copy=False)
    if (dimensions is not None and array.ndim != dimensions) or not array.size:
        raise UsageError(f"{what} are wanted, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise UsageError(f"{what} hold a number that is not finite.")
    return array


def _on_host(values: Values) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
    return np.asarray(values)


def _saved(figure: Figure, path: PathLike | None) -> Figure:
    if path is not None:
        save(figure, path)
    return figure
