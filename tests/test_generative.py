"""Deep Boltzmann machines and Hopfield networks as estimators."""

import itertools
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline

from eqprop_fast import DeepBoltzmannMachine, DeepHopfieldNetwork
from eqprop_fast.generative._fitting import _tie
from eqprop_fast.generative.likelihood import LogPartition, say_if_unreliable

from .backend_list import BACKENDS

KINDS = (DeepBoltzmannMachine, DeepHopfieldNetwork)
RNG = np.random.default_rng(0)
# four patterns of 12 units, a tenth of them flipped
PATTERNS = (RNG.random((4, 12)) < 0.5).astype(float)
LABELS = np.repeat(np.arange(4), 50)
X = np.abs(PATTERNS[LABELS] - (RNG.random((200, 12)) < 0.1))
NAMES = np.array(["a", "b", "c", "d"])[LABELS]
LONG = dict(n_iter=60, learning_rate=0.1, use_labels=True, random_state=0, backend=BACKENDS[0])
FEW = dict(n_iter=1, random_state=0)


@pytest.fixture(scope="module", params=list(itertools.product(KINDS, ((8,), (8, 6)))), ids=str)
def fitted(request):
    kind, sizes = request.param
    more = dict(n_iter=150, n_steps=3, schedule="constant") if len(sizes) > 1 and kind._draw else {}
    return kind(sizes, **{**LONG, **more}).fit(X, NAMES)


def enumerate_joint(model):
    """All states of a small model without labels, and their log p*."""
    sizes = [len(b) for b in model.biases_]
    bits = np.array(list(itertools.product((0.0, 1.0), repeat=sum(sizes))))
    states = np.split(bits, np.cumsum(sizes)[:-1], axis=1)
    return states, -model.energy(states[0], states[1:])


def small(sizes=(3,), **parameters):
    model = DeepBoltzmannMachine(
        sizes, n_iter=20, random_state=0, backend=BACKENDS[0], **parameters
    ).fit(X[:, :4])
    for w in model.weights_:  # far from a machine of independent units
        w[...] = np.random.default_rng(1).normal(size=w.shape)
    return model


def test_the_doctest_of_bernoulli_rbm():
    data = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    model = DeepBoltzmannMachine(n_components=2)
    assert repr(model.fit(data)) == "DeepBoltzmannMachine(n_components=2)"
    theirs = BernoulliRBM(n_components=2).fit(data)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        assert getattr(model, name).shape == getattr(theirs, name).shape
    assert model.h_samples_.shape == theirs.h_samples_.shape
    assert list(model.get_feature_names_out()) == [f"deepboltzmannmachine{i}" for i in (0, 1)]


def test_what_bernoulli_rbm_computes_this_does():
    theirs = BernoulliRBM(5, random_state=0, n_iter=30).fit(X)
    ours = DeepBoltzmannMachine(5, random_state=0, backend=BACKENDS[0]).fit(X)
    ours.weights_[0][...] = theirs.components_.T
    ours.biases_[0][...], ours.biases_[1][...] = theirs.intercept_visible_, theirs.intercept_hidden_
    assert np.allclose(ours.transform(X), theirs.transform(X), atol=1e-10)
    assert np.allclose(ours.energy(X), theirs._free_energy(X), atol=1e-10)
    theirs.random_state = np.random.RandomState(0)
    many = np.mean([theirs.score_samples(X) for _ in range(300)], axis=0)  # one feature each time
    assert np.abs(many - ours.score_samples(X)).max() < 0.15 * np.abs(many).max()


