"""EqPropClassifier and EqPropRegressor as a user meets them."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels.tolerances import tolerance
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score

from eqprop_fast import EqPropClassifier, EqPropRegressor
from eqprop_fast.datasets import load_digits

from .backend_list import BACKENDS
from .build import PLAIN_NUMBERS, build

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = dict(hidden_layer_sizes=(16,), max_iter=5, random_state=0, backend=BACKENDS[0])


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def same(a, b):
    return all(
        (p == q).all() for p, q in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_])
    )


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"] or ["numpy"])
def test_defaults_are_good_on_digits(digits, backend):
    x_train, x_test, y_train, y_test = digits
    est = EqPropClassifier(random_state=0, backend=backend).fit(x_train, y_train)
    assert est.score(x_test, y_test) >= 0.97
    assert est.backend_ == backend


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "params",
    [
        dict(),
        dict(
            dynamics="continuous",
            dynamics__dt=0.4,
            dynamics__input_activation="shifted_sigmoid",
            relaxation__schedule="synchronous",
        ),
        dict(cost="cross_entropy", out_activation="identity"),
        dict(learning_rule__nudging="random_sign", solver="sgd", learning_rate_init=(0.1, 0.05)),
        dict(
            learning_rule__nudging="positive",
            solver="nesterov",
            learning_rate_init=0.05,
            relaxation__start="persistent",
        ),
        dict(
            hidden_layer_sizes=(12, 9),
            relaxation__tol=None,
            learning_rule__tol=None,
            relaxation__n_steps=30,
            max_iter=40,
        ),
    ],
)
def test_variants_learn_alike_on_every_backend(digits, backend, params):
    x_train, x_test, y_train, y_test = digits
    # float64 and few updates: only then do the backends' roundings stay below the trajectory
    # tolerance
    params = {**SMALL, "hidden_layer_sizes": (32,), "max_iter": 12, **params, "dtype": "float64"}
    est = build(EqPropClassifier, **{**params, "backend": backend, "max_iter": 2}).fit(
        x_train[:150], y_train[:150]
    )
    twin = build(EqPropClassifier, **{**params, "backend": "numpy", "max_iter": 2}).fit(
        x_train[:150], y_train[:150]
    )
    for a, b in zip([*est.coefs_, *est.intercepts_], [*twin.coefs_, *twin.intercepts_]):
        np.testing.assert_allclose(a, b, atol=tolerance("trajectory", "float64"), rtol=0)
    if backend == BACKENDS[0]:
        est = build(EqPropClassifier, **{**params, "backend": backend}).fit(x_train, y_train)
        assert est.score(x_test, y_test) > 0.8


RULES = {
    "continual": dict(solver="sgd", learning_rule__nudging="random_sign", learning_rate_init=0.02),
    "continual_vector_field": dict(
        solver="sgd",
        learning_rule__nudging="random_sign",
        learning_rule__beta=0.2,
        learning_rate_init=0.02,
        max_iter=40,
    ),
    "vector_field": dict(learning_rule__feedback_angle=45.0),
    "clamped_sweep": dict(activation="hard_sigmoid", out_activation="hard_sigmoid"),
    "contrastive": dict(learning_rate_init=0.005),
    "coupled": dict(),
    "bptt": dict(relaxation__schedule="synchronous"),
    "recurrent_backprop": dict(),
    "implicit": dict(relaxation__n_steps=100, relaxation__tol=1e-5, max_iter=8),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_learning_rule_trains(digits, rule, tmp_path):
    x_train, x_test, y_train, y_test = digits
    params = {
        **SMALL,
        "hidden_layer_sizes": (24,),
        "max_iter": 15,
        **RULES[rule],
        "backend": BACKENDS[0],
    }
    est = build(EqPropClassifier, **params, learning_rule=rule).fit(x_train, y_train)
    assert est.score(x_test, y_test) > 0.8
    independent = rule in ("vector_field", "continual_vector_field")
    assert hasattr(est, "feedback_coefs_") == independent
    assert np.isnan(est.equilibrium(x_test).energy).all() == independent
    est.save_checkpoint(tmp_path / "a.npz")
    back = EqPropClassifier.load_checkpoint(tmp_path / "a.npz").set_params(backend=BACKENDS[0])
    np.testing.assert_array_equal(back.decision_function(x_test), est.decision_function(x_test))
    for e in (est, back):
        e.partial_fit(x_train[:100], y_train[:100])
    np.testing.assert_array_equal(back.coefs_[0], est.coefs_[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_seed_same_model_for_any_thread_count(digits, backend):
    x_train, x_test, y_train, _ = digits
    x, y = x_train[:200], y_train[:200]
    params = {**SMALL, "backend": backend, "max_iter": 2}
    models = [build(EqPropClassifier, **params, n_threads=n).fit(x, y) for n in (1, 2, 3, 8)]
    for other in models[1:]:
        assert same(models[0], other)
        np.testing.assert_array_equal(models[0].predict_proba(x_test), other.predict_proba(x_test))
    different = build(EqPropClassifier, **{**params, "random_state": 1}).fit(x, y)
    assert not same(models[0], different)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prediction_does_not_depend_on_batch_mates(digits, backend, dtype):
    x_train, x_test, y_train, _ = digits
    est = build(EqPropClassifier, **{**SMALL, "backend": backend, "max_iter": 2, "dtype": dtype})
    est.fit(x_train[:200], y_train[:200])
    whole = est.decision_function(x_test)
    for rows in (slice(0, 1), slice(3, 10), slice(100, 233)):
        np.testing.assert_array_equal(est.decision_function(x_test[rows]), whole[rows])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("container", [sp.csr_array, sp.csr_matrix, sp.csc_array])
def test_sparse_equals_dense(digits, backend, container):
    x_train, x_test, y_train, _ = digits
    params = {**SMALL, "backend": backend, "max_iter": 2, "dtype": "float64"}
    dense = build(EqPropClassifier, **params).fit(x_train[:150], y_train[:150])
    sparse = build(EqPropClassifier, **params).fit(container(x_train[:150]), y_train[:150])
    for a, b in zip(dense.coefs_, sparse.coefs_):
        np.testing.assert_allclose(a, b, atol=1e-10)
    np.testing.assert_allclose(
        dense.predict_proba(x_test), sparse.predict_proba(container(x_test)), atol=1e-10
    )


def test_classification_surface(digits):
    x_train, x_test, y_train, y_test = digits
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    est = build(EqPropClassifier, **SMALL).fit(x_train, names[y_train])
    assert list(est.classes_) == sorted(names)
    proba = est.predict_proba(x_test)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(est.classes_[proba.argmax(axis=1)], est.predict(x_test))
    np.testing.assert_allclose(est.predict_log_proba(x_test), np.log(proba))
    assert est.n_layers_ == 3 and est.n_outputs_ == 10 and est.out_activation_ == "shifted_sigmoid"
    assert est.n_iter_ == len(est.loss_curve_) == 5 and est.t_ == 5 * len(x_train)
    assert est.loss_ == est.loss_curve_[-1] and est.best_loss_ == min(est.loss_curve_)
    assert est.validation_scores_ is None and est.best_validation_score_ is None
    assert [w.shape for w in est.coefs_] == [(64, 16), (16, 10)] and est.coefs_[
        0
    ].dtype == np.float32


@pytest.mark.parametrize("cost, n_outputs", [("squared_error", 1), ("cross_entropy", 2)])
def test_two_classes(digits, cost, n_outputs):
    x_train, x_test, y_train, y_test = digits
    keep, keep_test = y_train < 2, y_test < 2
    out = "identity" if cost == "cross_entropy" else "shifted_sigmoid"
    est = build(EqPropClassifier, **{**SMALL, "max_iter": 20}, cost=cost, out_activation=out)
    est.fit(x_train[keep], y_train[keep])
    assert est.n_outputs_ == n_outputs and est.decision_function(x_test).shape == (len(x_test),)
    assert est.predict_proba(x_test).shape == (len(x_test), 2)
    assert est.score(x_test[keep_test], y_test[keep_test]) > 0.97


@pytest.mark.parametrize("backend", BACKENDS)
def test_clamped_sweep_predicts_by_its_own_sweeps(backend, digits):
    """A single sweep, layer after layer, as in training; no other order of layers would do."""
    x_train, x_test, y_train, y_test = digits
    est = build(
        EqPropClassifier,
        hidden_layer_sizes=(40, 40),
        **RULES["clamped_sweep"],
        input_scaling=None,
        layer_decay=1.0,
        weight_decay=0.0,
        learning_rule="clamped_sweep",
        relaxation__n_steps=1,
        learning_rule__n_steps=1,
        relaxation__tol=None,
        learning_rule__tol=None,
        solver="sgd",
        learning_rate_init=0.1,
        max_iter=15,
        batch_size=20,
        weight_init="glorot_uniform",
        random_state=0,
        backend=backend,
    ).fit(x_train, y_train)
    s = x_test
    for w, b, state in zip(est.coefs_, est.intercepts_, est.equilibrium(x_test).states):
        s = np.clip(s @ w + b, 0, 1)  # the layer above is still at zero
        np.testing.assert_allclose(s, state, atol=1e-5)
    assert est.score(x_test, y_test) > 0.7


def test_multilabel():
    X, Y = make_multilabel_classification(300, 12, n_classes=4, random_state=0)
    X = X / X.max()
    seen = []
    est = build(
        EqPropClassifier,
        **{**SMALL, "max_iter": 200},
        learning_rate_init=0.02,
        callbacks=seen.append,
    )
    est.fit(X, Y)
    assert (
        seen[-1].accuracy is None
    )  # an argmax over labels that do not exclude each other says nothing
    assert est.predict(X).shape == Y.shape and est.predict_proba(X).shape == Y.shape
    assert (est.predict(X) == Y).mean() > 0.8
    est = build(EqPropClassifier, **SMALL).partial_fit(X, Y, classes=np.arange(4))
    assert est.predict(X).shape == Y.shape
    with pytest.raises(ValueError, match="cross_entropy"):
        build(EqPropClassifier, **SMALL, cost="cross_entropy").fit(X, Y)


def test_partial_fit_sees_classes_in_any_order(digits):
    x_train, x_test, y_train, y_test = digits
    est = build(EqPropClassifier, **SMALL)
    few = y_train < 4
    est.partial_fit(x_train[few], y_train[few], classes=np.arange(10))
    assert est.n_outputs_ == 10 and est.n_iter_ == 1
    for _ in range(15):
        est.partial_fit(x_train, y_train)
    assert est.n_iter_ == 16 and est.score(x_test, y_test) > 0.85
    with pytest.raises(ValueError, match="classes not in"):
        est.partial_fit(x_train[:5], [77, 1, 2, 3, 4])


def test_warm_start_continues_bit_for_bit(digits):
    x_train, _, y_train, _ = digits
    x, y = x_train[:200], y_train[:200]
    for extra in (
        dict(),
        dict(
            relaxation__start="persistent", learning_rule__nudging="random_sign", solver="momentum"
        ),
    ):
        whole = build(EqPropClassifier, **{**SMALL, "max_iter": 6}, **extra).fit(x, y)
        halves = (
            build(EqPropClassifier, **{**SMALL, "max_iter": 3}, warm_start=True, **extra)
            .fit(x, y)
            .fit(x, y)
        )
        assert same(whole, halves) and halves.n_iter_ == 6
        np.testing.assert_allclose(whole.loss_curve_, halves.loss_curve_, rtol=1e-6)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        halves.set_params(hidden_layer_sizes=(17,)).fit(x, y)


def test_refit_starts_afresh(digits):
    x_train, _, y_train, _ = digits
    est = build(EqPropClassifier, **SMALL).fit(x_train[:200], y_train[:200])
    first = clone(est).fit(x_train[:200], y_train[:200])
    assert same(est.fit(x_train[:200], y_train[:200]), first)
    est.fit(x_train[:200, :32], y_train[:200] % 3)
    assert est.n_features_in_ == 32 and list(est.classes_) == [0, 1, 2]


def test_early_stopping_restores_the_best(digits):
    x_train, x_test, y_train, y_test = digits
    est = build(
        EqPropClassifier,
        **{**SMALL, "max_iter": 100},
        early_stopping=True,
        n_iter_no_change=3,
        learning_rate_init=0.02,
    ).fit(x_train, y_train)
    assert est.n_iter_ < 100 and len(est.validation_scores_) == est.n_iter_
    assert est.best_validation_score_ == max(est.validation_scores_) and est.best_loss_ is None
    assert est.t_ == est.n_iter_ * (len(x_train) - round(0.1 * len(x_train)))
    assert est.score(x_test, y_test) > 0.9
    with pytest.raises(ValueError, match="early_stopping"):
        est.partial_fit(x_train, y_train)


@pytest.mark.parametrize("kind", [EqPropClassifier, EqPropRegressor])
def test_sample_weight_equals_repetition(digits, kind):
    x, _, y, _ = digits
    x, y = x[:60], y[:60]
    weight = np.random.default_rng(0).integers(0, 3, 60)
    params = {
        **{**SMALL, **PLAIN_NUMBERS, "batch_size": 1000},
        **{"dtype": "float64", "learning_rate_init": 0.02},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a = build(kind, **params).fit(x, y, sample_weight=weight)
        b = build(kind, **params).fit(x.repeat(weight, axis=0), y.repeat(weight))
    for p, q in zip(a.coefs_, b.coefs_):
        np.testing.assert_allclose(p, q, rtol=1e-7)
    assert a.loss_ == pytest.approx(b.loss_)


def test_class_weight(digits):
    x, _, y, _ = digits
    y = (y == 3).astype(int)  # one in ten
    base = {**SMALL, "max_iter": 2}
    recall = {
        str(w): (
            build(EqPropClassifier, **base, class_weight=w).fit(x, y).predict(x)[y == 1] == 1
        ).mean()
        for w in (None, "balanced", {0: 1.0, 1: 30.0})
    }
    assert recall["balanced"] > recall["None"] and recall["{0: 1.0, 1: 30.0}"] > recall["None"]
    by_hand = build(EqPropClassifier, **base).fit(x, y, sample_weight=np.where(y == 1, 30.0, 1.0))
    weighted = build(EqPropClassifier, **base, class_weight={0: 1.0, 1: 30.0})
    assert same(by_hand, clone(weighted).fit(x, y))
    mine = np.resize([0.5, 1.0, 2.0], len(y))
    both = build(EqPropClassifier, **base).fit(x, y, sample_weight=mine * np.where(y == 1, 30, 1))
    assert same(both, weighted.fit(x, y, sample_weight=mine))
    with pytest.raises(ValueError, match="balanced"):
        build(EqPropClassifier, **base, class_weight="balanced").partial_fit(x, y, classes=[0, 1])


def test_regression_single_and_multi_output():
    X, Y = make_regression(400, 6, n_targets=3, noise=0.1, random_state=0)
    Y = Y * [1.0, 1e-3, 1e4] + [5.0, 0.0, -1e5]  # targets of very different scales
    est = build(EqPropRegressor, **{**SMALL, "hidden_layer_sizes": (64,), "max_iter": 150}).fit(
        X, Y
    )
    assert (
        est.predict(X).shape == Y.shape
        and est.score(X, Y) > 0.9
        and est.out_activation_ == "identity"
    )
    single = build(EqPropRegressor, **{**SMALL, "hidden_layer_sizes": (64,), "max_iter": 150}).fit(
        X, Y[:, 0]
    )
    assert single.predict(X).shape == (400,) and single.score(X, Y[:, 0]) > 0.9
    constant = build(EqPropRegressor, **SMALL).fit(X, np.full(400, 3.0))
    np.testing.assert_allclose(constant.predict(X), 3.0, atol=0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equilibrium_is_a_fixed_point_of_least_energy(digits, backend):
    x_train, x_test, y_train, _ = digits
    params = {**SMALL, **PLAIN_NUMBERS, "backend": backend}
    est = build(EqPropClassifier, **params).fit(x_train, y_train)
    est.set_params(relaxation__n_steps=200, relaxation__tol=1e-5)
    rest = est.equilibrium(x_test)
    assert [s.shape for s in rest.states] == [(len(x_test), 16), (len(x_test), 10)]
    assert (rest.residual <= 1e-5).all() and rest.steps.max() < 200 and rest.steps.min() >= 1
    np.testing.assert_allclose(rest.states[-1], est.decision_function(x_test), atol=1e-7)
    hidden, out = (s.astype(np.float64) for s in rest.states)
    field = x_test @ est.coefs_[0] + est.intercepts_[0] + out @ est.coefs_[1].T
    np.testing.assert_allclose(hidden, 1 / (1 + np.exp(2 - 4 * field)), atol=1e-4)
    # the asynchronous sweep minimises the energy block by block: it never rises
    est.set_params(relaxation__tol=None)
    energies = [
        est.set_params(relaxation__n_steps=n).equilibrium(x_test).energy for n in (1, 2, 3, 5, 50)
    ]
    for before, after in zip(energies, energies[1:]):
        assert (after <= before + 1e-5).all()


def test_callbacks_verbose_and_convergence_warning(digits, capsys):
    x_train, _, y_train, _ = digits
    epochs = []
    est = build(EqPropClassifier, **SMALL, callbacks=lambda r: epochs.append(r.epoch), verbose=True)
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        est.fit(x_train, y_train)
    assert epochs == [1, 2, 3, 4, 5]
    assert "epoch 5" in capsys.readouterr().out


def test_interrupted_fit_is_usable(digits):
    x_train, x_test, y_train, _ = digits

    def interrupt(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    est = build(EqPropClassifier, **SMALL, callbacks=[interrupt])
    with pytest.warns(UserWarning, match="interrupted"):
        est.fit(x_train, y_train)
    assert est.n_iter_ == 2 and est.predict(x_test).shape == (len(x_test),)


def test_float32_input_is_not_copied(digits):
    x_train, _, y_train, _ = digits
    est = build(EqPropClassifier, **SMALL)
    assert est._validate_targets(x_train, y_train, False, True)[0] is x_train


def test_many_threads_use_and_fit_at_once(digits):
    x_train, x_test, y_train, _ = digits
    x, y = x_train[:300], y_train[:300]
    params = {**SMALL, "max_iter": 3, "n_threads": 2}
    est = build(EqPropClassifier, **params).fit(x, y)
    expected = est.predict_proba(x_test)
    with ThreadPoolExecutor(6) as pool:
        predictions = list(pool.map(lambda _: est.predict_proba(x_test), range(12)))
        fits = list(pool.map(lambda _: build(EqPropClassifier, **params).fit(x, y), range(6)))
    for p in predictions:
        np.testing.assert_array_equal(p, expected)
    assert all(same(est, other) for other in fits)


def test_works_in_worker_processes_after_use(digits):
    x_train, x_test, y_train, _ = digits
    est = build(EqPropClassifier, **{**SMALL, "max_iter": 2}, n_threads=2).fit(
        x_train[:200], y_train[:200]
    )
    scores = cross_val_score(est, x_train[:200], y_train[:200], cv=2, n_jobs=2)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("cost", ["squared_error", "cross_entropy"])
def test_one_class_is_certain(digits, cost):
    x = digits[0][:9]
    est = build(EqPropClassifier, **{**SMALL, "max_iter": 1}, cost=cost).fit(x, np.full(9, 7))
    np.testing.assert_array_equal(est.predict_proba(x), np.ones((9, 1)))
    assert (est.predict(x) == 7).all()
