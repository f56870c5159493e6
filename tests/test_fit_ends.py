"""However a fit ends, its checkpoint is the fitted model, and what is left of the run can be gone
on with.
"""

import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from eqprop_fast.kernels import DivergenceError
from sklearn.exceptions import NotFittedError

from eqprop_fast import EqPropClassifier, EqPropRegressor, ResistiveClassifier
from eqprop_fast.training import driver
from eqprop_fast.training.checkpoint import Checkpoint

from .backend_list import BACKENDS
from .kinds import KINDS, RESISTIVE, small

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
Y = np.arange(90) % 3
FORGIVING = dict(n_iter_no_change=np.inf, tol=0.0)
ENDS = {  # name: reason, options
    "max_iter": ("max_iter", dict(max_iter=3)),
    "max_iter, early stopping": ("max_iter", dict(max_iter=3, early_stopping=True)),
    "tol": ("tol", dict(tol=1e3, n_iter_no_change=2, learning_rate="constant")),
    "early stopping": (
        "tol",
        dict(early_stopping=True, tol=1.0, n_iter_no_change=2, learning_rate="constant"),
    ),
    "callback": ("callback", dict(callbacks=lambda record: record.epoch == 3)),
    "callback, early stopping": (
        "callback",
        dict(callbacks=lambda record: record.epoch == 3, early_stopping=True),
    ),
    "interrupted": ("interrupted", {}),
    "interrupted, early stopping": ("interrupted", dict(early_stopping=True)),
    "cut": ("interrupted", {}),
    "divergence": ("divergence", {}),
    "divergence, early stopping": ("divergence", dict(early_stopping=True)),
    "error": ("error", dict(early_stopping=True)),
}


def everything(model):
    """All that a run goes on from, as arrays and plain values."""
    state = model._state
    arrays = [*model.coefs_, *model.intercepts_, *getattr(model, "feedback_coefs_", [])]
    memory = state.optimizer_state
    for group in (memory.velocity, memory.second, state.best_snapshot, state.last_snapshot):
        arrays += group or []
    plain = (
        model.loss_curve_,
        model.validation_scores_,
        model.n_iter_,
        model.t_,
        model.best_loss_,
        model.best_validation_score_,
        model.ended_by_,
        state.n_updates,
        state.streams.state(),
        state.position,
        state.rate_factor,
        state.no_improvement,
    )
    return arrays, plain


def assert_same(a, b):
    (p, told), (q, also) = everything(a), everything(b)
    assert told == also and len(p) == len(q)
    for one, other in zip(p, q):
        np.testing.assert_array_equal(one, other)


def disturb(monkeypatch, what):
    """Something happens in the second batch of the third epoch, once."""
    train_chunk, done, failed = driver._train_chunk, [], []
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(driver, "FIRST_CHUNK", 1)

    def chunk(network, data, rows, plan, state, settings):
        stats = train_chunk(network, data, rows, plan, state, settings)
        if state.epoch == 2 and state.position.batches == 1 and not done:
            done.append(1)
            if what.startswith("interrupted"):
                os.kill(os.getpid(), signal.SIGINT)
            elif what == "cut":
                raise KeyboardInterrupt
            elif what.startswith("divergence"):
                network.weights[0][...] = np.nan
                raise DivergenceError("as if", 1, 1, "free")
        return stats

    monkeypatch.setattr(driver, "_train_chunk", chunk)

    def fail(record):
        if what == "error" and record.epoch == 3 and not failed:
            failed.append(1)
            raise ZeroDivisionError

    return fail


@pytest.fixture
def ctrl_c_heard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


CASES = [
    (kind, end, BACKENDS[(i + j) % len(BACKENDS)])
    for i, kind in enumerate(KINDS)
    for j, end in enumerate(ENDS)
]


