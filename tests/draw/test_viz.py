from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from moka import viz
from moka.errors import UsageError


def sheet(figure: Any, axes: int = 0) -> np.ndarray:
    """The one image in a figure's axes."""
    (image,) = figure.axes[axes].images
    array: np.ndarray = np.ma.filled(image.get_array().astype(float), np.nan)
    return array


def texts(labels: Any) -> list[str]:
    return [label.get_text() for label in labels]


# --- grids ------------------------------------------------------------------------------


def test_images_are_tiled_in_reading_order_with_gaps() -> None:
    images = np.arange(1.0, 13).reshape(3, 2, 2)
    n = np.nan
    assert viz.tiled(images, 2) == pytest.approx(
        np.array(
            [
                [1, 2, n, 5, 6],
                [3, 4, n, 7, 8],
                [n, n, n, n, n],
                [9, 10, n, n, n],
                [11, 12, n, n, n],
            ]
        ),
        nan_ok=True,
    )


def test_blank_among_colors_is_white() -> None:
    found = viz.tiled(np.zeros((1, 1, 2, 3)), 2)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (4, 2), (6, 3), (20, 5), (32, 8), (64, 8), (96, 12), (37, 7)]
)
def test_columns(count: int, columns: int) -> None:
    assert viz.column_count(count) == columns


def test_filters_of_one_channel_share_a_scale_around_zero() -> None:
    weights = np.array([-1.0, 0, 2, 4], np.float32).reshape(4, 1, 1, 1)
    figure: Any = viz.filters(weights)
    assert sheet(figure)[::2, ::2].tolist() == [[-1, 0], [2, 4]]
    (image,) = figure.axes[0].images
    assert image.get_clim() == (-4, 4)
    assert image.get_cmap()(0.5)[:3] == pytest.approx([0.5] * 3, abs=0.01)
    assert texts(figure.axes[0].get_xticklabels()) == ["0", "1"]
    assert texts(figure.axes[0].get_yticklabels()) == ["0", "2"]
    assert figure.axes[0].get_xlabel() == "filter (row + column)"
    assert figure.axes[1].get_ylabel() == "weight"


def test_filters_of_three_channels_are_bgr() -> None:
    weights = np.array([[2.0, 0, -1]], np.float32).reshape(1, 3, 1, 1)
    figure = viz.filters(torch.nn.Parameter(torch.tensor(weights)))
    assert sheet(figure)[0, 0] == pytest.approx([0.25, 0.5, 1])
    assert len(figure.axes) == 1


def test_filters_of_other_channels_are_rows() -> None:
    weights = np.arange(8, dtype=np.float32).reshape(4, 2, 1, 1)
    figure: Any = viz.filters(weights)
    assert sheet(figure)[::2, ::2].tolist() == weights.reshape(4, 2).tolist()
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("channel", "filter")
    assert texts(ax.get_xticklabels()) == ["0", "1"]
    assert texts(ax.get_yticklabels()) == ["0", "1", "2", "3"]
    assert ax.get_yticks().tolist() == [0, 2, 4, 6]


def test_filters_that_are_all_zero() -> None:
    viz.filters(np.zeros((2, 3, 5, 5)))
    viz.filters(np.zeros((2, 1, 5, 5)))


def test_of_many_rows_every_second_is_numbered() -> None:
    figure: Any = viz.filters(np.ones((20, 2, 3, 3)))
    assert texts(figure.axes[0].get_yticklabels()) == [str(i) for i in range(0, 20, 2)]


def test_feature_maps_beside_the_image() -> None:
    blob = torch.arange(12.0).reshape(3, 2, 2).requires_grad_()
    image = np.array([[[10]], [[20]], [[30]]], np.uint8)
    figure: Any = viz.feature_maps(blob, image=image)
    assert sheet(figure, 0).tolist() == [[[30, 20, 10]]]
    assert sheet(figure, 1)[:2, :2].tolist() == [[0, 1], [2, 3]]
    assert figure.axes[1].images[0].get_clim() == (0, 11)
    assert texts(figure.axes[1].get_yticklabels()) == ["0"]
    assert texts(figure.axes[1].get_xticklabels()) == ["0", "1", "2"]
    assert figure.axes[2].get_ylabel() == "value"


