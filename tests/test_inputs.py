"""Bad input: a ValueError that names the parameter; divergence: a named error and finite weights."""

import os
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels.registry import BACKENDS as ALL_BACKENDS
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from eqprop_fast import (
    BackendUnavailableError,
    Checkpoint,
    DivergenceError,
    EqPropClassifier,
    EqPropRegressor,
    ResistiveClassifier,
    ResistiveRegressor,
    available_backends,
    get_backend,
)
from eqprop_fast._backends import effective_n_threads

from .backend_list import BACKENDS
from .build import build

X = np.random.default_rng(0).random((40, 6))
Y = np.arange(40) % 3
BASE = dict(hidden_layer_sizes=(5,), max_iter=2, backend=BACKENDS[0], random_state=0)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BAD = {
    "hidden_layer_sizes": [0, -3, (4, 0), (4, -1), (4, 2.5), "many", None, (3,) * 16, [[3]]],
    "dynamics": ["sideways", 3],
    "relaxation__schedule": ["random"],
    "activation": ["step", None],
    "out_activation": ["softmax"],
    "dynamics__input_activation": ["square"],
    "learning_rule": ["hebb"],
    "learning_rule__feedback_angle": [-1, 181, np.nan, "right"],
    "learning_rule__beta": [0, 0.0, "1", np.nan, np.inf, -np.inf, None],
    "learning_rule__nudging": ["negative"],
    "dynamics__nudge_inside": ["yes"],
    "relaxation__n_steps": [0, -1, 2.5],
    "learning_rule__n_steps": [0, -1, 1.0],
    "relaxation__tol": [-1e-3, np.nan],
    "learning_rule__tol": [-1.0, "x"],
    "dynamics__dt": [0, -0.1, np.nan],
    "dynamics__clamp": [2.5],
    "cost": ["hinge"],
    "cost__factor": [0, -1],
    "learning_rate_init": [
        0,
        -0.1,
        np.nan,
        np.inf,
        (0.1,),
        (0.1, 0.1, 0.1),
        (0.1, -0.1),
        (0.1, np.nan),
        "fast",
        None,
    ],
    "bias_learning_rate_init": [-0.1, (0.1, -0.2), (0.1,), np.inf],
    "learning_rate": ["wild"],
    "learning_rate__power_t": [-1],
    "learning_rate__decay": [0, 1.5],
    "learning_rate__min_factor": [-0.1, 2],
    "solver": ["lbfgs"],
    "momentum": [-0.1, 1.0],
    "weight_decay": [-1e-3, np.nan, np.inf],
    "beta_1": [1.0],
    "beta_2": [-0.1],
    "epsilon": [0],
    "batch_size": [0, -5, 2.5, "all"],
    "max_iter": [0, -1, 1.5],
    "shuffle": ["no"],
    "tol": [-1],
    "n_iter_no_change": [0, -1],
    "early_stopping": ["maybe"],
    "validation_fraction": [0, 1.0, -0.2],
    "weight_init": ["zeros"],
    "weight_init__gain": [0, -1, np.inf, "big", (1.0,), (1.0, -1.0)],
    "relaxation__start": ["ones"],
    "backend": ["cuda"],
    "n_threads": [0, -1, 1.5],
    "dtype": ["float16", "int32"],
    "random_state": ["seed"],
    "checkpoint__every": [0, 1.5, True],
    "checkpoint__path": [3, None],
    "callbacks": [3],
}


# words whose parts have the parameter
OTHER_WORDS = {
    "learning_rule__feedback_angle": dict(learning_rule="vector_field"),
    "dynamics__clamp": dict(dynamics="continuous"),
    "learning_rate__decay": dict(learning_rate="exponential"),
    "learning_rate__min_factor": dict(learning_rate="cosine"),
    "learning_rate__power_t": dict(learning_rate="invscaling"),
    **{
        name: dict(weight_init="fan_in_uniform") for name in BAD if name.startswith("weight_init__")
    },
    **{f"checkpoint__{name}": dict(checkpoint=Checkpoint()) for name in ("every", "path")},
}


@pytest.mark.parametrize("name, value", [(k, v) for k, values in BAD.items() for v in values])
@pytest.mark.parametrize("kind", [EqPropClassifier, EqPropRegressor])
def test_bad_parameter_is_named(kind, name, value):
    est = build(kind, **{**BASE, **OTHER_WORDS.get(name, {}), name: value})
    with pytest.raises(ValueError, match=name.rpartition("__")[2]):
        est.fit(X, Y)
    assert not hasattr(est, "coefs_"), "nothing is fitted by a refused call"


