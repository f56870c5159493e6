"""Edges of the layered kernels that no other test meets: at rest under tolerance 0, the deepest
nets, where a divergence is said to be, batches without weight, rows that come twice.
"""

import numpy as np
import pytest
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan, get_backend
from eqprop_fast.kernels.spec import MAX_WEIGHTS, RULES, VECTOR_FIELD_RULES
from eqprop_fast.kernels.tolerances import tolerance

from .backend_list import BACKENDS


def network(sizes, dtype="float64", seed=0, back=False):
    rng = np.random.default_rng(seed)
    weights = [rng.uniform(-1, 1, s).astype(dtype) / np.sqrt(sum(s)) for s in zip(sizes, sizes[1:])]
    biases = [rng.uniform(-0.3, 0.3, n).astype(dtype) for n in sizes[1:]]
    backs = [None] + [w.T.copy() for w in weights[1:]] if back else None
    return [w.astype(dtype) for w in weights], backs, biases


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("outputs", [2, 11])  # narrow nets have a path of their own
@pytest.mark.parametrize("dynamics", ["discrete", "continuous"])
def test_tolerance_zero_stops_where_nothing_moves(backend, outputs, dynamics):
    """The second of two steps that leave a net without weights where it is."""
    sizes = (3, 5, outputs)
    spec = LayeredSpec(sizes, dynamics=dynamics, prime_hidden=False)
    weights, biases = (
        [np.zeros(s) for s in zip(sizes, sizes[1:])],
        [np.full(n, 0.25) for n in sizes[1:]],
    )
    states = [np.zeros((4, n)) for n in sizes[1:]]
    steps, residual = get_backend(backend).layered_relax(
        spec, weights, None, biases, np.ones((4, 3)), states, n_steps=50, tol=0.0
    )
    assert (steps == 2).all() and (residual == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("dynamics, dt", [("continuous", 0.2), ("discrete", 0.2)])
def test_outputs_at_rest_do_not_stop_hidden_units(backend, dynamics, dt, schedule):
    """Outputs at their bound repeat from step to step; the units below are on their way still."""
    spec = LayeredSpec((3, 5, 2), dynamics=dynamics, schedule=schedule, dt=dt, clamp=True)
    weights, _, biases = network(spec.sizes)
    biases[1][:] = 50.0
    x, n = np.full((4, 3), 0.9), 15
    whole, single = ([np.ones((4, m)) for m in spec.sizes[1:]] for _ in range(2))
    whole[0][:], single[0][:] = 0.0, 0.0
    relax = get_backend(backend).layered_relax
    steps, _ = relax(spec, weights, None, biases, x, whole, n_steps=n)
    for _ in range(n):
        relax(spec, weights, None, biases, x, single, n_steps=1)
    assert (whole[1] == 1).all() and (steps == n).all()
    for a, b in zip(whole, single):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance("state", "float64"))
    assert np.ptp(whole[0]) > 0.01  # hidden units differ, and so did not stay


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("schedule, step", [("synchronous", 5), ("asynchronous", 3)])
def test_divergence_is_named_where_it_happens(backend, schedule, step):
    """In float32, 1e10 from layer to layer and back passes 1e38 in a known step."""
    spec = LayeredSpec(
        (1, 1, 1), activation="identity", out_activation="identity", schedule=schedule
    )
    weights = [np.ones((1, 1), "float32"), np.full((1, 1), 1e10, "float32")]
    biases, x, y = (
        [np.zeros(1, "float32") for _ in range(2)],
        np.ones((3, 1), "float32"),
        np.zeros((3, 1), "float32"),
    )
    kernels, states = get_backend(backend), [np.zeros((3, 1), "float32") for _ in range(2)]
    plan = TrainPlan(2, 0.5, 40, 1, (0.1, 0.1), (0.1, 0.1))
    later = TrainPlan(2, 1e-30, 2, 40, (0.1, 0.1), (0.1, 0.1))
    calls = {
        "free": [
            lambda: kernels.layered_relax(spec, weights, None, biases, x, states, n_steps=40),
            lambda: kernels.layered_train(spec, weights, None, biases, x, y, np.arange(3), plan),
        ],
        "nudged": [
            lambda: kernels.layered_train(spec, weights, None, biases, x, y, np.arange(3), later)
        ],
    }
    for phase, functions in calls.items():
        for function in functions:
            with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
                function()
            error = caught.value
            want = (1, step if phase == "free" else step - 2, phase)
            assert (error.layer, error.step, error.phase) == want
            assert f"layer 1 became non-finite at step {want[1]}" in str(error)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", [0, 1, 39])