def test_the_pipeline_of_bernoulli_rbm_is_not_worse():
    digits, y = load_digits(return_X_y=True)
    digits = digits / 16
    how = dict(learning_rate=0.06, n_iter=10, random_state=0)
    scores = [
        make_pipeline(rbm, LogisticRegression(C=100, max_iter=1000))
        .fit(digits[:1200], y[:1200])
        .score(digits[1200:], y[1200:])
        for rbm in (BernoulliRBM(100, **how), DeepBoltzmannMachine(100, **how))
    ]
    assert scores[1] >= scores[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_backends_and_threads_draw_alike(kind, dtype):
    fits = [
        kind((7, 5), n_iter=2, use_labels=True, random_state=0, backend=backend, n_threads=n).fit(
            X.astype(dtype), LABELS
        )
        for backend in BACKENDS
        for n in (1, 3)
    ]
    close = 1e-4 if dtype == "float32" else 1e-9
    for one, many in zip(fits[::2], fits[1::2]):
        assert all((a == b).all() for a, b in zip(one.weights_, many.weights_))
        assert np.abs(one.weights_[0] - fits[0].weights_[0]).max() < close
        assert one.transform(X).dtype == dtype
        samples = [m.sample(20, 5, given=2) for m in (one, many, fits[0])]
        assert (samples[0] == samples[1]).all() and (samples[0] == samples[2]).mean() > 0.99


def test_float32_draws_as_float64():
    one, two = (
        DeepBoltzmannMachine(6, n_iter=3, random_state=0, backend=BACKENDS[0]).fit(X.astype(t))
        for t in ("float32", "float64")
    )
    assert np.abs(one.weights_[0] - two.weights_[0]).max() < 1e-4


def test_sparse_is_dense():
    for kind in KINDS:
        one, two = (kind(6, n_iter=3, random_state=0).fit(x) for x in (X, sp.csr_matrix(X)))
        assert all(np.allclose(a, b, atol=1e-12) for a, b in zip(one.weights_, two.weights_))
        for name in ("transform", "energy", "score_samples", "reconstruct"):
            assert (getattr(one, name)(X) == getattr(one, name)(sp.csr_array(X))).all()


def test_it_learns_the_patterns(fitted):
    assert fitted.score(X, NAMES) > 0.9
    assert np.allclose(fitted.predict_proba(X).sum(axis=1), 1)
    assert np.abs(fitted.reconstruct(X) - X).mean() < 0.25
    noise = (np.random.default_rng(5).random((200, 12)) < 0.5).astype(float)
    assert fitted.score_samples(X).mean() > fitted.score_samples(noise).mean() + 1
    assert fitted.energy(X).mean() < fitted.energy(noise).mean() - 0.5


def test_samples_of_a_class_are_of_that_class(fitted):
    for label, pattern in zip("abcd", PATTERNS):
        samples = fitted.sample(40, 60, given=label)
        assert set(np.unique(samples)) <= {0, 1}
        distance = [np.abs(samples - p).mean() for p in PATTERNS]
        assert np.argmin(distance) == np.argmin(np.abs(PATTERNS - pattern).sum(axis=1))
    means = fitted.sample(3, 10, given=["a", "b", "a"], mean=True)
    assert means.shape == (3, 12) and 0 <= means.min() and means.max() <= 1
    assert (fitted.sample(5, 3) == fitted.sample(5, 3)).all()
    assert (fitted.sample(5, 3, random_state=1) != fitted.sample(5, 3, random_state=2)).any()


def test_what_is_missing_is_filled_in(fitted):
    mask = np.arange(12) % 2 == 0
    holes = np.where(mask, PATTERNS, np.nan)
    for given in (None, mask, np.tile(mask, (4, 1))):
        full = fitted.complete(holes, given, n_steps=200)
        assert (full[:, mask] == PATTERNS[:, mask]).all() and np.isfinite(full).all()
    full = fitted.complete(holes, draw=False, n_steps=200)
    assert (np.round(full) == PATTERNS).mean() > 0.8
    for wrong in (mask[:5], mask.astype(int), ~mask, np.arange(12) < 2):
        with pytest.raises(ValueError, match="mask"):
            fitted.complete(holes, wrong)


def test_partial_fit_goes_on(fitted):
    model = clone(fitted)
    for part in np.array_split(np.random.default_rng(0).permutation(200), 5):
        model.partial_fit(X[part], NAMES[part], classes=list("abcd"))
    assert model.n_iter_ == 5 and list(model.classes_) == list("abcd")
    with pytest.raises(ValueError, match="not known"):
        model.partial_fit(X[:3], ["a", "b", "z"])
    with pytest.raises(ValueError, match="y is needed"):
        model.partial_fit(X[:3])
    again = pickle.loads(pickle.dumps(model))
    rest = np.arange(50)
    one, two = (m.partial_fit(X[rest], NAMES[rest]).weights_[0] for m in (model, again))
    assert (one == two).all()


def test_layers_are_pre_trained():
    plain, trained = (
        DeepBoltzmannMachine((8, 6, 5), pretrain=n, random_state=0, n_iter=0).fit(X)
        for n in (0, 40)
    )
    assert np.abs(plain.weights_[0]).max() < 0.1 < np.abs(trained.weights_[0]).max()
    assert all(np.isfinite(w).all() and np.abs(w).max() > 0.05 for w in trained.weights_)
    assert (
        np.abs(trained.reconstruct(X) - X).mean() < np.abs(plain.reconstruct(X) - X).mean() - 0.05
    )


@pytest.mark.parametrize("kind", [DeepBoltzmannMachine, DeepHopfieldNetwork])
def test_every_iteration_is_made_and_counted(kind):
    one, two = (kind(4, n_iter=n, random_state=0).fit(X) for n in (1, 2))
    assert (one.n_iter_, two.n_iter_) == (1, 2)
    untrained = kind(4, n_iter=0, random_state=0).fit(X)
    assert not np.array_equal(untrained.weights_[0], one.weights_[0])
    assert not np.array_equal(one.weights_[0], two.weights_[0])


def test_one_round_of_pre_training_is_one():
    none, one = (
        DeepBoltzmannMachine((4, 3), pretrain=n, random_state=0, n_iter=0).fit(X) for n in (0, 1)
    )
    assert not np.array_equal(none.weights_[0], one.weights_[0])


def test_copies_of_a_layer_become_their_mean():
    """In pre-training layers stand there twice, with one set of weights."""
    rows, columns, alone = (np.arange(12.0).reshape(4, 3), np.arange(12.0).reshape(3, 4), X[:2])
    _tie(rows, 0, 2)
    _tie(columns, 1, 2)
    _tie(alone, 0, 1)
    assert (rows[:2] == rows[2:]).all() and (rows[:2] == [[3, 4, 5], [6, 7, 8]]).all()
    assert (columns[:, :2] == columns[:, 2:]).all() and (columns[0] == [1, 2, 1, 2]).all()
    assert (alone == X[:2]).all()


def test_sparse_data_with_one_negative_feature_cannot_be_scaled_by_its_range():
    wrong = X.copy()
    wrong[0, 2] = -1.0
    with pytest.raises(ValueError, match="negative numbers"):
        DeepBoltzmannMachine(4, n_iter=1, input_scaling="minmax").fit(sp.csr_matrix(wrong))


# --- energies and likelihood ---


def test_energies_are_those_of_the_sums():
    model = small()
    states, log_p = enumerate_joint(model)
    code = states[0] @ 2.0 ** np.arange(4)
    for x in np.unique(states[0], axis=0):
        exact = np.logaddexp.reduce(log_p[code == x @ 2.0 ** np.arange(4)])
        assert np.isclose(-model.energy(x[None])[0], exact)
        flips = [np.abs(x - np.eye(4)[i]) for i in range(4)]
        pseudo = sum(-np.logaddexp(0, model.energy(x[None]) - model.energy(f[None])) for f in flips)
        assert np.isclose(model.score_samples(x[None])[0], pseudo[0])


@pytest.mark.parametrize("sizes", [(3,), (4, 3), (3, 2, 3)], ids=str)
def test_log_z_is_that_of_enumeration(sizes):
    model = small(sizes)
    states, log_p = enumerate_joint(model)
    exact = np.logaddexp.reduce(log_p)
    assert np.isclose(model.log_partition("exact").value, exact)
    found = model.log_partition("ais", n_chains=400, n_temperatures=300, reverse=True)
    for one in (found, found.upper):
        assert one.low - 0.02 <= exact <= one.high + 0.02 and one.high - one.low < 0.5
    assert "[" in str(found) and "reverse" in str(found)
    every = np.unique(states[0], axis=0)
    total = np.logaddexp.reduce(model.log_likelihood(every, model.log_partition("exact")))
    assert total <= 1e-9 and (
        len(sizes) > 1 or np.isclose(total, 0)
    )  # a bound, or the sum of p is 1


@pytest.mark.parametrize("kind", KINDS)
def test_reverse_annealing_starts_where_chains_have_burnt_in(kind):
    """Of units without weights, too many to enumerate, on which no chain has been before."""
    model = kind(40, n_iter=1, random_state=0, backend=BACKENDS[0]).fit(np.tile(X, 3))
    model.weights_[0][...], model.biases_[1][...] = 0, 1.0
    if hasattr(model, "particles_"):
        model.particles_[1][...] = 0
    exact = sum(np.logaddexp(0, b).sum() for b in model.biases_)
    upper = model.log_partition("ais", n_chains=400, n_temperatures=30, reverse=True).upper
    assert abs(upper.value - exact) < 0.1  # the chains as they are give 0.17 and 0.23


def test_the_bound_lies_below_the_likelihood():
    model = small((4, 3))
    states, log_p = enumerate_joint(model)
    code, powers = states[0] @ 2.0 ** np.arange(4), 2.0 ** np.arange(4)
    for x in np.unique(states[0], axis=0):
        exact = np.logaddexp.reduce(log_p[code == x @ powers])
        assert -model.energy(x[None])[0] <= exact + 1e-9


def test_classes_have_the_probabilities_of_the_sums():
    model = DeepBoltzmannMachine(3, n_iter=20, use_labels=True, random_state=0)
    model.fit(X[:, :4], LABELS)
    for w in model.weights_:
        w[...] = np.random.default_rng(1).normal(size=w.shape)
    hidden = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    x = np.array([[1.0, 0, 1, 1]])
    joint = [
        np.logaddexp.reduce(-model.energy(np.repeat(x, 8, 0), [hidden], np.full(8, label)))
        for label in range(4)
    ]
    p = np.exp(joint - np.logaddexp.reduce(joint))
    assert np.allclose(model.predict_proba(x)[0], p)
    assert np.allclose(-model.energy(x), np.logaddexp.reduce(joint))
    assert np.isfinite(model.log_partition("exact").value)


def test_annealing_with_few_temperatures_says_so():
    model = small((30,))
    model.weights_[0][...] *= 6
    model.weights_[0] = np.tile(
        model.weights_[0], (8, 1)
    )  # 32 visible units: too many to enumerate
    model.biases_[0] = np.zeros(32)
    model.visible_mean_ = np.full(32, 0.5)
    model.n_features_in_ = 32
    with pytest.warns(ConvergenceWarning, match="chains decide"):
        found = model.log_partition(n_chains=20, n_temperatures=2)
    assert found.low < found.value <= found.high
    with pytest.raises(ValueError, match="enumerates at most 20"):
        model.log_partition("exact")
    with pytest.raises(TypeError):
        float(found)  # never a number without its error


@pytest.mark.parametrize("effective, n_chains", [(9, 100), (1.9, 5)])
def test_few_chains_that_decide_are_told_of(effective, n_chains):
    """Below a tenth of them, or below two."""
    few = LogPartition(0.0, -1.0, 1.0, effective, n_chains, 10)
    with pytest.warns(ConvergenceWarning, match="chains decide the forward"):
        say_if_unreliable(few, 2)
    with pytest.warns(ConvergenceWarning, match="chains decide the reverse"):
        say_if_unreliable(replace(few, effective_chains=n_chains, upper=few), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_if_unreliable(replace(few, effective_chains=effective + 1.2), 2)


# --- inference ---


def test_the_start_changes_sweeps_not_the_answer():
    model = DeepBoltzmannMachine((8, 6), tol=1e-8, n_mean_field=500, **LONG).fit(X, NAMES)
    for y in (None, NAMES):
        (a, first), (b, second) = (model.mean_field(X, y, start=s) for s in ("feedforward", "zero"))
        assert all(np.abs(p - q).max() < 1e-5 for p, q in zip(a, b))
        assert (first < 500).all() and (second < 500).all()
    one = DeepBoltzmannMachine(8, **FEW).fit(X)
    assert (one.mean_field(X)[1] == 1).all()  # with one hidden layer the pass is the answer
    with pytest.raises(ValueError, match="start"):
        one.mean_field(X, start="persistent")


# --- bad input ---


@pytest.mark.parametrize("kind", KINDS)
def test_data_outside_the_units_range_are_named(kind):
    for wrong in (X + 0.5, -X, sp.csr_matrix(2 * X)):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            kind(4).fit(wrong)
    model = kind(4, n_iter=1).fit(X)
    for call in (
        model.transform,
        model.score_samples,
        model.energy,
        model.reconstruct,
        model.gibbs,
    ):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            call(X * 2)
    scaled = kind(4, n_iter=1, input_scaling="minmax").fit(X * 300 - 100)
    assert np.isfinite(scaled.transform(X * 1000)).all()  # clipped
    assert scaled.sample(3, 2).max() <= 200 and scaled.reconstruct(X * 300 - 100).min() >= -100


@pytest.mark.parametrize(
    "wrong",
    [
        dict(hidden_layer_sizes=()),
        dict(hidden_layer_sizes=(3, 0)),
        dict(hidden_layer_sizes=(2.5,)),
        dict(n_components=0),
        dict(learning_rate=0),
        dict(batch_size=True),
        dict(momentum=1),
        dict(n_steps=0),
        dict(schedule="cosine"),
        dict(use_labels="yes"),
        dict(input_scaling="standard"),
        dict(backend="gpu"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(wrong):
    for kind in KINDS:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kind(**wrong).fit(X)


def test_wrong_calls_are_named():
    model = DeepBoltzmannMachine((4, 3), n_iter=1).fit(X)
    for call, name in [
        (lambda: model.inverse_transform(np.zeros((2, 5))), "H must have shape"),
        (lambda: model.energy(X[:2], [np.zeros((2, 4))]), "hidden"),
        (lambda: model.sample(0), "n_samples"),
        (lambda: model.sample(1, 0), "n_steps"),
        (lambda: model.sample(2, 1, given=3), "without labels"),
        (lambda: model.mean_field(X, LABELS), "without labels"),
        (lambda: model.log_partition("guess"), "method"),
        (lambda: model.log_partition("ais", n_temperatures=1), "n_temperatures"),
    ]:
        with pytest.raises(ValueError, match=name):
            call()
    assert not hasattr(model, "predict") and not hasattr(model, "predict_proba")
    labelled = DeepBoltzmannMachine(4, n_iter=1, use_labels=True).fit(X, NAMES)
    with pytest.raises(ValueError, match="2 labels"):
        labelled.sample(2, 1, given=["a"])
    with pytest.raises(ValueError, match="not known"):
        labelled.sample(2, 1, given="q")
    with pytest.raises(ValueError, match="y is needed"):
        DeepBoltzmannMachine(4, use_labels=True).fit(X)
    with pytest.raises(NotFittedError):
        DeepBoltzmannMachine(4).transform(X)


def test_y_is_ignored_or_holds_classes():
    """Ignored as BernoulliRBM does, be it for a pipeline that ends in a regression."""
    for y in (X[:, 0] + 0.25, NAMES):
        model = DeepBoltzmannMachine(4, **FEW).fit(X, y)
        assert not hasattr(model, "classes_")
        assert (model.weights_[0] == DeepBoltzmannMachine(4, **FEW).fit(X).weights_[0]).all()
    with pytest.raises(ValueError, match="classes"):
        DeepBoltzmannMachine(4, use_labels=True, **FEW).fit(X, X[:, 0] + 0.25)
    with pytest.raises(ValueError, match="equally many rows|inconsistent"):
        DeepBoltzmannMachine(4, use_labels=True, **FEW).fit(X, NAMES[:9])
    with pytest.raises(ValueError, match="use_labels"):
        model.set_params(use_labels=True).partial_fit(X, NAMES)
    assert not hasattr(model.set_params(use_labels=False).fit(X), "classes_")


@pytest.mark.parametrize(
    "sizes, found", [((8,), (1, "constant", 10)), ((8, 6), (5, "linear", 100))]
)
def test_deep_machines_take_more_chains_and_more_sweeps(sizes, found):
    model = DeepBoltzmannMachine(sizes, n_iter=2, use_labels=True, random_state=0)
    n_steps, schedule, n_chains = found
    written = clone(model).set_params(n_steps=n_steps, schedule=schedule, n_chains=n_chains)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # two epochs
        model.fit(X, NAMES), written.fit(X, NAMES)
    assert all(map(np.array_equal, model.weights_, written.weights_))
    assert len(model.particles_[0]) == n_chains


def test_a_hopfield_network_predicts_what_its_label_units_say():
    """The energies of clamped classes part from it: they are not what it learns to order."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:600] / 16, y[:600]
    model = DeepHopfieldNetwork((60, 40), n_iter=60, use_labels=True, random_state=0).fit(x, y)
    assert np.array_equal(model.predict_proba(x), model.mean_field(x)[0][-1])
    assert model.score(x, y) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_layer_that_answers_all_rows_alike_is_told_of(kind):
    model = kind((8, 6), n_iter=1, learning_rate=1e-4, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"hidden layers \[1, 2\] answer all rows alike"):
        model.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(np.ones((20, 4)))  # as the rows are
        kind((8,), n_iter=1, learning_rate=1e-4, random_state=0).fit(X)


@pytest.mark.parametrize("kind", KINDS)
def test_one_hidden_layer_is_not_pre_trained(kind):
    plain, asked = (kind((8,), pretrain=n, **FEW).fit(X) for n in (0, 3))
    assert all(map(np.array_equal, plain.weights_, asked.weights_))


def test_gibbs_draws_by_the_seed_and_goes_on():
    """Anew at each call of one model, the same of two models of one seed."""
    draws = []
    for seed in (0, 0, 1):
        model = DeepBoltzmannMachine((8,), n_iter=1, random_state=0).fit(X)
        model.set_params(random_state=seed)
        draws.append([model.gibbs(X) for _ in range(2)])
    assert (draws[0][0] == draws[1][0]).all() and (draws[0][1] == draws[1][1]).all()
    assert (draws[0][0] != draws[0][1]).any() and (draws[0][0] != draws[2][0]).any()
