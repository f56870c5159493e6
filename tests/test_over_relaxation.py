"""Over-relaxed free phases: same fixed points, fewer sweeps, all backends alike; what half a sweep
is.
"""

from dataclasses import replace

import numpy as np
import pytest
from eqprop_fast.kernels import LayeredSpec, TrainPlan, get_backend
from eqprop_fast.kernels.spec import CONTINUAL_RULES, GRADIENT_RULES, RULES, VECTOR_FIELD_RULES

from eqprop_fast import EqPropClassifier, Relaxation
from eqprop_fast.networks.asymmetry import backward_weights

from .backend_list import BACKENDS

SPEC = LayeredSpec(sizes=(20, 33, 31, 17, 5), schedule="asynchronous")


def network(dtype, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    pairs = list(zip(SPEC.sizes, SPEC.sizes[1:]))
    weights = [(rng.uniform(-scale, scale, p) / np.sqrt(p[0])).astype(dtype) for p in pairs]
    biases = [rng.uniform(-0.1, 0.1, n).astype(dtype) for n in SPEC.sizes[1:]]
    x = rng.random((45, SPEC.sizes[0])).astype(dtype)
    return weights, biases, x, np.eye(5)[rng.integers(0, 5, 45)].astype(dtype)


def relax(kernels, spec, net, n_steps, tol=-1.0):
    weights, biases, x, _ = net
    states = [np.zeros((len(x), n), x.dtype) for n in spec.sizes[1:]]
    steps, _ = kernels.layered_relax(
        spec, weights, None, biases, x, states, None, 0.0, n_steps, tol
    )
    return states, steps


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_the_sweeps_are_every_other_half_of_the_synchronous_steps(backend):
    """After n sweeps odd layers are where 2n - 1 synchronous steps put them, even ones where 2n do."""
    kernels, net = get_backend(backend), network("float64")
    swept, _ = relax(kernels, SPEC, net, 7)
    sync = replace(SPEC, schedule="synchronous")
    before, at = relax(kernels, sync, net, 13)[0], relax(kernels, sync, net, 14)[0]
    for k, states in enumerate(swept, start=1):
        np.testing.assert_allclose(states, before[k - 1] if k % 2 else at[k - 1], atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("factor", [1.1, 1.2, 1.3])
def test_same_fixed_point_in_fewer_sweeps(backend, factor):
    kernels, net = get_backend(backend), network("float64", scale=1.5)
    plain, steps = relax(kernels, SPEC, net, 5000, 1e-13)
    hasty, fewer = relax(kernels, replace(SPEC, dt=factor), net, 5000, 1e-13)
    for a, b in zip(plain, hasty):
        np.testing.assert_allclose(a, b, atol=1e-11)
    assert fewer.mean() < steps.mean()


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tol", [-1.0, 1e-3])
@pytest.mark.parametrize("rule", [r for r in RULES if r not in GRADIENT_RULES])
def test_training_matches_the_reference(backend, dtype, tol, rule):
    rates = (0.1,) * 4
    plan = TrainPlan(
        batch_size=20,
        beta=0.5,
        n_free_steps=20,
        n_nudged_steps=6,
        rate=rates,
        bias_rate=rates,
        rule=rule,
        tol_free=tol,
        tol_nudged=-1.0 if rule in CONTINUAL_RULES else tol,
        over_relaxation=1.25,
    )
    results = []
    # the twin in float64: its float32 products round as the BLAS of the machine does
    for name, n_threads, real in (
        ("numpy", 1, "float64"),
        (backend, 1, dtype),
        (backend, 3, dtype),
    ):
        weights, biases, x, y = network(dtype)
        weights, biases = [w.astype(real) for w in weights], [b.astype(real) for b in biases]
        x, y = x.astype(real), y.astype(real)
        back = backward_weights(weights, 30, 4) if rule in VECTOR_FIELD_RULES else None
        train = get_backend(name).layered_train
        train(SPEC, weights, back, biases, x, y, np.arange(45), plan, n_threads=n_threads)
        results.append(weights + biases + (back or []))
    for want, got, again in zip(*results):
        np.testing.assert_allclose(got, want, atol=1e-6 if dtype == "float32" else 1e-12)
        np.testing.assert_array_equal(got, again)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["ep", "clamped_sweep", "contrastive"])
def test_same_update_from_fully_relaxed_phases(backend, rule):
    rates = (0.1,) * 4
    plan = TrainPlan(
        batch_size=15,
        beta=0.5,
        n_free_steps=5000,
        n_nudged_steps=5 if rule == "clamped_sweep" else 5000,
        rate=rates,
        bias_rate=rates,
        rule=rule,
        tol_free=1e-13,
        tol_nudged=1e-13,
    )
    ends, sweeps = [], []
    for factor in (1.0, 1.25):
        weights, biases, x, y = network("float64", scale=1.5)
        stats = get_backend(backend).layered_train(
            SPEC, weights, None, biases, x, y, np.arange(45), replace(plan, over_relaxation=factor)
        )
        ends.append(weights + biases)
        sweeps.append(stats.free_steps)
    for plain, hasty in zip(*ends):
        np.testing.assert_allclose(hasty, plain, atol=1e-11)
    assert sweeps[1] < sweeps[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"relaxation__schedule": "synchronous"},
        {"dynamics": "continuous"},
        {"learning_rule": "implicit"},
        {"dynamics__dt": 0.5},
    ],
)
def test_refused_where_it_means_nothing(wrong):
    model = EqPropClassifier(
        relaxation=Relaxation(over_relaxation=1.2), backend="numpy"
    ).set_params(**wrong)
    with pytest.raises(ValueError, match="over_relaxation"):
        model.fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="over_relaxation"):
        EqPropClassifier(relaxation=Relaxation(over_relaxation=2.0)).fit(np.eye(4), [0, 1, 0, 1])
