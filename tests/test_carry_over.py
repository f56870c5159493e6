"""Free phases that start where the nudged phase of the batch before ended (2402.11674's code)."""

import numpy as np
import pytest
import scipy.sparse as sp

from eqprop_fast import DivergenceError, EqPropClassifier
from eqprop_fast.presets import preset
from eqprop_fast.rules import RULES

from .backend_list import BACKENDS
from .build import build
from .written_out import PARAMETERS, learn, relax

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X, Y = RNG.random((20, 6)) * (RNG.random((20, 6)) < 0.7), np.arange(20) % 3
BASE = dict(PARAMETERS, relaxation__start="carry_over")


def by_hand(first, nudging, signs=None):
    """The same training written out: batches of 8, 8 and 4, twice."""
    w, b = [c.copy() for c in first.coefs_], [c.copy() for c in first.intercepts_]
    target, carried, at = np.eye(3)[Y], None, 0
    for _ in range(2):
        for start in (0, 8, 16):
            x, y = X[start : start + 8], target[start : start + 8]
            n = len(x)
            if carried is None or len(carried[0]) != n:
                carried = np.zeros((n, 7)), np.zeros((n, 3))
            free = relax(w, b, x, y, *carried, 0.0, 3)
            beta = 0.3 if signs is None else 0.3 * signs[at]
            plus, low, width = relax(w, b, x, y, *free, beta, 2), free, beta
            if nudging == "centered":
                low, width = relax(w, b, x, y, *free, -beta, 2), 2 * beta
            learn(w, b, x, low, plus, 0.1 / (width * n))
            carried, at = plus, at + 1
    return w, b


@pytest.mark.parametrize("nudging", ["positive", "centered"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_against_the_loop_written_out(backend, nudging):
    est = build(EqPropClassifier, **BASE, backend=backend, learning_rule__nudging=nudging)
    still = {**BASE, "learning_rate_init": 1e-300, "max_iter": 1}  # the first weights
    first = build(EqPropClassifier, **still, learning_rule__nudging=nudging).fit(X, Y)
    w, b = by_hand(first, nudging)
    for data in (X, sp.csr_array(X)):
        est.fit(data, Y)
        for mine, right in zip([*est.coefs_, *est.intercepts_], [*w, *b]):
            np.testing.assert_allclose(mine, right, rtol=0, atol=1e-12)
    plain = build(
        EqPropClassifier,
        **{**BASE, "relaxation__start": "zero"},
        backend=backend,
        learning_rule__nudging=nudging,
    ).fit(X, Y)
    assert np.abs(plain.coefs_[1] - w[1]).max() > 1e-6


def test_resume_carries_on(tmp_path):
    whole = build(
        EqPropClassifier, **{**BASE, "batch_size": 5}, learning_rule__nudging="random_sign"
    ).fit(X, Y)
    part = build(
        EqPropClassifier,
        **{**BASE, "batch_size": 5, "max_iter": 1},
        learning_rule__nudging="random_sign",
    ).fit(X, Y)
    part.save_checkpoint(tmp_path / "c.npz")
    again = EqPropClassifier.load_checkpoint(tmp_path / "c.npz").set_params(max_iter=2).resume(X, Y)
    for a, b in zip(whole.coefs_, again.coefs_):
        np.testing.assert_array_equal(a, b)


def test_what_cannot_carry_says_so():
    base = {name: value for name, value in BASE.items() if not name.startswith("learning_rule")}
    for rule in set(RULES) - {"ep"}:
        with pytest.raises(ValueError, match="carry_over|unrolls the free phase from zero"):
            build(EqPropClassifier, **base, learning_rule=rule).fit(X, Y)
    assert preset("2402.11674/DHN-1H").parameters["relaxation"].start == "carry_over"


def test_carried_by_partial_fit():
    """Calls with one batch each are the epochs of a fit on that batch."""
    est = build(
        EqPropClassifier,
        **{**BASE, "max_iter": 3, "batch_size": 20},
        learning_rule__nudging="positive",
    ).fit(X, Y)
    parts = build(EqPropClassifier, **{**BASE, "batch_size": 20}, learning_rule__nudging="positive")
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    for a, b in zip([*est.coefs_, *est.intercepts_], [*parts.coefs_, *parts.intercepts_]):
        np.testing.assert_array_equal(a, b)
    parts = build(
        EqPropClassifier,
        **{**BASE, "relaxation__start": "zero", "batch_size": 20},
        learning_rule__nudging="positive",
    )
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert not np.array_equal(est.coefs_[0], parts.coefs_[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_diverged_call_leaves_the_carried_states(backend):
    """What comes after it is what would have come without it."""
    options = {
        **BASE,
        "activation": "relu",
        "out_activation": "identity",
        "learning_rate_init": 0.01,
    }
    pair = [
        build(EqPropClassifier, **options, learning_rule__nudging="positive", backend=backend)
        for _ in range(2)
    ]
    for est in pair:
        est.partial_fit(X, Y, classes=[0, 1, 2])
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        pair[0].set_params(learning_rate_init=1e200).partial_fit(X, Y)
    pair[0].set_params(learning_rate_init=0.01)
    for est in pair:
        est.partial_fit(X, Y)
    np.testing.assert_array_equal(pair[0].coefs_[0], pair[1].coefs_[0])


def test_loaded_states_must_fit(tmp_path):
    est = build(EqPropClassifier, **BASE, learning_rule__nudging="positive").fit(X, Y)
    for wrong in (
        est._state.particles[:1],
        [p[:, :2] for p in est._state.particles],
        [p * np.nan for p in est._state.particles],
    ):
        est._state.particles = wrong
        est.save_checkpoint(tmp_path / "a.npz")
        with pytest.raises(ValueError, match="carried states"):
            EqPropClassifier.load_checkpoint(tmp_path / "a.npz")
        est = build(EqPropClassifier, **BASE, learning_rule__nudging="positive").fit(X, Y)
