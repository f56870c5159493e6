"""Learning rules other than EP, of every compiled backend, against the NumPy twin."""

import dataclasses

import numpy as np
import pytest
from eqprop_fast.kernels import LayeredSpec, OptimizerState, TrainPlan, get_backend

from .test_layered_kernels import COMPILED, close, make

DISCRETE = LayeredSpec((0,), activation="tanh", out_activation="tanh")
HARD = LayeredSpec((0,), activation="hard_sigmoid", out_activation="hard_sigmoid")
LEAKY = LayeredSpec(
    (0,), dynamics="continuous", dt=0.3, prime_hidden=False, input_activation="shifted_sigmoid"
)
EULER = LayeredSpec((0,), dynamics="continuous", dt=0.3, clamp=True, input_activation="shifted_sigmoid")
ENTROPY = LayeredSpec((0,), out_activation="identity", cost="cross_entropy", input_activation="sigmoid")

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


def train(backend, rule, spec, options, sizes, dtype, n_threads=1, density=0.3, with_particles=False):
    weights, biases, x, y, back = make(sizes, dtype, rows=37, back="vector_field" in rule, density=density)
    n = len(sizes) - 1
    spec = dataclasses.replace(spec, sizes=sizes)
    plan = TrainPlan(15, 0.4, 12, 6, tuple(0.05 + 0.02 * k for k in range(n)), tuple([0.03] * n), rule=rule,
                     sign=None if rule == "clamped_sweep" else np.array([1, -1, 1], np.int8))
    plan = dataclasses.replace(plan, **options)
    learned = [*weights, *biases, *(back or [])]
    moments = [
        [np.zeros_like(weights[0]) if p is None else np.zeros_like(p) for p in learned] for _ in range(2)
    ]
    state = OptimizerState(*moments)
    particles = [np.zeros((37, k), dtype) for k in sizes[1:]] if with_particles else None
    row_weight = np.random.default_rng(2).uniform(0.5, 1.5, 37).astype(dtype)
    stats = get_backend(backend).layered_train(
        spec, weights, back, biases, x, y, np.arange(37), plan, row_weight, particles, state, n_threads
    )
    return [p for p in learned if p is not None] + (particles or []), stats


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1].dynamics}-{c[1].schedule}-{c[1].cost}")
def test_rule_matches_reference(backend, dtype, case):
    rule, spec, options = case
    shapes = [((11, 17, 3), 0.3), ((20, 33, 16, 4), 0.3), ((9, 15, 31, 8, 2), 1.0), ((6, 3), 0.5)]
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
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1].dynamics}-{c[1].schedule}-{c[1].cost}")
def test_rules_bit_equal_for_any_thread_count(backend, case):
    for sizes in [(30, 40, 5), (30, 300, 290, 5)]:
        results = [train(backend, *case, sizes, "float32", n_threads=n) for n in (1, 2, 3, 8)]
        for arrays, stats in results[1:]:
            assert stats == results[0][1]
            for a, b in zip(arrays, results[0][0]):
                np.testing.assert_array_equal(a, b)