SGD = dict(solver="sgd")


@pytest.mark.parametrize(
    "rule, params, name",
    [
        ("continual", dict(SGD, solver="adam"), "solver"),
        ("continual", dict(SGD, weight_decay=0.1), "weight_decay"),
        ("continual", dict(SGD, learning_rule__nudging="centered"), "nudging"),
        ("continual_vector_field", dict(SGD, learning_rule__tol=0.1), "tol"),
        ("vector_field", dict(SGD, dynamics="continuous"), "prime_hidden"),
        ("coupled", dict(SGD, cost="cross_entropy"), "cost"),
        ("contrastive", dict(SGD, learning_rule__nudging="centered"), "nudging"),
        ("clamped_sweep", dict(SGD, dynamics__dt=0.5), "dt"),
        ("clamped_sweep", dict(SGD, relaxation__schedule="synchronous"), "schedule"),
        ("bptt", dict(SGD, relaxation__start="persistent"), "relaxation__start='persistent'"),
        ("bptt", dict(SGD, relaxation__start="normal"), "relaxation__start"),
        ("bptt", dict(SGD, learning_rule__n_steps=30), "learning_rule__n_steps"),
    ],
)
def test_what_a_rule_cannot_serve_is_named(rule, params, name):
    est = EqPropClassifier(**{**BASE, "backend": "numpy"}, learning_rule=rule)
    with pytest.raises(
        ValueError, match=name
    ):  # a parameter that the rule has not cannot even be set
        est.set_params(**params).fit(X, Y)
    assert not hasattr(est, "coefs_")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [EqPropClassifier, EqPropRegressor])
def test_non_finite_data(kind, bad):
    x = X.copy()
    x[3, 2] = bad
    y = Y.astype(float)
    y[1] = bad
    est = build(kind, **BASE)
    for sparse in (np.asarray, sp.csr_array):
        with pytest.raises(ValueError, match="X contains"):
            est.fit(sparse(x), Y)
    with pytest.raises(ValueError, match="y contains"):
        est.fit(X, y)
    with pytest.raises(ValueError, match="sample_weight contains"):
        est.fit(X, Y, sample_weight=np.where(Y == 1, bad, 1.0))
    est.fit(X, Y)
    with pytest.raises(ValueError, match="X contains"):
        est.predict(x)
    with pytest.raises(ValueError, match="X contains"):
        est.equilibrium(x)


def test_float64_values_too_large_for_float32():
    with pytest.raises(ValueError, match="too large"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build(EqPropClassifier, **BASE).fit(X * 1e300, Y)


@pytest.mark.parametrize("kind", [EqPropClassifier, EqPropRegressor])
def test_shapes_and_dtypes(kind):
    est = build(kind, **BASE)
    with pytest.raises(ValueError, match="2D"):
        est.fit(X[0], Y)
    with pytest.raises(ValueError, match="[Cc]omplex"):
        est.fit(X + 1j, Y)
    with pytest.raises(ValueError):
        est.fit(np.full((40, 2), "text"), Y)
    with pytest.raises(ValueError, match="inconsistent"):
        est.fit(X, Y[:-1])
    with pytest.raises(ValueError, match="minimum of 1"):
        est.fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match="0 feature"):
        est.fit(X[:, :0], Y)
    with pytest.raises(NotFittedError):
        est.predict(X)
    est.fit(X, Y)
    with pytest.raises(ValueError, match="features"):
        est.predict(X[:, :3])
    with pytest.raises(ValueError, match="features"):
        est.partial_fit(X[:, :3], Y)


def test_sample_weight():
    est = build(EqPropClassifier, **BASE)
    for bad in (np.ones(3), np.ones((40, 2))):
        with pytest.raises(ValueError, match="sample_weight|Sample weights"):
            est.fit(X, Y, sample_weight=bad)
    with pytest.raises(ValueError, match="[Nn]egative"):
        est.fit(X, Y, sample_weight=-np.ones(40))
    with pytest.raises(ValueError, match="non-zero"):
        est.fit(X, Y, sample_weight=np.zeros(40))


