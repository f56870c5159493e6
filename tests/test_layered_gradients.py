"""BPTT, recurrent back-propagation and implicit differentiation as kernels, against the NumPy twin."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan, get_backend
from eqprop_fast.kernels.spec import ACTIVATIONS, GRADIENT_RULES
from eqprop_fast.kernels.tolerances import tolerance

from .backend_list import BACKENDS
from .test_layered_kernels import SPECS, WIDTHS, make

COMPILED = [name for name in BACKENDS if name != "numpy"]
DTYPES = ["float32", "float64"]


def train(
    backend,
    rule,
    spec,
    dtype,
    rows=13,
    batch=13,
    n_threads=1,
    back=False,
    density=0.3,
    csr=False,
    optimizer="sgd",
    particles=False,
    weighted=True,
    free=12,
    reverse=6,
    seed=0,
    **more,
):
    """Parameters, moments, particles after a call at rate 1 (the change is the gradient), and its
    stats.
    """
    weights, biases, x, y, backs = make(
        spec.sizes, dtype, rows, seed=seed, back=back, density=density
    )
    n = spec.n_weights
    if back:
        backs[0] = np.zeros(weights[0].shape[::-1], dtype)
    rate = 1.0 if optimizer == "sgd" else 0.02
    plan = TrainPlan(
        batch,
        0.0,
        free,
        reverse,
        tuple(rate - 0.05 * rate * k for k in range(n)),
        (0.7 * rate,) * n,
        rule=rule,
        optimizer=optimizer,
        **more,
    )
    learned = [*weights, *biases, *(backs or [])]
    state = OptimizerState(*([np.full_like(p, 0.01) for p in learned] for _ in range(2)))
    kept = [np.full((rows, k), 0.1, dtype) for k in spec.sizes[1:]] if particles else None
    row_weight = (
        np.random.default_rng(2).uniform(0.5, 1.5, rows).astype(dtype) if weighted else None
    )
    stats = get_backend(backend).layered_train(
        spec,
        weights,
        backs,
        biases,
        sp.csr_array(x) if csr else x,
        y,
        np.arange(rows)[::-1].copy(),
        plan,
        row_weight,
        kept,
        state,
        n_threads,
    )
    moments = (
        [] if optimizer == "sgd" else state.velocity + (state.second if optimizer == "adam" else [])
    )
    return learned + (kept or []) + moments, stats


def check(backend, rule, spec, dtype, quantity="weight", **options):
    want, s0 = train("numpy", rule, spec, dtype, **options)
    got, s1 = train(backend, rule, spec, dtype, **options)
    for a, b in zip(got, want):
        assert np.isfinite(b).all()
        scale = max(float(np.abs(b).max(initial=0)), 0.1)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance(quantity, dtype) * scale)
    assert (s1.free_steps, s1.nudged_steps, s1.n_samples, s1.n_batches, s1.n_correct) == (
        s0.free_steps,
        s0.nudged_steps,
        s0.n_samples,
        s0.n_batches,
        s0.n_correct,
    )
    assert s1.loss == pytest.approx(s0.loss, rel=1e-4 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_sizes(backend, rule, width, dtype):
    other = WIDTHS[(WIDTHS.index(width) + 4) % len(WIDTHS)]
    shapes = [
        (width + 2, other, width),
        (width, width, other, 3),
        (5, 7, other, width, 9, 2),
        (width, 3),
    ]
    for i, sizes in enumerate(shapes):
        for schedule in ("synchronous", "asynchronous"):
            for dynamics in (dict(), dict(dynamics="continuous", dt=0.3, clamp=True)):
                spec = LayeredSpec(sizes, schedule=schedule, **dynamics)
                check(
                    backend,
                    rule,
                    spec,
                    dtype,
                    rows=other,
                    batch=other,
                    density=1.0 if i % 2 else 0.3,
                )


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_dynamics(backend, rule, name, dtype):
    for sizes in [(11, 17, 3), (20, 33, 16, 4), (9, 15, 31, 8, 2)]:
        for back in (False, True):
            check(
                backend,
                rule,
                dataclasses.replace(SPECS[name], sizes=sizes),
                dtype,
                back=back,
                csr=back,
            )


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "dynamics",
    [
        dict(),
        dict(dt=0.4, schedule="asynchronous"),
        dict(dynamics="continuous", dt=0.2, prime_output=True),
        dict(
            dynamics="continuous",
            dt=0.2,
            prime_output=True,
            linear_output=True,
            schedule="asynchronous",
        ),
        dict(dynamics="continuous", dt=0.4, clamp=True, prime_hidden=False),
    ],
    ids=lambda d: "-".join(f"{v}" for v in d.values()) or "plain",
)
def test_activations(backend, dynamics, activation, dtype):
    spec = LayeredSpec((9, 17, 8, 3), activation=activation, out_activation=activation, **dynamics)
    spec = dataclasses.replace(spec, input_activation=activation)
    for rule in GRADIENT_RULES:
        check(backend, rule, spec, dtype)
        check(backend, rule, spec, dtype, back=True, seed=1)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_optimizers_particles_batches(backend, rule, optimizer, dtype):
    """Several batches, the last one short; weight decay, weighted samples, moments of every
    parameter.
    """
    for name in ("discrete_async", "consistent"):
        spec = dataclasses.replace(SPECS[name], sizes=(20, 17, 9, 3))
        for back in (False, True):
            check(
                backend,
                rule,
                spec,
                dtype,
                "trajectory",
                rows=37,
                batch=15,
                optimizer=optimizer,
                back=back,
                weight_decay=0.01,
                particles=rule != "bptt",
                epsilon=1e-3,
            )


@pytest.mark.parametrize("backend", COMPILED)
def test_early_stops(backend):
    """A relative tolerance ends the adjoint process of the whole batch; the free phase stops by
    samples.
    """
    for schedule in ("synchronous", "asynchronous"):
        spec = dataclasses.replace(SPECS["continuous"], sizes=(11, 17, 9, 3), schedule=schedule)
        some = dict(rows=29, batch=12, free=200)
        options = dict(some, free=60, reverse=200, tol_nudged=1e-3)
        check(backend, "recurrent_backprop", spec, "float64", "trajectory", **options)
        _, stats = train(backend, "recurrent_backprop", spec, "float64", **options)
        assert 29 * 3 < stats.nudged_steps < 29 * 199
        check(backend, "bptt", spec, "float64", "trajectory", reverse=7, tol_free=1e-4, **some)
        check(backend, "implicit", spec, "float64", "trajectory", tol_free=1e-8, **some)


@pytest.mark.parametrize("backend", ["numpy", *COMPILED])
def test_a_tolerance_of_zero_ends_where_nothing_comes_back(backend):
    """From an output that shows nothing of itself to hidden units without weights."""
    spec = LayeredSpec((4, 3, 2), activation="identity", out_activation="identity")
    rows, plan = 5, TrainPlan(5, 0.0, 4, 9, (0.1, 0.1), (0.1, 0.1), rule="recurrent_backprop")
    weights = [np.ones((4, 3)), np.zeros((3, 2))]
    biases, x, y = [np.zeros(3), np.zeros(2)], np.ones((rows, 4)), np.ones((rows, 2))
    for tol, steps in ((-1.0, 9), (0.0, 2)):
        stats = get_backend(backend).layered_train(
            spec,
            [w.copy() for w in weights],
            None,
            [b.copy() for b in biases],
            x,
            y,
            np.arange(rows),
            dataclasses.replace(plan, tol_nudged=tol),
        )
        assert stats.nudged_steps == rows * steps


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("name", ["discrete", "continuous", "entropy_async"])
def test_whole_free_phase_is_reversed(backend, name):
    for sizes in [(11, 17, 3), (11, 17, 9, 3), (5, 3)]:
        for steps in (1, 2, 9):
            spec = dataclasses.replace(SPECS[name], sizes=sizes)
            check(backend, "bptt", spec, "float64", free=steps, reverse=steps)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("name", ["discrete", "continuous", "continuous_async", "entropy_async"])
@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_bit_equal_for_any_thread_count(backend, rule, name):
    for sizes, back in [((30, 40, 5), False), ((30, 90, 70, 5), True), ((30, 300, 290, 5), False)]:
        if rule == "implicit" and max(sizes) > 200 and backend == "numba":
            continue
        spec = dataclasses.replace(SPECS[name], sizes=sizes)
        options = dict(rows=17, batch=7, back=back, tol_nudged=1e-3 if back else -1.0)
        results = [
            train(backend, rule, spec, "float32", n_threads=n, **options) for n in (1, 2, 3, 8)
        ]
        for arrays, stats in results[1:]:
            assert stats == results[0][1]
            for a, b in zip(arrays, results[0][0]):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", COMPILED)
def test_small_pivots_are_not_eliminated(backend):
    """1 - d new / d old near 0 in one of the layers: the linear solve must keep that layer."""
    sizes = (6, 9, 8, 3)
    spec = LayeredSpec(
        sizes, dynamics="continuous", activation="tanh", out_activation="tanh", dt=0.5
    )
    results = []
    for kernels in (get_backend("numpy"), get_backend(backend)):
        weights, biases, x, y, _ = make(sizes, "float64", 5)
        particles = [np.full((5, n), 0.1) for n in sizes[1:]]
        # one unit is put where rho''(s) field = 1, so that its pivot is 0
        s, weights[0][:, 0] = -0.6, 0
        r = np.tanh(s)
        biases[0][0] = 1 / (-2 * r * (1 - r * r)) - np.tanh(particles[1][0]) @ weights[1][0]
        particles[0][:, 0] = s
        plan = TrainPlan(5, 0.0, 0, 0, (1.0,) * 3, (1.0,) * 3, rule="implicit")
        kernels.layered_train(
            spec, weights, None, biases, x, y, np.arange(5), plan, None, particles
        )
        results.append([*weights, *biases])
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-11 * max(1, np.abs(a).max()))


@pytest.mark.parametrize("backend", ["numpy", *COMPILED])
def test_singular_and_divergent(backend):
    """A degenerate equilibrium is an error with a name; so is a reverse pass that grows without
    end.
    """
    spec = LayeredSpec((3, 1, 1), activation="identity", out_activation="identity")
    ones = [np.zeros((3, 1)), np.ones((1, 1))]
    args = (np.ones((2, 3)), np.zeros((2, 1)), np.arange(2))
    biases = [np.ones(1), np.zeros(1)]
    plan = TrainPlan(2, 0.0, 1, 1, (0.1, 0.1), (0.1, 0.1), rule="implicit")
    before = [p.copy() for p in ones + biases]
    with pytest.raises(np.linalg.LinAlgError, match="[Ss]ingular"):
        get_backend(backend).layered_train(spec, ones, None, biases, *args, plan)
    assert all((p == q).all() for p, q in zip(ones + biases, before))
    plan = dataclasses.replace(plan, rule="recurrent_backprop", n_nudged_steps=3000)
    growing = [np.zeros((3, 1)), np.full((1, 1), 3.0)]
    biases[1][:] = 1
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        get_backend(backend).layered_train(spec, growing, None, biases, *args, plan)
    assert growing[1][0, 0] == 3
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        plan = dataclasses.replace(plan, rule="bptt", n_free_steps=3000, n_nudged_steps=3)
        get_backend(backend).layered_train(spec, growing, None, biases, *args, plan)


@pytest.mark.parametrize("backend", ["numpy", *COMPILED])
@pytest.mark.parametrize(
    "change, match",
    [
        (dict(rule="bptt", n_nudged_steps=0), "n_nudged_steps"),
        (dict(rule="bptt", n_nudged_steps=9), "n_nudged_steps"),
        (dict(rule="recurrent_backprop", n_nudged_steps=0), "n_nudged_steps"),
        (dict(rule="implicit", centered=True), "nudging"),
        (dict(rule="bptt", particles=True), "persistent particles"),
    ],
)
def test_refusals(backend, change, match):
    change = dict(change)
    particles = change.pop("particles", False)
    weights, biases, x, y, _ = make((4, 5, 2), "float64")
    plan = dataclasses.replace(TrainPlan(5, 0.1, 8, 3, (0.1,) * 2, (0.1,) * 2), **change)
    states = [np.zeros((13, n)) for n in (5, 2)] if particles else None
    with pytest.raises(ValueError, match=match):
        get_backend(backend).layered_train(
            LayeredSpec((4, 5, 2)), weights, None, biases, x, y, np.arange(13), plan, None, states
        )
