"""Free phases that start at standard normal states (github.com/smonsays/equilibrium-propagation)."""

import numpy as np
import pytest
import scipy.sparse as sp

from eqprop_fast import EqPropClassifier
from eqprop_fast.training import driver
from eqprop_fast.training.state import RandomStreams

from .backend_list import BACKENDS
from .build import build
from .written_out import PARAMETERS, learn, relax

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(1)
X, Y = RNG.random((20, 6)), np.arange(20) % 3
BASE = dict(PARAMETERS, learning_rule__nudging="positive", relaxation__start="normal")


def by_hand(first, rng):
    """The same training written out, from the states that `rng` draws."""
    w, b = [c.copy() for c in first.coefs_], [c.copy() for c in first.intercepts_]
    target = np.eye(3)[Y]
    for _ in range(2):
        for start in (0, 8, 16):
            x, y = X[start : start + 8], target[start : start + 8]
            s = rng.standard_normal((len(x), 10))
            free = relax(w, b, x, y, s[:, :7], s[:, 7:], 0.0, 3)
            nudged = relax(w, b, x, y, *free, 0.3, 2)
            learn(w, b, x, free, nudged, 0.1 / (0.3 * len(x)))
    return w, b


@pytest.mark.parametrize("backend", BACKENDS)
def test_against_the_loop_written_out(backend):
    first = build(EqPropClassifier, **{**BASE, "learning_rate_init": 1e-300, "max_iter": 1}).fit(
        X, Y
    )
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    w, b = by_hand(first, RandomStreams(seed).start)
    weight = np.ones(len(X))
    for data in (X, sp.csr_array(X)):
        est = build(EqPropClassifier, **BASE, backend=backend).fit(data, Y, sample_weight=weight)
        for mine, right in zip([*est.coefs_, *est.intercepts_], [*w, *b]):
            np.testing.assert_allclose(mine, right, rtol=0, atol=1e-12)
    zero = build(EqPropClassifier, **{**BASE, "relaxation__start": "zero"}, backend=backend).fit(
        X, Y
    )
    assert np.abs(zero.coefs_[1] - w[1]).max() > 1e-6
    np.testing.assert_array_equal(est.predict_proba(X), est.predict_proba(X))


def test_however_an_epoch_is_cut(monkeypatch):
    whole = build(EqPropClassifier, **{**BASE, "batch_size": 2, "shuffle": True}).fit(X, Y)
    monkeypatch.setattr(driver, "FIRST_CHUNK", 3)
    cut = build(EqPropClassifier, **{**BASE, "batch_size": 2, "shuffle": True}).fit(X, Y)
    for a, b in zip(whole.coefs_, cut.coefs_):
        np.testing.assert_array_equal(a, b)


def test_resume_draws_on(tmp_path):
    whole = build(EqPropClassifier, **BASE).fit(X, Y)
    part = build(EqPropClassifier, **{**BASE, "max_iter": 1}).fit(X, Y)
    part.save_checkpoint(tmp_path / "c.npz")
    again = EqPropClassifier.load_checkpoint(tmp_path / "c.npz").set_params(max_iter=2).resume(X, Y)
    for a, b in zip(whole.coefs_, again.coefs_):
        np.testing.assert_array_equal(a, b)


def test_a_gain_for_each_layer():
    plain = build(EqPropClassifier, **{**BASE, "learning_rate_init": 1e-300}).fit(X, Y)
    gains = build(
        EqPropClassifier, **{**BASE, "learning_rate_init": 1e-300}, weight_init__gain=(0.5, 2.0)
    ).fit(X, Y)
    for k, gain in enumerate((0.5, 2.0)):
        np.testing.assert_allclose(gains.coefs_[k], gain * plain.coefs_[k], rtol=1e-14)


def test_streams_of_an_older_file_and_of_a_damaged_one():
    state = RandomStreams(5).state()
    older = {name: state[name] for name in ("init", "shuffle", "sign")}
    assert RandomStreams.from_state(older).sign.random() == RandomStreams(5).sign.random()
    with pytest.raises(KeyError):
        RandomStreams.from_state({name: state[name] for name in ("init", "shuffle")})