def test_one_sample_diverges_among_others(backend, place):
    """Others that stay at rest, before it or after, do not hide it."""
    spec = LayeredSpec((1, 1, 1), activation="identity", out_activation="identity")
    weights = [np.ones((1, 1), "float32"), np.full((1, 1), 1e10, "float32")]
    biases = [np.zeros(1, "float32") for _ in range(2)]
    x, states = np.zeros((40, 1), "float32"), [np.zeros((40, 1), "float32") for _ in range(2)]
    x[place] = 1
    plan, kernels = TrainPlan(40, 0.5, 40, 1, (0.1, 0.1), (0.1, 0.1)), get_backend(backend)
    net = spec, weights, None, biases, x
    with np.errstate(all="ignore"):
        with pytest.raises(DivergenceError, match="step 5 of the free"):
            kernels.layered_relax(*net, states, n_steps=40)
        with pytest.raises(DivergenceError, match="step 5 of the free"):
            kernels.layered_train(*net, np.zeros((40, 1), "float32"), np.arange(40), plan)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_deepest_nets(backend, n_threads, rule):
    for depth in (MAX_WEIGHTS - 1, MAX_WEIGHTS):
        spec = LayeredSpec((4, 3, 5, 2, 7, 3, 5, 2, 7, 3, 5, 2, 7, 3, 5, 9, 8)[: depth + 1])
        weights, back, biases = network(spec.sizes, back=rule in VECTOR_FIELD_RULES)
        rng = np.random.default_rng(1)
        x, y = rng.uniform(size=(10, 4)), rng.uniform(size=(10, spec.sizes[-1]))
        centered = rule in ("ep", "coupled", "vector_field")
        plan = TrainPlan(
            4, 0.5, 20, 6, (0.5,) * depth, (0.5,) * depth, rule=rule, centered=centered
        )
        results = []
        for name in ("numpy", backend):
            backs = [None] + [b.copy() for b in back[1:]] if back else None
            net = [[a.copy() for a in weights], backs, [b.copy() for b in biases]]
            stats = get_backend(name).layered_train(
                spec, *net, x, y, np.arange(10), plan, n_threads=n_threads
            )
            flat = [a.ravel() for group in net if group for a in group if a is not None]
            results.append((np.concatenate(flat), stats))
        (want, stats), (got, same) = results
        assert np.abs(got - want).max() <= tolerance("trajectory", "float64")
        assert (same.free_steps, same.nudged_steps) == (stats.free_steps, stats.nudged_steps)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", RULES)
