from __future__ import annotations

import sys
from math import isnan, nan
from typing import Any

import pytest

from moka.draw.charts import TITLES, chart_type, draw, running_mean
from moka.draw.figures import COLORS
from moka.errors import UsageError
from moka.report.readings import Reading, TrainingLog


def log(displays: int = 3, tests: int = 2, *, top5: bool = False) -> TrainingLog:
    """Displays at 0, 10, ... with losses 4, 3, 2, ..., rates 1, 0.1, ...; tests at 0, 20, ..."""
    outputs = {"accuracy": 0.5, "loss": 2.0} | ({"top5": 0.75} if top5 else {})
    return TrainingLog(
        [Reading(10 * i, 2.0 * i, nan, 0.1**i, 4.0 - i) for i in range(displays)],
        [Reading(20 * i, 3.0 * i, nan, outputs=outputs, losses={"loss"}) for i in range(tests)],
    )


def curves(ax: Any) -> dict[str, list[tuple[float, float]]]:
    """Points of each curve, by its label."""
    return {str(c.get_label()): list(map(tuple, c.get_xydata())) for c in ax.lines}


def legend(ax: Any) -> list[str]:
    found = ax.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


@pytest.mark.parametrize(
    ("kind", "label", "points"),
    [
        (0, "test accuracy", [(0, 0.5), (20, 0.5)]),
        (1, "test accuracy", [(0, 0.5), (3, 0.5)]),
        (2, "test loss", [(0, 2), (20, 2)]),
        (3, "test loss", [(0, 2), (3, 2)]),
        (4, "learning rate", [(0, 1), (10, 0.1), (20, 0.01)]),
        (5, "learning rate", [(0, 1), (2, 0.1), (4, 0.01)]),
        (6, "train loss", [(0, 4), (10, 3), (20, 2)]),
        (7, "train loss", [(0, 4), (2, 3), (4, 2)]),
    ],
)
def test_the_eight_charts(kind: int, label: str, points: list[tuple[float, float]]) -> None:
    (ax,) = draw({"one": log(), "two": log()}, kind).axes
    assert list(curves(ax)) == legend(ax) == ["one", "two"]
    for found in curves(ax).values():
        assert found == [pytest.approx(point) for point in points]
    assert ax.get_ylabel() == label
    assert ax.get_xlabel() == ("time (s)" if kind % 2 else "iteration")
    assert ax.get_yscale() == ("log" if label == "learning rate" else "linear")
    assert [line.get_color() for line in ax.lines] == list(COLORS[:2])
    assert all(line.get_visible() for line in ax.get_xgridlines())


def test_the_overview() -> None:
    loss, accuracy, rate = draw({"lenet": log()}).axes
    assert list(curves(loss)) == legend(loss) == ["train", "test"]
    assert [ax.get_ylabel() for ax in (loss, accuracy, rate)] == [
        "loss",
        "test accuracy",
        "learning rate",
    ]
    assert loss.get_title() == "lenet"
    assert legend(accuracy) == legend(rate) == []
    assert [ax.get_xlabel() for ax in (loss, accuracy, rate)] == ["", "", "iteration"]


def test_the_overview_of_several() -> None:
    loss, accuracy, rate = draw({"a": log(), "b": log(top5=True)}).axes
    assert legend(loss) == ["a train", "a test", "b train", "b test"]
    assert legend(accuracy) == ["a", "b accuracy", "b top5"]
    assert legend(rate) == ["a", "b"]
    assert loss.get_title() == ""
    styles = [(line.get_color(), line.get_linestyle()) for line in loss.lines]
    assert styles == [(COLORS[i], style) for i in (0, 1) for style in ("-", "--")]


def test_without_tests_the_overview_has_two_parts() -> None:
    assert [ax.get_ylabel() for ax in draw({"x": log(tests=0)}).axes] == ["loss", "learning rate"]


def test_a_loss_over_decades_is_drawn_on_a_logarithmic_scale() -> None:
    readings = [Reading(i, 0.0, nan, 1.0, loss) for i, loss in enumerate((3.0, 1.0, 0.1))]
    assert draw({"x": TrainingLog(readings, [])}, 6).axes[0].get_yscale() == "log"
    readings[1].loss = 0.0  # which has no logarithm
    assert draw({"x": TrainingLog(readings, [])}, 6).axes[0].get_yscale() == "linear"


def test_many_losses_are_drawn_with_their_running_mean() -> None:
    readings = [Reading(i, 0.0, nan, 1.0, 2.0 + i % 2) for i in range(200)]
    lines: Any = draw({"x": TrainingLog(readings, [])}, 6).axes[0].lines
    thin, thick = lines
    assert list(thin.get_ydata()) == [r.loss for r in readings]
    assert list(thick.get_ydata())[100:] == pytest.approx([2.5] * 100, abs=0.11)
    assert legend(thin.axes) == ["x"]


def test_running_mean() -> None:
    assert running_mean([8.0, 4.0, 0.0, 4.0, 8.0], 1) == pytest.approx([8, 4, 8 / 3, 4, 6])
    assert running_mean([1.0, nan, 3.0], 1) == pytest.approx([1, 2, 3])
    assert isnan(running_mean([nan, 1.0], 1)[0])
    assert running_mean([5.0, 1.0], 0) == [5.0, 1.0]


@pytest.mark.parametrize(
    ("seconds", "unit", "last"), [(300, "s", 300), (360, "min", 6), (9000, "h", 2.5)]
)
def test_units_of_time(seconds: float, unit: str, last: float) -> None:
    readings = [Reading(i, i * seconds, nan, 1.0, 1.0) for i in (0, 1)]
    (ax,) = draw({"x": TrainingLog(readings, [])}, 7).axes
    assert ax.get_xlabel() == f"time ({unit})"
    assert curves(ax)["x"][-1] == (last, 1.0)


def test_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match=r"nothing for 'Test accuracy vs\. Iters' in x, y\.$"):
        draw({"x": log(tests=0), "y": log(tests=0)}, 0)
    nothing = TrainingLog([Reading(0, 0.0, nan)], [])
    with pytest.raises(UsageError, match=r"nothing to draw in x\.$"):
        draw({"x": nothing})


@pytest.mark.parametrize(("number", "title"), list(enumerate(TITLES)))
def test_charts_by_their_names(number: int, title: str) -> None:
    for text in (str(number), title, title.lower().replace(" ", "-"), title.replace(" ", "_")):
        assert chart_type(text) == number


def test_the_beginning_of_a_title_is_enough() -> None:
    assert chart_type("train-loss") == 6
    assert chart_type("test_loss vs. S") == 3


@pytest.mark.parametrize("text", ["8", "-1", "", "loss"])
def test_an_unknown_chart(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"there is no chart '.*', only: 0 Test accuracy vs\. Iters;"
    ):
        chart_type(text)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"need matplotlib.*Install it: pip install matplotlib$"):
        draw({"x": log()})
