"""The local auto-encoder term of EP: hidden layers reconstruct each other through W^T."""

import numpy as np
import pytest
from eqprop_fast.kernels.spec import LayeredSpec
from sklearn.datasets import load_digits

from eqprop_fast import EP, Continuous, EqPropClassifier, Relaxation, theory
from eqprop_fast.networks.initial import GlorotUniform
from eqprop_fast.networks.reconstruction import (
    reconstruction_gradient,
    reconstruction_loss,
    reconstruction_step,
)

from .backend_list import BACKENDS
from .kinds import GRAPHS, small

X, Y = (a[:300] for a in load_digits(return_X_y=True))
X = X / 16


def model(rate=0.1, hidden=(20, 15, 12), **more):
    parts = dict(max_iter=2, dtype="float64", random_state=0, solver="sgd", weight_decay=0.0)
    return EqPropClassifier(hidden, learning_rule=EP(reconstruction_rate=rate), **{**parts, **more})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "shifted_sigmoid", "relu"])
def test_the_gradient_is_the_numerical_one(activation, weighted):
    spec, rng = LayeredSpec((6, 5, 4, 7, 3), activation=activation), np.random.default_rng(0)
    weights, biases = GlorotUniform().draw(spec.sizes, rng, np.dtype("float64"))
    states = [rng.uniform(0.1, 1, (9, n)) for n in spec.sizes[1:]]
    weight = rng.uniform(0, 2, 9) if weighted else None
    gradient = reconstruction_gradient(spec, weights, biases, states, weight)
    assert set(gradient) == {1, 2}  # neither the input nor the output takes part
    for k, g in gradient.items():
        assert g.shape == weights[k].shape
        for i in np.ndindex(g.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [w.copy() for w in weights]
                moved[k][i] += step
                ends.append(sum(reconstruction_loss(spec, moved, biases, states, weight)))
            assert abs((ends[0] - ends[1]) / 2e-6 - g[i]) < 1e-8
    before = reconstruction_loss(spec, weights, biases, states, weight)
    kept = [w.copy() for w in weights]
    reconstruction_step(spec, weights, biases, states, 0.01, weight)
    after = reconstruction_loss(spec, weights, biases, states, weight)
    assert all(a < b for a, b in zip(after, before))
    assert (weights[0] == kept[0]).all() and (weights[3] == kept[3]).all()
    assert reconstruction_loss(spec, weights, biases, states, np.zeros(9)) == [0, 0]


@pytest.mark.parametrize("start", ["zero", "feedforward", "recognition"])
def test_backends_and_threads_reconstruct_alike(start):
    fits = [
        model(relaxation=Relaxation(start=start), backend=backend, n_threads=n).fit(X, Y)
        for backend in BACKENDS
        for n in (1, 3)
    ]
    for one, many in zip(fits[::2], fits[1::2]):
        assert all((a == b).all() for a, b in zip(one.coefs_, many.coefs_))
        assert all(np.abs(a - b).max() < 1e-9 for a, b in zip(one.coefs_, fits[0].coefs_))


def test_without_a_rate_nothing_changes_and_with_one_only_the_weights_between_hidden_layers():
    none, zero, one = (model(rate, max_iter=1, batch_size=300).fit(X, Y) for rate in (0.0, 0, 0.1))
    assert all((a == b).all() for a, b in zip(none.coefs_, zero.coefs_))
    differ = [bool((a != b).any()) for a, b in zip(none.coefs_, one.coefs_)]
    assert differ == [False, True, True, False]


def test_it_trains_the_condition(tmp_path):
    """What hidden layers get from above comes nearer to what they get from below."""
    parts = dict(max_iter=30, activation="shifted_sigmoid", hidden=(20, 15), solver="adam")
    plain, trained = (model(rate, **parts).fit(X, Y) for rate in (0.0, 0.3))
    gaps = [theory.feedforward_consistency(m, X).mismatch[0] for m in (plain, trained)]
    assert gaps[1] < gaps[0]
    trained.save_checkpoint(tmp_path / "a.npz")
    again = EqPropClassifier.load_checkpoint(tmp_path / "a.npz")
    assert again.learning_rule.reconstruction_rate == 0.3


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, "fast", True])
def test_rates_that_are_none_are_named(rate):
    with pytest.raises(ValueError, match="reconstruction_rate"):
        model(rate).fit(X, Y)


def test_where_it_cannot_be_it_is_refused():
    wrong = [dict(relaxation=Relaxation(start=s)) for s in ("persistent", "carry_over", "normal")]
    for parts in (*wrong, dict(dynamics=Continuous()), dict(hidden=(8,))):
        with pytest.raises(ValueError, match="reconstruction_rate"):
            model(**parts).fit(X, Y)
    for kind in GRAPHS:
        with pytest.raises(ValueError, match="reconstruction_rate"):
            kind(small(kind), learning_rule=EP(reconstruction_rate=0.1)).fit(X, Y)
