"""The defaults: what "auto" means, and that nothing fails in silence."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from eqprop_fast import (
    EqPropClassifier,
    EqPropRegressor,
    Relaxation,
    ResistiveClassifier,
    ResistiveRegressor,
    auto,
)
from eqprop_fast.datasets import load_digits
from eqprop_fast.rules import RULES

from .backend_list import BACKENDS

CLASSIFIERS = (EqPropClassifier, ResistiveClassifier)
REGRESSORS = (EqPropRegressor, ResistiveRegressor)
PLAIN = dict(random_state=0, backend=BACKENDS[0])


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_alone_learns_digits(rule, digits):
    X, X_test, y, y_test = digits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Maximum iterations")  # continual rules learn slowly
        model = EqPropClassifier(learning_rule=rule, **PLAIN).fit(X, y)
    assert model.score(X_test, y_test) >= 0.95
    assert model.solver_ == ("sgd" if RULES[rule].continual else "adam")


def test_deep_networks_learn(digits):
    X, X_test, y, y_test = digits
    model = EqPropClassifier((32,) * 5, **PLAIN).fit(X, y)
    assert model.score(X_test, y_test) > 0.9  # .3 with one rate for all layers
    rates = model.learning_rate_init_
    np.testing.assert_allclose(np.divide(rates[1:], rates[:-1]), auto.LAYER_DECAY)
    assert model.relaxation_.n_steps == 60 and model.learning_rule_.n_steps == 30


@pytest.fixture(scope="module")
def curved():
    """Numbers that products of the features make, training and test."""
    x = np.random.default_rng(0).normal(size=(700, 5))
    y = 30 * (x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + x[:, 3]) + 1000
    return x[:500], x[500:], y[:500], y[500:]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_alone_learns_numbers(rule, curved):
    X, X_test, y, y_test = curved
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Maximum iterations")
        warnings.filterwarnings("ignore", ".* had not settled")  # continual ones, of few features
        model = EqPropRegressor(learning_rule=rule, **PLAIN).fit(X, y)
    assert model.score(X_test, y_test) > (0.6 if RULES[rule].continual else 0.9)


def test_deep_networks_learn_numbers(curved):
    X, X_test, y, y_test = curved
    model = EqPropRegressor((32,) * 6, **PLAIN).fit(X, y)
    assert model.score(X_test, y_test) > 0.8  # .5 with targets of amplitude 1
    assert len(set(model.learning_rate_init_)) == 1


@pytest.mark.parametrize(
    "params, amplitude, activation",
    [
        ({}, auto.AMPLITUDE, "relu6"),
        ({"activation": "tanh"}, auto.AMPLITUDE, "tanh"),
        ({"solver": "sgd"}, 1.0, "tanh"),
        ({"dynamics": "continuous"}, 1.0, "shifted_sigmoid"),
        ({"learning_rule": "continual"}, 1.0, "shifted_sigmoid"),
        ({"learning_rule": "vector_field"}, 1.0, "tanh"),
    ],
)
def test_small_signals_where_the_solver_allows_them(params, amplitude, activation, curved):
    X, _, y, _ = curved
    short = dict(max_iter=3, tol=0, shuffle=False)
    model = EqPropRegressor((16,), **params, **short, **PLAIN).fit(X, y)
    assert (model.target_amplitude_, model.activation_) == (amplitude, activation)
    assert model.relaxation_.tol == pytest.approx(1e-3 * amplitude)


@pytest.mark.parametrize("n_rows, amplitude", [(59, 1.0), (60, auto.AMPLITUDE)])
def test_small_signals_where_rows_tell_products(n_rows, amplitude, curved):
    X, _, y, _ = curved  # five features, 20 coefficients
    model = EqPropRegressor((4,), max_iter=1, tol=0, **PLAIN).fit(X[:n_rows], y[:n_rows])
    assert model.target_amplitude_ == amplitude
    twice = np.where(np.arange(30) < n_rows - 30, 2.0, 1.0)
    model.fit(X[:30], y[:30], sample_weight=twice)
    assert model.target_amplitude_ == amplitude


def test_the_loss_is_that_of_standardised_targets(curved):
    X, _, y, _ = curved
    model = EqPropRegressor((64,), **PLAIN).fit(X, y)
    error = (y - model.predict(X)) / y.std()
    assert model.loss_ == pytest.approx(0.5 * np.mean(error**2), rel=0.2)
    flat = EqPropRegressor((64,), max_iter=1, tol=0, learning_rate_init=1e-12, **PLAIN)
    with pytest.warns(ConvergenceWarning, match=r"no better than .* mean of y .*\(0.5\)"):
        flat.fit(X, y)
    assert 0.5 <= flat.loss_ < 4


def test_constant_targets_are_met(curved):
    X = curved[0]
    model = EqPropRegressor((16,), **PLAIN).fit(X, np.full(len(X), 7.0))
    np.testing.assert_allclose(model.predict(X), 7.0, atol=0.05)


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_units_of_measurement_do_not_matter(kind, digits):
    X, y = load_iris(return_X_y=True)
    other = X * [1e-2, 1, 10, 3] + [5, -2, 0, 100]
    models = [kind((16,), max_iter=8, tol=0, dtype="float64", **PLAIN) for _ in "ab"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        a, b = (m.fit(x, y).predict(x) for m, x in zip(models, (X, other)))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(models[1].input_center_, np.median(other, axis=0))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_raw_features_are_learnt_and_the_worst_is_named(kind):
    pd = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True)
    frame = pd.DataFrame(X * [1, 1e6, 1, 1], columns=["a", "b", "c", "d"])
    with pytest.warns(UserWarning, match="differ in scale .*'b'"):
        model = kind((16,), max_iter=60, **PLAIN).fit(frame, y)
    assert model.score(frame, y) > 0.9
    with pytest.warns(UserWarning, match="feature 1"):
        kind((16,), max_iter=1, input_scaling=None, **PLAIN).fit(frame.to_numpy() / 1e3, y)


def test_scale_ignores_outliers_and_keeps_zeros():
    X = np.random.default_rng(0).standard_normal((400, 3))
    X[:, 2] = np.where(X[:, 2] > 1, X[:, 2], 0)
    centre, scale = auto.centre_and_scale(X)
    assert centre[2] == 0
    wild = X.copy()
    wild[7] = 1e9
    np.testing.assert_allclose(auto.centre_and_scale(wild)[1], scale, rtol=0.05)
    sparse = auto.centre_and_scale(sp.csr_array(X[:, 2:]))
    np.testing.assert_allclose(sparse[1], scale[2:])
    scaled = auto.scaled(sp.csr_array(X[:, 2:]), centre[2:], scale[2:])
    np.testing.assert_array_equal(scaled.toarray(), auto.scaled(X[:, 2:], centre[2:], scale[2:]))
    assert auto.scaled(wild, centre, scale, auto.SOURCE_LIMIT).max() == auto.SOURCE_LIMIT


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_without_spread_the_fallback_is_named(kind):
    for X in (np.ones((1, 3)), np.ones((4, 3))):
        with pytest.warns(UserWarning, match="input_scaling='auto'.*as it is"):
            model = kind((4,), max_iter=2, **PLAIN).fit(X, np.arange(len(X)))
        np.testing.assert_array_equal(model.input_scale_, 1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_what_auto_meant_outlives_files_and_pickles(kind, tmp_path):
    X, y = load_iris(return_X_y=True)
    whole = kind((8,), max_iter=6, tol=0, **PLAIN).fit(X, y)
    part = kind((8,), max_iter=3, tol=0, **PLAIN).fit(X, y)
    part.save_checkpoint(tmp_path / "a.npz")
    names = [k for k in vars(part) if k.endswith("_") and k not in ("backend_", "ended_by_")]
    for again in (kind.load_checkpoint(tmp_path / "a.npz"), pickle.loads(pickle.dumps(part))):
        assert again._get_param_names() == part._get_param_names()
        for name in names:
            np.testing.assert_equal(getattr(again, name), getattr(part, name), err_msg=name)
        again.set_params(max_iter=6, **PLAIN).resume(X, y)
        for a, b in zip(again.coefs_, whole.coefs_):
            np.testing.assert_array_equal(a, b)
    # the choice was made on the first data, and stays
    part.set_params(warm_start=True).fit(3 * X, y)
    np.testing.assert_array_equal(part.input_scale_, whole.input_scale_)
    with pytest.raises(ValueError, match="input_scaling"):
        part.set_params(input_scaling=None).fit(X, y)


@pytest.mark.filterwarnings("ignore:Maximum")
def test_unsettled_samples_are_told_of(digits):
    X, X_test, y, _ = digits
    hasty = EqPropClassifier(max_iter=2, relaxation=Relaxation(n_steps=2, tol=1e-6), **PLAIN)
    with pytest.warns(ConvergenceWarning, match="^fit: 100% of the samples had not settled"):
        hasty.fit(X, y)
    with pytest.warns(ConvergenceWarning, match="^predict: 100%"):
        hasty.predict(X_test)
    with warnings.catch_warnings():  # all steps were asked for
        warnings.simplefilter("error")
        hasty.set_params(relaxation__tol=None).predict(X_test)


@pytest.mark.parametrize("kind", [*CLASSIFIERS, *REGRESSORS])
def test_a_fit_that_learnt_nothing_says_so(kind):
    X = np.random.default_rng(0).random((60, 3))
    with pytest.warns(ConvergenceWarning, match="no better than predicting"):
        kind((5,), learning_rate_init=1e-12, max_iter=2, bias_learning_rate_init=0.0, **PLAIN).fit(
            X, np.arange(60) % 3
        )


# ---- how much of the targets is noise ----


def _noisy(n_samples=400, seed=0):
    """X and targets a fifth of whose variance is noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 5))
    return X, X[:, 0] + 0.5 * rng.normal(size=n_samples)


