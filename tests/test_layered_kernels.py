"""Layered kernels of every backend against the NumPy twin, either side of every vector width."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan, get_backend
from eqprop_fast.kernels.tolerances import tolerance

from .backend_list import BACKENDS

COMPILED = [name for name in BACKENDS if name != "numpy"]
SPECS = {
    "discrete": LayeredSpec((0,)),
    "discrete_async": LayeredSpec((0,), schedule="asynchronous"),
    "damped_tanh": LayeredSpec((0,), activation="tanh", out_activation="tanh", dt=0.5),
    "inside": LayeredSpec(
        (0,), activation="hard_sigmoid", out_activation="hard_sigmoid", nudge_inside=True
    ),
    "entropy": LayeredSpec(
        (0,), activation="sigmoid", out_activation="identity", cost="cross_entropy"
    ),
    "entropy_async": LayeredSpec(
        (0,),
        activation="half_hard_sigmoid",
        out_activation="identity",
        cost="cross_entropy",
        cost_factor=1.5,
        schedule="asynchronous",
    ),
    "centered_hard": LayeredSpec((0,), activation="centered_hard_sigmoid", out_activation="relu"),
    "wide_hard": LayeredSpec(
        (0,),
        activation="hard_sigmoid",
        out_activation="wide_hard_sigmoid",
        nudge_inside=True,
        schedule="asynchronous",
    ),
    "wide_hard_prime": LayeredSpec(
        (0,),
        dynamics="continuous",
        dt=0.4,
        activation="wide_hard_sigmoid",
        out_activation="wide_hard_sigmoid",
        prime_output=True,
    ),
    "continuous": LayeredSpec(
        (0,), dynamics="continuous", dt=0.2, clamp=True, input_activation="shifted_sigmoid"
    ),
    "continuous_async": LayeredSpec(
        (0,),
        dynamics="continuous",
        dt=0.2,
        schedule="asynchronous",
        activation="tanh",
        out_activation="tanh",
        prime_output=True,
        linear_output=False,
    ),
    "consistent": LayeredSpec(
        (0,),
        dynamics="continuous",
        dt=0.1,
        linear_output=True,
        activation="tanh",
        input_activation="tanh",
    ),
    "prop": LayeredSpec(
        (0,),
        dynamics="continuous",
        dt=0.5,
        clamp=True,
        activation="hard_sigmoid",
        out_activation="hard_sigmoid",
        cost_factor=2.0,
        input_activation="hard_sigmoid",
    ),
    "leaky": LayeredSpec((0,), dynamics="continuous", dt=0.2, prime_hidden=False),
}
RELAXED = {
    **SPECS,
    "forward": LayeredSpec((0,), schedule="forward", activation="hard_sigmoid"),
    "continuous_forward": LayeredSpec(
        (0,), dynamics="continuous", dt=0.3, schedule="forward", clamp=True
    ),
}


def make(sizes, dtype, rows=13, seed=0, density=0.3, back=False):
    rng = np.random.default_rng(seed)
    weights = [
        rng.uniform(-1, 1, s).astype(dtype) / np.sqrt(s[0] + s[1]).astype(dtype)
        for s in zip(sizes, sizes[1:])
    ]
    biases = [rng.uniform(-0.3, 0.3, n).astype(dtype) for n in sizes[1:]]
    x = (
        rng.uniform(0, 1, (rows, sizes[0])) * (rng.uniform(size=(rows, sizes[0])) < density)
    ).astype(dtype)
    y = np.eye(sizes[-1], dtype=dtype)[rng.integers(0, sizes[-1], rows)]
    backs = None
    if back:
        backs = [None] + [
            (w.T + 0.1 * rng.standard_normal(w.T.shape)).astype(dtype) for w in weights[1:]
        ]
    return weights, biases, x, y, backs


def close(actual, desired, quantity, dtype):
    scale = max(1.0, float(np.abs(desired).max(initial=0)))
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance(quantity, dtype) * scale)


WIDTHS = [1, 7, 8, 9, 15, 16, 17, 31, 33]


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RELAXED)
def test_relax_matches_reference(backend, dtype, name):
    for depth, width in [(1, w) for w in WIDTHS] + [(0, 5), (2, 9), (2, 33), (3, 17)]:
        sizes = (width + 2, *[width] * depth, 10 if width > 9 else 3)
        spec = dataclasses.replace(RELAXED[name], sizes=sizes)
        weights, biases, x, y, back = make(sizes, dtype, rows=29, back=depth == 2)
        for beta, tol, steps in [(0.0, -1.0, 7), (0.3, -1.0, 4), (0.0, 1e-3, 60)]:
            results = []
            for kernels in (get_backend("numpy"), get_backend(backend)):
                states = [np.full((29, n), 0.1, dtype) for n in sizes[1:]]
                out = kernels.layered_relax(
                    spec, weights, back, biases, x, states, y, beta, steps, tol
                )
                results.append((states, *out))
            (want, want_steps, want_res), (got, got_steps, got_res) = results
            if tol < 0:
                np.testing.assert_array_equal(got_steps, want_steps)
                close(got_res, want_res, "state", dtype)
            else:  # a sample on the edge of the tolerance may stop a step apart
                assert np.abs(got_steps - want_steps).max() <= 1
            for a, b in zip(got, want):
                if tol < 0:
                    close(a, b, "state", dtype)
                else:
                    assert np.abs(a - b).max() <= 5e-3


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("kind", ["sparse_rows", "dense", "csr"])
def test_train_matches_reference(backend, dtype, name, kind):
    for sizes in [(11, 7, 3), (30, 33, 17, 4), (9, 16, 15, 31, 2), (5, 3)]:
        spec = dataclasses.replace(SPECS[name], sizes=sizes)
        weights, biases, x, y, _ = make(
            sizes, dtype, rows=43, density=1.0 if kind == "dense" else 0.3
        )
        n = len(sizes) - 1
        plan = TrainPlan(
            10,
            0.4,
            8,
            4,
            tuple(0.1 + 0.05 * k for k in range(n)),
            tuple([0.07] * n),
            sign=np.array([1, -1, 1, 1, -1], np.int8),
        )
        order = np.random.default_rng(1).permutation(43)
        results = []
        for kernels in (get_backend("numpy"), get_backend(backend)):
            w, b = [a.copy() for a in weights], [a.copy() for a in biases]
            data = sp.csr_matrix(x) if kind == "csr" else x
            stats = kernels.layered_train(spec, w, None, b, data, y, order, plan)
            results.append((w, b, stats))
        (w0, b0, s0), (w1, b1, s1) = results
        for a, b in zip(w1 + b1, w0 + b0):
            close(a, b, "trajectory", dtype)
        assert (s1.n_correct, s1.n_samples, s1.n_batches) == (s0.n_correct, 43, 5)
        assert (s1.free_steps, s1.nudged_steps) == (s0.free_steps, s0.nudged_steps)
        assert s1.loss == pytest.approx(s0.loss, rel=1e-4 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("centered", [False, True])
def test_optimizers_weights_particles(backend, dtype, optimizer, centered):
    sizes = (20, 17, 9, 3)
    weights, biases, x, y, _ = make(sizes, dtype, rows=70)
    rng = np.random.default_rng(3)
    row_weight = rng.uniform(0, 2, 70).astype(dtype)
    for input_activation in ("identity", "sigmoid"):
        spec = LayeredSpec(sizes, input_activation=input_activation)
        plan = TrainPlan(
            40,
            0.3,
            9,
            5,
            (0.01,) * 3,
            (0.02,) * 3,
            centered=centered,
            optimizer=optimizer,
            weight_decay=1e-2,
            adam_step=3,
        )
        results = []
        for kernels in (get_backend("numpy"), get_backend(backend)):
            w, b = [a.copy() for a in weights], [a.copy() for a in biases]
            moments = [[np.full_like(a, 0.01) for a in w + b] for _ in range(2)]
            state = OptimizerState(*moments)
            particles = [np.zeros((70, n), dtype) for n in sizes[1:]]
            for _ in range(2):
                kernels.layered_train(
                    spec, w, None, b, x, y, np.arange(70), plan, row_weight, particles, state
                )
            results.append(w + b + particles + state.velocity + state.second)
        for want, got in zip(*results):
            close(got, want, "trajectory", dtype)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("sizes", [(30, 40, 5), (30, 300, 300, 5)])
@pytest.mark.parametrize("tol", [-1.0, 1e-3])
def test_bit_equal_for_any_thread_count(backend, sizes, tol):
    for density in (0.2, 1.0):
        weights, biases, x, y, _ = make(sizes, "float32", rows=50, density=density)
        n = len(sizes) - 1
        plan = TrainPlan(20, 0.3, 12, 5, (0.05,) * n, (0.05,) * n, tol_free=tol, tol_nudged=tol)
        for schedule in ("synchronous", "asynchronous"):
            spec = LayeredSpec(sizes, schedule=schedule)
            results = []
            for n_threads in (1, 2, 3, 8):
                w, b = [a.copy() for a in weights], [a.copy() for a in biases]
                stats = get_backend(backend).layered_train(
                    spec, w, None, b, x, y, np.arange(50), plan, n_threads=n_threads
                )
                states = [np.zeros((50, k), "float32") for k in sizes[1:]]
                get_backend(backend).layered_relax(
                    spec, w, None, b, x, states, n_steps=20, n_threads=n_threads
                )
                results.append((w + b + states, stats))
            for arrays, stats in results[1:]:
                assert stats == results[0][1]
                for a, c in zip(arrays, results[0][0]):
                    np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("scale", [0.5, 6.0], ids=["settles", "alternates"])
def test_many_steps_are_single_steps(backend, dtype, name, scale):
    """Bit for bit, though a call with many steps may leave out those whose result it knows."""
    kernels = get_backend(backend)
    for sizes in [(12, 33, 7), (12, 16, 2), (12, 20, 10), (12, 40, 30, 4)]:
        spec = dataclasses.replace(SPECS[name], sizes=sizes)
        weights, biases, x, y, _ = make(sizes, dtype)
        weights = [(w * scale).astype(dtype) for w in weights]
        for beta, n_steps in [(0.0, 60), (0.0, 61), (0.25, 61)]:
            at_once, one_by_one = ([np.zeros((13, k), dtype) for k in sizes[1:]] for _ in range(2))
            run = (spec, weights, None, biases, x)
            try:
                steps, residual = kernels.layered_relax(*run, at_once, y, beta, n_steps)
            except DivergenceError:
                assert "relu" in (spec.activation, spec.out_activation)
                continue
            for _ in range(n_steps):
                _, last = kernels.layered_relax(*run, one_by_one, y, beta, 1)
            for a, b in zip(at_once, one_by_one):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(residual, last)
            assert (steps == n_steps).all()
