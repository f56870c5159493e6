"""The compiled graph kernels against the NumPy twin, on every option; bits for any number of threads."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan, get_backend
from eqprop_fast.kernels.graph_spec import check_graph_plan
from eqprop_fast.kernels.spec import GRADIENT_RULES
from eqprop_fast.kernels.tolerances import tolerance

from eqprop_fast.networks.graph import Connection, Conv, Dense, Graph, Layer, chain, draw_parameters

from . import random_calls
from .backend_list import BACKENDS
from .graphs import GRAPHS, SMOOTH, make, spec_of, with_own_back, zeros
from .verdicts import verdict_test

COMPILED = [name for name in BACKENDS if name != "numpy"]
TWIN = get_backend("numpy")


@pytest.fixture(params=COMPILED)
def kernels(request):
    return get_backend(request.param)


DYNAMICS = {
    "map": dict(),
    "sweep": dict(schedule="asynchronous"),
    "outside": dict(nudge_inside=False),
    "damped": dict(dt=0.7, schedule="asynchronous"),
    "continuous": dict(dynamics="continuous", dt=0.4, prime_output=True),
    "clamped": dict(
        dynamics="continuous", dt=0.3, clamp=True, linear_output=True, schedule="asynchronous"
    ),
    "entropy": dict(cost="cross_entropy", cost_factor=1.5),
}


def fits(name, fields):
    lateral = name == "lateral" and fields.get("schedule") == "asynchronous"
    return not (lateral or (name == "readout" and fields.get("nudge_inside") is False))


CASES = [(name, how) for name in GRAPHS for how in DYNAMICS if fits(name, DYNAMICS[how])]


def same(a, b, kind, dtype):
    limit = tolerance(kind, dtype)
    for one, two in zip(a, b, strict=True):
        size = 1 if kind == "state" else max(1e-30, float(np.abs(two).max(initial=0)))
        np.testing.assert_allclose(
            one, two, atol=limit * max(size, 1.0 if kind == "state" else 0), rtol=0
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, how", CASES, ids=map("-".join, CASES))
def test_relaxation(kernels, name, how, dtype):
    spec, weights, biases, x, y = make(name, dtype=dtype, **DYNAMICS[how])
    for beta, n_steps, tol in ((0.0, 12, -1.0), (0.2, 9, -1.0), (0.0, 60, 1e-3)):
        ends, reports = [], []
        for backend in (kernels, TWIN):
            ends.append(zeros(spec, 5, dtype))
            reports.append(
                backend.graph_relax(spec, weights, None, biases, x, ends[-1], y, beta, n_steps, tol)
            )
        same(ends[0], ends[1], "state", dtype)
        np.testing.assert_allclose(*[r[1] for r in reports], atol=10 * tolerance("state", dtype))
        if tol < 0 or dtype == np.float64:
            np.testing.assert_array_equal(*[r[0] for r in reports])


def trained(
    backend,
    name,
    plan,
    dtype,
    n_threads=1,
    own_back=False,
    particles=False,
    weight=None,
    pace=1.0,
    **how,
):
    spec, weights, biases, x, y = make(name, rows=7, dtype=dtype, **how)
    back = None
    if own_back:
        spec, back = with_own_back(spec, weights)
    n = len(weights), len(biases)
    plan = replace(plan, rate=(0.1, 0.05, 0.02) * (n[0] // 3 + 1), bias_rate=(0.1, 0.03) * n[1])
    rates = [
        tuple(pace * r for r in group) for group in (plan.rate[: n[0]], plan.bias_rate[: n[1]])
    ]
    plan = replace(plan, rate=rates[0], bias_rate=rates[1])
    arrays = [*weights, *biases, *(back or [])]
    memory = OptimizerState()
    if plan.optimizer != "sgd":
        memory.velocity = [None if a is None else np.zeros_like(a) for a in arrays]
    if plan.optimizer == "adam":
        memory.second = [None if a is None else np.zeros_like(a) for a in arrays]
    states = zeros(spec, 7, dtype) if particles else None
    order = np.array([3, 1, 6, 0, 2, 5, 4, 1])
    stats = backend.graph_train(
        spec, weights, back, biases, x, y, order, plan, weight, states, memory, n_threads
    )
    moments = [m for m in memory.velocity + memory.second if m is not None]
    learned = [*weights, *biases, *(b for b in back or [] if b is not None)]
    return stats, learned, moments, states or []


PLAN = TrainPlan(3, 0.3, 12, 6, (), ())
PLANS = {
    "positive": PLAN,
    "centered": replace(PLAN, centered=True, optimizer="momentum", weight_decay=0.01),
    "random sign": replace(PLAN, sign=np.array([1, -1, 1], np.int8), optimizer="nesterov"),
    # a large epsilon: else Adam makes steps of the rounding in entries that are nearly zero
    "adam": replace(PLAN, optimizer="adam", weight_decay=0.02, adam_step=3, epsilon=0.1),
    "tolerances": replace(PLAN, tol_free=1e-2, tol_nudged=1e-3, n_free_steps=40),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("what", PLANS)
@pytest.mark.parametrize("name", GRAPHS)
def test_training(kernels, name, what, dtype):
    """Weights, biases, moments, particles and statistics of three batches, the last one smaller."""
    schedule = "synchronous" if name == "lateral" else "asynchronous"
    weight = np.array([1, 0.5, 2, 0, 1, 1, 0.1], dtype)
    args = dict(weight=weight, particles=what == "tolerances", schedule=schedule)
    one = trained(kernels, name, PLANS[what], dtype, **args)
    two = trained(TWIN, name, PLANS[what], dtype, **args)
    same(one[1], two[1], "trajectory", dtype)
    if (
        dtype == np.float64
    ):  # the contrast is a difference of large sums: in float32 it has few digits
        same(one[2], two[2], "trajectory", dtype)
    same(one[3], two[3], "trajectory", dtype)
    assert one[0].loss == pytest.approx(two[0].loss, rel=1e-5 if dtype == np.float32 else 1e-10)
    assert one[0].n_correct == two[0].n_correct and one[0].n_batches == two[0].n_batches == 3
    if dtype == np.float64:
        assert (one[0].free_steps, one[0].nudged_steps) == (two[0].free_steps, two[0].nudged_steps)


@pytest.mark.parametrize("name", ["max", "residual", "wide"])
def test_weights_of_the_way_back(kernels, name):
    one = trained(kernels, name, PLAN, np.float64, own_back=True)
    two = trained(TWIN, name, PLAN, np.float64, own_back=True)
    same(one[1], two[1], "trajectory", np.float64)


STATE = {"coupled", "contrastive", "continual"}  # the others are the vector fields
RULE_PLANS = {
    "continual": replace(PLAN, rule="continual", sign=np.array([1, -1, 1], np.int8)),
    "coupled": replace(PLAN, rule="coupled", optimizer="momentum"),
    "coupled centered": replace(PLAN, rule="coupled", centered=True, tol_nudged=1e-3),
    "contrastive": replace(PLAN, rule="contrastive", weight_decay=0.01),
    "vector field": replace(PLAN, rule="vector_field", optimizer="nesterov"),
    "vector field, centered": replace(PLAN, rule="vector_field", centered=True),
    "vector field, at rest": replace(PLAN, rule="vector_field", tol_nudged=0.05),
    "vector field, adam": replace(
        PLAN, rule="vector_field", optimizer="adam", epsilon=0.1, sign=np.array([-1, 1, 1], np.int8)
    ),
    "continual vector field": replace(PLAN, rule="continual_vector_field"),
}


RULE_CASES = [
    (name, what, schedule)
    for name in GRAPHS
    for what, plan in RULE_PLANS.items()
    for schedule in ("synchronous", "asynchronous")
    if name != "readout"  # its output is no state
    # a lateral connection is symmetric, and synchronous
    and (name != "lateral" or (plan.rule in STATE and schedule == "synchronous"))
]


@pytest.mark.parametrize("name, what, schedule", RULE_CASES, ids=map("-".join, RULE_CASES))
def test_rules(kernels, name, what, schedule):
    """Every rule that has a second phase, on every kind of connection that it can serve."""
    plan = RULE_PLANS[what]
    fields = plan.rule not in STATE
    weight = np.array([1, 0.5, 2, 0, 1, 1, 0.1])
    # small steps: the correlations of maps are sums over many pixels
    args = dict(weight=weight, own_back=fields, particles=True, pace=0.1, schedule=schedule)
    one = trained(kernels, name, plan, np.float64, **args)
    two = trained(TWIN, name, plan, np.float64, **args)
    for part in (1, 2, 3):
        same(one[part], two[part], "trajectory", np.float64)
    assert one[0].loss == pytest.approx(two[0].loss, rel=1e-10)
    assert (one[0].free_steps, one[0].nudged_steps) == (two[0].free_steps, two[0].nudged_steps)
    threads = [trained(kernels, name, plan, np.float32, n, **args) for n in (1, 2, 3)]
    for other in threads[1:]:
        for part in (1, 2, 3):
            for a, b in zip(threads[0][part], other[part], strict=True):
                np.testing.assert_array_equal(a, b)
        assert other[0] == threads[0][0]


def test_over_relaxation(kernels):
    plan = replace(PLAN, over_relaxation=1.2, n_free_steps=25)
    one, two = (
        trained(b, "skip", plan, np.float64, schedule="asynchronous") for b in (kernels, TWIN)
    )
    same(one[1], two[1], "trajectory", np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", GRAPHS)
def test_bits_do_not_depend_on_threads_or_batch_mates(kernels, name, dtype):
    runs = [trained(kernels, name, replace(PLAN, centered=True), dtype, n) for n in (1, 3)]
    assert runs[0][0] == runs[1][0]
    for a, b in zip(runs[0][1], runs[1][1]):
        np.testing.assert_array_equal(a, b)
    spec, weights, biases, x, y = make(name, rows=31, dtype=dtype)
    whole = zeros(spec, 31, dtype)
    kernels.graph_relax(spec, weights, None, biases, x, whole, y, 0.2, 20, 1e-3, 2)
    for m in (0, 7, 30):
        alone = zeros(spec, 1, dtype)
        kernels.graph_relax(spec, weights, None, biases, x[[m]], alone, y[[m]], 0.2, 20, 1e-3)
        for a, b in zip(whole, alone):
            np.testing.assert_array_equal(a[m], b[0])


@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16, 17, 31, 33])
def test_widths_about_the_vectors(kernels, n):
    """Channels and units at either side of a vector; maps n pixels wide."""
    maps = chain((n % 3 + 1, n + 2, 5), [Conv(n, 3, padding=1), Conv(3, 2), Dense(n), Dense(2)])
    spec = maps.spec(**SMOOTH)
    rng = np.random.default_rng(n)
    for dtype in (np.float32, np.float64):
        weights, biases = draw_parameters(spec, rng, dtype, 0.5)
        x, ends = rng.uniform(0, 1, (3, spec.sizes[0])).astype(dtype), []
        for backend in (kernels, TWIN):
            ends.append(zeros(spec, 3, dtype))
            backend.graph_relax(spec, weights, None, biases, x, ends[-1], n_steps=8)
        same(ends[0], ends[1], "state", dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_of_more_rows_than_a_sum_has_terms(kernels, dtype):
    """Kernels of 7 and 13 rows, with a stride and a padding of two."""
    layers = [Conv(3, 7, padding=2), Conv(2, 13, padding=2, pool="average"), Dense(2)]
    deep = chain((2, 20, 22), layers).spec(**SMOOTH)
    wide = Graph(
        [Layer("x", (1, 15, 15)), Layer("a", (2, 7, 7)), Layer("out", (3, 1, 1))],
        [
            Connection("x", "a", kernel=7, stride=2, padding=2),
            Connection("a", "out", kernel=7),
            Connection("x", "out", kernel=15),
        ],
    ).spec(**SMOOTH)
    for spec in (deep, wide):
        rng = np.random.default_rng(3)
        weights, biases = draw_parameters(spec, rng, dtype, 0.5)
        x, y = rng.uniform(0, 1, (3, spec.sizes[0])).astype(dtype), rng.random((3, spec.sizes[-1]))
        plan = TrainPlan(3, 0.3, 9, 4, (0.1,) * len(weights), (0.1,) * len(biases))
        learned, ends = [], []
        for backend in (kernels, TWIN):
            ends.append(zeros(spec, 3, dtype))
            backend.graph_relax(spec, weights, None, biases, x, ends[-1], n_steps=8)
            w, b = [a.copy() for a in weights], [a.copy() for a in biases]
            backend.graph_train(spec, w, None, b, x, y.astype(dtype), np.arange(3), plan)
            learned.append([*w, *b])
        same(ends[0], ends[1], "state", dtype)
        same(*learned, "trajectory", dtype)


@pytest.mark.parametrize("name", ["max", "residual", "readout"])
def test_batches_of_more_samples_than_a_tile(kernels, name):
    """Two tiles a batch: samples that rest at different times, weights, particles, both phases."""
    spec, weights, biases, x, y = make(name, rows=61, **GRAPHS[name][1])
    x = x * np.linspace(0, 1, 61)[:, None]
    weight, order = np.linspace(0, 2, 61), np.random.default_rng(0).permutation(61)
    rates = (0.1,) * len(weights), (0.1,) * len(biases)
    for plan in (
        TrainPlan(50, 0.3, 60, 30, *rates, centered=True, tol_free=1e-2, tol_nudged=1e-2),
        TrainPlan(50, 0.3, 9, 5, *rates, optimizer="momentum"),
        TrainPlan(50, 0.3, 9, 5, *rates, rule="coupled"),
        TrainPlan(50, 0.3, 9, 3, *rates, rule="continual"),
    ):
        if name == "readout" and plan.rule != "ep":  # its output is no state
            continue
        ends = []
        for backend, threads in ((TWIN, 1), (kernels, 1), (kernels, 2)):
            w, b, states = [a.copy() for a in weights], [a.copy() for a in biases], zeros(spec, 61)
            memory = OptimizerState()
            memory.velocity = [np.zeros_like(a) for a in [*w, *b]]
            memory = memory if plan.optimizer == "momentum" else OptimizerState()
            stats = backend.graph_train(
                spec, w, None, b, x, y, order, plan, weight, states, memory, threads
            )
            ends.append(([*w, *b, *states], stats))
        same(ends[1][0], ends[0][0], "trajectory", np.float64)
        twin, one, two = (stats for _, stats in ends)
        assert one.loss == pytest.approx(twin.loss, rel=1e-10)
        assert replace(one, loss=0.0) == replace(twin, loss=0.0) and one == two
        for a, b in zip(ends[1][0], ends[2][0]):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
def test_a_chain_is_the_layered_network(kernels, schedule):
    """The same numbers as the kernels that chains have of their own."""
    sizes, rng = (9, 17, 8, 3), np.random.default_rng(0)
    spec = chain(9, [Dense(17), Dense(8), Dense(3)]).spec(**SMOOTH, schedule=schedule)
    layered = LayeredSpec(sizes, out_activation="identity", schedule=schedule)
    weights, biases = draw_parameters(spec, rng)
    x, y = rng.uniform(0, 1, (6, 9)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    plan = TrainPlan(4, 0.3, 20, 6, (0.1, 0.2, 0.1), (0.1, 0.1, 0.2), centered=True)
    learned = []
    for train, of in ((kernels.graph_train, spec), (kernels.layered_train, layered)):
        w, b = [a.copy() for a in weights], [a.copy() for a in biases]
        train(of, w, None, b, x, y, np.arange(6), plan)
        learned.append([*w, *b])
    same(*learned, "trajectory", np.float64)


def test_dense_to_and_from_maps(kernels):
    """A dense connection knows the units of a map in the caller's order."""
    graph = Graph(
        [
            Layer("x", (2, 3, 4)),
            Layer("a", (3, 2, 5)),
            Layer("b", (5, 3, 2)),
            Layer("out", (2, 1, 2)),
        ],
        [Connection("x", "a"), Connection("a", "b"), Connection("x", "b"), Connection("b", "out")],
    )
    spec, rng = graph.spec(**SMOOTH), np.random.default_rng(0)
    weights, biases = draw_parameters(spec, rng)
    x, y = rng.uniform(0, 1, (4, 24)), np.eye(4)
    plan = TrainPlan(4, 0.3, 9, 4, (0.1,) * 4, (0.1,) * 3)
    learned = []
    for backend in (kernels, TWIN):
        w, b = [a.copy() for a in weights], [a.copy() for a in biases]
        backend.graph_train(spec, w, None, b, x, y, np.arange(4), plan)
        learned.append([*w, *b])
    same(*learned, "weight", np.float64)


