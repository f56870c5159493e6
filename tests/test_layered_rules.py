"""Learning rules other than EP, of every compiled backend, against the NumPy twin."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan, get_backend

from .test_layered_kernels import COMPILED, close, make

DISCRETE = LayeredSpec((0,), activation="tanh", out_activation="tanh")
HARD = LayeredSpec((0,), activation="hard_sigmoid", out_activation="hard_sigmoid")
LEAKY = LayeredSpec(
    (0,), dynamics="continuous", dt=0.3, prime_hidden=False, input_activation="shifted_sigmoid"
)
EULER = LayeredSpec(
    (0,), dynamics="continuous", dt=0.3, clamp=True, input_activation="shifted_sigmoid"
)
ENTROPY = LayeredSpec(
    (0,), out_activation="identity", cost="cross_entropy", input_activation="sigmoid"
)

CASES = [
    ("continual", DISCRETE, {}),
    ("continual", EULER, {}),
    ("continual", ENTROPY, {}),
    ("continual", dataclasses.replace(DISCRETE, schedule="asynchronous"), {}),
    ("continual_vector_field", DISCRETE, {}),
    ("continual_vector_field", LEAKY, {}),
    ("continual_vector_field", dataclasses.replace(DISCRETE, schedule="asynchronous"), {}),
    ("vector_field", DISCRETE, {}),
    ("vector_field", LEAKY, {"centered": True, "optimizer": "momentum"}),
    ("vector_field", DISCRETE, {"tol_nudged": 1e-2, "optimizer": "nesterov", "weight_decay": 0.01}),
    ("vector_field", ENTROPY, {"centered": True}),
    ("clamped_sweep", HARD, {"beta": 1.0}),
    ("contrastive", DISCRETE, {}),
    ("contrastive", EULER, {}),
    ("coupled", DISCRETE, {"centered": True}),
    ("coupled", dataclasses.replace(EULER, schedule="asynchronous"), {"tol_nudged": 1e-3}),
]


def plan_of(rule, n, **options):
    plan = TrainPlan(
        15,
        0.4,
        12,
        6,
        tuple(0.05 + 0.02 * k for k in range(n)),
        tuple([0.03] * n),
        rule=rule,
        sign=None if rule == "clamped_sweep" else np.array([1, -1, 1], np.int8),
    )
    return dataclasses.replace(plan, **options)


def train(
    backend, rule, spec, options, sizes, dtype, n_threads=1, density=0.3, with_particles=False
):
    weights, biases, x, y, back = make(
        sizes, dtype, rows=37, back="vector_field" in rule, density=density
    )
    spec, plan = dataclasses.replace(spec, sizes=sizes), plan_of(rule, len(sizes) - 1, **options)
    learned = [*weights, *biases, *(back or [])]
    moments = [
        [np.zeros_like(weights[0]) if p is None else np.zeros_like(p) for p in learned]
        for _ in range(2)
    ]
    state = OptimizerState(*moments)
    particles = [np.zeros((37, k), dtype) for k in sizes[1:]] if with_particles else None
    row_weight = np.random.default_rng(2).uniform(0.5, 1.5, 37).astype(dtype)
    stats = get_backend(backend).layered_train(
        spec,
        weights,
        back,
        biases,
        x,
        y,
        np.arange(37),
        plan,
        row_weight,
        particles,
        state,
        n_threads,
    )
    return [p for p in learned if p is not None] + (particles or []), stats


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c[0]}-{c[1].dynamics}-{c[1].schedule}-{c[1].cost}"
)
def test_rule_matches_reference(backend, dtype, case):
    rule, spec, options = case
    shapes = [((11, 17, 3), 0.3), ((20, 33, 16, 4), 0.3), ((9, 15, 31, 8, 2), 1.0), ((6, 3), 0.5)]
    # more columns than any register tile; in float32 two such layers magnify rounding, the twin's
    # own too
    shapes += [((7, 70, 5), 0.5), ((7, 70, 140, 5) if dtype == "float64" else (7, 20, 70, 3), 0.5)]
    for sizes, density in shapes:
        particles = rule == "clamped_sweep"
        extra = dict(density=density, with_particles=particles)
        want, s0 = train("numpy", rule, spec, options, sizes, dtype, **extra)
        got, s1 = train(backend, rule, spec, options, sizes, dtype, **extra)
        for a, b in zip(got, want):
            close(a, b, "trajectory", dtype)
        assert s1.free_steps == s0.free_steps
        if options.get("tol_nudged") is None:
            assert s1.nudged_steps == s0.nudged_steps


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c[0]}-{c[1].dynamics}-{c[1].schedule}-{c[1].cost}"
)
def test_rules_bit_equal_for_any_thread_count(backend, case):
    for sizes in [(30, 40, 5), (30, 300, 290, 5)]:
        results = [train(backend, *case, sizes, "float32", n_threads=n) for n in (1, 2, 3, 8)]
        for arrays, stats in results[1:]:
            assert stats == results[0][1]
            for a, b in zip(arrays, results[0][0]):
                np.testing.assert_array_equal(a, b)


RULES = [
    ("continual", DISCRETE),
    ("vector_field", LEAKY),
    ("continual_vector_field", DISCRETE),
    ("clamped_sweep", HARD),
    ("contrastive", EULER),
    ("coupled", DISCRETE),
]


def network_of(rule, spec, sizes, dtype="float64"):
    weights, biases, x, y, back = make(sizes, dtype, rows=37, back="vector_field" in rule)
    return dataclasses.replace(spec, sizes=sizes), weights, back, biases, x, y


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("rule, spec", RULES, ids=[r[0] for r in RULES])
def test_divergence_is_that_of_the_twin(backend, where, rule, spec):
    """The third batch is not finite: the same error, and the weights of the second."""
    for sizes in [(11, 9, 20, 3), (6, 3)]:
        outcomes = []
        for name in ("numpy", backend):
            spec, weights, back, biases, x, y = network_of(rule, spec, sizes)
            (x if where == "x" else y)[34] = np.nan
            with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
                plan = plan_of(rule, len(sizes) - 1)
                get_backend(name).layered_train(
                    spec, weights, back, biases, x, y, np.arange(37), plan, n_threads=2
                )
            error = caught.value
            outcomes.append(
                ((error.layer, error.step, error.phase), [*weights, *biases, *(back or [])])
            )
        (place, want), (got_place, got) = outcomes
        assert got_place == place
        for a, b in zip(got, want):
            if a is not None:
                assert np.isfinite(a).all()
                close(a, b, "trajectory", "float64")


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("rule, spec", RULES, ids=[r[0] for r in RULES])
def test_batches_without_weight_teach_nothing(backend, rule, spec):
    spec, weights, back, biases, x, y = network_of(rule, spec, (11, 17, 3))
    before = [a.copy() for a in [*weights, *biases]]
    plan = plan_of(rule, 2)
    get_backend(backend).layered_train(
        spec, weights, back, biases, x, y, np.arange(37), plan, np.zeros(37), None, OptimizerState()
    )
    for a, b in zip([*weights, *biases], before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("rule, spec", RULES, ids=[r[0] for r in RULES])
def test_sparse_rows_and_cut_epochs_change_nothing(backend, rule, spec):
    outcomes = []
    for cuts, kind in [((0, 37), np.asarray), ((0, 15, 37), np.asarray), ((0, 37), sp.csr_matrix)]:
        spec, weights, back, biases, x, y = network_of(rule, spec, (11, 17, 20, 3), "float32")
        for low, high in zip(cuts, cuts[1:]):
            plan = plan_of(rule, 3)
            if plan.sign is not None:
                plan = dataclasses.replace(plan, sign=plan.sign[low // 15 :])
            get_backend(backend).layered_train(
                spec, weights, back, biases, kind(x), y, np.arange(low, high), plan
            )
        outcomes.append([*weights, *biases, *(back or [])[1:]])
    for other in outcomes[1:]:
        for a, b in zip(other, outcomes[0]):
            np.testing.assert_array_equal(a, b)
