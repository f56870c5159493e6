"""Kernels of Boltzmann machines: the twin against enumeration, the backends against the twin."""

import itertools

import numpy as np
import pytest
from eqprop_fast.kernels import Boltzmann, BoltzmannPlan, DivergenceError, Sweeps, get_backend
from eqprop_fast.kernels.reference.threefry import threefry, uniform
from eqprop_fast.kernels.tolerances import tolerance

from . import random_calls
from .backend_list import BACKENDS
from .verdicts import verdict_test

COMPILED = [name for name in BACKENDS if name != "numpy"]
DTYPES = ("float32", "float64")
# widths on either side of the vectors' and of a group of draws; whether the top is categorical
SHAPES = [
    ((1, 1), False),
    ((7, 8), False),
    ((15, 9, 17), False),
    ((33, 16, 10), True),
    ((70, 31, 65, 4), True),
]


def machine_of(sizes, categorical, dtype, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    return Boltzmann(
        [(scale * rng.normal(size=s)).astype(dtype) for s in zip(sizes, sizes[1:])],
        [(0.3 * rng.normal(size=n)).astype(dtype) for n in sizes],
        categorical,
    )


def states_of(machine, rows, seed=1):
    rng, dtype = np.random.default_rng(seed), machine.biases[0].dtype
    states = [(rng.random((rows, len(b))) < 0.5).astype(dtype) for b in machine.biases]
    if machine.categorical_top:
        n = len(machine.biases[-1])
        states[-1] = np.eye(n, dtype=dtype)[rng.integers(0, n, rows)]
    return states


def copies(arrays):
    return None if arrays is None else [a.copy() for a in arrays]


def all_states(sizes):
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=sum(sizes))))
    return np.split(bits, np.cumsum(sizes)[:-1], axis=1)


def log_p(machine, states):
    value = sum(s @ b for s, b in zip(states, machine.biases))
    return value + sum(
        ((s @ w) * t).sum(axis=1) for s, w, t in zip(states, machine.weights, states[1:])
    )


def test_threefry_gives_the_published_words():
    """Known answers of Random123, 20 rounds."""
    words = {
        (0,) * 8: "9c6ca96a e17eae66 fc10ecd4 5256a7d8",
        (0xFFFFFFFF,) * 8: "2a881696 57012287 f6c7446e a16a6732",
        (
            *(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            *(0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89),
        ): "59cd1dbb b8879579 86b5d00c ac8b6d84",
    }
    for numbers, answer in words.items():
        counter = np.array(numbers[:4], np.uint32)[:, None]
        assert " ".join(f"{w:08x}" for w in threefry(counter, numbers[4:])[:, 0]) == answer


def test_draws_are_uniform_and_their_own():
    u = uniform(400, 300, 1, 2**33, 2**40 + 7)
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / u.size)
    assert abs(np.corrcoef(u[:-1].ravel(), u[1:].ravel())[0, 1]) < 0.02
    assert (u == u.astype(np.float32)).all() and 0 < u.min() and u.max() < 1
    assert (
        uniform(3, 20, 1, 2**33, 2**40 + 7) == u[:3, :20]
    ).all()  # no row or unit changes another
    for other in [
        (0, 2**33, 2**40 + 7),
        (1, 2**33 + 1, 2**40 + 7),
        (1, 0, 2**40 + 7),
        (1, 2**33, 7),
    ]:
        assert (uniform(400, 300, *other) != u).mean() > 0.99


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("even_first", [False, True])
def test_gibbs_sampling_visits_states_as_often_as_it_should(backend, even_first):
    machine = machine_of((3, 2, 2), False, "float64", scale=1.0)
    every = all_states((3, 2, 2))
    p = np.exp(log_p(machine, every))
    p /= p.sum()
    states = states_of(machine, 40_000)
    sweeps = Sweeps(40, even_first=even_first, seed=3)
    get_backend(backend).boltzmann_sweep(machine, states, sweeps, [False] * 3)
    code = np.concatenate(states, axis=1) @ 2.0 ** np.arange(7)[::-1]
    seen = np.bincount(code.astype(int), minlength=128) / len(code)
    assert 0.5 * np.abs(seen - p).sum() < 0.03  # total variation; independent draws give 0.02


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_categorical_layer_is_drawn_with_its_probabilities(backend):
    machine = machine_of((2, 4), True, "float64")
    states = states_of(machine, 20_000)
    states[0][:] = [1, 0]
    means = copies(states)
    get_backend(backend).boltzmann_sweep(machine, states, Sweeps(1), [True, False], means=means)
    field = machine.weights[0][0] + machine.biases[1]
    p = np.exp(field) / np.exp(field).sum()
    assert np.allclose(means[1], p) and (states[1].sum(axis=1) == 1).all()
    assert np.abs(states[1].mean(axis=0) - p).max() < 0.02