def test_a_sample_at_rest_is_left_alone(kernels):
    """Many steps of hard units: those that no longer move are not computed, with the same bits."""
    spec, weights, biases, x, _ = make("max", dtype=np.float32, activation="hard_sigmoid", gain=0.3)
    few, many = zeros(spec, 5, np.float32), zeros(spec, 5, np.float32)
    kernels.graph_relax(spec, weights, None, biases, x, few, n_steps=400)
    steps, _ = kernels.graph_relax(spec, weights, None, biases, x, many, n_steps=10_000_000)
    assert (steps == 10_000_000).all()
    for a, b in zip(few, many):
        np.testing.assert_array_equal(a, b)


def test_divergence_is_named(kernels):
    spec, weights, biases, x, y = make("skip", activation="identity", gain=300.0)
    with pytest.raises(DivergenceError, match="layer [12] .* of the free phase"):
        kernels.graph_relax(spec, weights, None, biases, x, zeros(spec, 5), n_steps=2000)
    plan = TrainPlan(5, 0.1, 2000, 3, (0.1,) * 5, (0.1,) * 3)
    before = [w.copy() for w in weights]
    with pytest.raises(DivergenceError, match="layer"):
        kernels.graph_train(spec, weights, None, biases, x, y, np.arange(5), plan)
    for a, b in zip(before, weights):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("rule", ["continual", "continual_vector_field", "vector_field"])
