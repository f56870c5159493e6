"""The step of a circuit's conductances: backends against the twin, the twin against the rank-M
product.
"""

import dataclasses

import numpy as np
import pytest
from eqprop_fast.kernels import Conductances, get_backend
from eqprop_fast.kernels.reference.nodal_update import PIECE
from eqprop_fast.kernels.tolerances import tolerance

from eqprop_fast.circuits import CircuitError, ElementError, NudgeWarning
from eqprop_fast.circuits.builders import complementary, layered_netlist
from eqprop_fast.circuits.learning import (
    CircuitTrainer,
    _square_difference,
    circuit_gradient,
    finite_difference_gradient,
)

from .backend_list import BACKENDS

COMPILED = [name for name in BACKENDS if name != "numpy"]
PARAMETERS = [f.name for f in dataclasses.fields(Conductances)]
SIZES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 33)


def make(n, m, dtype=np.float64, n_nodes=20, seed=0):
    """Arguments of one job: voltages of two phases that differ little, and bounds that some steps
    meet.
    """
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n_nodes, m))
    second = first + 1e-3 * rng.normal(size=(n_nodes, m))
    pairs = rng.integers(0, n_nodes, (n, 2)).astype(np.int32)
    low, high = rng.uniform(0.0, 0.4, n), rng.uniform(0.6, 1.0, n)
    arrays = dict(difference=first - second, total=first + second, scale=rng.uniform(1, 2, n))
    arrays |= dict(
        velocity=0.1 * rng.normal(size=n), conductance=rng.uniform(low, high), low=low, high=high
    )
    return {k: a.astype(dtype) for k, a in arrays.items()} | dict(
        pairs=pairs, gradient=np.empty(n, dtype)
    )


def step(name, job, **options):
    job = {k: a.copy(order="K") for k, a in job.items()}
    options = dict(learning_rate=20.0, momentum=0.9) | options
    return get_backend(name).nodal_update(**grouped(job), **options), job


def grouped(job):
    """The arguments of a kernel."""
    others = {k: a for k, a in job.items() if k not in PARAMETERS}
    return others | dict(conductances=Conductances(**{k: job[k] for k in PARAMETERS}))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", COMPILED)
def test_backends_follow_the_twin(name, dtype):
    """Samples and conductances either side of the vector widths and of the twin's pieces."""
    sizes = (
        [(5, m) for m in SIZES] + [(n, 3) for n in SIZES] + [(n, 9) for n in (PIECE - 1, PIECE + 1)]
    )
    for n, m in sizes + [(n, 17) for n in (3, 4, 5, 100)]:
        job = make(n, m, dtype)
        job["pairs"][: n // 2 + 1, 0] = 7  # a run from one node, as in a crossbar
        good, want = step("numpy", job)
        assert good
        good, got = step(name, job)
        assert good
        for key in ("gradient", "velocity", "conductance"):
            size = np.abs(want[key]).max(initial=1e-30)
            np.testing.assert_allclose(
                got[key], want[key], rtol=0, atol=tolerance("weight", dtype) * size
            )
        assert (got["conductance"] >= job["low"]).all() and (
            got["conductance"] <= job["high"]
        ).all()


def test_twin_is_the_rule_written_out():
    job = make(30, 6)
    _, got = step("numpy", job)
    first, second = (job["total"] + job["difference"]) / 2, (job["total"] - job["difference"]) / 2
    a, b = job["pairs"].T
    squares = [((v[a] - v[b]) ** 2).sum(axis=1) for v in (first, second)]
    gradient = job["scale"] * (squares[0] - squares[1])
    velocity = 0.9 * job["velocity"] - 20.0 * gradient
    np.testing.assert_allclose(got["gradient"], gradient, atol=1e-12)
    np.testing.assert_allclose(got["velocity"], velocity, atol=1e-10)
    wanted = job["conductance"] + velocity
    np.testing.assert_allclose(
        got["conductance"], np.clip(wanted, job["low"], job["high"]), atol=1e-10
    )
    assert 0 < (wanted != np.clip(wanted, job["low"], job["high"])).sum() < 30


@pytest.mark.parametrize("name", BACKENDS)
def test_as_the_product_of_rank_m(name):
    """The other way to the same sums: products of moving nodes with all, of which pairs are picked."""
    for n, n_nodes in ((500, 20), (30, 40)):  # either side of where the product pays
        job = make(n, 17, n_nodes=n_nodes)
        job["scale"][:] = 1.0
        _, got = step(name, job)
        want = _square_difference(job["difference"].T, job["total"].T, job["pairs"])
        size = np.abs(want).max()
        np.testing.assert_allclose(
            got["gradient"], want, rtol=0, atol=tolerance("weight", "float64") * size
        )


@pytest.mark.parametrize("name", COMPILED)
def test_threads_do_not_matter(name):
    job = make(1000, 33)
    half = job["pairs"][:500]
    half[:] = half[
        np.argsort(half[:, 0], kind="stable")
    ]  # runs from one node, as in a crossbar, and none
    one = step(name, job)[1]
    for threads in (2, 3, 8, 2000):
        many = step(name, job, n_threads=threads)[1]
        for key in ("gradient", "velocity", "conductance"):
            np.testing.assert_array_equal(many[key], one[key])


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_nothing_changes_when_a_gradient_is_not_finite(name, value):
    job = make(40, 9)
    job["difference"][3, 8] = value
    job["total"][3, 8] = value
    for threads in (1, 3):
        good, got = step(name, job, n_threads=threads)
        assert not good
        for key in ("velocity", "conductance"):
            np.testing.assert_array_equal(got[key], job[key])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [
        ("velocity", np.nan),
        ("velocity", -np.inf),
        ("conductance", np.nan),
        ("conductance", np.inf),
        ("scale", np.nan),
        ("learning_rate", 1e305),
        ("learning_rate", np.nan),
        ("momentum", np.inf),
    ],
    ids=str,
)
def test_nothing_changes_when_a_step_is_not_finite(name, change, dtype):
    """One wrong number of many; clamping to a bound must not hide it."""
    what, value = change
    for n, at in ((1, 0), (40, 37)):
        job, options = make(n, 9, dtype), {}
        if what in job:
            job[what][at] = value
        else:
            options[what] = value
            job["difference"] *= dtype(1e10)
            job["velocity"][at] = 1.0
        for threads in (1, 3):
            good, got = step(name, job, n_threads=threads, **options)
            assert not good
            for key in ("velocity", "conductance"):
                np.testing.assert_array_equal(got[key], job[key])


