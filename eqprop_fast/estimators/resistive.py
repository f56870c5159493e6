"""`ResistiveClassifier` and `ResistiveRegressor`: crossbars of programmable conductances that learn by EP."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ._resistive import BaseResistiveEstimator
from ._targets import ClassifierTargets, RegressorTargets

UNSEEN_VARIANCE = 1 / 16  # V^2 at an output, beyond the training error; see `predict_proba`
_PARAMETERS = """
    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Nodes of each hidden layer, from input to output.
    input_gain : "auto" or float, default="auto"
        The sources stand at +-input_gain * x volt. Every layer of conductances averages, and so attenuates:
        deep or wide-input networks need a large gain (2402.11674 uses 100 to 4000 on MNIST). "auto" takes
        ``2**n_hidden * sqrt(2 * n_features)``, for inputs scaled to about unit size.
    amplifier_gain : float, default=1.0
        Voltage gain of a bidirectional amplifier behind each hidden node (2006.01981). In a layered network
        of ideal elements it is equivalent to a larger input gain.
    diodes : {"signed", "clipped", "none"}, default="signed"
        Hidden nodes: first half >= 0 V and second half <= 0 V (2402.11674), all within [0, 1] V, or linear.
    output_pairs : bool, default=False
        Each output is the voltage difference of two nodes (2006.01981) instead of one node's voltage.
    schedule : {"synchronous", "asynchronous", "forward", "backward"}, default="asynchronous"
        Order in which layers are solved in a step; each is solved exactly given its neighbours.
    beta : float or "auto", default="auto"
        Nudging conductance to the target, in siemens. Centered and negative nudging subtract it from the
        conductance at the output nodes and need it smaller than that. "auto": 0.1, or half of the smallest
        conductance at an output node of the network before training, if that is less.
    nudging : {"centered", "positive", "negative"}, default="centered"
    n_free_steps, n_nudged_steps : int, default=20, 20
        Steps at most. Prediction uses `n_free_steps`. A sample that still moves after them is no error (the
        papers take 4 to 6): `equilibrium(X).success` tells. Fewer than the input needs to the output are.
    tol_free, tol_nudged : float or None, default=1e-4
        A sample stops after a step that moved no node by more than this many volt; None: always all steps.
    carry_over : bool, default=False
        Training: start a batch's free phase where the last batch ended (as the code of 2402.11674 does), not
        at zero.
    conductance_gain : float, default=1.0
        Initial conductances are max(U(-c, c), g_min) siemens with c = conductance_gain / sqrt(rows).
    g_min, g_max : float, float or None, default=0.0, None
        Bounds of the conductances; None: no upper bound.
    learning_rate_init : "auto", float or sequence of float, default="auto"
        Rate of every layer of conductances, or one per layer from input to output. "auto": 0.02; with one
        hidden layer of n nodes, the first rate is 0.02 n^2 / (1.6 n_features n_outputs) if that is less.
    bias_learning_rate_init : None, float or sequence of float, default=None
        Rate of the bias currents; None: that of the conductances that feed the layer.
    solver : {"sgd", "momentum", "nesterov"}, default="sgd"
        How conductances and bias currents follow the gradient; conductances are clamped to their bounds after
        every step, the momentum is not.
    momentum : float, default=0.9
        Of "momentum" and "nesterov", in [0, 1).
    learning_rate : {"constant", "invscaling", "adaptive", "exponential", "cosine"}, default="constant"
        Schedule over epochs; see `eqprop_fast.training.schedules`.
    power_t, lr_decay, lr_min_factor : float, default=0.5, 0.99, 0.0
        Of "invscaling", "exponential" and "cosine".
    batch_size : int or "auto", default="auto"
        "auto": min(32, n_samples).
    max_iter : int, default=200
        Epochs.
    shuffle : bool, default=True
    tol : float, default=1e-4
    n_iter_no_change : int or inf, default=10
        Stop when the training loss (or validation score) has not improved by `tol` for this many epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction`, stop on its score and restore the best conductances.
    validation_fraction : float, default=0.1
    device : dict or None, default=None
        Parameters of a `eqprop_fast.circuits.devices.DeviceModel`: after every epoch the conductances are
        written to such devices and training goes on from what the devices hold. Their `g_on` is by default
        g_max, or without that 4 conductance_gain / sqrt(rows). None: ideal conductances.
@@    warm_start : bool, default=False
        `fit` continues from the fitted conductances and random streams.
    random_state : int, RandomState instance or None
    verbose : bool or int, default=False
    callbacks : callable, sequence of callables or None
        Called after each epoch with an `EpochRecord`; returning True stops the fit.
    checkpoint : path or None
        File written by `save_checkpoint` every `checkpoint_every` epochs and at the end, however the fit ends.
    checkpoint_every : int, default=1
    on_interrupt : {"warn", "raise"}, default="warn"
        Ctrl-C ends `fit` with a warning and the weights so far, or also raises KeyboardInterrupt, as a search
        over parameters needs it to stop.
    backend : {"auto", "c", "numba", "numpy"}, default="auto"
    n_threads : int or None, default=None
        None: all usable cores, at most OMP_NUM_THREADS. Results are bit-equal for any number.
    dtype : {"float32", "float64"}, default="float32"

    Attributes
    ----------
    conductances_ : list of ndarray
        ``conductances_[0]`` (2 n_features, nodes of layer 1): rows of +x, then of -x. ``conductances_[k]``
        (nodes of layer k, nodes of layer k+1). In siemens; `coefs_` is the same list.
    bias_currents_ : list of ndarray
        Current into each node, in ampere (referred to the output); `intercepts_` is the same list.
    input_gain_, beta_ : float
        What "auto" means for this network.
    loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_
        As of scikit-learn's MLP.
    n_iter_, t_, n_layers_, n_outputs_, n_features_in_ : int
    ended_by_ : str or None
        Why the last run ended: "max_iter", "tol" (early stopping too), "callback", "interrupted", "divergence"
        or, after another exception, "error". None: `partial_fit`, or the file of a run that was killed.
    backend_ : str
"""


class ResistiveClassifier(ClassifierTargets, BaseResistiveEstimator):
    __doc__ = (
        """Classifier on a layered network of programmable conductances (2402.11674; 2006.01981).

    Inputs are pairs of voltage sources (+x, -x), layers are joined by crossbars, hidden nodes carry ideal
    diodes; the physics settles at the minimum of the dissipated power, and each conductance learns from the
    voltage drop over itself. One output per class with targets of 0 and 1 V; two classes share one output;
    multilabel y has one output per label. Scale the features to about [-1, 1] or unit variance: voltages, and
    so the speed of learning, grow with them.
    """
        + _PARAMETERS.replace("@@", '    class_weight : dict, "balanced" or None, default=None\n')
        + """
    classes_ : ndarray of shape (n_classes,)
    """
    )

    _parameter_constraints: dict = {
        **BaseResistiveEstimator._parameter_constraints,
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        input_gain="auto",
        amplifier_gain=1.0,
        diodes="signed",
        output_pairs=False,
        schedule="asynchronous",
        beta="auto",
        nudging="centered",
        n_free_steps=20,
        n_nudged_steps=20,
        tol_free=1e-4,
        tol_nudged=1e-4,
        carry_over=False,
        conductance_gain=1.0,
        g_min=0.0,
        g_max=None,
        learning_rate_init="auto",
        bias_learning_rate_init=None,
        solver="sgd",
        momentum=0.9,
        learning_rate="constant",
        power_t=0.5,
        lr_decay=0.99,
        lr_min_factor=0.0,
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        device=None,
        class_weight=None,
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        checkpoint_every=1,
        backend="auto",
        on_interrupt="warn",
        n_threads=None,
        dtype="float32",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.input_gain = input_gain
        self.amplifier_gain = amplifier_gain
        self.diodes = diodes
        self.output_pairs = output_pairs
        self.schedule = schedule
        self.beta = beta
        self.nudging = nudging
        self.n_free_steps = n_free_steps
        self.n_nudged_steps = n_nudged_steps
        self.tol_free = tol_free
        self.tol_nudged = tol_nudged
        self.carry_over = carry_over
        self.conductance_gain = conductance_gain
        self.g_min = g_min
        self.g_max = g_max
        self.learning_rate_init = learning_rate_init
        self.bias_learning_rate_init = bias_learning_rate_init
        self.solver = solver
        self.momentum = momentum
        self.learning_rate = learning_rate
        self.power_t = power_t
        self.lr_decay = lr_decay
        self.lr_min_factor = lr_min_factor
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.backend = backend
        self.on_interrupt = on_interrupt
        self.n_threads = n_threads
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """One epoch over the given data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like of shape (n_samples,) or None
        classes : array-like or None
            All classes; needed at the first call (not for multilabel y).

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict_proba(self, X):
        """Class probabilities: what the output voltages say of the targets, if normal noise separates them.

        With a variance s2 of every output about its target of 0 or 1 V that is the softmax of v / s2; with
        one output for two classes, and for each label of multilabel y, 1 / (1 + exp(-(v - 1/2) / s2)). s2 is
        the mean squared error of an output in training, ``2 loss_ / n_outputs_``, and 1/16 V^2 for what new
        samples add to it: midway between the targets is two standard deviations from either.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        volts = self._outputs(X).astype(np.float64)
        variance = 2 * self.loss_ / volts.shape[1] + UNSEEN_VARIANCE
        if not self._exclusive_classes():
            return expit((volts - 0.5) / variance)
        if len(self.classes_) == 1:
            return np.ones((len(volts), 1))
        if self._binary():
            p = expit((volts[:, 0] - 0.5) / variance)
            return np.column_stack([1 - p, p])
        return softmax(volts / variance, axis=1)


class ResistiveRegressor(RegressorTargets, BaseResistiveEstimator):
    __doc__ = """Regressor on a layered network of programmable conductances, single- or multi-output.

    As `ResistiveClassifier`. Targets are standardised internally (`loss_` is in those units) and predictions
    scaled back: the output nodes carry no diode, so they reach negative voltages, and their bias currents
    supply offsets.
    """ + _PARAMETERS.replace("@@", "")

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        input_gain="auto",
        amplifier_gain=1.0,
        diodes="signed",
        output_pairs=False,
        schedule="asynchronous",
        beta="auto",
        nudging="centered",
        n_free_steps=20,
        n_nudged_steps=20,
        tol_free=1e-4,
        tol_nudged=1e-4,
        carry_over=False,
        conductance_gain=1.0,
        g_min=0.0,
        g_max=None,
        learning_rate_init="auto",
        bias_learning_rate_init=None,
        solver="sgd",
        momentum=0.9,
        learning_rate="constant",
        power_t=0.5,
        lr_decay=0.99,
        lr_min_factor=0.0,
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        device=None,
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        checkpoint_every=1,
        backend="auto",
        on_interrupt="warn",
        n_threads=None,
        dtype="float32",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.input_gain = input_gain
        self.amplifier_gain = amplifier_gain
        self.diodes = diodes
        self.output_pairs = output_pairs
        self.schedule = schedule
        self.beta = beta
        self.nudging = nudging
        self.n_free_steps = n_free_steps
        self.n_nudged_steps = n_nudged_steps
        self.tol_free = tol_free
        self.tol_nudged = tol_nudged
        self.carry_over = carry_over
        self.conductance_gain = conductance_gain
        self.g_min = g_min
        self.g_max = g_max
        self.learning_rate_init = learning_rate_init
        self.bias_learning_rate_init = bias_learning_rate_init
        self.solver = solver
        self.momentum = momentum
        self.learning_rate = learning_rate
        self.power_t = power_t
        self.lr_decay = lr_decay
        self.lr_min_factor = lr_min_factor
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.backend = backend
        self.on_interrupt = on_interrupt
        self.n_threads = n_threads
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """One epoch over the given data; mean and scale of y are those of the first call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,) or None

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)
