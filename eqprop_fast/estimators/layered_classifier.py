"""`EqPropClassifier`: a layered network that learns classes by equilibrium propagation."""

from __future__ import annotations

from ..docstrings import documented
from ._layered import BaseLayeredEstimator
from ._targets import ClassifierTargets


@documented
class EqPropClassifier(ClassifierTargets, BaseLayeredEstimator):
    """Layered classifier trained by equilibrium propagation (1602.05179, 1905.13633, 2006.03824).

    Scale the inputs to about [0, 1] or to unit variance. One output unit per class with 0/1
    targets; two classes share one unit (two under cross-entropy); multilabel y has one unit per
    label.

    `dynamics`, `relaxation`, `learning_rule`, `cost`, `weight_init` and `learning_rate` are
    objects, or words that stand for them at their defaults; ``set_params(learning_rule__beta=0.1)``
    and grids reach into them. All are in `eqprop_fast`.

    Examples
    --------
    >>> from eqprop_fast import EP, EqPropClassifier
    >>> from eqprop_fast.datasets import load_digits
    >>> X, X_test, y, y_test = load_digits()
    >>> model = EqPropClassifier((64,), learning_rule=EP(beta=0.3), max_iter=20, tol=0,
    ...                          random_state=0)
    >>> bool(model.fit(X, y).score(X_test, y_test) > 0.95)
    True
    """

    _parameter_constraints: dict = {
        **BaseLayeredEstimator._parameter_constraints,
        **ClassifierTargets._parameter_constraints,
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        input_scaling="auto",
        activation="auto",
        out_activation="auto",
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
        weight_init="fan_in_uniform",
        class_weight=None,
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
