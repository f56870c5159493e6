"""How many threads a call starts, and what becomes of them when something goes wrong."""

import signal
import threading
import time

import numpy as np
import pytest
from eqprop_fast.kernels import LayeredSpec, get_backend, threads
from eqprop_fast.kernels.blas import one_blas_thread
from scipy import linalg
from threadpoolctl import threadpool_info, threadpool_limits

from eqprop_fast._backends import effective_n_threads
from eqprop_fast.circuits import Netlist, operating_point
from eqprop_fast.circuits.learning import CircuitTrainer

from .backend_list import BACKENDS


@pytest.mark.parametrize(
    "asked, parts, expected", [(1, None, 1), (5000, None, 3), (5000, 2, 2), (0, 9, 1), (2, 0, 1)]
)
def test_at_most_one_thread_a_core(monkeypatch, asked, parts, expected):
    monkeypatch.setattr(threads, "cores", lambda: 3)
    assert threads.usable(asked, parts) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_thousands_of_threads_asked_of_a_kernel(monkeypatch, backend):
    monkeypatch.setattr(threads, "cores", lambda: 2)
    started, start = [], threads.start_new_thread
    monkeypatch.setattr(
        threads, "start_new_thread", lambda *args: started.append(args) or start(*args)
    )
    rng = np.random.default_rng(0)
    spec = LayeredSpec((9, 8, 3))
    weights = [rng.normal(0, 0.3, s) for s in ((9, 8), (8, 3))]
    biases, x = [np.zeros(8), np.zeros(3)], rng.random((6000, 9))
    results = []
    for n_threads in (1, 5000):
        states = [np.zeros((6000, n)) for n in (8, 3)]
        get_backend(backend).layered_relax(
            spec, weights, None, biases, x, states, n_steps=3, n_threads=n_threads
        )
        results.append(states)
    assert len(started) == (0 if backend == "numpy" else 2)
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_none_begins_when_one_cannot_start(monkeypatch):
    begun, start = [], threads.start_new_thread

    def full(function, args):
        if args == (2,):
            raise RuntimeError("can't start new thread")
        start(function, args)

    monkeypatch.setattr(threads, "start_new_thread", full)
    with pytest.raises(RuntimeError, match="can't start"):
        threads.run_together(begun.append, 4)
    assert begun == []


def test_an_error_of_a_thread_is_raised_when_all_have_ended():
    ended = []

    def work(thread):
        if thread == 1:
            raise ZeroDivisionError
        time.sleep(0.05)
        ended.append(thread)

    with pytest.raises(ZeroDivisionError):
        threads.run_together(work, 3)
    assert sorted(ended) == [0, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms")
def test_another_signal_waits_for_the_threads():
    ended = []

    def alarm(signum, frame):
        raise TimeoutError

    def work(thread):
        time.sleep(0.2)
        ended.append(thread)

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            threads.run_together(work, 2)
        assert sorted(ended) == [0, 1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("value", ["\u00b2", "2\u00b2", "\u0664x", "-1", "", "many", "0"])
def test_omp_num_threads_that_is_no_number_is_ignored(monkeypatch, value):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    expected = effective_n_threads(None)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert effective_n_threads(None) == expected


def blas_threads():
    return [row["num_threads"] for row in threadpool_info() if row["user_api"] == "blas"]


def test_the_limit_on_blas_is_lifted_whatever_threads_do_at_once():
    linalg.cholesky(np.eye(2))
    before, seen = blas_threads(), []

    def limited():
        for _ in range(20):
            with one_blas_thread(), one_blas_thread():
                seen.append(set(blas_threads()))

    workers = [threading.Thread(target=limited) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(n == {1} for n in seen) and len(seen) == 80 and blas_threads() == before


def chain(n=1100):
    """A diode-free circuit whose tail is large enough for a BLAS to use its threads."""
    rng, net = np.random.default_rng(1), Netlist()
    net.voltage_source("v", "in", "0")
    for k in range(n):
        net.conductance(
            f"g{k}", "in" if k == 0 else f"n{k - 1}", f"n{k}", 10 ** rng.uniform(-6, -3)
        )
    for k in range(6 * n):
        a, b = rng.integers(0, n, 2)
        if a != b:
            net.conductance(f"c{k}", f"n{a}", f"n{b}", 10 ** rng.uniform(-6, -3))
    net.conductance("load", f"n{n - 1}", "0", 1e-4)
    net.mark_inputs(["v"])
    net.mark_outputs([f"n{n - 1}"])
    return net


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_linear_circuits_do_not_depend_on_threads(backend):
    volts = np.linspace(-1, 1, 8)[:, None]
    found = []
    for n_threads in (1, 2, 3):
        net = chain()
        with threadpool_limits(n_threads, "blas"):
            rest = operating_point(net, volts, backend=backend, n_threads=n_threads).voltages
            trainer = CircuitTrainer(net, learning_rate=1e-9, backend=backend, n_threads=n_threads)
            trainer.step(volts, 0.1 * volts)
        found.append([rest, net.conductances])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_numpy_training_does_not_depend_on_the_threads_of_its_blas():
    from eqprop_fast import EqPropClassifier

    rng = np.random.default_rng(0)
    x, y = rng.random((400, 300)), rng.integers(0, 3, 400)
    options = dict(
        max_iter=1, batch_size=200, random_state=0, backend="numpy", n_iter_no_change=np.inf
    )
    models = []
    for n in (1, 2, 3):
        with threadpool_limits(n, "blas"):
            models.append(EqPropClassifier((150,), **options).fit(x, y).coefs_)
    for other in models[1:]:
        for a, b in zip(models[0], other):
            np.testing.assert_array_equal(a, b)
