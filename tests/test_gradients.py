"""Exact gradients agree with one another and with finite differences; bad input is refused."""

import inspect

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import LayeredSpec
from eqprop_fast.kernels.reference import gradients as kernel
from eqprop_fast.kernels.reference.activations import SECOND, TABLE, rho, rho_prime, rho_second

from eqprop_fast import EP, gradients
from eqprop_fast.theory.models import LayeredModel
from eqprop_fast.theory.presets import uniform_batch

SIZES = (3, 4, 3, 2)


def network(
    dynamics="discrete",
    schedule="synchronous",
    activation="tanh",
    dt=1.0,
    angle=None,
    dtype=np.float64,
    **more,
):
    more.setdefault("linear_output", True)
    spec = LayeredSpec(
        sizes=SIZES,
        dynamics=dynamics,
        schedule=schedule,
        activation=activation,
        out_activation=activation,
        dt=dt,
        **more,
    )
    model = LayeredModel.random(spec, 1, angle=angle, gain=0.5, dtype=dtype)
    x, y = uniform_batch(3, SIZES[0], SIZES[-1], 2, dtype)
    return (spec, model.weights, model.biases, x, y), model.back


def assert_same(a, b, atol):
    np.testing.assert_allclose(a.flat(), b.flat(), rtol=0, atol=atol)


@pytest.mark.parametrize("angle", [None, 30])
@pytest.mark.parametrize("dt", [1.0, 0.3])
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("dynamics", ["discrete", "continuous"])
def test_four_methods_agree(dynamics, schedule, dt, angle):
    net, back = network(dynamics, schedule, dt=dt, angle=angle)
    truth = gradients.finite_difference(*net, back=back, n_free_steps=150, tol=1e-13)
    assert_same(gradients.implicit(*net, back=back, n_free_steps=400, tol=1e-13), truth, 1e-8)
    assert_same(
        gradients.recurrent_backprop(*net, back=back, n_free_steps=400, tol=1e-13), truth, 1e-8
    )
    assert_same(gradients.bptt(*net, back=back, n_free_steps=150), truth, 1e-8)
    assert np.abs(truth.flat()).max() > 1e-3  # else the comparison says nothing


@pytest.mark.parametrize(
    "more",
    [
        dict(dynamics="continuous", clamp=True, activation="hard_sigmoid", dt=0.3),
        dict(dynamics="continuous", prime_hidden=False, dt=0.5),
        dict(dynamics="continuous", prime_output=True, linear_output=False, dt=0.5),
        dict(activation="shifted_sigmoid"),
        dict(activation="tanh", cost="cross_entropy"),
        dict(activation="tanh", cost="cross_entropy", cost_factor=2.0),
        dict(dynamics="continuous", dt=0.5, cost_factor=2.0),
        dict(activation="tanh", input_activation="tanh"),
    ],
)
def test_unrolled_gradient_is_that_of_the_unrolled_cost(more):
    """BPTT through few steps, far from equilibrium, against differences of the same truncated
    phase.
    """
    net, _ = network(**more)
    truth = gradients.finite_difference(*net, n_free_steps=7, tol=-1.0, step=1e-6)
    assert_same(gradients.bptt(*net, n_free_steps=7), truth, 1e-8)


def test_truncation_keeps_the_last_steps():
    """At a fixed point, reversing K steps is K iterations of recurrent back-propagation."""
    net, _ = network("continuous", dt=0.2)
    for k in (1, 3, 20):
        short = gradients.bptt(*net, n_free_steps=3000, truncate=k, tol=1e-15)
        assert_same(
            short,
            gradients.recurrent_backprop(*net, n_free_steps=3000, tol=1e-15, n_steps=k),
            1e-13,
        )
        assert short.n_steps == k


def test_truncation_changes_neither_states_nor_cost():
    """Far from rest, where every step of the free phase counts."""
    net, _ = network()
    whole = gradients.bptt(*net, n_free_steps=9)
    for k in (1, 4, 9):
        part = gradients.bptt(*net, n_free_steps=9, truncate=k)
        assert part.cost == whole.cost
        for a, b in zip(part.states, whole.states):
            np.testing.assert_array_equal(a, b)
    rule = EP(beta=1e-3, n_steps=9)
    estimated = gradients.estimated_gradient(*net, rule=rule, n_free_steps=9)
    assert estimated.cost == pytest.approx(whole.cost, rel=1e-12)


def test_float32_follows_float64():
    (spec, w, b, x, y), _ = network(dtype=np.float32)
    f32 = gradients.bptt(spec, w, b, x, y, n_free_steps=60)
    up = [[p.astype(np.float64) for p in group] for group in (w, b)]
    f64 = gradients.bptt(spec, *up, x, y, n_free_steps=60)
    assert f32.flat().dtype == np.float32
    np.testing.assert_allclose(f32.flat(), f64.flat(), atol=2e-6 * np.abs(f64.flat()).max())


@pytest.mark.parametrize("name", sorted(SECOND))
def test_second_derivatives(name):
    s, h = np.linspace(-1.5, 1.5, 31), 1e-6
    slope = [rho_prime(name, v, rho(name, v)) for v in (s + h, s - h)]
    np.testing.assert_allclose(
        rho_second(name, s, rho(name, s)), (slope[0] - slope[1]) / (2 * h), atol=1e-8
    )


