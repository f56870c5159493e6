"""`EqPropRegressor`: a layered network that learns real values by equilibrium propagation."""

from __future__ import annotations

from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions

from ._layered import BaseLayeredEstimator
from ._targets import RegressorTargets


class EqPropRegressor(RegressorTargets, BaseLayeredEstimator):
    """Layered regressor trained by equilibrium propagation, single- or multi-output.

    Targets are standardised internally (`loss_` is in those units) and predictions scaled back; the output
    layer is linear by default. Scale the inputs.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(256,)
        Units of each hidden layer, from input to output.
    dynamics : {"discrete", "continuous"}, default="discrete"
        The map ``s <- rho(field)`` (1905.13633, prototypical) or Euler steps of size `dt` down the Hopfield
        energy (1602.05179; 1905.13633, energy-based).
    schedule : {"synchronous", "asynchronous"}, default="asynchronous"
        All layers at once (the papers' map), or odd layers then even ones: same fixed point, about half the
        work. "clamped_sweep" asks for "asynchronous" and visits layer after layer, also in prediction.
    activation, out_activation : str, default="shifted_sigmoid", "identity"
        A key of `eqprop_fast.kernels.ACTIVATIONS`: "shifted_sigmoid" 1/(1+exp(-4(x-1/2))), "hard_sigmoid"
        clip(x,0,1), "tanh", "sigmoid", "relu", "half_hard_sigmoid" clip(x/2,0,1), "centered_hard_sigmoid"
        clip(x,-1/2,1/2), "wide_hard_sigmoid" clip(x,-1,2), "identity".
    input_activation : str, default="identity"
        The input acts on the first layer as this function of X (1905.13633 EB: the hidden activation).
    learning_rule : str, default="ep"
        "ep"; "continual" (2005.04168); "vector_field" (1808.04873) and "continual_vector_field" (C-VF), with
        independent feedback weights; "contrastive", "coupled" (2312.15103); "clamped_sweep" (1602.05179 v1);
        as baselines the exact gradients "bptt" (through the last `n_nudged_steps` of the free steps),
        "recurrent_backprop" (1711.08416) and "implicit".
    feedback_angle : float, default=0.0
        Vector-field rules: initial angle in degrees between feedback and forward weights (2005.04168).
    beta : float, default=0.5
        Nudging strength, not 0; negative with "positive" nudging means nudging away from the target. Of
        "ep", "coupled" and the continual and vector-field rules; the others have no nudge and do not use it.
    nudging : {"positive", "random_sign", "centered"}, default="centered"
        One nudged phase at +beta; at +-beta, one random sign per mini-batch; or two at +beta and -beta
        (2006.03824).
    nudge_inside : bool, default=False
        Discrete: ``rho(field + nudge)`` (2006.03824) instead of ``rho(field) + nudge`` (1905.13633). No
        effect on the rules that hold the output ("coupled", "contrastive", "clamped_sweep") or have no nudge.
    n_free_steps, n_nudged_steps : int, default=20, 10
        Relaxation steps at most (T and K of the papers). Prediction uses `n_free_steps`. "implicit" has no
        second phase.
    tol_free, tol_nudged : float or None, default=1e-3
        A sample stops after the step in which no unit changed by more than this (per unit time); None:
        always all steps. "bptt" and "implicit" do not use `tol_nudged`; "recurrent_backprop" stops once the
        last increment of its errors is at most `tol_nudged` of the first, over the batch.
    over_relaxation : float in [1, 2), default=1.0
        Discrete networks with asynchronous sweeps: the free phase steps by
        ``over_relaxation * (rho(field) - s)``, which reaches the same fixed points in fewer sweeps
        (successive over-relaxation); 1.2 suits deep networks that converge slowly, 1.5 those of hard
        sigmoids. 1: plain sweeps. Not for the rules that compute an exact gradient.
    dt : float, default=1.0
        Euler step; for the discrete map a damping, 1 being the papers' map.
    clamp : bool, default=True
        Continuous: clip states to [0, 1] after each step.
    prime_hidden, prime_output : bool, default=True, False
        Continuous: multiply the field by ``rho'(s)``.
    linear_output : bool, default=False
        Continuous: the output acts and learns as ``s`` instead of ``rho(s)``.
    cost : {"squared_error"}, default="squared_error"
        ``cost_factor/2 |s - y|^2``.
    cost_factor : float, default=1.0
        2 for the ``|s - y|^2`` of 1602.05179. Of the updates of "coupled", "contrastive" and "clamped_sweep",
        which hold the output instead of nudging it, it is no part.
    learning_rate_init : float or sequence of float, default=0.002
        Rate of every layer of weights, or one per layer from input to output (several papers list output to
        input).
    bias_learning_rate_init : None, float or sequence of float, default=None
        None: each bias has the rate of the weights that feed its layer.
    learning_rate : {"constant", "invscaling", "adaptive", "exponential", "cosine"}, default="constant"
        Schedule over epochs; see `eqprop_fast.training.schedules`.
    power_t : float, default=0.5
        "invscaling": rate / (samples seen + 1)**power_t.
    lr_decay : float, default=0.99
        "exponential": factor per epoch.
    lr_min_factor : float, default=0.0
        "cosine": factor approached after `max_iter` epochs, where the schedule starts anew.
    solver : {"sgd", "momentum", "nesterov", "adam"}, default="adam"
    momentum, weight_decay, beta_1, beta_2, epsilon : float
        Of the solver. Weight decay adds ``weight_decay * W`` to the gradient of weights, not of biases.
    batch_size : int or "auto", default="auto"
        "auto": min(32, n_samples).
    max_iter : int, default=200
        Epochs.
    shuffle : bool, default=True
    tol, n_iter_no_change : float and int (or inf), default=1e-4, 10
        Stop when the training loss (or validation score) has not improved by `tol` for this many epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction`, stop on its score and restore the best weights.
    validation_fraction : float, default=0.1
    persistent_particles : bool, default=False
        Start each sample's free phase where it ended in the last epoch (1602.05179) instead of at zero. Not
        with `partial_fit`; a warm-started `fit` on as many rows takes them for the same samples.
    carry_over : bool, default=False
        Training: start a batch's free phase where the nudged phase of the last batch ended (the code of
        2402.11674), the +beta one under centered nudging; at zero after a batch of another size. Only "ep".
        It runs batch by batch, and the nudged phase twice.
    free_start : {"zero", "normal"}, default="zero"
        Training: each free phase starts at zero, or at fresh standard normal states
        (smonsays/equilibrium-propagation). Prediction always starts at zero, so that it is not random.
    weight_init : {"glorot_uniform", "fan_in_uniform"}, default="fan_in_uniform"
        See `eqprop_fast.networks.layered.init_parameters`.
    weight_gain : float or sequence of float, default=1.0
        One number, or one per matrix of weights from input to output.
    warm_start : bool, default=False
        `fit` continues from the fitted weights, optimiser state and random streams.
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
        Working precision; X is converted to it.

    Attributes
    ----------
    coefs_, intercepts_, loss_, loss_curve_, n_iter_, ...
        As in `EqPropClassifier`, without ``classes_``.
    """

    _parameter_constraints: dict = {
        **BaseLayeredEstimator._parameter_constraints,
        "cost": [StrOptions({"squared_error"})],  # a softmax is for classes
    }
    _not_of_papers = ("out_activation",)  # theirs is for 0/1 targets, ours are standardised

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
        feedback_angle=0.0,
        beta=0.5,
        nudging="centered",
        nudge_inside=False,
        n_free_steps=20,
        n_nudged_steps=10,
        tol_free=1e-3,
        tol_nudged=1e-3,
        over_relaxation=1.0,
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
        carry_over=False,
        free_start="zero",
        weight_init="fan_in_uniform",
        weight_gain=1.0,
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
        self.dynamics = dynamics
        self.schedule = schedule
        self.activation = activation
        self.out_activation = out_activation
        self.input_activation = input_activation
        self.learning_rule = learning_rule
        self.feedback_angle = feedback_angle
        self.beta = beta
        self.nudging = nudging
        self.nudge_inside = nudge_inside
        self.n_free_steps = n_free_steps
        self.n_nudged_steps = n_nudged_steps
        self.tol_free = tol_free
        self.tol_nudged = tol_nudged
        self.over_relaxation = over_relaxation
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
        self.carry_over = carry_over
        self.free_start = free_start
        self.weight_init = weight_init
        self.weight_gain = weight_gain
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