# --- guesses -----------------------------------------------------------------------------


def test_guesses() -> None:
    labels = ["cat", "dog", "a word " * 20, "ship"]
    figure: Any = viz.guesses([0.1, 0.5, 0.35, 0.05], labels, count=3)
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 0.35, 0.1])
    names = texts(ax.get_yticklabels())
    assert names[0] == "dog"
    assert names[1].endswith(" …")
    assert len(names[1].splitlines()) == 2
    assert names[2] == "cat"
    assert texts(ax.texts) == ["50.0%", "35.0%", "10.0%"]
    assert ax.yaxis_inverted()  # the first is on top
    assert ax.get_xlabel() == "probability"


def test_guesses_among_fewer_classes_and_with_an_image() -> None:
    probabilities = torch.tensor([0.25, 0.75], dtype=torch.bfloat16)
    image = torch.zeros(1, 4, 6, requires_grad=True)
    figure: Any = viz.guesses(probabilities, "ab", image=image)
    assert sheet(figure, 0).shape == (4, 6, 3)
    assert texts(figure.axes[1].get_yticklabels()) == ["b", "a"]


# --- embedding ---------------------------------------------------------------------------


def test_points_are_colored_by_class() -> None:
    points = np.array([[0, 0], [2, 4], [0, 2], [5, 5], [9, 6]])
    classes = np.array([1, 3, 1, 3, 3])
    figure: Any = viz.embedding(
        points, classes, names=["no", "one", "no", "three"], title="Map", axes=("x", "y")
    )
    (ax,) = figure.axes
    one, three = ax.collections
    assert one.get_offsets().tolist() == [[0, 0], [0, 2]]
    assert three.get_offsets().tolist() == [[2, 4], [5, 5], [9, 6]]
    for drawn, number in ((one, 1), (three, 3)):
        assert to_hex(drawn.get_facecolor()[0]).upper() == viz.CLASS_COLORS[number]
    assert texts(ax.get_legend().get_texts()) == texts(ax.texts) == ["one", "three"]
    assert [text.xy for text in ax.texts] == [(0, 1), (5, 5)]  # medians
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("Map", "x", "y")
    assert len(ax.get_xticks())
    assert ax.get_aspect() == 1


def test_without_names_axes_have_no_numbers_and_classes_are_theirs() -> None:
    figure: Any = viz.embedding(torch.rand(3, 2), torch.tensor([2, 0, 2]))
    (ax,) = figure.axes
    assert texts(ax.texts) == ["0", "2"]
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0


def test_more_classes_than_colors_have_other_marks() -> None:
    figure: Any = viz.embedding(np.zeros((3, 2)), [0, 1, 10])
    first, second, eleventh = figure.axes[0].collections
    assert to_hex(eleventh.get_facecolor()[0]) == to_hex(first.get_facecolor()[0])
    marks = [c.get_paths()[0].vertices.tolist() for c in (first, second, eleventh)]
    assert marks[0] == marks[1] != marks[2]


def test_tsne_keeps_neighbors_together() -> None:
    rng = np.random.default_rng(0)
    clouds = np.concatenate([rng.normal(10 * i, 1, (20, 2, 3)) for i in range(3)])
    places = viz.tsne(clouds)
    assert places.shape == (60, 2)
    centers = places.reshape(3, 20, 2).mean(1)
    distances = np.linalg.norm(places[:, None] - centers, axis=-1)
    assert distances.argmin(1).tolist() == np.repeat(range(3), 20).tolist()


def test_tsne_of_few_points_and_of_one_number_each() -> None:
    row = np.arange(4.0)[:, None]  # too little to start from principal components
    assert viz.tsne(row).shape == (4, 2)
    assert np.array_equal(viz.tsne(row), viz.tsne(row))
    assert not np.array_equal(viz.tsne(row), viz.tsne(row, seed=1))
    with pytest.raises(UsageError, match=r"t-SNE needs at least four points, got 3\.$"):
        viz.tsne(np.eye(3))
    with pytest.raises(UsageError, match=r"all features are equal\.$"):
        viz.tsne(np.ones((4, 2)))


