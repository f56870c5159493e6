"""`ResistiveClassifier` and `ResistiveRegressor`: crossbars of programmable conductances that learn
by EP.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from sklearn.utils.validation import check_is_fitted

from ..docstrings import documented
from ._resistive import BaseResistiveEstimator
from ._targets import ClassifierTargets, RegressorTargets

UNSEEN_VARIANCE = 1 / 16  # V^2 at an output, beyond the training error; see `predict_proba`


@documented
class ResistiveClassifier(ClassifierTargets, BaseResistiveEstimator):
    """Classifier on a layered network of programmable conductances (2402.11674; 2006.01981).

    Inputs are pairs of voltage sources (+x, -x), layers are joined by crossbars, hidden nodes carry
    ideal diodes; the physics settles at the minimum of the dissipated power, and each conductance
    learns from the voltage drop over itself. One output per class with targets of 0 and 1 V; two
    classes share one output; multilabel y has one output per label. Scale the features to about
    [-1, 1] or unit variance: voltages, and so the speed of learning, grow with them.

    `circuit`, `relaxation`, `learning_rule` and `learning_rate` are objects, or words that stand
    for them at their defaults; ``set_params(learning_rule__beta=0.1)`` and grids reach into them.
    All are in `eqprop_fast`.

    Examples
    --------
    >>> from eqprop_fast import ResistiveCircuit, ResistiveClassifier
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_iris(return_X_y=True)
    >>> circuit = ResistiveCircuit("signed", g_max=1.0)
    >>> model = ResistiveClassifier((16,), circuit=circuit, max_iter=40, tol=0, random_state=0)
    >>> bool(model.fit(scale(X), y).score(scale(X), y) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseResistiveEstimator._parameter_constraints,
        **ClassifierTargets._parameter_constraints,
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        input_scaling="auto",
        circuit="signed",
        input_gain="auto",
        relaxation="asynchronous",
        learning_rule="ep",
        device=None,
        solver="sgd",
        learning_rate_init="auto",
        bias_learning_rate_init=None,
        learning_rate="constant",
        momentum=0.9,
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
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

    def _output_variance(self, n_outputs):
        """V^2 about the target at one output; see `predict_proba`."""
        return 2 * self.loss_ / n_outputs + UNSEEN_VARIANCE

    def predict_proba(self, X, *, relax=True):
        """Class probabilities: what the output voltages say of the targets, if normal noise
        separates them.

        With a variance s2 of every output about its target of 0 or 1 V that is the softmax of v /
        s2; with one output for two classes, and for each label of multilabel y, 1 / (1 + exp(-(v -
        1/2) / s2)). s2 is the mean squared error of an output in training, ``2 loss_ /
        n_outputs_``, and 1/16 V^2 for what new samples add to it: midway between the targets is two
        standard deviations from either.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        relax : bool, default=True
            False is refused: resistive networks have no pass upwards.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        volts = self._outputs(X, relax).astype(np.float64)
        variance = self._output_variance(volts.shape[1])
        if not self._exclusive_classes():
            return expit((volts - 0.5) / variance)
        if len(self.classes_) == 1:
            return np.ones((len(volts), 1))
        if self._binary():
            p = expit((volts[:, 0] - 0.5) / variance)
            return np.column_stack([1 - p, p])
        return softmax(volts / variance, axis=1)


@documented
class ResistiveRegressor(RegressorTargets, BaseResistiveEstimator):
    """Regressor on a layered network of programmable conductances, single- or multi-output.

    As `ResistiveClassifier`. Targets are standardised internally (`loss_` is in those units) and
    predictions scaled back: the output nodes carry no diode, so they reach negative voltages, and
    their bias currents supply offsets.
    """

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        input_scaling="auto",
        circuit="signed",
        input_gain="auto",
        relaxation="asynchronous",
        learning_rule="ep",
        device=None,
        solver="sgd",
        learning_rate_init="auto",
        bias_learning_rate_init=None,
        learning_rate="constant",
        momentum=0.9,
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
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
