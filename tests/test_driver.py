"""The driver: chunking, schedules, stopping, interruption, divergence, random signs."""

import io
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from eqprop_fast.kernels import DivergenceError, LayeredSpec, TrainPlan, TrainStats, get_backend
from eqprop_fast.kernels.interrupts import interrupt_afterwards

from eqprop_fast import EP, EqPropClassifier, Relaxation
from eqprop_fast.networks.initial import GlorotUniform
from eqprop_fast.networks.layered import LayeredNetwork
from eqprop_fast.rules import RULES
from eqprop_fast.training import (
    FitSettings,
    RandomStreams,
    TrainingData,
    TrainingState,
    driver,
    fit_epochs,
    learning_rate_factor,
)
from eqprop_fast.training.driver import EpochRecord
from eqprop_fast.training.progress import describe, make_progress

from .backend_list import BACKENDS

SIZES = (7, 9, 3)
PLAN = TrainPlan(
    batch_size=5,
    beta=0.5,
    n_free_steps=8,
    n_nudged_steps=4,
    rate=(0.1, 0.05),
    bias_rate=(0.1, 0.05),
)


def make_problem(backend="numpy", n_rows=43, seed=0, optimizer="sgd", **spec):
    rng = np.random.default_rng(seed)
    x = rng.random((n_rows, SIZES[0])).astype(np.float32)
    y = np.eye(SIZES[-1], dtype=np.float32)[x[:, : SIZES[-1]].argmax(axis=1)]
    state = TrainingState(RandomStreams(seed))
    parameters = GlorotUniform().draw(SIZES, state.streams.init, np.float32)
    network = LayeredNetwork(LayeredSpec(SIZES, **spec), get_backend(backend), *parameters)
    state.optimizer_state = network.new_optimizer_state(optimizer)
    return network, TrainingData(x, y, np.arange(n_rows)), state


def run(settings, **options):
    network, data, state = make_problem(**options)
    fit_epochs(network, data, state, settings)
    return network, state


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_chunking_changes_nothing(backend, optimizer):
    plan = replace(PLAN, optimizer=optimizer, rate=(0.01, 0.01), bias_rate=(0.01, 0.01))
    results = []
    for chunk in (1, 2, 100):
        settings = FitSettings(plan, n_epochs=3, random_sign=True, chunk_batches=chunk)
        results.append(run(settings, backend=backend, optimizer=optimizer))
    for network, state in results[1:]:
        for a, b in zip(network.parameters, results[0][0].parameters):
            np.testing.assert_array_equal(a, b)
        assert state.loss_curve == results[0][1].loss_curve


def test_chunking_with_particles_changes_nothing():
    ends = []
    for chunk in (1, 3):
        network, data, state = make_problem()
        state.particles = network.new_particles(len(data.x))
        fit_epochs(network, data, state, FitSettings(PLAN, n_epochs=2, chunk_batches=chunk))
        assert all(np.abs(p).sum(axis=1).min() > 0 for p in state.particles), (
            "every row was visited"
        )
        ends.append(network.parameters)
    for a, b in zip(*ends):
        np.testing.assert_array_equal(a, b)


def test_training_learns_and_counts():
    network, state = run(FitSettings(PLAN, n_epochs=30, tol=0.0, n_iter_no_change=math.inf))
    assert state.loss_curve[-1] < 0.7 * state.loss_curve[0]
    assert state.epoch == 30 and state.samples_seen == 30 * 43 and state.n_updates == 30 * 9


def test_held_out_rows_are_never_read():
    network, data, state = make_problem()
    other, other_data, other_state = make_problem()
    rows = np.arange(0, 43, 2)
    data.rows = other_data.rows = rows
    other_data.x[1::2] = 77.0
    for n, d, s in ((network, data, state), (other, other_data, other_state)):
        fit_epochs(n, d, s, FitSettings(PLAN, n_epochs=2))
    for a, b in zip(network.parameters, other.parameters):
        np.testing.assert_array_equal(a, b)


def test_random_signs_are_balanced_and_reproducible():
    seen = []
    network, data, state = make_problem()
    train = network.train

    def spy(x, y, order, plan, *rest):
        seen.append(plan.sign.copy())
        return train(x, y, order, plan, *rest)

    network.train = spy
    settings = FitSettings(PLAN, n_epochs=40, random_sign=True, n_iter_no_change=math.inf)
    fit_epochs(network, data, state, settings)
    signs = np.concatenate(seen)
    assert len(signs) == 40 * 9 and set(signs) == {-1, 1}
    assert abs(signs.mean()) < 0.2  # 3.8 standard deviations
    expected = 2 * RandomStreams(0).sign.integers(0, 2, 9) - 1
    np.testing.assert_array_equal(signs[:9], expected)


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [1, 1, 1]),
        ("invscaling", [1, 101**-0.5, 201**-0.5]),
        ("exponential", [1, 0.9, 0.81]),
        ("cosine", [0.1 + 0.9 * (1 + math.cos(math.pi * e / 4)) / 2 for e in (0, 1, 2, 3, 0)]),
        ("adaptive", [0.2, 0.2, 0.2]),
    ],
)
def test_schedules(schedule, expected):
    got = [
        learning_rate_factor(
            schedule, e, 100 * e, 0.2, power_t=0.5, decay=0.9, min_factor=0.1, period=4
        )
        for e in range(len(expected))
    ]
    np.testing.assert_allclose(got, expected)


