"""The angle between forward and feedback weights, tracked while training (2005.04168)."""

import numpy as np
import pytest

from eqprop_fast import EqPropClassifier
from eqprop_fast.datasets import load_digits
from eqprop_fast.networks.asymmetry import measured_angles

from .backend_list import BACKENDS
from .build import build

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BASE = dict(
    hidden_layer_sizes=(12, 9),
    learning_rule="continual_vector_field",
    learning_rule__nudging="random_sign",
    solver="sgd",
    learning_rate_init=0.01,
    max_iter=3,
    random_state=0,
    learning_rule__feedback_angle=60.0,
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_angle_after_every_epoch(backend, tmp_path, capsys):
    X, _, y, _ = load_digits()
    seen = []
    est = build(EqPropClassifier, **BASE, backend=backend, callbacks=seen.append, verbose=True).fit(
        X[:300], y[:300]
    )
    assert np.shape(est.feedback_angle_curve_) == (3, 2)
    assert [r.feedback_angles for r in seen] == est.feedback_angle_curve_
    assert est.feedback_angle_curve_[-1] == measured_angles(est.coefs_, est.feedback_coefs_)
    assert est.feedback_angle_curve_[0] != est.feedback_angle_curve_[-1]
    assert "deg" in capsys.readouterr().out
    est.set_params(callbacks=None).save_checkpoint(tmp_path / "c.npz")
    again = EqPropClassifier.load_checkpoint(tmp_path / "c.npz").set_params(max_iter=4)
    again.resume(X[:300], y[:300])
    assert len(again.feedback_angle_curve_) == 4
    assert again.feedback_angle_curve_[:3] == est.feedback_angle_curve_


def test_symmetric_rules_have_none():
    X, _, y, _ = load_digits()
    est = EqPropClassifier((8,), max_iter=1, backend=BACKENDS[0]).fit(X[:100], y[:100])
    assert not hasattr(est, "feedback_angle_curve_")
    with pytest.raises(ValueError, match="feedback_angle"):
        est.set_params(learning_rule__feedback_angle=45.0).fit(X[:100], y[:100])


@pytest.mark.parametrize(
    "rule", ["bptt", "implicit", "recurrent_backprop", "contrastive", "clamped_sweep"]
)
def test_random_signs_without_a_nudge_are_refused(rule):
    X, _, y, _ = load_digits()
    with pytest.raises(ValueError, match="nudging"):
        build(EqPropClassifier, (8,), learning_rule=rule, learning_rule__nudging="random_sign").fit(
            X[:100], y[:100]
        )