@pytest.mark.parametrize("name", BACKENDS)
def test_bounds_are_numbers_in_order(name):
    job = make(4, 3)
    for key, value in (("low", np.nan), ("high", np.nan), ("low", 2.0), ("high", -1.0)):
        bad = job[key].copy()
        bad[2] = value
        with pytest.raises(ValueError, match="low and high"):
            step(name, job | {key: bad})


@pytest.mark.parametrize("name", BACKENDS)
def test_bad_arrays_are_refused(name):
    job = make(4, 3)
    for key, bad in (
        ("scale", np.zeros(3)),
        ("velocity", np.zeros(4, np.float32)),
        ("total", np.zeros((3, 20)).T),
        ("difference", np.zeros((20, 3), int)),
        ("difference", np.zeros(20)),
        ("pairs", np.zeros((4, 2), np.int64)),
        ("pairs", np.full((4, 2), 20, np.int32)),
        ("pairs", np.full((4, 2), -1, np.int32)),
    ):
        with pytest.raises(ValueError, match=key):
            step(name, job | {key: bad})


@pytest.mark.parametrize("name", BACKENDS)
def test_trainer_steps_by_the_gradient(name):
    """Momentum, bounds and the returned gradient, against `circuit_gradient` and the rule by hand."""
    net = layered_netlist(
        [2, 4, 2], bias=1.0, gain=4.0, low=0.2, high=-0.2, g_init=(1e-4, 1e-3), random_state=0
    )
    rng = np.random.default_rng(1)
    x, y = complementary(rng.normal(size=(5, 2)), 1.5), rng.normal(size=(5, 2))
    trainer = CircuitTrainer(net, learning_rate=3e-4, momentum=0.5, backend=name)
    which, velocity = net.trainable_indices, 0.0
    low, high = (bound[which] for bound in net.bounds)
    for _ in range(3):
        before = net.conductances[which]
        want = circuit_gradient(net, x, y, backend=name).gradient
        found = trainer.step(x, y)
        np.testing.assert_allclose(found.gradient, want, rtol=0, atol=1e-12 * np.abs(want).max())
        velocity = 0.5 * velocity - 3e-4 * want
        after = np.clip(before + velocity, np.maximum(low, 1e-12), high)
        np.testing.assert_allclose(net.conductances[which], after, rtol=0, atol=1e-12 * after.max())
    assert (after == np.maximum(low, 1e-12)).any()


@pytest.mark.parametrize("name", BACKENDS)
def test_trainer_leaves_all_as_it_was_when_the_gradient_overflows(name):
    net = layered_netlist(
        [2, 4, 2], gain=4.0, low=0.2, high=-0.2, g_init=(1e-4, 1e-3), random_state=0
    )
    trainer = CircuitTrainer(net, learning_rate=1e-5, backend=name, beta=1e-310, centered=False)
    before = net.conductances
    trainer.velocity[:] = 1e-6
    not_finite = pytest.raises(CircuitError, match="gradient is not finite")
    with pytest.warns(NudgeWarning), np.errstate(over="ignore"), not_finite:
        trainer.step(np.ones((1, 4)), np.ones((1, 2)))
    np.testing.assert_array_equal(net.conductances, before)
    assert (trainer.velocity == 1e-6).all()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("g_max", [np.inf, 1e-2])
