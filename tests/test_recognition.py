"""Free phases that start after a pass that learns to predict where they end (Initialised EP)."""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import DivergenceError, get_backend
from eqprop_fast.kernels.reference.activations import rho
from eqprop_fast.kernels.spec import LayeredSpec
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from eqprop_fast import (
    EP,
    Continuous,
    EqPropClassifier,
    EqPropRegressor,
    Recognition,
    Relaxation,
    ResistiveClassifier,
    ResistiveRelaxation,
    theory,
)
from eqprop_fast.networks.initial import GlorotUniform
from eqprop_fast.networks.layered import LayeredNetwork
from eqprop_fast.training.checkpoint import CheckpointError

from .backend_list import BACKENDS

X, Y = (a[:300] for a in load_digits(return_X_y=True))
X = X / 16


def model(kind=EqPropClassifier, start="recognition", **more):
    parts = dict(max_iter=3, dtype="float64", random_state=0, solver="sgd", weight_decay=0.0)
    return kind((20, 15), relaxation=Relaxation(start=start), **{**parts, **more})


def learnt(fitted):
    return [*fitted.recognition_coefs_, *fitted.recognition_intercepts_]


def arrays(fitted):
    return [*fitted.coefs_, *fitted.intercepts_, *learnt(fitted)]


def same(a, b):
    return all((p == q).all() for p, q in zip(arrays(a), arrays(b)))