def test_divergence_within_a_batch(kernels, rule):
    """Parameters are those after the last finite batch, also where they move within one."""
    ends = []
    for backend in (kernels, TWIN):
        spec, weights, biases, x, y = make("skip", activation="identity", gain=0.3)
        spec, back = with_own_back(spec, weights)
        if rule == "continual":
            spec, back = (
                spec._replace(
                    connections=tuple(c._replace(own_back=False) for c in spec.connections)
                ),
                None,
            )
        y[3] = 1e300
        plan = TrainPlan(2, 1e20, 9, 6, (1e-22,) * 5, (1e-22,) * 3, rule=rule)
        with pytest.raises(DivergenceError, match="became non-finite"):
            backend.graph_train(spec, weights, back, biases, x, y, np.arange(4), plan)
        ends.append([*weights, *biases, *(b for b in back or [] if b is not None)])
    same(*ends, "trajectory", np.float64)


@pytest.mark.parametrize("rule", ["ep", "vector_field"])
def test_a_row_that_is_twice_in_a_batch(kernels, rule):
    """Both begin at its particle, and the last leaves it, whatever threads they are on."""
    ends = []
    for backend, n_threads in [(TWIN, 1), *((kernels, n) for n in (1, 2, 3, 1))]:
        spec, weights, biases, x, y = make("skip", rows=4)
        back = None
        if rule == "vector_field":
            spec, back = with_own_back(spec, weights)
        rng = np.random.default_rng(0)
        states = [rng.random((4, n)) for n in spec.sizes[1:]]
        plan = TrainPlan(6, 0.3, 3, 4, (0.1,) * 5, (0.1,) * 3, rule=rule)
        order = np.array([2, 0, 2, 1, 0, 2, 3, 3, 3, 1, 1, 3])
        arguments = (spec, weights, back, biases, x, y, order, plan, None, states, None)
        backend.graph_train(*arguments, n_threads)
        ends.append([*weights, *biases, *states])
    same(ends[1], ends[0], "trajectory", np.float64)
    for other in ends[2:]:
        for a, b in zip(ends[1], other):
            np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("phase", ["free", "nudged"])
