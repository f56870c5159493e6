"""A call that is refused, or that diverges, leaves the estimator as usable as before."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from eqprop_fast import DivergenceError, EqPropClassifier, EqPropRegressor
from eqprop_fast.datasets import load_digits

from .backend_list import BACKENDS
from .build import build

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).random((60, 6))
Y = np.arange(60) % 4
BASE = dict(hidden_layer_sizes=(5,), max_iter=2, backend=BACKENDS[0], random_state=0)

REFUSED = [
    dict(learning_rate_init=[0.1, 0.1, 0.1]),
    dict(class_weight={"nobody": 1.0}),
    dict(relaxation__over_relaxation=1.5, relaxation__schedule="synchronous"),
    dict(early_stopping=True, validation_fraction=0.01),
    dict(callbacks=[3]),
    dict(checkpoint="/nowhere/at/all.npz"),
    dict(learning_rule="bptt", relaxation__start="persistent"),
]


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda p: next(iter(p)))
def test_a_refused_refit_changes_nothing(wrong):
    est = build(EqPropClassifier, **BASE).fit(X, Y)
    before, keys = est.predict_proba(X), set(vars(est))
    kept = est.get_params()
    with pytest.raises(ValueError):
        est.set_params(**wrong).fit(X[:20], np.array(list("ab") * 10))
    est.set_params(**kept)
    assert set(vars(est)) == keys
    assert (est.predict_proba(X) == before).all()
    assert (est.classes_ == np.arange(4)).all()


@pytest.mark.parametrize("wrong", REFUSED, ids=lambda p: next(iter(p)))
def test_a_refused_first_fit_is_no_fit(wrong):
    est = build(EqPropClassifier, **{**BASE, **wrong})
    with pytest.raises(ValueError):
        est.fit(X[:40], Y[:40])
    with pytest.raises(NotFittedError):
        est.predict(X)


@pytest.mark.parametrize(
    "name",
    [
        "learning_rule__beta",
        "dynamics__dt",
        "cost__factor",
        "learning_rate_init",
        "bias_learning_rate_init",
        "weight_decay",
        "epsilon",
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_beyond_the_dtype_are_named(name):
    with pytest.raises(ValueError, match=f"^{name}=1e\\+39: .* in float32"):
        build(EqPropClassifier, **BASE, **{name: 1e39}).fit(X, Y)
    with pytest.raises(ValueError, match=f"^{name}=1e-40: .* in float32"):
        build(EqPropRegressor, **BASE, **{name: 1e-40}).fit(X, Y)
    build(EqPropRegressor, **BASE, **{name: 1e-40}, dtype="float64").fit(X, Y)


@pytest.mark.parametrize("name", ["momentum", "beta_1", "beta_2"])
def test_averages_that_round_to_one_are_named(name):
    nearly = 1 - 1e-12
    with pytest.raises(ValueError, match=f"^{name}=0.99.* is 1 in float32"):
        build(EqPropClassifier, **BASE, **{name: nearly}).fit(X, Y)
    build(EqPropClassifier, **BASE, **{name: nearly}, dtype="float64").fit(X, Y)


def test_a_refused_partial_fit_is_no_fit():
    with pytest.raises(ValueError, match="start='persistent'"):
        build(EqPropClassifier, **BASE, relaxation__start="persistent").partial_fit(
            X, Y, classes=range(4)
        )
    est = build(EqPropClassifier, **BASE)
    with pytest.raises(ValueError, match="NaN"):
        est.partial_fit(X * np.nan, Y, classes=range(4))
    with pytest.raises(NotFittedError):
        est.predict(X)
    est.partial_fit(
        X, np.array(list("abcd") * 15), classes=list("abcd")
    )  # other classes: it never knew any


def test_continuing_with_what_does_not_fit_is_refused():
    est = build(EqPropClassifier, **BASE).fit(X, Y)
    with pytest.raises(ValueError, match="dtype"):
        est.set_params(dtype="float64").partial_fit(X, Y)
    est.set_params(dtype="float32", warm_start=True, learning_rule="vector_field")
    with pytest.raises(ValueError, match="learning_rule"):
        est.fit(X, Y)


@pytest.mark.parametrize(
    "wrong", [dict(relaxation__n_steps=0), dict(activation="foo"), dict(n_threads=0)]
)
def test_parameters_set_after_the_fit_are_checked(wrong):
    est = build(EqPropClassifier, **BASE).fit(X, Y).set_params(**wrong)
    for call in (est.predict, est.equilibrium):
        with pytest.raises(ValueError, match=next(iter(wrong)).rpartition("__")[2]):
            call(X)


@pytest.mark.parametrize("backend", BACKENDS)
def test_divergence_gives_the_best_weights_back_under_early_stopping(backend):
    x_train, x_test, y_train, y_test = load_digits()
    est = EqPropClassifier(
        hidden_layer_sizes=(16,),
        max_iter=20,
        early_stopping=True,
        random_state=0,
        backend=backend,
        activation="relu",
        out_activation="identity",
        solver="sgd",
        learning_rate_init=0.1,
        warm_start=True,
    ).fit(x_train, y_train)
    score = est.score(x_test, y_test)
    assert score > 0.7  # so that random or diverged weights would show
    with pytest.raises(DivergenceError):
        est.set_params(learning_rate_init=1e6).fit(x_train, y_train)
    assert est.score(x_test, y_test) >= score - 0.05


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "good, bad",
    [
        (dict(solver="adam"), dict(bias_learning_rate_init=3e38)),
        (dict(solver="nesterov"), dict(weight_decay=3e38)),
        (dict(activation="relu", out_activation="identity"), dict(learning_rate_init=10.0)),
        (
            dict(
                dynamics="continuous",
                activation="tanh",
                out_activation="tanh",
                dynamics__clamp=False,
                dynamics__dt=0.2,
                relaxation__schedule="synchronous",
                relaxation__start="persistent",
            ),
            dict(dynamics__dt=1e30),
        ),
    ],
    ids=["adam", "nesterov", "relu", "particles"],
)
def test_fitting_goes_on_after_a_divergence(backend, good, bad):
    """Optimiser memory and persistent states are as sound as the weights, and those are of use."""
    x_train, x_test, y_train, y_test = load_digits()
    usual = {
        **dict(bias_learning_rate_init=None, weight_decay=0.0, learning_rate_init=1e-3),
        **good,
    }
    est = build(
        EqPropClassifier,
        (16,),
        max_iter=3,
        random_state=0,
        warm_start=True,
        backend=backend,
        **usual,
    )
    est.fit(x_train, y_train)
    score, epochs = est.score(x_test, y_test), est.n_iter_
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        est.set_params(**bad).fit(x_train, y_train)
    assert est.n_iter_ >= epochs and len(est.loss_curve_) == est.n_iter_
    est.set_params(**usual)
    assert est.score(x_test, y_test) > score - 0.1
    assert est.fit(x_train, y_train).score(x_test, y_test) > score - 0.1


def test_class_weights_hold_for_batches_without_some_classes():
    est = build(EqPropClassifier, **BASE, class_weight={3: 5.0})
    est.partial_fit(X[:3], Y[:3], classes=range(4))  # class 3, the weighted one, is not among them
    plain = clone(est).set_params(class_weight=None).partial_fit(X[:3], Y[:3], classes=range(4))
    assert (est.coefs_[0] == plain.coefs_[0]).all()
    with pytest.raises(ValueError, match="class_weight"):
        clone(est).set_params(class_weight={0: -1.0}).fit(X, Y)


def test_cross_entropy_learns_with_the_defaults():
    x_train, x_test, y_train, y_test = load_digits()
    est = EqPropClassifier(
        hidden_layer_sizes=(64,),
        cost="cross_entropy",
        max_iter=20,
        random_state=0,
        backend=BACKENDS[0],
    ).fit(x_train, y_train)
    assert est.score(x_test, y_test) > 0.9
    assert (
        est.predict_proba(x_test).max() > 0.6
    )  # confined to [0, 1] the outputs could not pass 0.24


def test_regressor_targets_of_any_size():
    y = X @ np.arange(6.0)
    plain = build(EqPropRegressor, **{**BASE, "max_iter": 30}).fit(X, y)
    for scale in (1e-170, 1e170):
        est = clone(plain).fit(X, y * scale)
        np.testing.assert_allclose(est.predict(X), plain.predict(X) * scale, rtol=1e-4)
    with pytest.raises(ValueError, match="y"):
        clone(plain).fit(X, np.where(y > 7, 1.7e308, -1.7e308))
    with pytest.raises(ValueError, match="cost"):
        build(EqPropRegressor, **BASE, cost="cross_entropy").fit(X, y)
    assert EqPropRegressor.from_paper("1905.13633/P-1h").out_activation == "identity"


@pytest.mark.parametrize("activation", ["shifted_sigmoid", "tanh"])
def test_energy_of_sparse_input_needs_no_dense_copy(activation):
    x = sp.random(300, 20_000, density=1e-3, format="csr", random_state=0, dtype=np.float32)
    y = np.arange(300) % 2
    est = build(
        EqPropClassifier,
        **BASE,
        dynamics__input_activation=activation,
        dynamics="continuous",
        dynamics__dt=0.2,
    ).fit(x, y)
    tracemalloc.start()
    energy = est.equilibrium(x).energy
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 20_000 * 4 / 4  # a quarter of the dense float32 copy
    np.testing.assert_allclose(
        energy[:20], est.equilibrium(x[:20].toarray()).energy, rtol=1e-3, atol=1e-3
    )


def test_sizes_that_cannot_be():
    for wrong in (
        dict(hidden_layer_sizes=10**12),
        dict(hidden_layer_sizes=(True,)),
        dict(hidden_layer_sizes={3: 4}),
        dict(relaxation__n_steps=10**10),
        dict(n_threads=10**5),
        dict(learning_rate_init=["a", "b"]),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).rpartition("__")[2]):
            build(EqPropClassifier, **{**BASE, **wrong}).fit(X, Y)