def pass_of(backend, dtype="float64", activation="identity"):
    sizes, rng = (64, 17, 16, 3), np.random.default_rng(0)
    weights, biases = GlorotUniform().draw(sizes, rng, np.dtype(dtype))
    spec = LayeredSpec(sizes, schedule="asynchronous", input_activation=activation)
    net = LayeredNetwork(spec, get_backend(backend), weights, biases)
    return net, net.new_recognition(0.7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_begins_as_the_doubled_pass(backend):
    net, own = pass_of(backend)
    for a, b in zip(own.states(X[:9]), net.pass_upwards(X[:9])):
        assert np.abs(a - b).max() < 1e-12
    assert all(not np.shares_memory(a, b) for a, b in zip(own.parameters, net.parameters))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ["identity", "shifted_sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_delta_rule_is_its_formula(dtype, activation, weighted):
    x, rng = X[:9].astype(dtype), np.random.default_rng(1)
    _, own = pass_of(BACKENDS[0], dtype, activation)
    before = [p.astype(float) for p in own.parameters]
    predicted = own.states(x)
    settled = [rng.uniform(0, 1, s.shape).astype(dtype) for s in predicted]
    weight = rng.uniform(0, 2, 9).astype(dtype) if weighted else None
    own.learn(x, predicted, settled, weight)
    w = np.ones(9) if weight is None else weight.astype(float)
    below = rho(activation, x)
    for k in range(3):
        error = settled[k] - predicted[k].astype(float)
        middle = np.average(below, axis=0, weights=w)
        q = np.average(((below - middle) ** 2).sum(axis=1), weights=w)
        change = 0.7 / (w.sum() * (1 + q)) * (w[:, None] * (below - middle)).T @ error
        bias = 0.35 * np.average(error, axis=0, weights=w) - middle @ change
        near = 2e-6 if dtype == "float32" else 1e-14
        assert np.abs(own.weights[k] - before[k] - change).max() < near
        assert np.abs(own.biases[k] - before[3 + k] - bias).max() < near
        below = predicted[k]


@pytest.mark.parametrize("activation", ["identity", "shifted_sigmoid"])
def test_sparse_rows_teach_what_dense_ones_do(activation):
    passes = [pass_of(BACKENDS[0], "float64", activation)[1] for _ in range(2)]
    for own, x in zip(passes, (X[:9], sp.csr_matrix(X[:9]))):
        for _ in range(3):
            predicted = own.states(x)
            own.learn(x, predicted, [np.full_like(s, 0.3) for s in predicted])
    for a, b in zip(*(own.parameters for own in passes)):
        assert np.abs(a - b).max() < 1e-14


def test_rows_that_weigh_nothing_teach_nothing():
    _, own = pass_of(BACKENDS[0])
    before = [p.copy() for p in own.parameters]
    predicted = own.states(X[:4])
    own.learn(X[:4], predicted, [s + 1 for s in predicted], np.zeros(4))
    assert all((a == b).all() for a, b in zip(before, own.parameters))


def test_it_comes_to_predict_fixed_points():
    """Of one batch over and over, whose samples its weights can tell apart."""
    net, own = pass_of(BACKENDS[0])
    x = X[:5].astype(float)
    fixed = net.relax(x, 500, 1e-12).states
    first = max(np.abs(a - b).max() for a, b in zip(own.states(x), fixed))
    for _ in range(3000):
        own.learn(x, own.states(x), fixed)
    assert max(np.abs(a - b).max() for a, b in zip(own.states(x), fixed)) < 0.02 * first


@pytest.mark.parametrize("rule", ["ep", "continual", "contrastive", "coupled", "vector_field"])
def test_backends_and_threads_learn_alike(rule):
    fits = [
        model(backend=backend, n_threads=n, learning_rule=rule, max_iter=2).fit(X, Y)
        for backend in BACKENDS
        for n in (1, 3)
    ]
    for one, many in zip(fits[::2], fits[1::2]):
        assert same(one, many)
        assert all(np.abs(a - b).max() < 1e-9 for a, b in zip(arrays(one), arrays(fits[0])))
        for relax in (True, False):
            alone = one.decision_function(X[3:4], relax=relax)[0]
            assert (alone == many.decision_function(X[:9], relax=relax)[3]).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_changes_nothing_of_what_is_learnt():
    tight = dict(n_steps=400, tol=1e-12, over_relaxation=1.0)
    zero, start = (
        EqPropClassifier(
            (20, 15),
            learning_rule=EP(n_steps=400, tol=1e-12),
            relaxation=Relaxation(start=s, **tight),
            max_iter=3,
            random_state=0,
            dtype="float64",
        ).fit(X, Y)
        for s in ("zero", "recognition")
    )
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(zero.coefs_, start.coefs_))
    first = model(max_iter=1).fit(X, Y)
    assert any((a != b).any() for a, b in zip(learnt(start), learnt(first)))


def test_it_saves_sweeps_and_predicts_by_itself():
    fitted = model(max_iter=20, solver="adam").fit(X, Y)
    settled = fitted.equilibrium(X).steps
    from_zero = clone(fitted)
    from_zero.__dict__.update(fitted.__dict__)
    from_zero.set_params(relaxation=Relaxation())  # what was learnt stays; the start is another
    assert settled.mean() < from_zero.equilibrium(X).steps.mean()
    alone = fitted.predict(X, relax=False)
    assert (alone == Y).mean() > 0.9 and (alone == fitted.predict(X)).mean() > 0.9
    net, x = fitted._network_for(X)
    outputs = fitted.decision_function(X, relax=False)
    assert (outputs == net.recognition.states(x)[-1]).all()
    proba = fitted.predict_proba(X, relax=False)
    assert np.allclose(proba.sum(axis=1), 1) and (fitted.classes_[proba.argmax(1)] == alone).all()
    assert np.allclose(np.exp(fitted.predict_log_proba(X, relax=False)), proba)
    result = theory.feedforward_consistency(fitted, X)
    assert set(result.sweeps) == {"zero", "pass", "doubled", "learned"}
    numbers = model(EqPropRegressor).fit(X, Y.astype(float))
    assert numbers.predict(X, relax=False).shape == Y.shape


@pytest.mark.parametrize("start", ["recognition", Recognition(learning_rate=0.5)])
@pytest.mark.parametrize("more", [{}, {"solver": "adam"}, {"early_stopping": True}])
def test_a_checkpoint_goes_on_bit_for_bit(start, more, tmp_path):
    whole = model(start=start, max_iter=4, **more).fit(X, Y)
    model(start=start, max_iter=2, checkpoint=tmp_path / "a.npz", **more).fit(X, Y)
    part = EqPropClassifier.load_checkpoint(tmp_path / "a.npz").set_params(max_iter=4)
    assert part.relaxation == Relaxation(start=start)
    part.resume(X, Y)
    assert same(whole, part) and (whole.predict(X) == part.predict(X)).all()


def test_a_file_without_its_pass_is_damaged(tmp_path):
    path = tmp_path / "a.npz"
    model().fit(X, Y).save_checkpoint(path)
    with np.load(path) as file:
        members = dict(file)
    for name in ("recognition_coefs_/1", "recognition_intercepts_/0"):
        np.savez(path, **{k: v for k, v in members.items() if k != name})
        with pytest.raises(CheckpointError, match="recognition"):
            EqPropClassifier.load_checkpoint(path)
        np.savez(path, **{**members, name: np.full_like(members[name], np.nan)})
        with pytest.raises(CheckpointError, match="recognition"):
            EqPropClassifier.load_checkpoint(path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_epoch_that_diverges_is_undone():
    fitted = model(EqPropRegressor, activation="relu", out_activation="identity", max_iter=1)
    fitted.fit(X, Y.astype(float))
    before = [a.copy() for a in arrays(fitted)]
    fitted.set_params(learning_rate_init=1e6, warm_start=True)
    with pytest.raises(DivergenceError):
        fitted.fit(X, Y.astype(float))
    assert all((a == b).all() for a, b in zip(before, arrays(fitted)))


def test_partial_fit_and_sparse_rows():
    dense, sparse = (
        model(input_scaling=None).partial_fit(x, Y, classes=np.unique(Y))
        for x in (X, sp.csr_matrix(X))
    )
    before = [a.copy() for a in learnt(dense)]
    assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(arrays(dense), arrays(sparse)))
    dense.partial_fit(X, Y)
    assert all((a != b).any() for a, b in zip(before, learnt(dense)))


def test_it_is_a_parameter_like_others():
    assert Relaxation(start=Recognition()) == Relaxation(start=Recognition(learning_rate=1.0))
    assert clone(model(start=Recognition(learning_rate=0.3))).relaxation.start.learning_rate == 0.3
    grid = {"relaxation__start": ["zero", Recognition()], "relaxation__n_steps": [20]}
    GridSearchCV(model(max_iter=1), grid, cv=2).fit(X, Y)


@pytest.mark.parametrize("rate", [0, 2, -1, np.nan, "fast", True])
def test_rates_out_of_range_are_named(rate):
    with pytest.raises(ValueError, match="learning_rate"):
        model(start=Recognition(learning_rate=rate)).fit(X, Y)


def test_where_it_cannot_be_it_is_refused():
    for parts in (dict(dynamics=Continuous()), dict(learning_rule="bptt")):
        with pytest.raises(ValueError, match="recognition"):
            model(**parts).fit(X, Y)
    for start in ("recognition", Recognition()):
        with pytest.raises(ValueError, match="recognition"):
            ResistiveClassifier(relaxation=ResistiveRelaxation(start=start)).fit(X, Y)
    zero = model(start="zero", max_iter=1).fit(X, Y)
    resistive = ResistiveClassifier(max_iter=1).fit(X, Y)
    for other in (zero, resistive):
        with pytest.raises(ValueError, match="relax=False.*'zero'"):
            other.predict(X, relax=False)
        for no_flag in (None, 1, "no"):
            with pytest.raises(ValueError, match="relax must be True or False"):
                other.predict(X, relax=no_flag)
    with pytest.raises(ValueError, match="learnt no pass"):
        zero.set_params(relaxation__start="recognition").predict(X)
    fitted = model(max_iter=1).fit(X, Y).set_params(relaxation__start="zero")
    fitted.predict(X)  # from zero, of the same network
    with pytest.raises(ValueError, match="has learnt a pass"):
        fitted.partial_fit(X, Y)
    fitted.fit(X, Y)
    assert not hasattr(fitted, "recognition_coefs_")