def test_labels():
    est = build(EqPropClassifier, **BASE)
    with pytest.raises(ValueError, match="Unknown label type"):
        est.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="classes"):
        est.partial_fit(X, Y)
    with pytest.raises(ValueError, match="classes not in.*7"):
        est.partial_fit(X, np.where(Y == 2, 7, Y), classes=[0, 1, 2])
    est = build(EqPropClassifier, **BASE).partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes"):
        est.partial_fit(X, Y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="class_weight"):
        build(EqPropClassifier, **BASE, class_weight="heavy").fit(X, Y)
    with pytest.raises(ValueError, match="same classes"):
        build(EqPropClassifier, **BASE, warm_start=True).fit(X, Y).fit(X, Y + 1)


def test_regression_targets():
    est = build(EqPropRegressor, **BASE).fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match="outputs"):
        est.partial_fit(X, Y)


def test_validation_set_too_small():
    with pytest.raises(ValueError, match="validation_fraction|test_size"):
        build(EqPropClassifier, **BASE, early_stopping=True, validation_fraction=0.01).fit(X, Y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_divergence_leaves_finite_weights(backend):
    est = build(
        EqPropClassifier,
        **{**BASE, "backend": backend, "max_iter": 200, "n_iter_no_change": np.inf},
        activation="identity",
        out_activation="identity",
        solver="sgd",
        learning_rate_init=50.0,
        layer_decay=1.0,
        input_scaling=None,
        weight_decay=0.0,
        batch_size=32,
        learning_rule__beta=0.5,
        relaxation__tol=None,
        relaxation__n_steps=200,
    )
    with (
        pytest.raises(DivergenceError) as caught,
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        est.fit(X, Y)
    assert caught.value.layer in (1, 2) and "layer" in str(caught.value)
    assert all(np.isfinite(a).all() for a in [*est.coefs_, *est.intercepts_])
    assert est.predict(X).shape == (40,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "kind, solver",
    [(EqPropClassifier, "momentum"), (EqPropClassifier, "adam"), (ResistiveClassifier, "nesterov")],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_solver_memory_that_is_not_finite_is_a_divergence(backend, kind, solver, bad):
    """On every backend, though bounds may hide it from the parameters; nothing has changed."""
    bounds = dict(circuit__g_max=0.5) if kind is ResistiveClassifier else {}
    est = build(kind, **{**BASE, "backend": backend, "batch_size": 7}, solver=solver, **bounds).fit(
        X, Y
    )
    est.set_params(max_iter=4)
    memory = est._state.optimizer_state
    slots = [*memory.velocity, *memory.second]
    for a in slots:
        sound, a.flat[0] = a.flat[0], bad
        before = [p.copy() for p in [*est.coefs_, *est.intercepts_, *slots]]
        with np.errstate(all="ignore"), pytest.raises(DivergenceError):
            est.resume(X, Y)
        for p, q in zip([*est.coefs_, *est.intercepts_, *slots], before, strict=True):
            np.testing.assert_array_equal(p, q)
        assert est.n_iter_ == len(est.loss_curve_) == 2
        a.flat[0] = sound
    assert est.resume(X, Y).n_iter_ == 4


def test_backends_that_are_not_here_are_named(monkeypatch):
    for name in set(ALL_BACKENDS) - set(available_backends()):
        with pytest.raises(BackendUnavailableError, match=name):
            build(EqPropClassifier, **{**BASE, "backend": name}).fit(X, Y)
    monkeypatch.setenv("EQPROP_BACKEND", "abacus")
    with pytest.raises(ValueError, match="backend"):
        get_backend("auto")


def test_what_is_set_after_the_fit_does_not_change_what_was_fitted(tmp_path):
    est = build(EqPropClassifier, **BASE).fit(X, Y % 2)
    shares = est.set_params(cost="cross_entropy").predict_proba(X)  # one output unit, no softmax
    assert shares.shape == (40, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    with pytest.raises(ValueError, match="y .* needs 2 outputs, the fitted network has 1"):
        est.set_params(warm_start=True).fit(X, Y % 2)
    with pytest.raises(NotFittedError):
        EqPropClassifier().save_checkpoint(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="feedback_angle"):
        build(
            EqPropClassifier,
            **BASE,
            learning_rule="vector_field",
            learning_rule__feedback_angle=True,
        ).fit(X, Y)
    with pytest.raises(ValueError, match="y must be a dense array"):
        build(EqPropRegressor, **BASE).fit(X, sp.csr_array(X[:, :2]))
    for given in (np.array(0.5), 3):
        with pytest.raises(ValueError, match="callbacks"):
            build(EqPropClassifier, **BASE, callbacks=given).fit(X, Y)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        build(EqPropClassifier, **{**BASE, "hidden_layer_sizes": np.array(5)}).fit(X, Y)


def test_a_wrong_isa_does_not_hide_the_other_backends(monkeypatch):
    code = "from eqprop_fast import show_backends; print(show_backends()['numpy']['available'])"
    environment = {**os.environ, "EQPROP_ISA": "abacus"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"
    if "c" in available_backends():
        assert "EQPROP_ISA must be one of" in done.stdout


@pytest.mark.parametrize(
    "value, expected", [("1", 1), ("1,4", 1), ("0", None), ("all", None), ("99", None)]
)
def test_threads_are_bounded_as_joblib_bounds_its_workers(monkeypatch, value, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert effective_n_threads(None) == (expected or joblib.cpu_count())
    assert effective_n_threads(3) == 3


def test_edge_sizes():
    for params in (
        dict(hidden_layer_sizes=1),
        dict(hidden_layer_sizes=(1, 1, 1)),
        dict(batch_size=1),
    ):
        build(EqPropClassifier, **{**BASE, **params}).fit(X[:, :1], Y).predict(X[:1, :1])
    one = build(EqPropClassifier, **BASE).fit(X[:1], [5])
    assert one.predict(X[:2]).tolist() == [5, 5] and one.predict_proba(X[:2]).tolist() == [
        [1.0],
        [1.0],
    ]
    with pytest.warns(UserWarning, match="batch_size"):
        build(EqPropClassifier, **BASE, batch_size=1000).fit(X, Y)


@pytest.mark.parametrize("damage", ["column beyond", "column negative", "row pointers fall"])
def test_damaged_csr_is_refused(damage):
    good = sp.csr_matrix(X)
    est = build(EqPropClassifier, **BASE).fit(good, Y)
    bad = good.copy()
    if damage == "row pointers fall":
        bad.indptr[2], bad.indptr[3] = bad.indptr[3], bad.indptr[2]
    else:
        bad.indices[4] = 6 if damage == "column beyond" else -1
    for call in (lambda: est.fit(bad, Y), lambda: est.predict(bad)):
        with pytest.raises(ValueError, match="X is a damaged CSR matrix"):
            call()


@pytest.mark.parametrize(
    "dtype, bad",
    [
        ("float32", np.nan),
        ("float32", np.inf),
        ("float32", 1e39),
        ("float64", np.nan),
        ("float64", -np.inf),
    ],
)
@pytest.mark.parametrize(
    "model", [EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor]
)
def test_inputs_that_are_not_finite_in_the_dtype_are_refused(model, dtype, bad):
    """By every method that takes X, dense and sparse, without a warning of the cast."""
    x = np.random.default_rng(0).uniform(size=(12, 4))
    y, broken = np.arange(12) % 3, x.copy()
    broken[3, 1] = bad
    est = model(dtype=dtype, max_iter=1, hidden_layer_sizes=(5,), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est.fit(x, y)
    est.set_params(max_iter=3)
    for data in (broken, sp.csr_matrix(broken), sp.csc_matrix(broken)):
        for method in ("fit", "partial_fit", "resume", "predict", "score"):
            arguments = (data,) if method == "predict" else (data, y)
            with warnings.catch_warnings(), pytest.raises(ValueError, match="NaN|infinity"):
                warnings.simplefilter("error")
                getattr(est, method)(*arguments)


@pytest.mark.parametrize("model", [EqPropRegressor, ResistiveRegressor])
def test_later_targets_that_the_dtype_cannot_hold_are_refused(model):
    """The scale of the first call makes them too large."""
    y = X[:, 0]
    est = build(model, **BASE).fit(X, y)
    est.set_params(max_iter=4)
    for method in ("partial_fit", "resume"):
        with (
            warnings.catch_warnings(),
            pytest.raises(ValueError, match="y is too large for float32"),
        ):
            warnings.simplefilter("error")
            getattr(est, method)(X, np.where(np.arange(40) == 7, 1e39, y))
    assert est.n_iter_ == 2