def test_tsne_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UsageError, match=r"t-SNE needs scikit-learn.*pip install scikit-learn$"):
        viz.tsne(np.eye(4))


# --- all ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: viz.filters(np.ones((2, 3, 2, 2)), path),
        lambda path: viz.feature_maps(np.ones((2, 3, 3)), path),
        lambda path: viz.guesses([0.5], ["a"], path),
        lambda path: viz.embedding(np.ones((1, 2)), [0], path),
    ],
)
def test_given_a_path_the_picture_is_saved(draw: Callable[[Path], Any], tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: viz.filters(np.ones((2, 3))), r"weights \(N, C, h, w\).* got shape \(2, 3\)\.$"),
        (lambda: viz.filters(np.ones((0, 3, 2, 2))), r"got shape \(0, 3, 2, 2\)\.$"),
        (lambda: viz.feature_maps(np.ones((1, 2, 3, 3))), r"blob \(C, H, W\) .* \(1, 2, 3, 3\)"),
        (lambda: viz.feature_maps([[[np.nan]]]), r"blob \(C, H, W\) .* not finite\.$"),
        (
            lambda: viz.feature_maps([[[1]]], image=[[1]]),
            r"an image is \(C, H, W\), got .*\(1, 1\)",
        ),
        (lambda: viz.guesses([[0.5]], ["a"]), r"probabilities \(K,\) are wanted, got .*\(1, 1\)"),
        (lambda: viz.guesses([0.5], ["a", "b"]), r"there are 1 probabilities, but 2 labels\.$"),
        (lambda: viz.embedding(np.ones((3, 3)), [0, 1, 2]), r"got \(3, 3\) and \(3,\)\.$"),
        (lambda: viz.embedding(np.ones((3, 2)), [0, 1]), r"got \(3, 2\) and \(2,\)\.$"),
        (lambda: viz.embedding(np.ones((1, 2)), [-1]), r"numbered from 0, got -1\.$"),
        (lambda: viz.embedding([[1, 2]], [2], names="ab"), r"class 2 has no name: there are 2"),
    ],
)
def test_what_cannot_be_drawn(draw: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        draw()


# --- curves -----------------------------------------------------------------------------


def test_curves_of_two_quantities() -> None:
    loss = np.linspace(3, 1, 200)
    panels: dict[str, viz.Curves] = {
        "loss": {"tuned": (np.arange(200), loss), "fresh": (np.arange(200), loss + 1)},
        "test accuracy": {"fresh": ([0, 100], [0.2, 0.9])},
    }
    figure: Any = viz.curves(panels, title="two nets")
    above, below = figure.axes
    assert above.get_title() == "two nets"
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "test accuracy"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "iteration"]
    assert [texts(ax.get_legend().get_texts()) for ax in figure.axes] == [
        ["tuned", "fresh"],
        ["fresh"],
    ]
    pale, mean, *_ = above.lines
    assert pale.get_ydata() == pytest.approx(loss)
    assert mean.get_ydata()[100] == pytest.approx(loss[96:105].mean())
    (line,) = below.lines
    assert line.get_xydata().tolist() == [[0, np.float32(0.2)], [100, np.float32(0.9)]]
    assert line.get_color() == above.lines[-1].get_color() != mean.get_color()


def test_a_curve_without_a_name_has_no_legend() -> None:
    (ax,) = viz.curves({"loss": {"": ([1, 2], [3, 4])}}, x="epoch").axes
    assert ax.get_legend() is None
    assert ax.get_xlabel() == "epoch"


def test_curves_that_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="there is no curve to draw"):
        viz.curves({})
    with pytest.raises(UsageError, match="there is no curve to draw"):
        viz.curves({"loss": {}})
    with pytest.raises(UsageError, match='curve "a" has 2 places, but 1 values'):
        viz.curves({"loss": {"a": ([1, 2], [3])}})
