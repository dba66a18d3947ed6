from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.recurrent import lstm_unit
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

    from moka.types import Shape

T, N, D = 4, 3, 2
X, CONT = (T, N, 2, 3), (T, N)
KINDS = ["RNN", "LSTM"]
STATES = {"RNN": 1, "LSTM": 2}
TOPS = {"RNN": 'top: "y" top: "hT"', "LSTM": 'top: "y" top: "hT" top: "cT"'}
FILLERS = (
    'weight_filler { type: "uniform" min: -0.9 max: 0.9 }'
    ' bias_filler { type: "uniform" min: -0.9 max: 0.9 }'
)


def text_of(kind: str, *, expose: bool = False) -> str:
    fields = f"num_output: {D} {FILLERS} {'expose_hidden: true' if expose else ''}"
    return f'type: "{kind}" {TOPS[kind] if expose else ""} recurrent_param {{ {fields} }}'


def values(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def sequences_of(seed: int = 1) -> tuple[Array, Array]:
    """x and cont: a sequence that starts, one that goes on, one that restarts half-way."""
    cont = np.ones(CONT)
    cont[0, 0] = cont[2, 2] = 0
    return values(*X, seed=seed), cont


def parameters(layer: torch.nn.Module) -> list[Array]:
    return [w.detach().numpy() for w in layer.weights]  # type: ignore[union-attr]


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def rnn(
    weights: list[Array], x: Array, cont: Array, h: Array, static: Array | None = None
) -> tuple[Array, Array]:
    """Outputs and last state (1, N, D), number by number."""
    w_xh, b_h, *more = weights
    w_static = more.pop(0) if static is not None else np.zeros((D, 0))
    w_hh, w_ho, b_o = more
    y, h = np.zeros((len(x), x.shape[1], D)), h[0].copy()
    for t in range(len(x)):
        for n in range(x.shape[1]):
            before, given = h[n] * cont[t, n], x[t, n].ravel()
            constant = static[n].ravel() if static is not None else []
            for d in range(D):
                total = b_h[d]
                total += sum(w_xh[d, k] * v for k, v in enumerate(given))
                total += sum(w_static[d, k] * v for k, v in enumerate(constant))
                total += sum(w_hh[d, k] * before[k] for k in range(D))
                h[n, d] = np.tanh(total)
            for d in range(D):
                y[t, n, d] = np.tanh(b_o[d] + sum(w_ho[d, k] * h[n, k] for k in range(D)))
    return y, h[None]


def lstm(
    weights: list[Array],
    x: Array,
    cont: Array,
    h: Array,
    c: Array,
    static: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Outputs and last states (1, N, D), number by number."""
    w_xc, b_c, *more = weights
    w_static = more.pop(0) if static is not None else np.zeros((4 * D, 0))
    (w_hc,) = more
    y, h, c = np.zeros((len(x), x.shape[1], D)), h[0].copy(), c[0].copy()
    for t in range(len(x)):
        for n in range(x.shape[1]):
            before, given = h[n] * cont[t, n], x[t, n].ravel()
            constant = static[n].ravel() if static is not None else []
            gate = [
                b_c[r]
                + sum(w_xc[r, k] * v for k, v in enumerate(given))
                + sum(w_static[r, k] * v for k, v in enumerate(constant))
                + sum(w_hc[r, k] * before[k] for k in range(D))
                for r in range(4 * D)
            ]
            for d in range(D):
                i, f, o = (sigmoid(gate[k * D + d]) for k in range(3))
                c[n, d] = cont[t, n] * f * c[n, d] + i * np.tanh(gate[3 * D + d])
                y[t, n, d] = h[n, d] = o * np.tanh(c[n, d])
    return y, h[None], c[None]


SLOW: dict[str, Any] = {"RNN": rnn, "LSTM": lstm}


def zeros(kind: str, streams: int = N) -> list[Array]:
    return [np.zeros((1, streams, D))] * STATES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step(make_layer: LayerMaker, run: Runner, kind: str) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    x, cont = sequences_of()
    (y,) = run(layer, x, cont)
    wanted = SLOW[kind](parameters(layer), x, cont, *zeros(kind))[0]
    # Both in double precision, a few steps of sums of at most 6 terms; so below.
    np.testing.assert_allclose(y, wanted, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_static_input(make_layer: LayerMaker, run: Runner, kind: str) -> None:
    layer = make_layer(text_of(kind), X, CONT, (N, 2, 2))
    (x, cont), static = sequences_of(), values(N, 2, 2, seed=2)
    (y,) = run(layer, x, cont, static)
    wanted = SLOW[kind](parameters(layer), x, cont, *zeros(kind), static)[0]
    np.testing.assert_allclose(y, wanted, rtol=1e-11)


@pytest.mark.parametrize("with_static", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient(make_layer: LayerMaker, kind: str, with_static: bool) -> None:
    """Given first states take none and keep none, so every pass is the same function."""
    states = [(1, N, D)] * STATES[kind]
    static = [(N, 2)] * with_static
    layer = make_layer(text_of(kind, expose=True), X, CONT, *static, *states)
    layer.double()
    fixed = [torch.from_numpy(values(*shape, seed=5)) for shape in states]
    cont = torch.from_numpy(sequences_of()[1])
    free = [torch.from_numpy(values(*s)).requires_grad_() for s in [X, *static]]

    def function(x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = layer(x, cont, *others[: len(static)], *fixed)[0]
        return y

    assert torch.autograd.gradcheck(function, (*free, *layer.weights))


@pytest.mark.parametrize("with_static", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_states_given_and_shown(
    make_layer: LayerMaker, run: Runner, kind: str, with_static: bool
) -> None:
    states = [values(1, N, D, seed=3 + k) for k in range(STATES[kind])]
    static = [values(N, 2, seed=2)] * with_static
    shapes = [s.shape for s in (*static, *states)]
    layer = make_layer(text_of(kind, expose=True), X, CONT, *shapes)
    x, cont = sequences_of()
    for _ in range(2):  # nothing is kept
        tops = run(layer, x, cont, *static, *states)
        wanted = SLOW[kind](parameters(layer), x, cont, *states, *static)
        for have, want in zip(tops, wanted, strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-11)
    assert layer.run_state() == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_through_states(make_layer: LayerMaker, kind: str) -> None:
    states = [torch.zeros(1, N, D, requires_grad=True) for _ in range(STATES[kind])]
    layer = make_layer(text_of(kind, expose=True), X, CONT, *[(1, N, D)] * STATES[kind])
    y, *last = layer(torch.ones(X, requires_grad=True), torch.ones(CONT), *states)
    assert y.requires_grad
    assert not any(state.requires_grad for state in last)
    y.sum().backward()
    assert all(state.grad is None for state in states)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_carries_over(make_layer: LayerMaker, run: Runner, kind: str) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    (x1, cont), (x2, _) = sequences_of(1), sequences_of(2)
    _, *state = SLOW[kind](parameters(layer.double()), x1, cont, *zeros(kind))
    run(layer, x1, cont)
    (y,) = run(layer, x2, cont)
    np.testing.assert_allclose(y, SLOW[kind](parameters(layer), x2, cont, *state)[0], rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_into_the_pass_before(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    first = torch.ones(X, requires_grad=True)
    layer(first, torch.ones(CONT))
    layer(torch.ones(X), torch.ones(CONT))[0].sum().backward()
    assert first.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_with_another_number_of_streams_the_state_starts_from_zero(
    make_layer: LayerMaker, run: Runner, kind: str
) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    run(layer, *sequences_of())
    x, cont = values(T, N + 1, 6), np.ones((T, N + 1))
    wanted = SLOW[kind](parameters(layer), x, cont, *zeros(kind, N + 1))[0]
    np.testing.assert_allclose(run(layer, x, cont)[0], wanted, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_again_repeats_the_last_pass_and_keeps_the_state(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    x, cont = (torch.from_numpy(a).float() for a in sequences_of())
    untouched = layer.again(x, cont)[0]
    layer(x, cont)
    second = layer(x, cont)[0]
    (state,) = layer.run_state()
    assert torch.equal(layer.again(x, cont)[0], second)
    assert torch.equal(layer.run_state()[0], state)
    fresh = make_layer(text_of(kind), X, CONT)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x, cont)[0], untouched)
    assert not torch.equal(second, untouched)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_runs_and_not_the_models(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    assert set(layer.state_dict()) == set(layer.parameter_names)
    x, cont = (torch.from_numpy(a).float() for a in sequences_of())
    layer(x, cont)
    other = make_layer(text_of(kind), X, CONT)
    other.load_state_dict(layer.state_dict())
    other.load_run_state(layer.run_state())
    assert torch.equal(other(x, cont)[0], layer(x, cont)[0])
    assert all(buffer.device.type == "meta" for buffer in layer.to("meta").buffers())


def test_fractions_weaken_what_is_taken_over(make_layer: LayerMaker, run: Runner) -> None:
    x, cont = values(*X), np.random.default_rng(4).uniform(0, 1, CONT)
    for kind in KINDS:
        layer = make_layer(text_of(kind), X, CONT)
        wanted = SLOW[kind](parameters(layer.double()), x, cont, *zeros(kind))[0]
        np.testing.assert_allclose(run(layer, x, cont)[0], wanted, rtol=1e-11)


@pytest.mark.parametrize(
    ("kind", "shapes", "wanted"),
    [
        ("RNN", [X, CONT], [(2, 6), (2,), (2, 2), (2, 2), (2,)]),
        ("RNN", [X, CONT, (N, 5)], [(2, 6), (2,), (2, 5), (2, 2), (2, 2), (2,)]),
        ("LSTM", [X, CONT], [(8, 6), (8,), (8, 2)]),
        ("LSTM", [X, CONT, (N, 5)], [(8, 6), (8,), (8, 5), (8, 2)]),
        ("LSTM", [CONT, CONT, (N,)], [(8, 1), (8,), (8, 1), (8, 2)]),
    ],
)
def test_parameters(
    make_layer: LayerMaker, kind: str, shapes: list[Shape], wanted: list[Shape]
) -> None:
    assert make_layer(text_of(kind), *shapes).blob_shapes == wanted


def test_fillers(make_layer: LayerMaker) -> None:
    fields = "weight_filler { value: 2 } bias_filler { value: 3 }"
    for kind, wanted in (("RNN", [2, 3, 2, 2, 2, 3]), ("LSTM", [2, 3, 2, 2])):
        text = f'type: "{kind}" recurrent_param {{ num_output: 1 {fields} }}'
        layer = make_layer(text, X, CONT, (N, 5))
        assert [w.flatten()[0].item() for w in layer.weights] == wanted


@pytest.mark.parametrize(
    ("kind", "static", "names"),
    [
        ("RNN", [], ["W_xh", "b_h", "W_hh", "W_ho", "b_o"]),
        ("RNN", [(N, 5)], ["W_xh", "b_h", "W_xh_static", "W_hh", "W_ho", "b_o"]),
        ("LSTM", [], ["W_xc", "b_c", "W_hc"]),
        ("LSTM", [(N, 5)], ["W_xc", "b_c", "W_xc_static", "W_hc"]),
    ],
)
def test_what_the_log_says(
    make_layer: LayerMaker, kind: str, static: list[Shape], names: list[str]
) -> None:
    assert make_layer(text_of(kind), X, CONT, *static).notes() == [
        "Initializing recurrent layer: assuming input batch contains 4 timesteps of 3 independent"
        " streams.",
        *(f"Adding parameter {k}: {name}" for k, name in enumerate(names)),
    ]


H = (1, N, D)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "LSTM"', [X, CONT], "num_output is missing"),
        ('type: "RNN" recurrent_param { num_output: 0 }', [X, CONT], "num_output must be > 0"),
        (text_of("RNN"), [(0, N, 6), (0, N)], r"takes sequences .* of T > 0 timesteps"),
        (text_of("RNN"), [(T,), (T,)], r"takes sequences \(T, N, ...\) .* got shape 4 \(4\)"),
        (text_of("LSTM"), [X, (T, N + 1)], r"cont must have a value .* 4 3 \(12\), got shape 4 4"),
        (text_of("LSTM"), [X, (T, N, 1)], "cont must have a value for each timestep and stream"),
        (
            text_of("RNN"),
            [X, CONT, (N + 1, 5)],
            "static input must have 5 values for each of the 3",
        ),
        (text_of("RNN"), [X, CONT, ()], "static input must have"),
        (text_of("RNN"), [X, CONT, H, H], r"expose_hidden: false it takes 2 bottoms \(or 3"),
        (text_of("LSTM", expose=True), [X, CONT, H], r"expose_hidden: true it takes 4 bottoms"),
        (text_of("RNN", expose=True), [X, CONT, (1, N, 5)], r"initial state must have shape 1 3 2"),
        (
            text_of("LSTM", expose=True),
            [X, CONT, (N, 5), H, (N, D)],
            r"initial state must have shape 1 3 2 \(6\), got 3 2 \(6\)",
        ),
        (text_of("RNN") + 'top: "y" top: "h"', [X, CONT], "expose_hidden: false it makes 1 top,"),
        (
            'type: "LSTM" recurrent_param { num_output: 2 expose_hidden: true }',
            [X, CONT, H, H],
            "expose_hidden: true it makes 3 tops, got 1",
        ),
        ('type: "LSTMUnit"', [(N, D), (1, N, 8), (1, N)], r"c_prev must have shape \(1, N, D\)"),
        ('type: "LSTMUnit"', [(2, N, D), (2, N, 8), (2, N)], "c_prev must have shape"),
        ('type: "LSTMUnit"', [H, (1, N, 6), (1, N)], r"gates must have shape 1 3 8 \(24\), got"),
        ('type: "LSTMUnit"', [H, (1, N, 8), (N, 1)], r"cont must have shape 1 3 \(3\), got 3 1"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(T + 1, N, 6), (T + 1, N)], "number of timesteps cannot change: .* made for 4, got"),
        ([(T,), (T,)], "number of timesteps cannot change: .* got shape 4"),
        ([(T, N, 5), CONT], "the weights take 6 inputs a timestep, .* has 5"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_refused_after_set_up(
    make_layer: LayerMaker, kind: str, shapes: list[Shape], message: str
) -> None:
    layer = make_layer(text_of(kind), X, CONT)
    assert layer.top_shapes((T, 9, 6), (T, 9)) == [(T, 9, D)]
    with pytest.raises(NetError, match=message):
        layer.top_shapes(*shapes)


def test_one_step_of_an_lstm(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck
) -> None:
    layer = make_layer('type: "LSTMUnit" top: "c" top: "h"', H, (1, N, 4 * D), (1, N))
    c_prev, gates, cont = values(*H), values(1, N, 4 * D, seed=2), np.array([[1.0, 0.0, 0.25]])
    c, h = run(layer, c_prev, gates, cont)
    for n in range(N):
        for d in range(D):
            i, f, o = (sigmoid(gates[0, n, k * D + d]) for k in range(3))
            wanted = cont[0, n] * f * c_prev[0, n, d] + i * np.tanh(gates[0, n, 3 * D + d])
            assert c[0, n, d] == pytest.approx(wanted, rel=1e-12)
            assert h[0, n, d] == pytest.approx(o * np.tanh(wanted), rel=1e-12)
    check_gradient(layer, c_prev, gates, np.array([[1.0, 0.0, 1.0]]))


def test_the_forget_gates_gradient_is_caffes() -> None:
    """c_prev f (1 - f) with f = cont sigmoid(gate), where mathematics has cont s (1 - s)."""
    gates = torch.tensor([[0.3, 0.7, -0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    c, _ = lstm_unit(torch.tensor([[2.0]]).double(), gates, torch.tensor([[0.5]]).double())
    (grad,) = torch.autograd.grad(c, gates)
    f = 0.5 * sigmoid(0.7)
    assert float(grad[0, 1]) == pytest.approx(2 * f * (1 - f), rel=1e-12)
