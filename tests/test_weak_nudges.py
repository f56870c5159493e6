"""A nudge that is small beside the tolerance of a phase, or beside rounding, is no gradient."""

import warnings

import numpy as np
import pytest
from eqprop_fast.kernels import LayeredSpec
from sklearn.base import clone

from eqprop_fast import EP, Coupled, EqPropClassifier, ResistiveClassifier, ResistiveEP, VectorField
from eqprop_fast.gradients import estimated_gradient
from eqprop_fast.networks.asymmetry import backward_weights

NUDGED = {"ep": EP, "vector_field": VectorField, "coupled": Coupled}


@pytest.mark.parametrize("name", NUDGED)
@pytest.mark.parametrize("nudging", ["positive", "centered"])
def test_auto_tolerances_suit_any_beta_and_others_warn(name, nudging):
    """A nudge within the tolerance stops at its first step: the gradient was 2,000 times too large."""
    rng, sizes = np.random.default_rng(0), (6, 12, 12, 3)
    spec = LayeredSpec(sizes, activation="tanh", out_activation="shifted_sigmoid")
    weights = [rng.normal(size=s) / 2 / np.sqrt(s[0]) for s in zip(sizes, sizes[1:])]
    biases = [np.zeros(n) for n in sizes[1:]]
    back = None
    if name == "vector_field":
        back = backward_weights(weights, 0, rng)
    x, y = rng.normal(size=(16, 6)), np.eye(3)[rng.integers(0, 3, 16)]

    def gradient(beta, tol, free_tol, dtype="float64"):
        rule = NUDGED[name](beta=beta, nudging=nudging, n_steps=300, tol=tol)
        given = (weights, biases, back)
        groups = [None if g is None else [a.astype(dtype) for a in g] for g in given]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = estimated_gradient(
                spec, *groups[:2], x, y, back=groups[2], rule=rule, n_free_steps=300, tol=free_tol
            ).flat()
        return found, said

    for beta in (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        limit, said = gradient(beta, None, -1.0)
        assert not said
        size = np.linalg.norm(limit)
        for dtype in ("float64", "float32"):
            found, said = gradient(beta, "auto", min(1e-3, beta / 100), dtype)
            assert np.linalg.norm(found - limit) < 0.25 * size or said
            assert bool(said) == (dtype == "float32" and beta <= 1e-5)
        for tol in (1e-3, 1e-5):
            for tols in ((tol, tol), (None, tol), (tol, -1.0)):
                found, said = gradient(beta, *tols)
                assert np.linalg.norm(found - limit) < 0.25 * size or said, (beta, tols)
                assert bool(said) == (beta < 30 * tol)
                assert not said or "learning_rule__beta" in str(said[0].message)


@pytest.mark.parametrize("kind", [EqPropClassifier, ResistiveClassifier])
def test_an_estimator_says_that_a_nudge_is_too_weak(kind):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    rule = ResistiveEP if kind is ResistiveClassifier else EP
    for options, match in (
        (dict(beta=1e-4, tol=1e-3), "learning_rule__tol=0.001"),
        (dict(beta=1e-7, tol=None), "relaxation__tol" if rule is ResistiveEP else "float32"),
        (dict(beta=0.1), None),
        (dict(), None),
    ):
        model = kind((5,), learning_rule=rule(**options), max_iter=1, random_state=0)
        for train in ("fit", "partial_fit"):
            classes = {} if train == "fit" else {"classes": np.arange(3)}
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                getattr(clone(model), train)(x, y, **classes)
            told = [w for w in said if "learning_rule__beta" in str(w.message)]
            assert len(told) == bool(match) and all(match in str(w.message) for w in told), options
            assert all(w.filename == __file__ for w in told)