def test_particles_of_a_batch_that_diverges(kernels, phase):
    """As the twin leaves them: those of a finite free phase, or none of the batch."""
    ends = []
    for backend, n_threads in [(TWIN, 1), (kernels, 1), (kernels, 3)]:
        spec, weights, biases, x, y = make("skip", activation="identity", gain=0.3)
        (x if phase == "free" else y)[3] = 1e300
        if phase == "free":
            weights[0] *= 1e20
        plan = TrainPlan(5, 1e20, 9, 6, (1e-22,) * 5, (1e-22,) * 3)
        states = zeros(spec, 5)
        with pytest.raises(DivergenceError, match="became non-finite"):
            backend.graph_train(
                spec, weights, None, biases, x, y, np.arange(5), plan, None, states, None, n_threads
            )
        ends.append([*weights, *biases, *states])
        assert any(s.any() for s in states) == (phase == "nudged")
    for other in ends[1:]:
        same(other, ends[0], "state", np.float64)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("place", range(4))
def test_what_is_no_number_passes_the_pool(kernels, place):
    """Wherever in its square: the largest of numbers and of none is none."""
    spec = chain((1, 2, 2), [Conv(1, 1, pool="max"), Dense(2)]).spec(**SMOOTH)
    weights, biases = draw_parameters(spec, np.random.default_rng(0))
    for value, ends in ((np.nan, pytest.raises(DivergenceError)), (0.5, contextlib.nullcontext())):
        x = np.full((1, 4), 0.25)
        x[0, place] = value
        with ends:
            kernels.graph_relax(spec, weights, None, biases, x, zeros(spec, 1), n_steps=3)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("rule", ["continual", "continual_vector_field"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_diverged_batch_leaves_what_the_batches_before_have_made(backend, rule):
    """Two batches of three that learn, then one with a target beyond all bounds."""
    ends = []
    for rows in (9, 6):
        spec, weights, biases, x, y = make("skip", rows=9, activation="identity", gain=0.3)
        spec, back = with_own_back(spec, weights) if "vector" in rule else (spec, None)
        first = [w.copy() for w in weights]
        y[7] = 1e300
        plan = TrainPlan(3, 0.5, 9, 6, (0.02,) * 5, (0.02,) * 3, rule=rule)
        args = spec, weights, back, biases, x, y, np.arange(rows), plan
        train = get_backend(backend).graph_train
        if rows == 9:
            with pytest.raises(DivergenceError, match="became non-finite"):
                train(*args)
        else:
            train(*args)
        assert min(np.abs(a - b).max() for a, b in zip(first, weights)) > 1e-5
        ends.append([*weights, *biases, *(b for b in back or [] if b is not None)])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rule", GRADIENT_RULES)
@pytest.mark.parametrize("name", GRAPHS)
def test_exact_gradients(kernels, name, rule):
    """The rule's steps at the backend's own equilibria are those at the twin's."""
    if rule == "implicit" and sum(spec_of(name).sizes[1:]) > 200:
        pytest.skip("a linear system of all units")
    plan = TrainPlan(3, 0.3, 25, 6, (), (), rule=rule, optimizer="adam")
    one, two = (trained(b, name, plan, np.float64, pace=0.1) for b in (kernels, TWIN))
    for part in (1, 2):
        same(one[part], two[part], "trajectory", np.float64)
    assert one[0].loss == pytest.approx(two[0].loss, rel=1e-10)
    assert one[0].nudged_steps == two[0].nudged_steps
    again = trained(kernels, name, plan, np.float64, n_threads=3, pace=0.1)
    for a, b in zip(one[1], again[1]):
        np.testing.assert_array_equal(a, b)


REFUSED_PLANS = [
    ("skip", {}, dict(rule="hebb"), "learning_rule must be one of"),
    ("skip", {}, dict(rule="continual", optimizer="momentum"), "this optimizer"),
    ("skip", {}, dict(rule="continual", weight_decay=0.1), "this weight_decay"),
    ("skip", {}, dict(rule="continual", tol_nudged=0.1), "this tol_nudged"),
    ("skip", {}, dict(rule="contrastive", centered=True), "this nudging"),
    ("skip", {}, dict(over_relaxation=1.5), "this over_relaxation"),
    ("skip", {}, dict(rule="vector_field"), "this back weights .none., connection 1 .its way back"),
    ("skip", {}, dict(rule="clamped_sweep"), "graph: it sweeps along a chain"),
    ("skip", dict(cost="cross_entropy"), dict(rule="coupled"), "this cost"),
    ("readout", {}, dict(rule="continual"), "readout .its output is no state"),
]


@pytest.mark.parametrize("name, fields, changes, why", REFUSED_PLANS)
def test_plans_that_no_kernel_runs_are_refused(kernels, name, fields, changes, why):
    spec, weights, biases, x, y = make(name, **fields)
    plan = TrainPlan(5, 0.1, 3, 3, (0.1,) * len(weights), (0.1,) * len(biases))
    memory = OptimizerState([np.zeros_like(a) for a in [*weights, *biases]])
    plan = replace(plan, **changes)
    memory = memory if plan.optimizer == "momentum" else OptimizerState()
    args = spec, weights, None, biases, x, y, np.arange(5), plan, None, None, memory
    for train in (kernels.graph_train, TWIN.graph_train):
        with pytest.raises(ValueError, match=why):
            train(*args)
    with pytest.raises(ValueError, match=why):
        check_graph_plan(spec, plan, False)


def test_vector_fields_ask_for_ways_back_between_states_alone():
    """Not from the input, nor to a read-out's; one of many is named."""
    spec, weights, biases, x, y = make("skip")
    plan = TrainPlan(5, 0.1, 3, 3, (0.1,) * 5, (0.1,) * 3, rule="vector_field")
    tied, _ = with_own_back(spec, weights)
    check_graph_plan(tied, plan, False)
    for c in (1, 3, 4):
        links = list(tied.connections)
        links[c] = links[c]._replace(own_back=False)
        with pytest.raises(ValueError, match=f"with this connection {c} "):
            check_graph_plan(tied._replace(connections=tuple(links)), plan, False)


test_verdicts_are_the_same = verdict_test(("graph_relax", "graph_train"))


@pytest.mark.parametrize("backend", COMPILED)
def test_random_calls_follow_the_twin(backend):
    random_calls.check_draws(backend, "graph")