@pytest.mark.parametrize(
    "rate, velocity, message",
    [
        (1e300, 0.0, "step is not finite|beyond 1e[+]30 S"),
        (1e308, 0.0, "step is not finite|beyond 1e[+]30 S"),
        (1e-5, np.nan, "momentum carries, is not finite"),
        (1e-5, -np.inf, "momentum carries, is not finite"),
    ],
)
def test_a_refused_step_leaves_all_as_it_was(name, g_max, rate, velocity, message):
    """And says what is not finite, in the same words on every backend."""
    net = layered_netlist(
        [2, 4, 2], gain=4.0, low=0.2, high=-0.2, g_init=(1e-4, 1e-3), g_max=g_max, random_state=0
    )
    trainer = CircuitTrainer(net, learning_rate=rate, momentum=0.5, backend=name)
    trainer.velocity[3] = velocity
    before, carried = net.conductances, trainer.velocity.copy()
    if rate == 1e300 and np.isfinite(g_max):  # so large a step ends at the bounds, as any step does
        trainer.step(np.ones((1, 4)), np.ones((1, 2)))
        assert (net.conductances[net.trainable_indices] <= g_max).all()
        return
    targets = 1e9 * np.ones((1, 2)) if rate == 1e308 else np.ones((1, 2))
    with pytest.raises(CircuitError, match=message):
        trainer.step(np.ones((1, 4)), targets)
    np.testing.assert_array_equal(net.conductances, before)
    np.testing.assert_array_equal(trainer.velocity, carried)
    assert trainer.losses == [] and not hasattr(trainer, "beta_")


def test_trainer_and_fit_check_their_arguments():
    net = layered_netlist([2, 4, 2], g_init=(1e-4, 1e-3), random_state=0)
    x, y = np.ones((3, 4)), np.ones((3, 2))
    trainer = CircuitTrainer(net, learning_rate=1e-9)
    before = net.conductances
    for what in ("epochs", "batch_size"):
        for value in (-1, 0, 2.5, 2.0, True, "3", np.nan, [2]) + (
            (None,) if what == "epochs" else ()
        ):
            with pytest.raises(ElementError, match=f"{what} must be a whole number of at least 1"):
                trainer.fit(x, y, **({"epochs": 1} | {what: value}))
    for what, values in {
        "random_state": ["x", -1, 2.5],
        "inputs": [
            x * np.nan,
            x * 1j,
            [["a"] * 4] * 3,
            np.ones((3, 4, 2))[:, :, 0].tolist() + [[1]],
        ],
        "targets": [y * np.inf, y * 1j],
    }.items():
        for value in values:
            arguments = {"inputs": x, "targets": y, "epochs": 1} | {what: value}
            with pytest.raises(ElementError, match=what):
                trainer.fit(**arguments)
    with pytest.raises(ElementError, match="at least one sample"):
        trainer.fit(x[:0], y[:0], epochs=1)
    np.testing.assert_array_equal(net.conductances, before)
    trainer.fit(
        x, y, epochs=np.int64(2), batch_size=np.int32(2), random_state=np.random.default_rng(0)
    )
    assert len(trainer.losses) == 4
    for bad in (
        {"learning_rate": True},
        {"learning_rate": "1"},
        {"learning_rate": -1.0},
        {"learning_rate": np.inf},
        {"learning_rate": np.nan},
        {"momentum": True},
        {"momentum": -0.1},
        {"momentum": None},
        {"beta": "large"},
        {"beta": True},
        {"beta": None},
        {"centered": 1},
        {"check": "yes"},
        {"loss": 3},
        {"nudge": ["current"]},
        {"n_threads": 0},
        {"n_threads": 1.5},
        {"backend": "gpu"},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            CircuitTrainer(net, **({"learning_rate": 1.0} | bad))
    with pytest.raises(ElementError, match="netlist"):
        CircuitTrainer("net", learning_rate=1.0)
    with pytest.raises(ElementError, match="netlist"):
        circuit_gradient(None, x, y)
    with pytest.raises(ElementError, match="step"):
        finite_difference_gradient(net, x, y, step=0)


@pytest.mark.needs_cc
@pytest.mark.skipif("c" not in BACKENDS, reason="the C backend is not under test")
def test_no_status_of_c_is_passed_over(monkeypatch):
    """Arguments are checked before; should the kernel refuse them all the same, it is heard."""
    from eqprop_fast.kernels.jobs import Job
    from eqprop_fast.kernels.native import call, nodal

    refused = next(s for s in range(1, 20) if s not in (call.DIVERGED, call.SINGULAR))
    for name in ("newton_job", "update_job", "head_job"):
        job = Job("eqp_nodal_head_job", np.float64)
        monkeypatch.setattr(nodal, name, lambda *args, job=job, **options: job)
    monkeypatch.setattr(nodal, "run", lambda *args: refused)
    monkeypatch.setattr(nodal, "kernel", lambda *args: lambda *job: refused)
    one = [np.zeros(1)] * 6
    conductances = Conductances(*one)
    for function, arguments, options in [
        (nodal.nodal_newton, one[:5], {}),
        (nodal.nodal_update, [conductances, *one[:3]], dict(learning_rate=1.0)),
        (nodal.head_factor, one[:3], {}),
        (nodal.head_forward, one[:4], {}),
        (nodal.head_backward, one[:4], {}),
    ]:
        with pytest.raises(ValueError, match=call.status_text(refused)):
            function(*arguments, **options)