def sweep_cases(machine, rows):
    n = len(machine.biases)
    rng, dtype = np.random.default_rng(2), machine.biases[0].dtype
    mask = (rng.random((rows, len(machine.biases[0]))) < 0.4).astype(np.int8)
    base = [(0.3 * rng.normal(size=len(b))).astype(dtype) for b in machine.biases]
    top, none = [False] * (n - 1) + [True], [False] * n
    cold = dict(base=base, betas=np.linspace(0.2, 0.9, 6))
    for draw, even in itertools.product((True, False), (True, False)):
        sweeps = Sweeps(5, draw, even, seed=2**40 + 5, first_sweep=2**33)
        yield sweeps, none, {}
        yield sweeps, top, {"mask": mask}
        yield sweeps, none, {**cold, "log_weight": np.zeros(rows)}
    yield Sweeps(60, False, tol=1e-3), none, {}
    yield Sweeps(3, False, upward=True), [True, *none[1:]], {}
    yield Sweeps(3, False, upward=True), [True, *top[1:]] if n > 2 else none, {}


def run_sweep(kernels, machine, states, case, n_threads=1):
    sweeps, clamped, extra = case
    states, means = copies(states), [np.full_like(s, 0.25) for s in states]
    extra = {k: v.copy() if k == "log_weight" else v for k, v in extra.items()}
    found = kernels.boltzmann_sweep(
        machine, states, sweeps, clamped, means=means, n_threads=n_threads, **extra
    )
    return [*states, *means, *found, *([extra["log_weight"]] if "log_weight" in extra else [])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_sweeps_are_the_twins(backend, shape, dtype):
    machine = machine_of(*shape, dtype)
    states = states_of(machine, 53)
    close = 10 * tolerance("state", dtype)
    for case in sweep_cases(machine, 53):
        twin, one, many = (
            run_sweep(get_backend(name), machine, states, case, n)
            for name, n in (("numpy", 1), (backend, 1), (backend, 3))
        )
        for a, b, c in zip(twin, one, many):
            assert (b == c).all(), "threads change nothing"
            if a.dtype.kind == "i":  # a row at the edge of the tolerance may take a sweep more
                assert (np.abs(a - b) <= 1).all() and (a == b).mean() > 0.9
            elif case[0].draw and set(np.unique(a)) <= {0, 1}:
                assert (a == b).mean() > 0.999  # but for a draw within rounding of its probability
            else:
                assert np.abs(a - b).max() <= close * max(1, np.abs(a).max()), case


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1100, 3), (3, 1100)], ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_annealing_of_wide_layers_and_large_fields(backend, sizes, dtype):
    """Sums over more units than one logarithm is taken of, whose fields are too large for exp."""
    machine = machine_of(sizes, False, dtype, scale=60.0)
    base = [np.full_like(b, 0.1) for b in machine.biases]
    for even_first in (False, True):
        found = []
        for name in ("numpy", backend):
            states, weight = states_of(machine, 4), np.zeros(4)
            sweeps, cold = Sweeps(2, even_first=even_first, seed=9), np.array([0.0, 0.4, 1.0])
            kernels = get_backend(name)
            kernels.boltzmann_sweep(
                machine, states, sweeps, [False] * 2, base=base, betas=cold, log_weight=weight
            )
            found.append(weight)
        np.testing.assert_allclose(*found, rtol=10 * tolerance("state", dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_at_rest_stop_and_no_sweep_is_none(backend, dtype):
    """A tolerance of 0 is met where nothing changes; rows that start at rest stop before others."""
    machine = machine_of((9, 5), False, dtype)
    machine = Boltzmann([0 * w for w in machine.weights], [0 * b for b in machine.biases])
    sweep = get_backend(backend).boltzmann_sweep
    states = [np.full((50, n), 0.5, dtype) for n in (9, 5)]
    for s in states:
        s[20:30] = 0.25
    steps, residual = sweep(machine, states, Sweeps(9, draw=False, tol=0.0), [False] * 2)
    assert (steps == np.where(np.arange(50) // 10 == 2, 2, 1)).all() and not residual.any()
    assert all((s == 0.5).all() for s in states)
    steps, _ = sweep(machine, states, Sweeps(4, draw=False), [False] * 2)
    assert (steps == 4).all()  # no tolerance: nobody stops
    states[0][0], states[1][7] = 1, 0.125
    steps, residual = sweep(machine, states, Sweeps(1, draw=False), [False] * 2)
    assert residual[0] == 0.5 and residual[7] == 0.375 and residual.sum() == 0.875
    kept = copies(states)
    steps, residual = sweep(machine, states, Sweeps(0, draw=False, tol=0.1), [False] * 2)
    assert not steps.any() and not residual.any()
    assert all((a == b).all() for a, b in zip(kept, states))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_plan_without_a_tolerance_makes_all_mean_field_sweeps(backend):
    machine, x = machine_of((6, 5, 4), False, "float64", scale=0.0), np.full((10, 6), 0.5)
    counts = get_backend(backend).boltzmann_train(
        machine, x, None, np.arange(10), BoltzmannPlan(4, 7, 1, 0.0), states_of(machine, 3)
    )
    assert tuple(counts) == (3, 70)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_does_not_depend_on_the_rows_beside_it(backend):
    machine = machine_of((33, 16, 10), True, "float32")
    states, kernels = states_of(machine, 60), get_backend(backend)
    for sweeps in (Sweeps(7, seed=5), Sweeps(40, draw=False, tol=1e-4)):
        whole, part = copies(states), [s[:13].copy() for s in states]
        kernels.boltzmann_sweep(machine, whole, sweeps, [True, False, False])
        kernels.boltzmann_sweep(machine, part, sweeps, [True, False, False])
        assert all((a[:13] == b).all() for a, b in zip(whole, part))


def test_runs_that_go_on_are_one_run():
    machine, states = machine_of((9, 5), False, "float64"), None
    whole = states_of(machine, 20)
    states = copies(whole)
    twin = get_backend("numpy").boltzmann_sweep
    twin(machine, whole, Sweeps(9, seed=1), [False] * 2)
    twin(machine, states, Sweeps(4, seed=1), [False] * 2)
    twin(machine, states, Sweeps(5, seed=1, first_sweep=4), [False] * 2)
    assert all((a == b).all() for a, b in zip(whole, states))


@pytest.mark.parametrize(
    "sizes, categorical", [((5, 4), False), ((3, 4, 3), False), ((4, 3, 3), True)]
)
def test_annealing_estimates_the_enumerated_log_z(sizes, categorical):
    machine = machine_of(sizes, categorical, "float64", scale=1.0)
    every = all_states(sizes)
    if categorical:
        every = [s[every[-1].sum(axis=1) == 1] for s in every]
    exact = np.logaddexp.reduce(log_p(machine, every))
    base = [np.zeros_like(b) for b in machine.biases]
    start = sum(n * np.log(2) for n in sizes[:-1])
    start += np.log(sizes[-1]) if categorical else sizes[-1] * np.log(2)
    for even_first in (False, True):
        weight, states = np.zeros(2000), states_of(machine, 2000)
        sweeps = Sweeps(100, even_first=even_first, seed=4)
        get_backend("numpy").boltzmann_sweep(
            machine,
            states,
            sweeps,
            [False] * len(sizes),
            base=base,
            betas=np.linspace(0, 1, 101),
            log_weight=weight,
        )
        assert abs(start + np.logaddexp.reduce(weight) - np.log(2000) - exact) < 0.02


def training_cases(machine, dtype):
    rng = np.random.default_rng(5)
    x = (rng.random((40, len(machine.biases[0]))) < 0.4).astype(dtype)
    top = len(machine.biases[-1])
    y = np.eye(top, dtype=dtype)[rng.integers(0, top, 40)] if machine.categorical_top else None
    order = rng.permutation(40)
    for draw, momentum, centred in itertools.product((True, False), (0.0, 0.5), (False, True)):
        plan = BoltzmannPlan(
            9,
            3,
            2,
            0.1,
            tol=1e-9,
            draw=draw,
            momentum=momentum,
            weight_decay=0.01,
            offset_rate=0.05,
            seed=3,
            first_sweep=2**33 - 2,
        )
        particles = [np.zeros((7, len(b)), dtype) for b in machine.biases]
        offsets = [np.full(len(b), 0.5, dtype) for b in machine.biases] if centred else None
        moving = [np.zeros_like(a) for a in machine.weights + machine.biases]
        yield x, y, order, plan, particles, offsets, moving if momentum else None


def run_training(kernels, machine, case, n_threads=1):
    x, y, order, plan, *changed = case
    machine = Boltzmann(copies(machine.weights), copies(machine.biases), machine.categorical_top)
    changed = [copies(c) for c in changed]
    counts = kernels.boltzmann_train(machine, x, y, order, plan, *changed, n_threads=n_threads)
    return [*machine.weights, *machine.biases, *sum((c or [] for c in changed), [])], counts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_training_is_the_twins(backend, shape, dtype):
    machine = machine_of(*shape, dtype, scale=0.1)
    for case in training_cases(machine, dtype):
        (twin, count), (one, counted), (many, _) = (
            run_training(get_backend(name), machine, case, n)
            for name, n in (("numpy", 1), (backend, 1), (backend, 3))
        )
        assert count[0] == counted[0] and abs(count[1] - counted[1]) <= 2
        for a, b, c in zip(twin, one, many):
            assert (b == c).all(), "threads change nothing"
            assert np.abs(a - b).max() <= tolerance("trajectory", dtype), case[3]


def test_the_step_is_the_gradient_of_the_likelihood():
    """In the mean over many chains; offsets change its path, not its fixed points."""
    machine = machine_of((4, 3), False, "float64", scale=0.5)
    every = all_states((4, 3))
    p = np.exp(log_p(machine, every))
    p /= p.sum()
    rng = np.random.default_rng(0)
    x = (rng.random((50, 4)) < 0.3).astype(float)
    h = 1 / (1 + np.exp(-(x @ machine.weights[0] + machine.biases[1])))
    exact = x.T @ h / 50 - np.einsum("s,si,sj->ij", p, *every)
    for offsets in (None, [np.zeros(4), np.zeros(3)]):
        particles = [a[rng.choice(len(p), 100_000, p=p)] for a in every]
        trained = Boltzmann(copies(machine.weights), copies(machine.biases))
        get_backend("numpy").boltzmann_train(
            trained,
            x,
            None,
            np.arange(50),
            BoltzmannPlan(50, 0, 1, 1.0, seed=1),
            particles,
            offsets,
        )
        assert np.abs(trained.weights[0] - machine.weights[0] - exact).max() < 0.01


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_that_blow_up_are_named_and_undone(backend):
    machine = machine_of((6, 5), False, "float32")
    before = copies(machine.weights + machine.biases)
    plan = BoltzmannPlan(5, 0, 1, 1e37, momentum=0.0, weight_decay=100.0)
    particles = [np.zeros((3, 6), "f"), np.zeros((3, 5), "f")]
    x = np.ones((20, 6), np.float32)
    with pytest.raises(DivergenceError, match="learning_rate"):
        with np.errstate(all="ignore"):
            get_backend(backend).boltzmann_train(machine, x, None, np.arange(20), plan, particles)
    assert all((a == b).all() for a, b in zip(before, machine.weights + machine.biases))
    assert not any(p.any() for p in particles)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("place", [0, 7, 16, 40])
@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_fields_that_are_no_numbers_are_named(backend, draw, place):
    """0 times a sum that has overflowed, in any unit of any layer: neither drawn as 0 nor passed
    over by the largest change.
    """
    for sizes, categorical in [((4, 41), False), ((2, 3, 41), False), ((4, 41), True)]:
        machine = machine_of(sizes, categorical, "float32")
        machine.weights[-1][:, place] = 3e38
        states = [np.ones((3, n), np.float32) for n in sizes]
        base = [np.zeros(n, np.float32) for n in sizes]
        sweeps, clamped = Sweeps(2, draw=draw, seed=1), [True] * (len(sizes) - 1) + [False]
        with pytest.raises(DivergenceError, match="non-finite"):
            get_backend(backend).boltzmann_sweep(
                machine, states, sweeps, clamped, base=base, betas=np.zeros(3)
            )


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_calls_are_named(backend):
    kernels, machine = get_backend(backend), machine_of((6, 5), False, "float64")
    states, none = states_of(machine, 4), [False, False]
    for wrong, name in [
        (dict(mask=np.zeros((4, 5), np.int8)), "mask"),
        (dict(betas=np.ones(2)), "base"),
        (dict(log_weight=np.zeros(4)), "betas"),
        (dict(means=[np.zeros((4, 6))]), "means"),
    ]:
        with pytest.raises(ValueError, match=name):
            kernels.boltzmann_sweep(machine, states, Sweeps(1), none, **wrong)
    for sweeps, name in [
        (Sweeps(-1), "n"),
        (Sweeps(1, upward=True), "upward"),
        (Sweeps(1, seed=-1), "seed"),
        (Sweeps(1, tol=np.nan), "tol"),
    ]:
        with pytest.raises(ValueError, match=name):
            kernels.boltzmann_sweep(machine, states, sweeps, none)
    particles, order = states_of(machine, 3), np.arange(2)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        kernels.boltzmann_train(
            machine, np.full((2, 6), 1.5), None, order, BoltzmannPlan(1, 0, 1, 0.1), particles
        )
    with pytest.raises(ValueError, match="velocity"):
        kernels.boltzmann_train(
            machine,
            np.ones((2, 6)),
            None,
            order,
            BoltzmannPlan(1, 0, 1, 0.1, momentum=0.5),
            particles,
        )


test_verdicts_are_the_same = verdict_test(("boltzmann_sweep", "boltzmann_train"))


@pytest.mark.parametrize("backend", COMPILED)
def test_random_calls_follow_the_twin(backend):
    random_calls.check_draws(backend, "boltzmann")