def test_piecewise_linear_activations_have_no_second_derivative():
    for name in set(TABLE) - set(SECOND):
        assert not rho_second(name, np.linspace(-2, 2, 9), None).any()


def test_centered_ep_approaches_the_gradient():
    net, _ = network("continuous", dt=0.3)
    rule = EP(beta=1e-3, nudging="centered", n_steps=3000, tol=1e-15)
    estimate = gradients.estimated_gradient(*net, rule=rule, n_free_steps=3000, tol=1e-15)
    assert_same(estimate, gradients.implicit(*net, n_free_steps=3000, tol=1e-14), 1e-5)


@pytest.mark.parametrize(
    "change, match",
    [
        (dict(n_free_steps=0), "n_free_steps"),
        (dict(n_free_steps=5, truncate=0), "truncate"),
        (dict(n_free_steps=5, truncate=6), "truncate"),
        (dict(n_free_steps=5, truncate=2.5), "truncate"),
    ],
)
def test_bptt_refuses(change, match):
    net, _ = network()
    with pytest.raises(ValueError, match=match):
        gradients.bptt(*net, **change)


def test_shapes_and_values_are_checked():
    (spec, w, b, x, y), _ = network()
    for args, match in [
        ((spec, w[:-1], b, x, y), "weights"),
        ((spec, w, b[::-1], x, y), "biases"),
        ((spec, w, [*b[:-1], np.r_[np.inf, b[-1][1:]]], x, y), "biases holds NaN or infinity"),
        ((spec, w, b, x[:, :2], y), "x must have shape"),
        ((spec, w, b, x, y[:2]), "as many rows"),
        ((spec, w, b, np.full_like(x, np.nan), y), "NaN"),
    ]:
        with pytest.raises(ValueError, match=match):
            gradients.implicit(*args, n_free_steps=5)
    with pytest.raises(ValueError, match="step"):
        gradients.finite_difference(spec, w, b, x, y, n_free_steps=5, step=0)
    with pytest.raises(ValueError, match="n_steps"):
        gradients.recurrent_backprop(spec, w, b, x, y, n_free_steps=5, n_steps=0)
    with pytest.raises(ValueError, match="beta"):
        gradients.estimated_gradient(spec, w, b, x, y, rule=EP(beta=0.0, n_steps=5), n_free_steps=5)
    with pytest.raises(ValueError, match="nothing to estimate"):
        gradients.estimated_gradient(spec, w, b, x, y, rule="continual", n_free_steps=5)
    with pytest.raises(ValueError, match="random_sign"):
        gradients.estimated_gradient(
            spec, w, b, x, y, rule=EP(nudging="random_sign"), n_free_steps=5
        )


def test_finite_difference_leaves_the_parameters_alone():
    (spec, w, b, x, y), _ = network()
    before = [p.copy() for p in w + b]
    gradients.finite_difference(spec, w, b, x, y, n_free_steps=20)
    assert all((p == q).all() for p, q in zip(w + b, before))


def test_step_jacobian_is_that_of_the_step():
    (spec, w, b, x, y), _ = network("continuous", dt=0.3)
    model = LayeredModel(spec, w, b)
    drive = model.drive(x[:1])
    states = [np.full((1, n), 0.2) for n in SIZES[1:]]
    jacobian = kernel.step_jacobian(spec, w, None, b, drive[0], states)
    flat, edges, h = np.concatenate(states, axis=1)[0], np.cumsum(SIZES[1:])[:-1], 1e-6
    for j in range(len(flat)):
        ends = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[j] += sign * h
            ends.append(
                np.concatenate(model.step(drive, np.split(moved[None], edges, axis=1)), axis=1)[0]
            )
        np.testing.assert_allclose(jacobian[:, j], (ends[0] - ends[1]) / (2 * h), atol=1e-8)


LARGE, BELOW = 2**70, -1.5
JUNK = (
    *(np.nan, np.inf, None, "x", 1j, object(), [], {}, True, LARGE, BELOW),
    *(np.array([[1, 2], [3, 4]], object), np.array(["a"]), np.zeros((0, 3)), np.zeros((2, 3, 4))),
    *(sp.eye(3), np.array([1j, 2]), [np.full((3, 4), np.nan), np.zeros((4, 2))]),
)
FINE = {"back": (None,), "truncate": (None,), "step": (LARGE,)}
FINE |= dict.fromkeys(("tol", "adjoint_tol"), (LARGE, BELOW))


@pytest.mark.parametrize(
    "gradient", [getattr(gradients, name) for name in gradients.__all__ if name.islower()]
)
def test_whatever_is_wrong_is_a_value_error_that_names_it(gradient):
    """Foreign errors, an endless free phase, tolerances that were letters: none was refused."""
    spec = LayeredSpec((3, 4, 2))
    rng = np.random.default_rng(0)
    good = dict(
        spec=spec,
        weights=[0.3 * rng.normal(size=s) for s in ((3, 4), (4, 2))],
        biases=[np.zeros(4), np.zeros(2)],
        x=rng.normal(size=(5, 3)),
        y=rng.uniform(size=(5, 2)),
        n_free_steps=5,
    )
    gradient(**good)
    for name in inspect.signature(gradient).parameters:
        for value in JUNK:
            if any(value is fine for fine in FINE.get(name, ())):
                gradient(**{**good, name: value})
                continue
            with pytest.raises(ValueError, match=name):
                gradient(**{**good, name: value})