@pytest.mark.parametrize("kind, end, backend", CASES)
def test_the_file_is_the_fitted_model(tmp_path, monkeypatch, ctrl_c_heard, kind, end, backend):
    reason, options = ENDS[end]
    solver = "momentum" if kind in RESISTIVE else "adam"
    options = {**FORGIVING, "max_iter": 6, "random_state": 0, "solver": solver, **options}
    options["backend"] = backend
    path = tmp_path / "a.npz"
    model = kind(small(kind), checkpoint=Checkpoint(path, every=2), **options)
    with monkeypatch.context() as patch:
        fail = disturb(patch, end)
        model.set_params(callbacks=options.get("callbacks", fail))
        if reason in ("divergence", "error"):
            with pytest.raises((DivergenceError, ZeroDivisionError)):
                model.fit(X, Y)
        else:
            model.fit(X, Y)
    assert model.ended_by_ == reason and os.listdir(tmp_path) == ["a.npz"]
    loaded = kind.load_checkpoint(path)
    assert_same(loaded, model)
    n = 8 if reason == "max_iter" else 6
    place = dict(backend=backend, callbacks=None, checkpoint=None, max_iter=n)
    predicted = [m.set_params(**place).predict(X) for m in (loaded, model)]
    np.testing.assert_array_equal(*predicted)
    for copy in (pickle.loads(pickle.dumps(model)), loaded):
        copy.resume(X, Y)
        if reason == "tol":
            assert_same(copy, model)
        else:
            options.pop("callbacks", None)
            assert_same(copy, kind(small(kind), **{**options, "max_iter": n}).fit(X, Y))