def test_a_batch_without_weight_has_no_second_phase(backend, rule):
    """Nothing is learnt, decayed or counted; the free phase is, and it moves the particles."""
    spec = LayeredSpec((4, 5, 3), activation="tanh", out_activation="tanh")
    weights, back, biases = network(spec.sizes, back=rule in VECTOR_FIELD_RULES)
    continual = rule.startswith("continual")
    memory = OptimizerState(
        [np.ones_like(a) for a in [*weights, *biases, *(back or [np.ones(0)])[1:]]]
    )
    if back:
        memory.velocity.insert(4, np.zeros((5, 4)))
    plan = TrainPlan(
        4,
        0.5,
        6,
        3,
        (0.5, 0.5),
        (0.5, 0.5),
        rule=rule,
        optimizer="sgd" if continual else "momentum",
        weight_decay=0.0 if continual else 0.1,
    )
    net = [a.copy() for a in [*weights, *biases]]
    stats = get_backend(backend).layered_train(
        spec,
        weights,
        back,
        biases,
        np.ones((8, 4)),
        np.ones((8, 3)),
        np.arange(8),
        plan,
        row_weight=np.zeros(8),
        optimizer_state=None if continual else memory,
        n_threads=2,
    )
    assert (stats.free_steps, stats.nudged_steps, stats.n_batches) == (48, 0, 2)
    assert all(np.array_equal(a, b) for a, b in zip([*weights, *biases], net))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_vector_field_over_no_steps_moves_nothing(backend):
    spec = LayeredSpec((4, 5, 3))
    weights, back, biases = network(spec.sizes, back=True)
    memory = OptimizerState([np.ones_like(a) for a in [*weights, *biases, weights[0].T, back[1]]])
    plan = TrainPlan(
        4,
        0.5,
        6,
        0,
        (0.5, 0.5),
        (0.5, 0.5),
        rule="vector_field",
        optimizer="momentum",
        weight_decay=0.1,
    )
    net = [a.copy() for a in [*weights, *biases, back[1]]]
    get_backend(backend).layered_train(
        spec,
        weights,
        back,
        biases,
        np.ones((8, 4)),
        np.ones((8, 3)),
        np.arange(8),
        plan,
        optimizer_state=memory,
    )
    assert all(np.array_equal(a, b) for a, b in zip([*weights, *biases, back[1]], net))
    assert all((v == 1).all() for v in [*memory.velocity[:4], memory.velocity[5]])


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"])
@pytest.mark.parametrize("centered", [False, True])
def test_a_vector_field_learns_no_more_from_a_sample_at_rest(backend, centered):
    """Beside others that go on."""
    spec = LayeredSpec((4, 5, 3), dynamics="continuous", dt=0.5, prime_hidden=False)
    rng, n = np.random.default_rng(0), 13
    x, y = rng.uniform(size=(n, 4)), rng.uniform(size=(n, 3)) * np.linspace(0, 1, n)[:, None]
    how = dict(rule="vector_field", tol_nudged=0.02, centered=centered)
    plan, ends = TrainPlan(n, 0.5, 30, 12, (0.5, 0.5), (0.5, 0.5), **how), []
    for name in ("numpy", backend):
        weights, back, biases = network(spec.sizes, back=True)
        stats = get_backend(name).layered_train(
            spec, weights, back, biases, x, y, np.arange(n), plan
        )
        ends.append(([*weights, *biases, back[1]], stats.nudged_steps))
    (want, steps), (got, same) = ends
    assert same == steps and 2 * n < steps < (1 + centered) * 12 * n
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance("weight", "float64"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", [(3, 17, 3), (3, 200, 260, 3)], ids=["by samples", "by columns"])
def test_rows_that_come_twice_in_a_batch(backend, sizes):
    """All start where the row's particles were; any number of threads leaves the same bits."""
    weights, _, biases = network(sizes)
    rng = np.random.default_rng(2)
    x, y = rng.uniform(size=(3, 3)), rng.uniform(size=(3, 3))
    start = [rng.uniform(size=(3, n)) for n in sizes[1:]]
    order = np.array([0, 1, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0])
    n = len(sizes) - 1
    plan = TrainPlan(15, 0.5, 3, 1, (0.0,) * n, (0.0,) * n)
    spec, ends = LayeredSpec(sizes), []
    for rows, n_threads in [(np.arange(3), 1), (order, 1), (order, 2), (order, 3)] * 3:
        particles = [s.copy() for s in start]
        get_backend(backend).layered_train(
            spec, weights, None, biases, x, y, rows, plan, particles=particles, n_threads=n_threads
        )
        ends.append(particles)
    for k in range(n):
        np.testing.assert_allclose(
            ends[1][k], ends[0][k], rtol=0, atol=tolerance("state", "float64")
        )
        assert all(np.array_equal(e[k], ends[1][k]) for e in ends[1::4] + ends[2::4] + ends[3::4])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["ep", "continual", "contrastive", "coupled"])
@pytest.mark.parametrize("outputs", [2, 11, 33])
def test_units_that_have_not_moved_do_not_learn(backend, dtype, rule, outputs):
    """Not even from rounding, of which Adam would make a whole step."""
    sizes, m = (5, 9, 33, outputs), 13
    spec = LayeredSpec(sizes, activation="tanh")
    weights, _, biases = network(sizes, dtype)
    before = [a.copy() for a in (*weights, *biases)]
    rng = np.random.default_rng(1)
    plan = TrainPlan(
        batch_size=m,
        beta=0.1,
        n_free_steps=0,
        n_nudged_steps=0,
        rate=(0.1,) * 3,
        bias_rate=(0.1,) * 3,
        rule=rule,
        optimizer="sgd" if rule == "continual" else "adam",
        centered=rule in ("ep", "coupled"),
    )
    memory = OptimizerState()
    if plan.optimizer == "adam":
        memory = OptimizerState(*([np.zeros_like(a) for a in before] for _ in range(2)))
    get_backend(backend).layered_train(
        spec,
        weights,
        None,
        biases,
        rng.normal(size=(m, 5)).astype(dtype),
        rng.uniform(size=(m, outputs)).astype(dtype),
        np.arange(m),
        plan,
        row_weight=rng.uniform(0.1, 3, m).astype(dtype),
        particles=[rng.normal(size=(m, n)).astype(dtype) for n in sizes[1:]],
        optimizer_state=memory,
    )
    held = rule in ("contrastive", "coupled")  # moves the output
    for k, (old, new) in enumerate(zip(before, (*weights, *biases))):
        assert np.array_equal(old, new) == (not held or k not in (2, 5)), k