def test_schedule_reaches_the_kernel():
    network, data, state = make_problem()
    rates = []
    fit_epochs(
        network,
        data,
        state,
        FitSettings(PLAN, n_epochs=3, schedule="exponential", decay=0.5),
        callbacks=[lambda record: rates.append(record.rates)],
    )
    np.testing.assert_allclose(rates, [(0.1, 0.05), (0.05, 0.025), (0.025, 0.0125)])


def test_adaptive_divides_the_rate_before_stopping():
    settings = FitSettings(PLAN, n_epochs=500, schedule="adaptive", tol=10.0, n_iter_no_change=1)
    network, state = run(
        settings
    )  # nothing improves by 10: 0.1 / 5**k falls below 1e-6 after 8 divisions
    assert state.rate_factor == pytest.approx(5.0**-8)
    assert state.epoch < 30


def test_tol_stops():
    network, data, state = make_problem()
    settings = FitSettings(PLAN, n_epochs=100, tol=10.0, n_iter_no_change=3)
    assert fit_epochs(network, data, state, settings) == "tol"
    assert state.epoch == 5  # the first always improves on infinity


def test_validation_restores_the_best_weights():
    network, data, state = make_problem()
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    snapshots = []
    fit_epochs(
        network,
        data,
        state,
        FitSettings(PLAN, n_epochs=6),
        validate=lambda: next(scores),
        callbacks=[lambda record: snapshots.append(network.snapshot())],
    )
    assert state.best_validation_score == 0.9
    for p, best, last in zip(network.parameters, snapshots[1], snapshots[-1]):
        np.testing.assert_array_equal(p, best)
        assert (best != last).any()


def test_callback_stops():
    network, data, state = make_problem()
    seen = []
    reason = fit_epochs(
        network,
        data,
        state,
        FitSettings(PLAN, n_epochs=9),
        callbacks=[lambda r: r.epoch == 2, seen.append],
    )
    assert reason == "callback" and [r.epoch for r in seen] == [1, 2]


def test_interrupt_keeps_the_weights():
    network, data, state = make_problem()
    before = network.snapshot()
    train, calls = network.train, []

    def interrupted(*args):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return train(*args)

    network.train = interrupted
    with pytest.warns(UserWarning, match="interrupted"):
        reason = fit_epochs(network, data, state, FitSettings(PLAN, n_epochs=9, chunk_batches=2))
    assert reason == "interrupted" and state.n_updates == 6
    assert all((a != b).any() for a, b in zip(network.parameters, before))


def blow_up_in_the_second_chunk(network, state, poison):
    """Make training end in a divergence; returns what undoes that."""
    train, calls = network.train, []

    def poisoned(*args):
        calls.append(train(*args))
        if len(calls) == 1:
            return calls[0]
        for a in [*state.optimizer_state.velocity, *state.optimizer_state.second]:
            a[...] = np.inf
        if poison == "particles":
            state.particles[0][3, 1] = np.nan
            raise DivergenceError("the state of layer 1", 1, 2, "free")
        if poison == "weights":
            network.weights[1][0, 0] = np.nan
            return calls[-1]
        return replace(calls[-1], loss=np.inf)

    network.train = poisoned
    return lambda: setattr(network, "train", train)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("poison", ["weights", "loss", "particles"])
def test_a_diverged_epoch_has_not_happened(optimizer, poison):
    """The third epoch blows up half-way; afterwards training goes on as if it had not been tried."""
    plan, ends = replace(PLAN, optimizer=optimizer), []
    for tried in (False, True):
        network, data, state = make_problem()
        state.optimizer_state = network.new_optimizer_state(optimizer)
        state.particles = network.new_particles(len(data.y)) if poison == "particles" else None
        settings = FitSettings(plan, n_epochs=2, chunk_batches=2, random_sign=True)
        fit_epochs(network, data, state, settings)
        if tried:
            mend = blow_up_in_the_second_chunk(network, state, poison)
            with pytest.raises(DivergenceError, match="layer [12]") as caught:
                fit_epochs(network, data, state, settings)
            mend()
            assert caught.value.layer == (1 if poison == "particles" else 2)
            assert state.epoch == len(state.loss_curve) == 2
        if poison != "particles":  # whose starts have moved on
            fit_epochs(network, data, state, settings)
        ends.append([*network.parameters, state.n_updates])
    for p, q in zip(*ends):
        np.testing.assert_array_equal(p, q)
    if poison == "particles":  # only the lost sample starts from zero again
        assert not any(part[3].any() for part in state.particles)
        assert all(part[4].any() for part in state.particles)


