"""`EqPropClassifier` and `EqPropRegressor`: fully connected layered networks that learn by equilibrium propagation."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from ..kernels import ACTIVATIONS, LayeredSpec, TrainPlan
from ..kernels.registry import get_backend
from ..kernels.spec import COSTS, DYNAMICS, MAX_WEIGHTS, RULES, SCHEDULES
from ..networks.layered import WEIGHT_INITS, LayeredNetwork, init_parameters
from ._base import BaseNetworkEstimator
from ._targets import ClassifierTargets, RegressorTargets
from .presets import preset_parameters

NUDGINGS = ("positive", "random_sign", "centered")
IMPLEMENTED_RULES = ("ep",)


class BaseLayeredEstimator(BaseNetworkEstimator):
    """What the classifier and the regressor share; not for direct use."""

    _parameter_constraints: dict = {
        **BaseNetworkEstimator._parameter_constraints,
        "dynamics": [StrOptions(set(DYNAMICS))],
        "schedule": [StrOptions(set(SCHEDULES))],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "out_activation": [StrOptions(set(ACTIVATIONS))],
        "input_activation": [StrOptions(set(ACTIVATIONS))],
        "learning_rule": [StrOptions(set(RULES))],
        "beta": [Interval(Real, 0, None, closed="neither"), Interval(Real, None, 0, closed="neither")],
        "nudging": [StrOptions(set(NUDGINGS))],
        "nudge_inside": ["boolean"],
        "n_free_steps": [Interval(Integral, 1, None, closed="left")],
        "n_nudged_steps": [Interval(Integral, 1, None, closed="left")],
        "tol_free": [None, Interval(Real, 0, None, closed="left")],
        "tol_nudged": [None, Interval(Real, 0, None, closed="left")],
        "dt": [Interval(Real, 0, None, closed="neither")],
        "clamp": ["boolean"],
        "prime_hidden": ["boolean"],
        "prime_output": ["boolean"],
        "linear_output": ["boolean"],
        "cost": [StrOptions(set(COSTS))],
        "cost_factor": [Interval(Real, 0, None, closed="neither")],
        "persistent_particles": ["boolean"],
        "weight_init": [StrOptions(set(WEIGHT_INITS))],
        "weight_gain": [Interval(Real, 0, None, closed="neither")],
    }

    def _spec(self, sizes):
        if len(sizes) - 1 > MAX_WEIGHTS:
            raise ValueError(f"hidden_layer_sizes: at most {MAX_WEIGHTS - 1} hidden layers, got {len(sizes) - 2}")
        return LayeredSpec(
            sizes=tuple(int(n) for n in sizes), dynamics=self.dynamics, schedule=self.schedule,
            activation=self.activation, out_activation=self.out_activation, input_activation=self.input_activation,
            prime_hidden=self.prime_hidden, prime_output=self.prime_output, linear_output=self.linear_output,
            clamp=self.clamp and self.dynamics == "continuous", nudge_inside=self.nudge_inside, cost=self.cost,
            cost_factor=float(self.cost_factor), dt=float(self.dt),
        )

    def _new_network(self, kernels, sizes, rng):
        if self.learning_rule not in IMPLEMENTED_RULES:
            raise ValueError(
                f"learning_rule={self.learning_rule!r} is not implemented yet; available: {IMPLEMENTED_RULES}"
            )
        spec = self._spec(sizes)
        self._rates(spec.n_weights)  # refuse bad rates before anything is fitted
        weights, biases = init_parameters(
            spec.sizes, self.weight_init, self.weight_gain, rng, np.dtype(self.dtype)
        )
        return LayeredNetwork(spec, kernels, weights, biases)

    def _fitted_network(self, kernels):
        sizes = (self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_))
        # arrays memory-mapped read-only by joblib.load are copied: kernels take the parameters as in/out
        weights, biases = (
            [a if a.flags.writeable else np.array(a) for a in group] for group in (self.coefs_, self.intercepts_)
        )
        return LayeredNetwork(self._spec(sizes), kernels, weights, biases)

    def _keep_network(self, network):
        self.coefs_, self.intercepts_ = network.weights, network.biases
        self.out_activation_ = "softmax" if self.cost == "cross_entropy" else self.out_activation

    def _check_loaded(self):
        """Refuse fitted arrays that do not fit together (they came from a file)."""
        dtype = np.dtype(self.dtype)
        if len(self.coefs_) != len(self.intercepts_) or not self.coefs_:
            raise ValueError("coefs_ and intercepts_ do not match")
        n_in = self.n_features_in_
        for w, b in zip(self.coefs_, self.intercepts_):
            if w.ndim != 2 or w.shape[0] != n_in or b.shape != (w.shape[1],) or w.dtype != dtype or b.dtype != dtype:
                raise ValueError("shape or dtype of coefs_ or intercepts_ is wrong")
            if not (np.isfinite(w).all() and np.isfinite(b).all()):
                raise ValueError("coefs_ or intercepts_ are not finite")
            n_in = w.shape[1]
        parameters = [*self.coefs_, *self.intercepts_]
        state = self._state
        for group in (state.optimizer_state.velocity, state.optimizer_state.second, state.best_snapshot,
                      state.last_snapshot):
            if group and [a.shape for a in group] != [p.shape for p in parameters]:
                raise ValueError("optimiser state or best weights do not fit coefs_")

    def _plan(self, batch_size, rate, bias_rate):
        return TrainPlan(
            batch_size=batch_size, beta=float(self.beta), n_free_steps=self.n_free_steps,
            n_nudged_steps=self.n_nudged_steps, rate=rate, bias_rate=bias_rate, rule=self.learning_rule,
            tol_free=-1.0 if self.tol_free is None else float(self.tol_free),
            tol_nudged=-1.0 if self.tol_nudged is None else float(self.tol_nudged),
            centered=self.nudging == "centered", optimizer=self.solver, momentum=float(self.momentum),
            weight_decay=float(self.weight_decay), beta1=float(self.beta_1), beta2=float(self.beta_2),
            epsilon=float(self.epsilon),
        )

    @classmethod
    def from_paper(cls, name, **overrides):
        """An estimator with exactly a paper's hyperparameters.

        Parameters
        ----------
        name : str
            A name of `eqprop_fast.list_presets()`, such as ``"1905.13633/P-1h"``.
        **overrides
            Any constructor parameter, replacing the preset's.

        Raises
        ------
        ValueError
            Unknown preset.
        """
        return cls(**{**preset_parameters(name), **overrides})

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit to data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            CSR is trained on as it is; C-contiguous arrays of the working `dtype` are not copied.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,) or None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad data or parameters.
        DivergenceError
            States or weights became non-finite; the estimator keeps the last finite weights.
        """
        return self._fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    def resume(self, X, y, sample_weight=None):
        """Go on with an interrupted or reloaded fit, on the same data, until `max_iter` epochs in all.

        Parameters
        ----------
        X, y, sample_weight
            As given to `fit`.

        Returns
        -------
        self
        """
        if not hasattr(self, "_state"):
            raise ValueError("resume needs a fitted or reloaded estimator; call fit")
        remaining = self.max_iter - self._state.epoch
        return self if remaining <= 0 else self._fit(X, y, sample_weight, n_epochs=remaining)


