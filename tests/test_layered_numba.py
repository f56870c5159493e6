"""Numba layered kernels against their NumPy twin."""

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eqprop_fast.kernels import DivergenceError, LayeredSpec, OptimizerState, TrainPlan, get_backend
from eqprop_fast.kernels.spec import ACTIVATIONS
from eqprop_fast.kernels.tolerances import tolerance
from scipy import sparse

pytest.importorskip("numba")
NUMBA, NUMPY = get_backend("numba"), get_backend("numpy")
WIDTHS = (1, 7, 8, 9, 15, 16, 17, 31, 33)
DTYPES = ("float32", "float64")
DISCRETE = dict(dynamics="discrete")
CONTINUOUS = dict(dynamics="continuous", dt=0.3, clamp=True)


def problem(sizes, dtype, m=13, seed=0, back=False, density=0.4):
    rng = np.random.default_rng(seed)
    weights = [
        rng.uniform(-1, 1, (a, b)) / np.sqrt(a) for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    biases = [rng.uniform(-0.3, 0.3, n) for n in sizes[1:]]
    x = rng.uniform(0, 1, (m, sizes[0])) * (rng.random((m, sizes[0])) < density)
    y = np.eye(sizes[-1])[rng.integers(0, sizes[-1], m)]
    backs = [rng.uniform(-1, 1, w.T.shape) / np.sqrt(w.shape[1]) for w in weights] if back else None

    def cast(arrays):
        return [np.ascontiguousarray(a, dtype) for a in arrays]

    return cast(weights), None if backs is None else cast(backs), cast(biases), *cast((x, y))


def copies(arrays):
    return [a.copy() for a in arrays]


def close(got, expected, quantity, dtype):
    """States: absolute, in units of the largest state if above 1; weights: relative to the largest
    entry.
    """
    largest = max(np.abs(e).max() for e in expected)
    for g, e in zip(got, expected, strict=False):
        assert np.isfinite(e).all()
        unit = max(1.0, largest) if quantity == "state" else max(np.abs(e).max(), 1e-30)
        assert np.abs(g - e).max() <= tolerance(quantity, dtype) * unit


def check_relax(spec, dtype, n_steps=12, tol=-1.0, beta=0.0, back=False, as_sparse=False):
    weights, backs, biases, x, y = problem(spec.sizes, dtype, back=back)
    rng = np.random.default_rng(1)
    start = [rng.uniform(0, 1, (len(x), n)).astype(dtype) for n in spec.sizes[1:]]
    x, y = sparse.csr_array(x) if as_sparse else x, y if beta else None
    got, expected = copies(start), copies(start)
    network, run = (spec, weights, backs, biases, x), (y, beta, n_steps, tol)
    steps, residual = NUMBA.layered_relax(*network, got, *run)
    steps_0, residual_0 = NUMPY.layered_relax(*network, expected, *run)
    assert steps.dtype == steps_0.dtype and residual.dtype == residual_0.dtype
    np.testing.assert_array_equal(steps, steps_0)
    close(got, expected, "state", dtype)
    unit = max(1.0, *(np.abs(e).max() for e in expected))
    assert np.abs(residual - residual_0).max() <= 2 * unit * tolerance("state", dtype) / spec.dt
    return steps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_hidden", (1, 2, 3))
@pytest.mark.parametrize("width", WIDTHS)
def test_relax_sizes(width, n_hidden, dtype):
    for i, schedule in enumerate(("synchronous", "asynchronous")):
        for dynamics in (DISCRETE, CONTINUOUS):
            hidden = (WIDTHS[(WIDTHS.index(width) + h) % 9] for h in range(n_hidden))
            spec = LayeredSpec(
                sizes=(width + i, *hidden, 1 + width % 10), schedule=schedule, **dynamics
            )
            check_relax(spec, dtype)
            check_relax(spec, dtype, beta=0.3, back=True, as_sparse=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_relax_activations(name, dtype):
    for out in (name, "identity"):
        for options in (
            DISCRETE,
            dict(dynamics="discrete", dt=0.5, nudge_inside=True, cost="cross_entropy"),
            dict(dynamics="continuous", dt=0.2, prime_output=True),
            dict(
                dynamics="continuous",
                dt=0.2,
                prime_hidden=False,
                linear_output=True,
                cost_factor=2.0,
            ),
            dict(dynamics="continuous", dt=0.2, clamp=True, linear_output=True, prime_output=True),
        ):
            for input_activation in ("identity", name):
                names = dict(activation=name, out_activation=out, input_activation=input_activation)
                spec = LayeredSpec(sizes=(11, 17, 9, 5), **names, **options)
                check_relax(spec, dtype, n_steps=6, beta=0.2)
                check_relax(
                    replace(spec, schedule="asynchronous"), dtype, n_steps=6, as_sparse=True
                )


@pytest.mark.parametrize("schedule", ("synchronous", "asynchronous"))
@pytest.mark.parametrize("sizes", ((9, 33, 7), (9, 120, 110, 7)))
def test_stops_sample_by_sample(schedule, sizes):
    spec = LayeredSpec(sizes=sizes, activation="tanh", out_activation="tanh", schedule=schedule)
    steps = check_relax(spec, "float64", n_steps=300, tol=1e-4)
    assert len(set(steps)) > 1 and steps.max() < 300
    assert (check_relax(spec, "float64", n_steps=0) == 0).all()


def train_both(
    spec, plan, dtype, m=23, back=False, as_sparse=False, weighted=False, particles=False
):
    weights, backs, biases, x, y = problem(spec.sizes, dtype, m=m, back=back)
    rng = np.random.default_rng(5)
    order = rng.permutation(m)
    row_weight = rng.uniform(0.2, 2, m) if weighted else None
    x = sparse.csr_matrix(x) if as_sparse else x
    results = []
    for kernels in (NUMBA, NUMPY):
        w, b = copies(weights), copies(biases)
        p = [np.full((m, n), 0.25, dtype) for n in spec.sizes[1:]] if particles else None
        state = OptimizerState()
        if plan.optimizer != "sgd":
            state.velocity = [np.zeros_like(a) for a in w + b]
        if plan.optimizer == "adam":
            state.second = [np.zeros_like(a) for a in w + b]
        stats = kernels.layered_train(spec, w, backs, b, x, y, order, plan, row_weight, p, state)
        results.append((w + b, p or [], state.velocity + state.second, stats))
    return results


def check_train(spec, plan, dtype, **options):
    (parameters, particles, moments, stats), (parameters_0, particles_0, moments_0, stats_0) = (
        train_both(spec, plan, dtype, **options)
    )
    close(parameters, parameters_0, "trajectory", dtype)
    if particles_0:
        close(particles, particles_0, "state", dtype)
    for g, e in zip(moments, moments_0, strict=False):
        assert np.abs(g - e).max() <= tolerance("trajectory", dtype) * max(np.abs(e).max(), 1)
    assert stats.loss == pytest.approx(stats_0.loss, rel=tolerance("trajectory", dtype))
    for name in ("n_correct", "free_steps", "nudged_steps", "n_samples", "n_batches"):
        assert getattr(stats, name) == getattr(stats_0, name), name


def plan_for(spec, **options):
    n = spec.n_weights
    values = dict(batch_size=5, beta=0.5, n_free_steps=15, n_nudged_steps=6)
    values["rate"] = tuple(0.1 / (k + 1) for k in range(n))
    values["bias_rate"] = tuple(0.05 / (k + 1) for k in range(n))
    return TrainPlan(**{**values, **options})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_hidden", (1, 2, 3))
@pytest.mark.parametrize("width", WIDTHS)
def test_train_sizes(width, n_hidden, dtype):
    sizes = (
        width,
        *(WIDTHS[(WIDTHS.index(width) + h) % 9] for h in range(n_hidden)),
        1 + width % 10,
    )
    for dynamics in (DISCRETE, CONTINUOUS):
        spec = LayeredSpec(sizes=sizes, **dynamics)
        check_train(spec, plan_for(spec), dtype)
        spec = replace(spec, schedule="asynchronous")
        check_train(spec, plan_for(spec), dtype, as_sparse=True, weighted=True, particles=True)


OPTIONS = {
    "sign": dict(sign=np.array([1, -1, -1, 1, -1], np.int8)),
    "centered": dict(centered=True),
    "momentum": dict(optimizer="momentum"),
    "nesterov": dict(optimizer="nesterov", weight_decay=0.01),
    "adam": dict(
        optimizer="adam", weight_decay=0.01, adam_step=3, rate=(0.003,) * 3, bias_rate=(0.002,) * 3
    ),
    "decay": dict(weight_decay=0.05),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIONS)
def test_train_options(name, dtype):
    for extra in (
        DISCRETE,
        dict(dynamics="continuous", dt=0.3, linear_output=True, input_activation="shifted_sigmoid"),
        dict(
            dynamics="discrete", nudge_inside=True, cost="cross_entropy", out_activation="identity"
        ),
    ):
        spec = LayeredSpec(sizes=(19, 33, 25, 7), **extra)
        plan = plan_for(spec, **OPTIONS[name])
        check_train(spec, plan, dtype)
        check_train(spec, plan, dtype, back=True, weighted=True, as_sparse=True)


@pytest.mark.parametrize("sizes", ((12, 40, 40, 5), (9, 4), (8, 120, 110, 5)))
def test_train_with_tolerances(sizes):
    spec = LayeredSpec(sizes=sizes, schedule="asynchronous")
    plan = plan_for(spec, n_free_steps=100, n_nudged_steps=50, tol_free=1e-3, tol_nudged=1e-3)
    check_train(spec, plan, "float64")


def test_zero_weight_batch_is_skipped():
    spec = LayeredSpec(sizes=(6, 8, 3))
    weights, _, biases, x, y = problem(spec.sizes, "float32", m=5)
    w, b = copies(weights), copies(biases)
    NUMBA.layered_train(
        spec, w, None, b, x, y, np.arange(5), plan_for(spec), np.zeros(5, np.float32)
    )
    for got, expected in zip(w + b, weights + biases, strict=False):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", ((20, 33, 7), (20, 48, 130, 5), (20, 110, 101, 17, 3)))
def test_bits_do_not_depend_on_threads(sizes, dtype):
    for dynamics in (DISCRETE, CONTINUOUS):
        spec = LayeredSpec(sizes=sizes, schedule="asynchronous", **dynamics)
        tols = dict(tol_free=1e-3, tol_nudged=1e-3)
        plan = plan_for(spec, batch_size=7, optimizer="momentum", weight_decay=0.01, **tols)
        results = []
        for n_threads in (1, 2, 3):
            weights, _, biases, x, y = problem(sizes, dtype, m=29)
            state = OptimizerState(velocity=[np.zeros_like(a) for a in weights + biases])
            stats = NUMBA.layered_train(
                spec,
                weights,
                None,
                biases,
                x,
                y,
                np.arange(29),
                plan,
                None,
                None,
                state,
                n_threads=n_threads,
            )
            states = [np.zeros((29, n), dtype) for n in sizes[1:]]
            run = dict(n_steps=9, tol=1e-3, n_threads=n_threads)
            NUMBA.layered_relax(spec, weights, None, biases, x, states, **run)
            results.append((weights + biases + state.velocity + states, stats))
        for arrays, stats in results[1:]:
            assert stats == results[0][1]
            for got, expected in zip(arrays, results[0][0], strict=False):
                assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "rule, optimizer",
    [(rule, optimizer) for rule in ("ep", "bptt") for optimizer in ("sgd", "momentum", "adam")]
    + [("continual", "sgd")],
)
@pytest.mark.parametrize("sizes", ((20, 33, 7), (20, 100, 3), (20, 64, 70, 5), (1, 1, 1)))
def test_first_weights_in_shares(sizes, rule, optimizer):
    """Calls of many batches copy the first weights, and their moments, into a part for each thread."""
    spec = LayeredSpec(sizes=sizes)
    plan = plan_for(spec, batch_size=3, optimizer=optimizer, rule=rule)
    results = []
    for n_threads, calls in ((1, 1), (1, 20), (2, 1), (3, 1), (3, 20)):
        weights, _, biases, x, y = problem(sizes, "float32", m=60)
        zeros = [[np.zeros_like(a) for a in weights + biases] for _ in range(2)]
        state = None if optimizer == "sgd" else OptimizerState(*zeros)
        for i, order in enumerate(np.split(np.arange(60), calls)):
            now = replace(plan, adam_step=i)
            NUMBA.layered_train(
                spec, weights, None, biases, x, y, order, now, None, None, state, n_threads
            )
        results.append(weights + biases + zeros[0] + zeros[1])
    for arrays in results[1:]:
        for got, expected in zip(arrays, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


def test_copies_are_written_back_after_an_interrupt(monkeypatch):
    """Else some weights would be stepped and others not."""
    from eqprop_fast.kernels.jit import driver

    spec = LayeredSpec(sizes=(20, 33, 7))
    plan, expected = plan_for(spec, batch_size=3), None
    run = driver.run_threads

    def interrupted(*args):
        run(*args)
        raise KeyboardInterrupt

    for run_threads in (run, interrupted):
        monkeypatch.setattr(driver, "run_threads", run_threads)
        weights, _, biases, x, y = problem(spec.sizes, "float32", m=60)
        try:
            NUMBA.layered_train(spec, weights, None, biases, x, y, np.arange(60), plan, n_threads=2)
        except KeyboardInterrupt:
            assert run_threads is interrupted
        expected = expected or weights + biases
    for got, wanted in zip(weights + biases, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", (1, 4, 5, 6, 9, 10))
def test_narrow_fields(n_out, dtype):
    """Both layers in one pass, against the products of the general way."""
    from eqprop_fast.kernels.jit.layout import make_network, pad
    from eqprop_fast.kernels.jit.narrow import is_narrow, narrow_fields
    from eqprop_fast.kernels.jit.packing import pack_network
    from eqprop_fast.kernels.jit.views import aligned, argument
    from eqprop_fast.kernels.prepare.layered import relax_job

    rng = np.random.default_rng(0)
    for n_hidden, back in [(n, b) for n in (11, 15, 16, 17, 70) for b in (False, True)]:
        spec = LayeredSpec(sizes=(5, n_hidden, n_out))
        weights, feedback, biases, x, _ = problem(spec.sizes, dtype, back=back)
        record = make_network(spec.sizes, back, dtype, 7, 7, 1)
        states, steps = (
            [np.zeros((len(x), n), dtype) for n in spec.sizes[1:]],
            np.zeros(len(x), np.int32),
        )
        network = relax_job(
            spec,
            weights,
            feedback,
            biases,
            x,
            states,
            None,
            0.0,
            1,
            -1.0,
            steps,
            np.zeros(len(x), dtype),
        )
        job, net = argument(network), argument(record)
        assert is_narrow(net)
        pack_network(job, net, 0, 1)
        drive, field = record.kept["drive"], record.kept["field"]
        shown = aligned((7, record.kept["units"]), dtype)
        field[:] = np.nan
        at = pad(n_hidden)
        drive[:, :n_hidden] = rng.normal(size=(7, n_hidden))
        shown[:, :n_hidden], shown[:, at : at + n_out] = (
            rng.random((7, n_hidden)),
            rng.random((7, n_out)),
        )
        active = np.array([6, 1, 4, 0, 3])
        narrow_fields(job, net, shown, active)
        up, down = weights[1], feedback[1] if back else weights[1].T
        hidden = drive[:, :n_hidden] + shown[:, at : at + n_out] @ down
        outputs = biases[1] + shown[:, :n_hidden] @ up
        bound = dict(rtol=0, atol=10 * np.finfo(dtype).eps * n_hidden)
        np.testing.assert_allclose(field[active, :n_hidden], hidden[active], **bound)
        np.testing.assert_allclose(field[active, at : at + n_out], outputs[active], **bound)
        assert np.isnan(field[[2, 5]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_listed_sums(dtype):
    from eqprop_fast.kernels.jit.lists import add_listed

    rng = np.random.default_rng(0)
    for n in (1, 15, 16, 17, 63, 64, 65, 128, 150, 255, 256, 257, 600):
        for count in (0, 1, 2, 9):
            matrix = rng.normal(size=(12, n + 5)).astype(dtype)
            out, coefficients = (
                rng.normal(size=n).astype(dtype),
                rng.normal(size=count).astype(dtype),
            )
            places = rng.integers(0, 12, count).astype(np.int32)
            expected = out + coefficients @ matrix[places, 3 : 3 + n]
            add_listed(out, 3, coefficients, places, matrix)
            np.testing.assert_allclose(out, expected, rtol=0, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n_threads", (1, 2))
def test_divergence_is_reported_as_by_the_twin(n_threads):
    spec = LayeredSpec(sizes=(6, 9, 5, 3), activation="relu", out_activation="identity")
    weights, _, biases, x, y = problem(spec.sizes, "float32", m=20)
    biases[0] += 1
    weights[1] *= 40
    for options in (
        dict(n_free_steps=60),
        dict(n_free_steps=6, n_nudged_steps=100, rate=(1e-9,) * 3, bias_rate=(1e-9,) * 3),
        dict(n_free_steps=3, n_nudged_steps=3, rate=(1e9,) * 3, bias_rate=(1e9,) * 3),
    ):
        raised, parameters = [], []
        for kernels in (NUMBA, NUMPY):
            w, b = copies(weights), copies(biases)
            with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
                data = (x, y, np.arange(20), plan_for(spec, **options))
                kernels.layered_train(spec, w, None, b, *data, n_threads=n_threads)
            raised.append(
                (caught.value.layer, caught.value.phase, caught.value.step, str(caught.value))
            )
            parameters.append(w + b)
        assert raised[0] == raised[1]
        for got, expected in zip(*parameters, strict=False):
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, expected, rtol=1e-3)
    states = [np.zeros((20, n), np.float32) for n in spec.sizes[1:]]
    states[1][7] = np.nan
    with pytest.raises(DivergenceError, match="layer 1 .* step 1 of the free phase"):
        NUMBA.layered_relax(spec, weights, None, biases, x, states, n_steps=3, n_threads=n_threads)


def test_strided_arrays_are_trained_in_place():
    spec = LayeredSpec(sizes=(6, 8, 3))
    weights, _, biases, x, y = problem(spec.sizes, "float64")
    outcomes = []
    for order in "CF":
        w, b = [np.array(a, order=order) for a in weights], copies(biases)
        NUMBA.layered_train(
            spec, w, None, b, np.asarray(x, order=order), y, np.arange(13), plan_for(spec)
        )
        outcomes.append(w)
    for c, f, before in zip(*outcomes, weights, strict=False):
        np.testing.assert_array_equal(c, f)
        assert (c != before).any()


def test_read_only_inputs_need_no_other_version():
    from eqprop_fast.kernels.jit import layered

    spec = LayeredSpec(sizes=(6, 8, 3))
    weights, _, biases, x, y = problem(spec.sizes, "float64")
    outcomes = []
    for writeable in (True, False):
        w, b, order = copies(weights), copies(biases), np.arange(13)
        for a in (x, y, order):
            a.flags.writeable = writeable
        NUMBA.layered_train(spec, w, None, b, x, y, order, plan_for(spec))
        outcomes.append((w, len(getattr(layered.train_thread, "signatures", ()))))
    assert outcomes[0][1] == outcomes[1][1]
    for a, b in zip(outcomes[0][0], outcomes[1][0], strict=False):
        np.testing.assert_array_equal(a, b)
    w = copies(weights)
    w[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        NUMBA.layered_train(spec, w, None, biases, x, y, order, plan_for(spec))


@pytest.mark.parametrize("change", ("weights", "x", "order", "y", "rule", "sign", "row_weight"))
def test_impossible_input_is_named(change):
    spec = LayeredSpec(sizes=(6, 8, 3))
    weights, _, biases, x, y = problem(spec.sizes, "float64")
    order, plan = np.arange(13), plan_for(spec)
    if change == "weights":
        weights[1] = weights[1].T
    elif change == "x":
        x = x[:, 1:]
    elif change == "order":
        order = order + 1
    elif change == "y":
        y = y[:5]
    elif change == "sign":
        plan = plan_for(spec, sign=np.ones(2, np.int8))
    elif change == "rule":
        plan = plan_for(spec, rule="nonsense")
    row_weight = np.ones(4) if change == "row_weight" else None
    with pytest.raises(ValueError, match=change):
        NUMBA.layered_train(spec, weights, None, biases, x, y, order, plan, row_weight)


def test_rational_sigmoid_and_tanh():
    from eqprop_fast.kernels.jit.activations import activate

    x = np.linspace(-20, 20, 400001).astype(np.float32)
    exact = x.astype(float)
    for code, function, bound in (
        (1, lambda v: 1 / (1 + np.exp(2 - 4 * v)), 2e-7),
        (3, np.tanh, 3e-7),
        (4, lambda v: 1 / (1 + np.exp(-v)), 2e-7),
    ):
        got = x.copy()
        activate(code, 1, got)
        assert np.abs(got - function(exact)).max() <= bound
        assert np.abs(got).max() <= 1
        got[:] = np.nan
        activate(code, 1, got)
        assert np.isnan(got).all()


def test_all_compilation_goes_through_the_helper():
    """Numba is imported, and its options are set, in compile.py alone."""
    from eqprop_fast.kernels.jit import compile as helper

    for path in Path(helper.__file__).parent.glob("*.py"):
        if path.name == "compile.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"numba", "llvmlite"}, path
            if isinstance(node, ast.keyword):
                assert node.arg not in {"fastmath", "parallel", "cache", "nogil"}, path
    for flags in (helper.FASTMATH, helper.ORDERED):
        assert flags <= {"contract", "reassoc", "nsz", "arcp"}


def run_python(code, **environment):
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300
    )


def test_import_does_not_load_numba():
    done = run_python(
        "import sys, eqprop_fast, eqprop_fast.kernels; assert 'numba' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


SMALL_RUN = """
import numpy as np
from eqprop_fast.kernels import LayeredSpec, TrainPlan, get_backend

def run(name, dtype):
    rng = np.random.default_rng(0)
    spec = LayeredSpec(sizes=(5, 9, 8, 3), dynamics="continuous", dt=0.5, schedule="asynchronous")
    w = [rng.normal(size=(a, b)).astype("f4") for a, b in zip(spec.sizes, spec.sizes[1:])]
    w = [a.astype(dtype) for a in w]
    b = [np.zeros(n, dtype) for n in spec.sizes[1:]]
    x, y = rng.random((6, 5), "f4").astype(dtype), np.eye(3, dtype=dtype)[[0, 1, 2, 0, 1, 2]]
    plan = TrainPlan(3, 0.5, 4, 3, (0.1,) * 3, (0.1,) * 3, tol_free=1e-3)
    get_backend(name).layered_train(spec, w, None, b, x, y, np.arange(6), plan, n_threads=2)
    get_backend(name).layered_train(
        spec, w, None, b, x, y, np.resize(np.arange(6), 30), plan, n_threads=2)  # many batches
    s = [np.zeros((6, n), dtype) for n in spec.sizes[1:]]
    get_backend(name).layered_relax(spec, w, None, b, x, s, n_steps=5, n_threads=2)
    return np.concatenate([a.ravel() for a in w + b + s])

right = run("numpy", "f8")
for dtype, most in (("f4", 1e-5), ("f8", 1e-10)):
    assert np.abs(run("numba", dtype) - right).max() < most, dtype
"""


RULES_RUN = """
for rule in ("continual", "vector_field", "continual_vector_field", "clamped_sweep", "coupled"):
    out = []
    for name in ("numba", "numpy"):
        rng = np.random.default_rng(0)
        spec = LayeredSpec(sizes=(5, 7, 30, 3), activation="hard_sigmoid")
        w = [rng.normal(size=(a, b)) for a, b in zip(spec.sizes, spec.sizes[1:])]
        back = [a.T.copy() for a in w] if "vector_field" in rule else None
        b = [np.zeros(n) for n in spec.sizes[1:]]
        x, y = rng.random((7, 5)), np.eye(3)[[0, 1, 2, 0, 1, 2, 2]]
        plan = TrainPlan(4, 0.5, 4, 3, (0.1,) * 3, (0.1,) * 3, rule=rule)
        get_backend(name).layered_train(spec, w, back, b, x, y, np.arange(7), plan)
        out.append(np.concatenate([a.ravel() for a in w + b + (back or [])]))
    assert np.abs(out[0] - out[1]).max() < 1e-10, rule
"""


def test_runs_uncompiled():
    done = run_python(SMALL_RUN + RULES_RUN, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_runs_without_a_writable_cache():
    """Read-only install and no home: the kernels are compiled in the process instead; of the rules'
    kernels only what EP needs.
    """
    code = f"""
import numba.core.caching as caching
for kind in (caching.CompileResultCacheImpl, caching.CodeLibraryCacheImpl):
    kind._locator_classes = []
{SMALL_RUN}
from eqprop_fast.kernels.jit import continual, layered
assert type(layered.train_thread._cache).__name__ == "NullCache"
assert layered.train_thread.signatures
assert not continual.continual_phase.signatures and not continual.vector_field_phase.signatures
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
