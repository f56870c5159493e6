"""Layered-crossbar kernels: parity with the NumPy twin, physics, another solver's optimum,
gradients.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import Crossbar, CrossbarPlan, DivergenceError, get_backend
from eqprop_fast.kernels.reference import crossbar as reference
from eqprop_fast.kernels.reference.crossbar import NUDGINGS, SCHEDULES, NudgeError
from eqprop_fast.kernels.tolerances import tolerance
from scipy.optimize import lsq_linear

from .backend_list import BACKENDS

KERNELS = {name: get_backend(name) for name in BACKENDS}
NUMPY = get_backend("numpy")
PHYSICS = {"input_gain", "schedule", "pairs"}
ARRAYS = {"row_weight", "velocity", "n_threads"}
COMPILED = [name for name in BACKENDS if name != "numpy"]
SIZES = [(1, 1), (7, 9, 4), (16, 33, 8), (31, 17, 15, 2), (5, 16, 31, 9, 6), (3, 8, 140, 7, 33, 10)]
TEAM = (6, 500, 480, 4)  # inner matrices large enough that threads share rows instead of samples


def make(sizes, dtype=np.float64, rows=11, seed=0, density=0.5, outputs=None):
    """A DRN as the paper sets it up, with non-zero biases; inputs, targets and legal states."""
    rng = np.random.default_rng(seed)
    fan_in = [2 * sizes[0], *sizes[1:-1]]
    weights = [
        np.maximum(rng.uniform(-1, 1, (m, n)), 0) / np.sqrt(m) for m, n in zip(fan_in, sizes[1:])
    ]
    biases = [rng.normal(0, 0.1, n) for n in sizes[1:]]
    lower = [np.full(n, -np.inf) for n in sizes[1:]]
    upper = [np.full(n, np.inf) for n in sizes[1:]]
    for lo, hi in zip(lower[:-1], upper[:-1]):
        lo[: len(lo) // 2], hi[len(hi) // 2 :] = 0, 0
    x = rng.normal(size=(rows, sizes[0])) * (rng.random((rows, sizes[0])) < density)
    y = rng.normal(size=(rows, outputs or sizes[-1]))
    states = [
        np.clip(rng.normal(size=(rows, n)), lo, hi) for n, lo, hi in zip(sizes[1:], lower, upper)
    ]
    cast = [
        [np.ascontiguousarray(a, dtype=dtype) for a in arrays]
        for arrays in (weights, biases, lower, upper)
    ]
    return *cast, x.astype(dtype), y.astype(dtype), [s.astype(dtype) for s in states]


def copies(arrays):
    return [a.copy() for a in arrays]


def relax(kernels, weights, biases, lower, upper, x, states, **options):
    """A kernel's call with the fields of the network among its options."""
    physics = {name: options.pop(name) for name in PHYSICS & options.keys()}
    network = Crossbar(weights, biases, lower, upper, **physics)
    return kernels.crossbar_relax(network, x, states, **options)


def train(kernels, weights, biases, lower, upper, x, y, states, order=None, **options):
    """A kernel's call with the fields of network and plan among its options."""
    physics = {name: options.pop(name) for name in PHYSICS & options.keys()}
    arrays = {name: options.pop(name) for name in ARRAYS & options.keys()}
    network = Crossbar(weights, biases, lower, upper, **physics)
    return kernels.crossbar_train(network, x, y, order, CrossbarPlan(**options), states, **arrays)