class EqPropClassifier(ClassifierTargets, BaseLayeredEstimator):
    """Layered classifier trained by equilibrium propagation (1602.05179, 1905.13633, 2006.03824).

    Scale the inputs to about [0, 1] or to unit variance. One output unit per class with 0/1 targets; two classes
    share one unit (two under cross-entropy); multilabel y has one unit per label.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(256,)
        Units of each hidden layer, from input to output.
    dynamics : {"discrete", "continuous"}, default="discrete"
        The map ``s <- rho(field)`` (1905.13633, prototypical) or Euler steps of size `dt` down the Hopfield energy
        (1602.05179; 1905.13633, energy-based).
    schedule : {"synchronous", "asynchronous"}, default="asynchronous"
        All layers at once (the papers' map), or odd layers then even ones: same fixed point, about half the work.
    activation, out_activation : str, default="shifted_sigmoid", "shifted_sigmoid"
        A key of `eqprop_fast.kernels.ACTIVATIONS`: "shifted_sigmoid" 1/(1+exp(-4(x-1/2))), "hard_sigmoid"
        clip(x,0,1), "tanh", "sigmoid", "relu", "half_hard_sigmoid" clip(x/2,0,1), "centered_hard_sigmoid"
        clip(x,-1/2,1/2), "identity".
    input_activation : str, default="identity"
        The input acts on the first layer as this function of X (1905.13633 EB: the hidden activation).
    learning_rule : {"ep"}, default="ep"
        Other rules named by presets ("continual", ...) are refused until they are implemented.
    beta : float, default=0.5
        Nudging strength, not 0; negative with "positive" nudging means nudging away from the target.
    nudging : {"positive", "random_sign", "centered"}, default="centered"
        One nudged phase at +beta; at +-beta, one random sign per mini-batch; or two at +beta and -beta
        (2006.03824).
    nudge_inside : bool, default=False
        Discrete: ``rho(field + nudge)`` (2006.03824) instead of ``rho(field) + nudge`` (1905.13633).
    n_free_steps, n_nudged_steps : int, default=20, 10
        Relaxation steps at most (T and K of the papers). Prediction uses `n_free_steps`.
    tol_free, tol_nudged : float or None, default=1e-3
        A sample stops after the step in which no unit changed by more than this (per unit time); None: always all
        steps.
    dt : float, default=1.0
        Euler step; for the discrete map a damping, 1 being the papers' map.
    clamp : bool, default=True
        Continuous: clip states to [0, 1] after each step.
    prime_hidden, prime_output : bool, default=True, False
        Continuous: multiply the field by ``rho'(s)``.
    linear_output : bool, default=False
        Continuous: the output acts and learns as ``s`` instead of ``rho(s)``.
    cost : {"squared_error", "cross_entropy"}, default="squared_error"
        ``cost_factor/2 |s - y|^2`` or softmax cross-entropy of the output states.
    cost_factor : float, default=1.0
        2 for the ``|s - y|^2`` of 1602.05179.
    learning_rate_init : float or sequence of float, default=0.002
        Rate of every layer of weights, or one per layer from input to output (several papers list output to input).
    bias_learning_rate_init : None, float or sequence of float, default=None
        None: each bias has the rate of the weights that feed its layer.
    learning_rate : {"constant", "invscaling", "adaptive", "exponential", "cosine"}, default="constant"
        Schedule over epochs; see `eqprop_fast.training.schedules`.
    power_t : float, default=0.5
        "invscaling": rate / (samples seen + 1)**power_t.
    lr_decay : float, default=0.99
        "exponential": factor per epoch.
    lr_min_factor : float, default=0.0
        "cosine": factor reached at `max_iter` epochs.
    solver : {"sgd", "momentum", "nesterov", "adam"}, default="adam"
    momentum, weight_decay, beta_1, beta_2, epsilon : float
        Of the solver. Weight decay adds ``weight_decay * W`` to the gradient of weights, not of biases.
    batch_size : int or "auto", default="auto"
        "auto": min(32, n_samples).
    max_iter : int, default=200
        Epochs.
    shuffle : bool, default=True
    tol : float, default=1e-4
    n_iter_no_change : int or inf, default=10
        Stop when the training loss (or validation score) has not improved by `tol` for this many epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction`, stop on its score and restore the best weights.
    validation_fraction : float, default=0.1
    persistent_particles : bool, default=False
        Start each sample's free phase where it ended in the last epoch (1602.05179) instead of at zero.
    weight_init : {"glorot_uniform", "fan_in_uniform"}, default="fan_in_uniform"
        See `eqprop_fast.networks.layered.init_parameters`.
    weight_gain : float, default=1.0
    class_weight : dict, "balanced" or None, default=None
    warm_start : bool, default=False
        `fit` continues from the fitted weights, optimiser state and random streams.
    random_state : int, RandomState instance or None
    verbose : bool or int, default=False
    callbacks : callable, sequence of callables or None
        Called after each epoch with an `EpochRecord`; returning True stops the fit.
    checkpoint : path or None
        File written by `save_checkpoint` every `checkpoint_every` epochs.
    checkpoint_every : int, default=1
    backend : {"auto", "c", "numba", "numpy"}, default="auto"
    n_threads : int or None, default=None
        None: all usable cores. Results are bit-equal for any number.
    dtype : {"float32", "float64"}, default="float32"
        Working precision; X is converted to it.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray
        ``coefs_[k]`` (units of layer k, units of layer k+1); input first.
    loss_, best_loss_ : float
        Training cost of the last epoch; the best one (None under early stopping).
    loss_curve_ : list of float
    validation_scores_, best_validation_score_ : list of float and float, or None without early stopping
    n_iter_ : int
        Epochs run, over all calls that continued this fit.
    t_ : int
        Training samples seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of str, when X had string column names
    out_activation_ : str
    backend_ : str
        The backend that trained.
    classes_ : ndarray of shape (n_classes,)
    """

    _parameter_constraints: dict = {
        **BaseLayeredEstimator._parameter_constraints,
        "class_weight": [None, dict, StrOptions({"balanced"})],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        dynamics="discrete",
        schedule="asynchronous",
        activation="shifted_sigmoid",
        out_activation="shifted_sigmoid",
        input_activation="identity",
        learning_rule="ep",
        beta=0.5,
        nudging="centered",
        nudge_inside=False,
        n_free_steps=20,
        n_nudged_steps=10,
        tol_free=1e-3,
        tol_nudged=1e-3,
        dt=1.0,
        clamp=True,
        prime_hidden=True,
        prime_output=False,
        linear_output=False,
        cost="squared_error",
        cost_factor=1.0,
        learning_rate_init=0.002,
        bias_learning_rate_init=None,
        learning_rate="constant",
        power_t=0.5,
        lr_decay=0.99,
        lr_min_factor=0.0,
        solver="adam",
        momentum=0.9,
        weight_decay=0.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        persistent_particles=False,
        weight_init="fan_in_uniform",
        weight_gain=1.0,
        class_weight=None,
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        checkpoint_every=1,
        backend="auto",
        n_threads=None,
        dtype="float32",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dynamics = dynamics
        self.schedule = schedule
        self.activation = activation
        self.out_activation = out_activation
        self.input_activation = input_activation
        self.learning_rule = learning_rule
        self.beta = beta
        self.nudging = nudging
        self.nudge_inside = nudge_inside
        self.n_free_steps = n_free_steps
        self.n_nudged_steps = n_nudged_steps
        self.tol_free = tol_free
        self.tol_nudged = tol_nudged
        self.dt = dt
        self.clamp = clamp
        self.prime_hidden = prime_hidden
        self.prime_output = prime_output
        self.linear_output = linear_output
        self.cost = cost
        self.cost_factor = cost_factor
        self.learning_rate_init = learning_rate_init
        self.bias_learning_rate_init = bias_learning_rate_init
        self.learning_rate = learning_rate
        self.power_t = power_t
        self.lr_decay = lr_decay
        self.lr_min_factor = lr_min_factor
        self.solver = solver
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.persistent_particles = persistent_particles
        self.weight_init = weight_init
        self.weight_gain = weight_gain
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.backend = backend
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
        self._first_partial_fit(y, classes)
        return self._fit(X, y, sample_weight, incremental=True)


class EqPropRegressor(RegressorTargets, BaseLayeredEstimator):
    """Layered regressor trained by equilibrium propagation, single- or multi-output.

    Targets are standardised internally (`loss_` is in those units) and predictions scaled back; the output layer is
    linear by default. Scale the inputs.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(256,)
        Units of each hidden layer, from input to output.
    dynamics : {"discrete", "continuous"}, default="discrete"
        The map ``s <- rho(field)`` (1905.13633, prototypical) or Euler steps of size `dt` down the Hopfield energy
        (1602.05179; 1905.13633, energy-based).
    schedule : {"synchronous", "asynchronous"}, default="asynchronous"
        All layers at once (the papers' map), or odd layers then even ones: same fixed point, about half the work.
    activation, out_activation : str, default="shifted_sigmoid", "identity"
        A key of `eqprop_fast.kernels.ACTIVATIONS`: "shifted_sigmoid" 1/(1+exp(-4(x-1/2))), "hard_sigmoid"
        clip(x,0,1), "tanh", "sigmoid", "relu", "half_hard_sigmoid" clip(x/2,0,1), "centered_hard_sigmoid"
        clip(x,-1/2,1/2), "identity".
    input_activation : str, default="identity"
        The input acts on the first layer as this function of X (1905.13633 EB: the hidden activation).
    learning_rule : {"ep"}, default="ep"
        Other rules named by presets ("continual", ...) are refused until they are implemented.
    beta : float, default=0.5
        Nudging strength, not 0; negative with "positive" nudging means nudging away from the target.
    nudging : {"positive", "random_sign", "centered"}, default="centered"
        One nudged phase at +beta; at +-beta, one random sign per mini-batch; or two at +beta and -beta
        (2006.03824).
    nudge_inside : bool, default=False
        Discrete: ``rho(field + nudge)`` (2006.03824) instead of ``rho(field) + nudge`` (1905.13633).
    n_free_steps, n_nudged_steps : int, default=20, 10
        Relaxation steps at most (T and K of the papers). Prediction uses `n_free_steps`.
    tol_free, tol_nudged : float or None, default=1e-3
        A sample stops after the step in which no unit changed by more than this (per unit time); None: always all
        steps.
    dt : float, default=1.0
        Euler step; for the discrete map a damping, 1 being the papers' map.
    clamp : bool, default=True
        Continuous: clip states to [0, 1] after each step.
    prime_hidden, prime_output : bool, default=True, False
        Continuous: multiply the field by ``rho'(s)``.
    linear_output : bool, default=False
        Continuous: the output acts and learns as ``s`` instead of ``rho(s)``.
    cost : {"squared_error", "cross_entropy"}, default="squared_error"
        ``cost_factor/2 |s - y|^2`` or softmax cross-entropy of the output states.
    cost_factor : float, default=1.0
        2 for the ``|s - y|^2`` of 1602.05179.
    learning_rate_init : float or sequence of float, default=0.002
        Rate of every layer of weights, or one per layer from input to output (several papers list output to input).
    bias_learning_rate_init : None, float or sequence of float, default=None
        None: each bias has the rate of the weights that feed its layer.
    learning_rate : {"constant", "invscaling", "adaptive", "exponential", "cosine"}, default="constant"
        Schedule over epochs; see `eqprop_fast.training.schedules`.
    power_t : float, default=0.5
        "invscaling": rate / (samples seen + 1)**power_t.
    lr_decay : float, default=0.99
        "exponential": factor per epoch.
    lr_min_factor : float, default=0.0
        "cosine": factor reached at `max_iter` epochs.
    solver : {"sgd", "momentum", "nesterov", "adam"}, default="adam"
    momentum, weight_decay, beta_1, beta_2, epsilon : float
        Of the solver. Weight decay adds ``weight_decay * W`` to the gradient of weights, not of biases.
    batch_size : int or "auto", default="auto"
        "auto": min(32, n_samples).
    max_iter : int, default=200
        Epochs.
    shuffle : bool, default=True
    tol : float, default=1e-4
    n_iter_no_change : int or inf, default=10
        Stop when the training loss (or validation score) has not improved by `tol` for this many epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction`, stop on its score and restore the best weights.
    validation_fraction : float, default=0.1
    persistent_particles : bool, default=False
        Start each sample's free phase where it ended in the last epoch (1602.05179) instead of at zero.
    weight_init : {"glorot_uniform", "fan_in_uniform"}, default="fan_in_uniform"
        See `eqprop_fast.networks.layered.init_parameters`.
    weight_gain : float, default=1.0
    warm_start : bool, default=False
        `fit` continues from the fitted weights, optimiser state and random streams.
    random_state : int, RandomState instance or None
    verbose : bool or int, default=False
    callbacks : callable, sequence of callables or None
        Called after each epoch with an `EpochRecord`; returning True stops the fit.
    checkpoint : path or None
        File written by `save_checkpoint` every `checkpoint_every` epochs.
    checkpoint_every : int, default=1
    backend : {"auto", "c", "numba", "numpy"}, default="auto"
    n_threads : int or None, default=None
        None: all usable cores. Results are bit-equal for any number.
    dtype : {"float32", "float64"}, default="float32"
        Working precision; X is converted to it.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray
        ``coefs_[k]`` (units of layer k, units of layer k+1); input first.
    loss_, best_loss_ : float
        Training cost of the last epoch; the best one (None under early stopping).
    loss_curve_ : list of float
    validation_scores_, best_validation_score_ : list of float and float, or None without early stopping
    n_iter_ : int
        Epochs run, over all calls that continued this fit.
    t_ : int
        Training samples seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of str, when X had string column names
    out_activation_ : str
    backend_ : str
        The backend that trained.
    """

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        dynamics="discrete",
        schedule="asynchronous",
        activation="shifted_sigmoid",
        out_activation="identity",
        input_activation="identity",
        learning_rule="ep",
        beta=0.5,
        nudging="centered",
        nudge_inside=False,
        n_free_steps=20,
        n_nudged_steps=10,
        tol_free=1e-3,
        tol_nudged=1e-3,
        dt=1.0,
        clamp=True,
        prime_hidden=True,
        prime_output=False,
        linear_output=False,
        cost="squared_error",
        cost_factor=1.0,
        learning_rate_init=0.002,
        bias_learning_rate_init=None,
        learning_rate="constant",
        power_t=0.5,
        lr_decay=0.99,
        lr_min_factor=0.0,
        solver="adam",
        momentum=0.9,
        weight_decay=0.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        persistent_particles=False,
        weight_init="fan_in_uniform",
        weight_gain=1.0,
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        checkpoint_every=1,
        backend="auto",
        n_threads=None,
        dtype="float32",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dynamics = dynamics
        self.schedule = schedule
        self.activation = activation
        self.out_activation = out_activation
        self.input_activation = input_activation
        self.learning_rule = learning_rule
        self.beta = beta
        self.nudging = nudging
        self.nudge_inside = nudge_inside
        self.n_free_steps = n_free_steps
        self.n_nudged_steps = n_nudged_steps
        self.tol_free = tol_free
        self.tol_nudged = tol_nudged
        self.dt = dt
        self.clamp = clamp
        self.prime_hidden = prime_hidden
        self.prime_output = prime_output
        self.linear_output = linear_output
        self.cost = cost
        self.cost_factor = cost_factor
        self.learning_rate_init = learning_rate_init
        self.bias_learning_rate_init = bias_learning_rate_init
        self.learning_rate = learning_rate
        self.power_t = power_t
        self.lr_decay = lr_decay
        self.lr_min_factor = lr_min_factor
        self.solver = solver
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.persistent_particles = persistent_particles
        self.weight_init = weight_init
        self.weight_gain = weight_gain
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.backend = backend
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