HEARD = {  # what is learnt and what callbacks are told, in every way that they meet the end of a run
    "max_iter": dict(max_iter=3),
    "callback": dict(max_iter=5),
    "callback, last epoch": dict(max_iter=3),
    "tol": dict(max_iter=5, tol=1e3, n_iter_no_change=1, learning_rate="constant"),
    "early stopping": dict(
        max_iter=5, early_stopping=True, tol=1.0, n_iter_no_change=1, learning_rate="constant"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", HEARD)
def test_a_kill_before_callbacks_have_answered_loses_no_answer(tmp_path, kind, end):
    """The file that it leaves at any epoch, here a copy of it, has them asked once more."""
    path, told = tmp_path / "a.npz", []
    options = {"random_state": 0, "backend": BACKENDS[-1], **FORGIVING, **HEARD[end]}
    if kind is EqPropClassifier:
        options["learning_rule"] = "vector_field"  # tells of its feedback weights

    def hear(record):
        told.append(record)
        return end.startswith("callback") and record.epoch == 3

    def be_killed(record):
        shutil.copy(path, tmp_path / f"{record.epoch}.npz")

    model = kind(small(kind), checkpoint=path, callbacks=[be_killed, hear], **options).fit(X, Y)
    assert len(told) == 3 and model.ended_by_ == {"early stopping": "tol"}.get(end, end[:8])
    whole = list(told)
    for epoch in (1, 2, 3):
        told.clear()
        part = kind.load_checkpoint(tmp_path / f"{epoch}.npz")
        part.set_params(callbacks=hear, backend=options["backend"], checkpoint=path).resume(X, Y)
        assert_same(part, model)
        assert_same(kind.load_checkpoint(path), model)
        assert told[0] == whole[epoch - 1]
        anew = [dataclasses.replace(record, seconds=0) for record in told]
        assert anew == [dataclasses.replace(record, seconds=0) for record in whole[epoch - 1 :]]
        told.clear()
        assert part.resume(X, Y) and (told == [] or end == "callback")


def test_a_callback_that_failed_is_asked_again_by_resume_alone():
    def fail(record):
        raise ZeroDivisionError

    for go_on, first in (("resume", 1), ("partial_fit", 2), ("fit", 2)):
        told = []
        model = EqPropRegressor((4,), max_iter=3, random_state=0, warm_start=True, **FORGIVING)
        with pytest.raises(ZeroDivisionError):
            model.set_params(callbacks=fail).fit(X, Y)
        model.set_params(callbacks=lambda record, told=told: told.append(record.epoch))
        assert getattr(model, go_on)(X, Y).n_iter_ == told[-1] and told[0] == first
    with pytest.raises(ZeroDivisionError):
        model.set_params(callbacks=fail, max_iter=1).fit(X, Y)
    assert model.set_params(callbacks=None, max_iter=20).resume(X, Y).n_iter_ == 20


def test_a_run_that_tol_has_ended_goes_on_only_where_it_may(tmp_path):
    model = EqPropClassifier(
        (4,),
        max_iter=20,
        tol=1e3,
        n_iter_no_change=2,
        learning_rate="constant",
        random_state=0,
        backend="numpy",
    )
    model.fit(X, Y)
    assert model.ended_by_ == "tol" and model.resume(X, Y).n_iter_ == 4
    assert model.set_params(max_iter=40).resume(X, Y).n_iter_ == 4
    assert model.set_params(n_iter_no_change=5).resume(X, Y).n_iter_ == 7
    model.partial_fit(X, Y)
    assert model.ended_by_ is None and model.n_iter_ == 8


def test_an_interrupted_epoch_of_other_data_is_not_gone_on_with(monkeypatch, ctrl_c_heard):
    options = dict(random_state=0, backend="numpy", **FORGIVING)
    for go_on in ("partial_fit", "fit", "resume"):
        model = EqPropClassifier((4,), max_iter=4, warm_start=True, **options)
        with monkeypatch.context() as patch:
            disturb(patch, "interrupted")
            model.fit(X, Y)
        assert model._state.position.batches == 2 and model.n_iter_ == 2
        getattr(model, go_on)(X[:60], Y[:60])
        assert model._state.position is None and model.t_ - 2 * len(X) == 60 * (model.n_iter_ - 2)


@pytest.mark.parametrize("kind", KINDS)
def test_resume_needs_a_fit(kind):
    with pytest.raises(NotFittedError):
        kind().resume(X, Y)


@pytest.mark.parametrize("kind, backend", [(kind, name) for kind in KINDS for name in BACKENDS])
def test_a_memory_mapped_model_can_do_what_any_can(tmp_path, kind, backend):
    solver = "momentum" if kind in RESISTIVE else "adam"
    model = kind(
        small(kind), max_iter=2, solver=solver, random_state=0, backend=backend, **FORGIVING
    ).fit(X, Y)
    joblib.dump(model, tmp_path / "a.joblib")

    def load():
        mapped = joblib.load(tmp_path / "a.joblib", mmap_mode="r")
        assert not any(a.flags.writeable for a in mapped.coefs_)
        return mapped

    want = model.predict(X)
    np.testing.assert_array_equal(load().predict(X), want)
    load().equilibrium(X)
    load().save_checkpoint(tmp_path / "a.npz")
    assert_same(kind.load_checkpoint(tmp_path / "a.npz"), model)
    more = load().set_params(max_iter=4).resume(X, Y)
    assert_same(more, pickle.loads(pickle.dumps(model)).set_params(max_iter=4).resume(X, Y))
    for go_on in (load().partial_fit, load().set_params(warm_start=True).fit):
        assert go_on(X, Y).n_iter_ > 2
    if kind in RESISTIVE:
        model.export_conductances(tmp_path / "g.csv")
        np.testing.assert_array_equal(
            load().import_conductances(tmp_path / "g.csv").predict(X), want
        )
        load().program(dict(variability=0.1), 0).partial_fit(X, Y)
        load().dissipated_power(X)
        device = dict(variability=0.1)
        assert load().set_params(device=device, max_iter=3).resume(X, Y).n_iter_ == 3


def test_imported_conductances_are_not_replaced_by_older_ones(tmp_path):
    options = dict(random_state=0, backend="numpy", **FORGIVING)
    model = ResistiveClassifier((4,), max_iter=3, early_stopping=True, **options).fit(X, Y)
    other = ResistiveClassifier((4,), max_iter=1, random_state=1, backend="numpy").fit(X, Y)
    other.export_conductances(tmp_path / "g.csv")
    model.import_conductances(tmp_path / "g.csv").set_params(
        max_iter=4, learning_rate_init=1e-12
    ).resume(X, Y)
    for a, b in zip(model.conductances_, other.conductances_):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_a_few_kills():
    run = subprocess.run(
        [sys.executable, "-m", "tests.kill_test", "6", "0", "20"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert " kills in " in run.stdout


ALL_ENDS = """
import sys
from pathlib import Path
from pathlib import Path
from tests import kill_test

folder = Path(sys.argv[1])
for kind in kill_test.KINDS[::3]:
    for end, (told, _) in kill_test.ENDS.items():
        path = folder / f"{kind.__name__} {end}.npz"
        assert kill_test.in_child(lambda: kill_test.fit(kind, end, str(path), "numpy")), path
        assert kind.load_checkpoint(path).ended_by_ == told, path
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_the_runs_of_the_kill_test_end_as_they_say(tmp_path):
    """Other defaults must not leave `make kill-test` without a batch to be interrupted in."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", ALL_ENDS, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