def close(actual, desired, quantity, dtype):
    for a, d in zip(actual, desired, strict=True):
        np.testing.assert_allclose(
            a, d, rtol=0, atol=tolerance(quantity, dtype) * max(1.0, np.abs(d).max())
        )


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_relax_matches_reference(backend, dtype, schedule):
    for sizes in SIZES:
        for pairs in [False, True] if sizes[-1] % 2 == 0 else [False]:
            *net, x, y, states = make(sizes, dtype, outputs=sizes[-1] // 2 if pairs else None)
            for beta, n_steps in [(0.0, 1), (0.3, 5), (-0.01, 2)]:
                options = dict(
                    input_gain=3.0, schedule=schedule, n_steps=n_steps, beta=beta, y=y, pairs=pairs
                )
                ours, theirs = copies(states), copies(states)
                steps, residual = relax(KERNELS[backend], *net, x, ours, **options)
                expected = relax(NUMPY, *net, x, theirs, **options)
                close(ours, theirs, "state", dtype)
                np.testing.assert_array_equal(steps, expected[0])
                close([residual], [expected[1]], "state", dtype)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nudging", NUDGINGS)
def test_train_matches_reference(backend, dtype, nudging):
    for sizes in SIZES[1:]:
        for pairs, schedule in [(False, "asynchronous"), (True, "forward"), (False, "synchronous")]:
            if pairs and sizes[-1] % 2:
                continue
            *net, x, y, _ = make(sizes, dtype, outputs=sizes[-1] // 2 if pairs else None)
            rng = np.random.default_rng(1)
            options = dict(
                order=rng.permutation(len(x)),
                row_weight=rng.random(len(x)).astype(dtype),
                batch_size=3,
                input_gain=2.0,
                schedule=schedule,
                n_free_steps=4,
                n_nudged_steps=3,
                beta=0.02,
                nudging=nudging,
                rate=[0.02] * len(net[0]),
                bias_rate=[0.01] * len(net[0]),
                g_min=1e-3,
                g_max=0.5,
                pairs=pairs,
            )
            results = []
            for kernels in (KERNELS[backend], NUMPY):
                weights, biases = copies(net[0]), copies(net[1])
                carried = [np.zeros((3, n), dtype) for n in sizes[1:]]
                loss = train(kernels, weights, biases, *net[2:], x, y, carried, **options)
                results.append((weights + biases + carried, loss))
            close(results[0][0], results[1][0], "trajectory", dtype)
            np.testing.assert_allclose(
                results[0][1], results[1][1], rtol=1e-4 if dtype == "float32" else 1e-10
            )


@pytest.mark.needs_cc
@pytest.mark.skipif("c" not in BACKENDS, reason="the C backend is not under test")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "sizes, options",
    [
        ((20, 300, 260, 4), {}),
        ((20, 300, 260, 4), dict(schedule="synchronous", nudging="positive", tol_free=1e-5)),
        ((20, 300, 260, 4), dict(schedule="forward", pairs=True, tol_free=1e-3, tol_nudged=1e-4)),
        (
            (20, 300, 260, 4),
            dict(n_free_steps=2, nudging="negative", schedule="backward", beta=0.2),
        ),
        ((20, 250, 33, 270, 260, 7), {}),
        ((20, 500, 480, 4), dict(carry=False)),
        ((20, 500, 480, 4), dict(beta=0.2)),
    ],
)
def test_large_networks_match_reference(sizes, options, n_threads, dtype):
    """Large enough that C relaxes samples without the nodes held at 0 V, and that threads share
    rows.
    """
    pairs = options.get("pairs", False)
    *net, x, y, _ = make(sizes, dtype, outputs=sizes[-1] // 2 if pairs else None)
    options = (
        dict(
            batch_size=3,
            input_gain=30.0,
            n_free_steps=5,
            n_nudged_steps=4,
            beta=0.02,
            rate=[0.002] * len(net[0]),
            bias_rate=[0.01] * len(net[0]),
        )
        | options
    )
    results = []
    for kernels in (KERNELS["c"], NUMPY):
        weights, biases = copies(net[0]), copies(net[1])
        carried = [np.zeros((3, n), dtype) for n in sizes[1:]]
        train(kernels, weights, biases, *net[2:], x, y, carried, n_threads=n_threads, **options)
        results.append(weights + biases + carried)
    close(results[0], results[1], "trajectory", dtype)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
def test_momentum_matches_reference(backend, dtype, optimizer):
    for sizes in SIZES[1:]:
        *net, x, y, _ = make(sizes, dtype)
        rng = np.random.default_rng(1)
        options = dict(
            batch_size=3,
            input_gain=2.0,
            n_nudged_steps=3,
            beta=0.02,
            g_min=1e-3,
            g_max=0.5,
            rate=[0.02, 0.01, 0.03, 0.02, 0.01][: len(net[0])],
            bias_rate=[0.01] * len(net[0]),
            optimizer=optimizer,
            momentum=0.8,
        )
        start = [rng.normal(0, 0.01, p.shape).astype(dtype) for p in net[0] + net[1]]
        results = []
        ours = KERNELS[backend]
        for kernels, threads in ((ours, 1), (ours, 3), (NUMPY, 1)):
            weights, biases, velocity = copies(net[0]), copies(net[1]), copies(start)
            carried = [np.zeros((3, n), dtype) for n in sizes[1:]]
            for rows in (np.arange(6), np.arange(6, len(x))):  # momentum goes on from call to call
                train(
                    kernels,
                    weights,
                    biases,
                    *net[2:],
                    x,
                    y,
                    carried,
                    order=rows,
                    velocity=velocity,
                    n_threads=threads,
                    **options,
                )
            results.append(weights + biases + velocity + carried)
        for a, b in zip(results[0], results[1], strict=True):
            np.testing.assert_array_equal(a, b)
        close(results[0], results[2], "trajectory", dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_follows_the_gradients_of_plain_steps(backend, nesterov):
    """Each step's gradient taken from a plain step of rate 1 without bounds, the recursion written
    out.
    """
    *net, x, y, _ = make((5, 8, 6, 2), rows=4)
    options = dict(batch_size=4, beta=0.05, carry=False)
    ours, velocity = copies(net[0] + net[1]), [np.zeros_like(p) for p in net[0] + net[1]]
    theirs, momenta = copies(ours), copies(velocity)
    for _ in range(3):
        carried = [np.zeros((4, n)) for n in (8, 6, 2)]
        train(
            KERNELS[backend],
            ours[:3],
            ours[3:],
            *net[2:],
            x,
            y,
            carried,
            rate=[0.1] * 3,
            bias_rate=[0.05] * 3,
            g_min=0.01,
            g_max=0.3,
            optimizer="nesterov" if nesterov else "momentum",
            momentum=0.7,
            velocity=velocity,
            **options,
        )
        moved = copies(theirs)
        train(
            KERNELS[backend],
            moved[:3],
            moved[3:],
            *net[2:],
            x,
            y,
            carried,
            rate=[1.0] * 3,
            bias_rate=[1.0] * 3,
            g_min=-np.inf,
            **options,
        )
        for k, (p, m, v) in enumerate(zip(theirs, moved, momenta, strict=True)):
            gradient = p - m
            v[...] = 0.7 * v + gradient
            p -= (0.1 if k < 3 else 0.05) * (gradient + 0.7 * v if nesterov else v)
            if k < 3:
                np.clip(p, 0.01, 0.3, out=p)
    for a, b in zip(ours + velocity, theirs + momenta, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("sizes", [(7, 33, 10), TEAM])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_bit_equal_for_any_threads_and_chunks(backend, sizes, schedule):
    """Neither the thread count, nor cutting the order into several calls, nor CSR input changes a
    bit.
    """
    *net, x, y, states = make(sizes, np.float32, rows=19)
    order = np.random.default_rng(0).permutation(19)
    options = dict(
        batch_size=4,
        schedule=schedule,
        n_free_steps=3,
        n_nudged_steps=2,
        beta=0.05,
        tol_free=1e-4,
        rate=[0.05] * len(net[0]),
        bias_rate=[0.01] * len(net[0]),
    )

    def trained(cuts, n_threads, data=x):
        weights, biases = copies(net[0]), copies(net[1])
        carried, loss = [np.zeros((4, n), np.float32) for n in sizes[1:]], 0.0
        for a, b in zip(cuts, cuts[1:]):
            loss, _ = train(
                KERNELS[backend],
                weights,
                biases,
                *net[2:],
                data,
                y,
                carried,
                order=order[a:b],
                loss_so_far=loss,
                n_threads=n_threads,
                **options,
            )
        return [*weights, *biases, *carried, np.array(loss)]

    expected = trained([0, 19], 1)
    for cuts, threads, data in [
        ([0, 19], 2, x),
        ([0, 19], 3, x),
        ([0, 4, 12, 19], 2, x),
        ([0, 8, 19], 1, x),
        ([0, 19], 2, sp.csr_matrix(x)),
    ]:
        for a, b in zip(trained(cuts, threads, data), expected, strict=True):
            np.testing.assert_array_equal(a, b)

    outs = []
    for threads in (1, 2, 3):
        final = copies(states)
        relax(
            KERNELS[backend],
            *net,
            x,
            final,
            schedule=schedule,
            n_steps=9,
            tol=1e-3,
            n_threads=threads,
        )
        outs.append(final)
    alone = copies(states)
    for m in range(len(x)):  # nor does a sample's company
        one = [s[m : m + 1].copy() for s in states]
        relax(KERNELS[backend], *net, x[m : m + 1], one, schedule=schedule, n_steps=9, tol=1e-3)
        for s, o in zip(alone, one):
            s[m] = o[0]
    for other in [*outs[1:], alone]:
        for a, b in zip(other, outs[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_carry_over_after_a_batch_of_another_size(backend):
    *net, x, y, _ = make((5, 8, 2), rows=6)
    carried = [np.ones((4, n)) for n in (8, 2)]
    options = dict(batch_size=4, beta=0.05, rate=[0.0, 0.0], bias_rate=[0.0, 0.0])
    train(KERNELS[backend], *net, x, y, carried, **options)
    assert all((s == 0).all() for s in carried)
    train(KERNELS[backend], *net, x, y, carried, order=np.arange(4), **options)
    assert all((s != 0).any() for s in carried)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_carry_every_batch_starts_from_zero(backend):
    *net, x, y, _ = make((5, 8, 2), rows=8)
    options = dict(
        batch_size=4,
        n_free_steps=1,
        n_nudged_steps=1,
        beta=0.05,
        rate=[0.1] * 2,
        bias_rate=[0.1] * 2,
    )
    results = []
    for cuts in ([0, 8], [0, 4, 8]):
        weights, biases = copies(net[0]), copies(net[1])
        for a, b in zip(cuts, cuts[1:]):
            start = [np.full((4, n), 7.0 * (a == 0)) for n in (8, 2)]
            train(
                KERNELS[backend],
                weights,
                biases,
                *net[2:],
                x,
                y,
                start,
                order=np.arange(a, b),
                carry=False,
                **options,
            )
        results.append(weights + biases)
    close(results[0], results[1], "weight", "float64")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("schedule", ["asynchronous", "forward", "backward"])
@pytest.mark.parametrize("pairs", [False, True])
def test_co_content_never_rises(backend, schedule, pairs):
    *net, x, y, states = make((6, 10, 9, 8, 4), outputs=2 if pairs else 4)
    for beta in (0.0, 0.5):
        options = dict(input_gain=5.0, beta=beta, y=y, pairs=pairs)
        v = copies(states)
        energy = reference.co_content(*net[:2], x, v, **options)
        for _ in range(30):
            relax(KERNELS[backend], *net, x, v, schedule=schedule, n_steps=1, **options)
            new = reference.co_content(*net[:2], x, v, **options)
            assert (new <= energy + 1e-12 * np.abs(energy).max()).all()
            energy = new
        assert np.isfinite(energy).all()


def quadratic_program(net, x, gain, beta=0.0, y=None, pairs=False):
    """The same network as 1/2 v'Hv - c'v over all nodes at once, solved by SciPy's bounded least
    squares.
    """
    weights, biases, lower, upper = net
    sizes = [w.shape[1] for w in weights]
    at = np.concatenate([[0], np.cumsum(sizes)])
    H, c = np.zeros((at[-1], at[-1])), np.concatenate(biases)
    source = gain * np.concatenate([x, -x])
    for k, w in enumerate(weights):
        post = slice(at[k], at[k + 1])
        H[post, post] += np.diag(w.sum(0))
        if k == 0:
            c[post] += source @ w
        else:
            pre = slice(at[k - 1], at[k])
            H[pre, pre] += np.diag(w.sum(1))
            H[pre, post] -= w
            H[post, pre] -= w.T
    if beta:
        half = sizes[-1] // 2 if pairs else sizes[-1]
        read = np.eye(half)
        if pairs:
            read = np.concatenate([read, -read], axis=1)
        H[at[-2] :, at[-2] :] += beta * read.T @ read
        c[at[-2] :] += beta * y @ read
    factor = np.linalg.cholesky(H)
    best = lsq_linear(
        factor.T,
        np.linalg.solve(factor, c),
        (np.concatenate(lower), np.concatenate(upper)),
        method="bvls",
        tol=1e-15,
        max_iter=1000,
    )
    assert best.success
    return np.split(best.x, at[1:-1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pairs", [False, True])
def test_solution_is_that_of_a_generic_solver(backend, pairs):
    for seed in range(4):
        *net, x, y, states = make((4, 6, 5, 4), rows=3, seed=seed, outputs=2 if pairs else 4)
        net[0] = [w + 0.02 for w in net[0]]  # no isolated node: the solution is unique
        for beta in (0.0, 0.7):
            v = [np.zeros_like(s) for s in states]
            options = dict(input_gain=4.0, beta=beta, y=y, pairs=pairs)
            relax(KERNELS[backend], *net, x, v, n_steps=5000, tol=1e-15, **options)
            for m in range(3):
                expected = quadratic_program(net, x[m], 4.0, beta, y[m], pairs)
                for a, d in zip(v, expected, strict=True):
                    np.testing.assert_allclose(a[m], d, rtol=0, atol=1e-10)
            if not beta:
                left = reference.kcl_residual(*net, x, v, input_gain=4.0)
                assert max(np.abs(r).max() for r in left) < 1e-10


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pairs", [False, True])
def test_ep_gradient_is_that_of_the_cost(backend, pairs):
    """A step of rate 1 moves conductances and biases by minus the finite-difference gradient."""
    *net, x, y, _ = make((3, 5, 4, 2), rows=3, seed=2, outputs=1 if pairs else 2)
    weights, biases = net[:2]
    n = len(x)

    def cost():
        v = [np.zeros((n, w.shape[1])) for w in weights]
        relax(NUMPY, *net, x, v, input_gain=2.0, n_steps=3000, tol=1e-15, pairs=pairs)
        return 0.5 * ((reference.predictions(v[-1], pairs) - y) ** 2).sum() / n

    w, b = copies(weights), copies(biases)
    train(
        KERNELS[backend],
        w,
        b,
        *net[2:],
        x,
        y,
        [np.zeros((n, a.shape[1])) for a in weights],
        batch_size=n,
        input_gain=2.0,
        n_free_steps=3000,
        n_nudged_steps=3000,
        tol_free=1e-15,
        tol_nudged=1e-15,
        beta=1e-4,
        rate=[1.0] * 3,
        bias_rate=[1.0] * 3,
        g_min=-np.inf,
        pairs=pairs,
    )
    for before, after in zip(weights + biases, w + b):
        numeric = np.zeros_like(before)
        for i in np.ndindex(before.shape):
            keep, sides = before[i], []
            for h in (1e-5, -1e-5):
                before[i] = keep + h
                sides.append(cost())
            before[i] = keep
            numeric[i] = (sides[0] - sides[1]) / 2e-5
        np.testing.assert_allclose(before - after, numeric, rtol=1e-4, atol=2e-7)


def test_amplifiers_amount_to_input_gain():
    """Bidirectional amplifiers between layers: their own KCL, solved densely, against the plain
    network.
    """
    rng = np.random.default_rng(0)
    g0, g1 = rng.random((6, 4)), rng.random((4, 2))
    x, gain, a = rng.normal(size=3), 2.0, 4.0
    # nodes: 4 hidden (amplifier inputs), 2 outputs; layer 2 sees a v_hidden and 1/a of its current
    # flows back
    H = np.zeros((6, 6))
    H[:4, :4] = np.diag(g0.sum(0) + g1.sum(1))
    H[:4, 4:] = -g1 / a
    H[4:, 4:] = np.diag(g1.sum(0))
    H[4:, :4] = -a * g1.T
    v = np.linalg.solve(H, np.concatenate([gain * np.concatenate([x, -x]) @ g0, np.zeros(2)]))
    plain = [np.zeros((1, 4)), np.zeros((1, 2))]
    free = [np.full(n, np.inf) for n in (4, 2)]
    relax(
        NUMPY,
        [g0, g1],
        [np.zeros(4), np.zeros(2)],
        [-f for f in free],
        free,
        x[None],
        plain,
        input_gain=gain * a,
        n_steps=2000,
        tol=1e-15,
    )
    np.testing.assert_allclose(np.concatenate([plain[0][0] / a, plain[1][0]]), v, rtol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_isolated_node_stays_at_zero(backend):
    *net, x, _, states = make((3, 4, 2))
    net[0][0][:, 1], net[0][1][1] = 0, 0
    relax(KERNELS[backend], *net, x, states, n_steps=3)
    assert (states[0][:, 1] == 0).all() and all(np.isfinite(s).all() for s in states)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("node", [0, 3, 5])
def test_conductances_whose_sum_overflows_move_nothing(backend, node):
    """Whichever of the threads sums them."""
    *net, x, y, states = make((3, 6, 2), np.float32)
    net[0][0][:, node] = 3e38
    kept, carried = copies(net[0] + net[1] + states), copies(states)
    for n_threads in (1, 3):
        with np.errstate(all="ignore"):
            with pytest.raises(DivergenceError):
                relax(KERNELS[backend], *net, x, states, n_threads=n_threads)
            options = dict(batch_size=11, beta=0.1, rate=[0.1] * 2, bias_rate=[0.1] * 2)
            with pytest.raises(DivergenceError):
                train(KERNELS[backend], *net, x, y, carried, n_threads=n_threads, **options)
        for a, b in zip(net[0] + net[1] + states, kept, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors(backend):
    *net, x, y, states = make((3, 4, 2))
    kernels = KERNELS[backend]
    with pytest.raises(NudgeError, match="smaller beta"):
        relax(kernels, *net, x, copies(states), beta=-1e3, y=y)
    options = dict(batch_size=4, rate=[0.1, 0.1], bias_rate=[0.1, 0.1])
    carried = [np.zeros((4, n)) for n in (4, 2)]
    before = copies(net[0])
    with pytest.raises(NudgeError):
        train(kernels, *net, x, y, carried, beta=1e3, **options)
    for a, b in zip(net[0], before):
        np.testing.assert_array_equal(a, b)
    bad = x.copy()
    bad[5] = 1e308
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        relax(kernels, *net, bad, copies(states), input_gain=1e10)
    options["momentum"], velocity = 0.9, [np.zeros_like(p) for p in net[0] + net[1]]
    for arrays in (net[0], velocity):  # a NaN is neither clamped away nor blamed on the nudge
        for a in arrays:
            given, velocities = copies(net[0] + net[1]), copies(velocity)
            a.flat[0], sound = np.nan, a.flat[0]
            with np.errstate(all="ignore"), pytest.raises(DivergenceError):
                train(
                    kernels,
                    *net,
                    x,
                    y,
                    carried,
                    beta=0.1,
                    optimizer="momentum",
                    velocity=velocity,
                    n_threads=2,
                    **options,
                )
            if arrays is net[0]:
                with np.errstate(all="ignore"), pytest.raises(DivergenceError):
                    relax(kernels, *net, x, copies(states), beta=-0.1, y=y)
            for to, was in zip(net[0] + net[1] + velocity, given + velocities, strict=True):
                to[...] = was
            a.flat[0] = sound
    del options["momentum"]
    if backend == "c":
        with pytest.raises(ValueError, match=r"weights\[0\]"):
            relax(kernels, net[0][::-1], *net[1:], x, states)
    if backend != "numpy":
        with pytest.raises(ValueError, match="order"):
            train(kernels, *net, x, y, carried, beta=0.1, order=np.array([99]), **options)
    for wrong in ({"optimizer": "adam"}, {"optimizer": "momentum"}):
        with pytest.raises(ValueError, match="optimizer"):
            train(kernels, *net, x, y, carried, beta=0.1, **wrong, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("carry", [True, False])
def test_a_batch_that_fails_leaves_carried_states_at_zero(backend, n_threads, carry):
    """And the conductances as the batches before it have made them."""
    *net, x, y, states = make((3, 4, 2), rows=12)
    x[9] = 1e308
    options = dict(
        batch_size=4, beta=0.1, rate=[0.1] * 2, bias_rate=[0.1] * 2, carry=carry, input_gain=1e10
    )
    carried = [s[:4].copy() for s in states]
    parts = [[a.copy() for a in part] for part in net], [s.copy() for s in carried]
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        train(KERNELS[backend], *net, x, y, carried, n_threads=n_threads, **options)
    assert not any(s.any() for s in carried)
    whole, began = parts
    train(KERNELS[backend], *whole, x[:8], y[:8], began, n_threads=n_threads, **options)
    assert any(s.any() for s in began)
    for a, b in zip(net[0] + net[1], whole[0] + whole[1], strict=True):
        np.testing.assert_array_equal(a, b)
