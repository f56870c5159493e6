"""`EqPropRegressor`: a layered network that learns real values by equilibrium propagation."""

from __future__ import annotations

from sklearn.utils._param_validation import StrOptions

from .. import auto
from ..costs import SquaredError
from ..docstrings import documented
from ._layered import BaseLayeredEstimator
from ._targets import RegressorTargets


@documented
class EqPropRegressor(RegressorTargets, BaseLayeredEstimator):
    """Layered regressor trained by equilibrium propagation, single- or multi-output.

    Targets are standardised internally (`loss_` is in those units) and predictions scaled back; the
    output layer is linear by default. Parts and words are those of `EqPropClassifier`.

    Small signals: where `target_amplitude_` is 0.2, "auto" means of `activation` "relu6", of
    `weight_init` "orthogonal", of `learning_rate_init` 0.003 for every layer (times 128 / n if the
    widest of several hidden layers has more units than that), and of tolerances a fifth of what is
    said below; weight decay is divided by the number of hidden layers, not by its square
    (docs/defaults.md).

    Parameters
    ----------
    cost : {"squared_error"} or SquaredError
        A softmax is for classes.

    Attributes
    ----------
    target_amplitude_ : float
        What the network learns are standardised targets times this: 0.2; 1 of the continual and
        vector-field rules, under the continuous dynamics, for another solver than Adam, and with
        less than 3 rows for each product of two features. `loss_` does not depend on it, tolerances
        and states do.

    Examples
    --------
    >>> from eqprop_fast import EqPropRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = EqPropRegressor((32,), max_iter=30, tol=0, random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.5)
    True
    """

    _parameter_constraints: dict = {
        **BaseLayeredEstimator._parameter_constraints,
        "cost": [StrOptions({"squared_error"}), SquaredError],
    }
    _not_of_papers = ("out_activation",)  # theirs is for 0/1 targets, ours are standardised

    def _wants_small_signals(self, n_samples, n_features):
        rule = self._part("learning_rule")
        return auto.enough_for_products(n_samples, n_features) and auto.small_signals(
            self._part("dynamics").word, rule.continual, rule.independent_feedback, self._solver
        )

    def _auto_rate(self):
        small = self._small_signals
        return auto.small_rate(self._hidden_sizes()) if small else super()._auto_rate()

    def _publish(self, state):
        super()._publish(state)
        self.target_amplitude_ = self._amplitude

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        input_scaling="auto",
        activation="auto",
        out_activation="identity",
        dynamics="discrete",
        relaxation="asynchronous",
        learning_rule="ep",
        cost="squared_error",
        solver="auto",
        learning_rate_init="auto",
        layer_decay="auto",
        bias_learning_rate_init=None,
        learning_rate="auto",
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        weight_decay="auto",
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change="auto",
        early_stopping=False,
        validation_fraction=0.1,
        weight_init="auto",
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        backend="auto",
        on_interrupt="warn",
        n_threads=None,
        dtype="float32",
    ):
        self._keep(locals())