def test_noise_is_what_a_linear_model_leaves():
    X, y = _noisy()
    weight = np.random.default_rng(1).integers(0, 3, len(y))
    repeated = np.repeat(X, weight, axis=0), np.repeat(y, weight)
    assert auto.unexplained(X, y) == pytest.approx(0.2, abs=0.04)
    assert auto.unexplained(sp.csr_matrix(X), y) == auto.unexplained(X, y)
    assert auto.unexplained(X, y, weight) == auto.unexplained(*repeated)
    assert auto.unexplained(X, np.stack([y, y], axis=1)) == auto.unexplained(X, y)
    assert auto.unexplained(X, X[:, 1]) == 0.0
    assert auto.unexplained(X[:6], y[:6]) == 1.0  # as many coefficients as rows
    assert auto.unexplained(X, np.zeros_like(y)) == 1.0


def test_what_products_of_features_explain_is_no_noise():
    X = _noisy()[0]
    y = X[:, 0] * X[:, 1] + X[:, 2] ** 2
    assert auto.unexplained(X, y) < 0.1
    assert auto.unexplained(sp.csr_matrix(X), y) == auto.unexplained(X, y)
    assert auto.unexplained(X[:59], y[:59]) > 0.5  # too few rows for 20 coefficients


@pytest.mark.parametrize("factors", [(1e300, 1e305), (1e-310, 1e-300)])
def test_noise_of_numbers_at_the_ends_of_float64(factors):
    X, y = _noisy()
    X, y = X * factors[0], y * factors[1]
    with np.errstate(over="raise", invalid="raise"):
        assert 0.0 <= auto.unexplained(X, y) <= 1.0


def test_exact_targets_are_not_decayed():
    X, y = _noisy()
    short = dict(hidden_layer_sizes=(3,), max_iter=1, tol=0)
    noisy = EqPropRegressor(**short).fit(X, y).weight_decay_
    assert noisy == pytest.approx(0.3 * auto.unexplained(X, y) * 5 / 400)
    assert EqPropRegressor(**short).fit(X, X[:, 0]).weight_decay_ == 0.0
