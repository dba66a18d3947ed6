from __future__ import annotations

from math import inf, nan

import pytest

from moka.schema import caffe_pb2, parse_text
from moka.solver.plateau import Plateau


def drops(plateau: Plateau, losses: list[float], first: int = 0) -> list[int]:
    """The iterations at which the rate drops."""
    return [t for t, loss in enumerate(losses, start=first) if plateau.see(loss, t)]


@pytest.mark.parametrize(
    ("patience", "losses", "wanted"),
    [
        ([3], [5.0, 4.0, 3.0, 2.0, 1.0, 0.5], []),
        ([3], [5.0, 5.0, 5.0, 5.0, 5.0], [3]),  # as low as before is no new minimum
        ([3], [5.0, 6.0, 4.0, 6.0, 6.0, 6.0, 6.0], [5]),
        ([3, 1], [5.0] * 9, [3, 4]),  # the second wait begins with the drop; then never again
        ([2, 2], [5.0, 6.0, 6.0, 4.0, 6.0, 6.0], [2, 5]),
        ([2], [nan, nan, nan], [2]),
        ([], [5.0] * 9, []),
    ],
)
def test_when_the_rate_drops(patience: list[int], losses: list[float], wanted: list[int]) -> None:
    plateau = Plateau(patience)
    assert drops(plateau, losses) == wanted
    assert plateau.drops == len(wanted)


def test_a_warm_up_is_not_looked_at() -> None:
    assert drops(Plateau([2], begin=4), [1.0, *[9.0] * 8]) == [6]
    p = parse_text(
        'lr_policy: "plateau" plateau_winsize: 2 plateau_winsize: 7 warmup_iter: 4',
        caffe_pb2.SolverParameter,
    )
    plateau = Plateau.of(p)
    assert (plateau.patience, plateau.begin) == ((2, 7), 4)
    p.warmup_iter, p.rampup_interval = 0, 5
    assert Plateau.of(p).begin == 5


def test_other_policies_have_none() -> None:
    p = parse_text('lr_policy: "step" plateau_winsize: 2', caffe_pb2.SolverParameter)
    assert Plateau.of(p).patience == ()


@pytest.mark.parametrize("k", range(1, 12))
def test_a_resumed_one_goes_on_alike(k: int) -> None:
    losses = [5.0, 4.0, 6.0, 6.0, 6.0, 3.0, 6.0, 6.0, 2.0, 6.0, 6.0, 6.0]
    straight, first, second = (Plateau([3, 2, 3]) for _ in range(3))
    wanted = drops(straight, losses)
    assert wanted == [4, 7, 11]
    got = drops(first, losses[:k])
    state = first.state()
    state.iter = k
    second.load_state(state)
    assert got + drops(second, losses[k:], first=k) == wanted


def test_without_a_state_the_waiting_begins_anew() -> None:
    plateau = Plateau([3, 2])
    plateau.load_state(caffe_pb2.SolverState(iter=100, current_step=1))
    assert (plateau.drops, plateau.minimum_loss, plateau.last_event) == (1, inf, 100)
    assert drops(plateau, [5.0, 6.0, 6.0], first=100) == [102]
    plateau.load_state(caffe_pb2.SolverState(current_step=9))
    assert plateau.drops == 2  # there are no more


def test_a_state_of_ssds_caffe() -> None:
    """It keeps the least loss, in single precision, and the iteration of the last event."""
    state = caffe_pb2.SolverState(iter=9, current_step=1, minimum_loss=4, iter_last_event=7)
    plateau = Plateau([3, 4])
    plateau.load_state(state)
    assert (plateau.drops, plateau.minimum_loss, plateau.last_event) == (1, 4, 7)
    assert drops(plateau, [5.0, 5.0, 5.0], first=9) == [11]
    at_first = Plateau([3])
    at_first.load_state(caffe_pb2.SolverState(iter=0, minimum_loss=1e38, iter_last_event=0))
    assert at_first.minimum_loss == inf


def test_ssds_caffe_can_read_the_state() -> None:
    plateau = Plateau([3])
    assert plateau.state().minimum_loss == pytest.approx(1e38)
    drops(plateau, [5.0, 4.0, 6.0])
    state = plateau.state()
    assert (state.minimum_loss, state.iter_last_event) == (4, 1)