@pytest.mark.parametrize("backend", BACKENDS)
def test_diverging_states_name_layer_and_step(backend):
    network, data, state = make_problem(backend, activation="identity", out_activation="identity")
    for w in network.weights:
        w *= 1e12
    before = network.snapshot()
    plan = replace(PLAN, n_free_steps=50)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with pytest.raises(DivergenceError) as caught:
            fit_epochs(network, data, state, FitSettings(plan, n_epochs=1))
    assert caught.value.layer in (1, 2) and 1 <= caught.value.step <= 50
    for p, q in zip(network.parameters, before):
        np.testing.assert_array_equal(p, q)


INTERRUPTED = """
import warnings
from eqprop_fast import EqPropClassifier
from eqprop_fast.datasets import load_digits
x, _, y, _ = load_digits()
est = EqPropClassifier(max_iter=10**6, tol=0.0, n_iter_no_change=float("inf"), random_state=0, n_threads=2)
est.callbacks = lambda record: print("ready", flush=True) if record.epoch == 1 else None
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    est.fit(x, y)
print(any("interrupted" in str(w.message) for w in seen), est.predict(x).shape, est.n_iter_ >= 0, flush=True)
"""


@pytest.fixture
def ctrl_c_heard():
    """Python's own handler, here and in children, also where a shell started the tests deaf to
    Ctrl-C.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_from_outside(ctrl_c_heard):
    for delay in (0.05, 0.4, 1.0):
        child = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"  # the first epoch is over
        time.sleep(delay)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0 and out == "True (1347,) True\n"


def test_interrupt_waits_for_the_end_of_the_call(ctrl_c_heard):
    done = []
    with pytest.raises(KeyboardInterrupt):
        with interrupt_afterwards():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append(1)
    assert done == [1] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ZeroDivisionError), interrupt_afterwards():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "rule", ["continual", "clamped_sweep", "recurrent_backprop", "bptt", "carry_over"]
)
def test_the_loss_does_not_depend_on_the_cuts(rule, backend, monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.random((40, 5)), np.arange(40) % 3
    relaxation = Relaxation(start="carry_over" if rule == "carry_over" else "zero")
    made = EP if rule == "carry_over" else RULES[rule]
    nudging = dict(nudging="positive") if hasattr(made(), "nudging") else {}
    tol = dict(tol=None) if "tol" in made().get_params() else {}
    curves = []
    for first in (1, 3, 16):
        monkeypatch.setattr(driver, "FIRST_CHUNK", first)
        est = EqPropClassifier(
            (6,),
            relaxation=relaxation,
            learning_rule=made(**nudging, **tol),
            batch_size=2,
            max_iter=2,
            solver="sgd",
            random_state=0,
            backend=backend,
            activation="hard_sigmoid" if rule == "clamped_sweep" else "shifted_sigmoid",
        ).fit(x, y)
        curves.append(est.loss_curve_)
    assert curves[0] == curves[1] == curves[2]


def test_the_line_of_an_epoch():
    stats = TrainStats(n_samples=50)
    record = EpochRecord(3, 0.5, 0.25, 0.125, (0.1,), stats, 5.0, [90.0, 45.26])
    assert describe(record) == (
        "loss 0.500000  train acc 0.2500  validation 0.1250  feedback 90.0, 45.3 deg  10 samples/s"
    )
    plain = replace(record, accuracy=None, validation_score=None, feedback_angles=None)
    assert describe(plain) == "loss 0.500000  10 samples/s"


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    pytest.importorskip("rich")
    record = EpochRecord(3, 0.5, None, None, (0.1,), TrainStats(n_samples=50), 5.0)
    with make_progress(True, 2, 100) as lines:
        lines.advance(60)
        lines.epoch(record)
    assert capsys.readouterr().out == "epoch 3  loss 0.500000  10 samples/s\n"
    with make_progress(False, 2, 100) as nothing:
        assert nothing is None
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with make_progress(True, 2, 100, first_epoch=2) as live:
        (task,) = live.bar.tasks
        assert (task.total, task.completed, task.fields["epoch"]) == (200, 0, 2)
        live.advance(60)
        live.epoch(record)
        assert (task.completed, task.fields["epoch"]) == (60, 3)
        assert task.fields["note"] == describe(record)
    assert "epoch" in terminal.getvalue()


def test_persistent_states_are_those_the_samples_were_left_in():
    """One step a phase: the second epoch's first batch goes on where the first epoch's ended."""
    plan = replace(PLAN, n_free_steps=1, n_nudged_steps=1, rate=(0.0, 0.0), bias_rate=(0.0, 0.0))
    network, data, state = make_problem()
    state.particles = network.new_particles(len(data.rows))
    settings = FitSettings(plan=plan, n_epochs=2)
    fit_epochs(network, data, state, settings)
    expected = [np.zeros_like(p) for p in state.particles]
    for _ in range(2):
        network.kernels.layered_relax(
            network.spec, network.weights, None, network.biases, data.x, expected
        )
    for a, b in zip(state.particles, expected):
        assert b.any()
        np.testing.assert_allclose(a, b, atol=1e-6)
