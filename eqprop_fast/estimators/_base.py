"""What all trainable-network estimators share: validation, fitting through the driver, fitted
state.

A concrete estimator supplies its network (`_new_network`, `_fitted_network`) and its learning rule
(`_plan`); a target mixin (`_targets.py`) turns labels or real numbers into the output targets and
back.
"""

from __future__ import annotations

import math
import os
import warnings
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .. import auto
from .._backends import effective_n_threads
from ..auto import AUTO
from ..kernels import get_backend
from ..kernels.registry import BACKENDS
from ..kernels.spec import OPTIMIZERS
from ..parts import RELAXATION, RULE, HasParts
from ..relaxation import MAX_INT, kernel_tol
from ..training import (
    RATE_WORDS,
    Cosine,
    Exponential,
    FitSettings,
    InverseScaling,
    RandomStreams,
    TrainingData,
    TrainingState,
    fit_epochs,
    has_stopped,
)
from ..training.checkpoint import Checkpoint, CheckpointMixin
from ..training.files import check_writable, remove_leftovers
from ..training.progress import make_progress
from ..training.state import writable
from ._checks import is_list, is_size, per_layer
from ._input import ScaledInput
from ._loaded import LoadedChecks
from ._notices import CHECKED_ROWS, say_no_better, say_unsettled
from ._ready import KEPT, ReadyNetwork, what_it_is_made_of

MAX_THREADS = 1024


class BaseNetworkEstimator(CheckpointMixin, LoadedChecks, ScaledInput, HasParts, ABC):
    """Base of the estimators; not for direct use.

    Parameters
    ----------
    input_scaling : {"auto"} or None
        "auto": the input units take ``(x - centre) / scale``, centre and scale of each feature
        those of the first `fit` or `partial_fit` (docs/defaults.md); sparse X is not centred. None:
        they take x.
    learning_rate_init : "auto", float or sequence of float
        Rate of the first layer of weights, see `layer_decay`, or one per layer from input to output
        (several papers list output to input). "auto": 0.004 of "adam", 0.05 of "sgd", 0.005 of
        "momentum" and "nesterov".
    bias_learning_rate_init : None, float or sequence of float
        None: each bias has the rate of the weights that feed its layer.
    learning_rate : {"auto", "constant", "invscaling", "adaptive", "exponential", "cosine"} or object
        Schedule over epochs, as of scikit-learn's MLP, or `InverseScaling`, `Exponential` or
        `Cosine`. "auto": "adaptive", but "constant" under `partial_fit`, of the continual rules and
        of resistive networks.
    batch_size : int or "auto"
        "auto": min(64, n_samples), of resistive networks min(32, n_samples).
    max_iter : int
        Epochs.
    shuffle : bool
        Whether to shuffle the samples before each epoch.
    tol : float
    n_iter_no_change : "auto", int or inf
        Stop when the training loss (or validation score) has not improved by `tol` for this many
        epochs. "auto": 10, under an "adaptive" rate 5.
    early_stopping : bool
        Hold out `validation_fraction`, stop on its score and restore the best weights. Classes keep
        their shares where each has two samples and a place in the split; else it is random.
    validation_fraction : float
        Share of the samples held out under early stopping.
    warm_start : bool
        `fit` continues from the fitted weights, optimiser state and random streams.
    random_state : int, RandomState instance or None
        Of initial weights, shuffling and random signs. The same seed gives the same model.
    verbose : bool or int
        Whether to show progress.
    callbacks : callable, sequence of callables or None
        Called after each epoch with an `EpochRecord`; returning True stops the fit.
    checkpoint : path, Checkpoint or None
        File written by `save_checkpoint` after every epoch (``Checkpoint(path, every=10)``: every
        tenth) and at the end, however the fit ends.
    on_interrupt : {"warn", "raise"}
        Ctrl-C ends `fit` with a warning and the weights so far, or also raises KeyboardInterrupt,
        as a search over parameters needs it to stop.
    backend : {"auto", "c", "numba", "numpy"}
        What computes. "auto": the first of C, Numba and NumPy that loads.
    n_threads : int or None
        None: all usable cores, at most OMP_NUM_THREADS. Results are bit-equal for any number.
    dtype : {"float32", "float64"}
        Working precision; X is converted to it.

    Attributes
    ----------
    loss_, best_loss_ : float
        Training cost of the last epoch; the best one (None under early stopping).
    loss_curve_ : list of float
    validation_scores_, best_validation_score_ : list and float, None without early stopping
    n_iter_ : int
        Epochs run, over all calls that continued this fit.
    t_ : int
        Training samples seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray of str, when X had string column names
    out_activation_ : str
    ended_by_ : str or None
        Why the last run ended: "max_iter", "tol" (early stopping too), "callback", "interrupted",
        "divergence" or, after another exception, "error". None: `partial_fit`, or the file of a run
        that was killed.
    backend_ : str
        The backend that trained.
    input_center_, input_scale_ : ndarray of shape (n_features,), under `input_scaling` "auto"
    batch_size_ : int
        What was meant by "auto", as are the attributes that bear a parameter's name and "_".
    """

    _network_parameter = "hidden_layer_sizes"  # which says what the layers are
    _one_rate = "layer of weights, input to output"  # there is one for each
    _auto_batch_size = auto.BATCH_SIZE
    _amplitude = 1.0  # of standardised targets
    _chosen = ()  # what a fit chooses, and a file must hold
    _words: dict = {"learning_rate": RATE_WORDS}
    _parameter_constraints: dict = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "input_scaling": [None, StrOptions({AUTO})],
        "solver": [StrOptions({AUTO, *OPTIMIZERS})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [StrOptions({AUTO}), Interval(Real, 0, None, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(RATE_WORDS)), InverseScaling, Exponential, Cosine],
        "learning_rate_init": [
            StrOptions({AUTO}),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
        ],
        "bias_learning_rate_init": [None, Interval(Real, 0, None, closed="left"), "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [
            StrOptions({AUTO}),
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "callbacks": [None, "array-like", callable],
        "checkpoint": [None, str, HasMethods("__fspath__"), Checkpoint],
        "backend": [StrOptions({"auto", *BACKENDS})],
        "on_interrupt": [StrOptions({"warn", "raise"})],
        "n_threads": [None, Interval(Integral, 1, MAX_THREADS, closed="both")],
        "dtype": [StrOptions({"float32", "float64"})],
    }

    # ---- what a concrete estimator supplies ----

    @abstractmethod
    def _new_network(self, kernels, sizes, rng):
        """A network with fresh parameters."""

    @abstractmethod
    def _fitted_network(self, kernels):
        """The network over the fitted parameter arrays (not copies)."""

    def _fitted_arrays(self):
        """Weights, biases and feedback weights (or None), as lists a network can take and train in
        place.

        Arrays that came read-only, from a memory map or a joblib worker, are copied.
        """
        return tuple(
            writable(getattr(self, name, None))
            for name in ("coefs_", "intercepts_", "feedback_coefs_")
        )

    @abstractmethod
    def _keep_network(self, network):
        """Publish the network's arrays as fitted attributes."""

    @abstractmethod
    def _plan(self, batch_size, rate, bias_rate):
        """The `TrainPlan` of the learning rule."""

    # ---- parts ----

    @property
    def _solver(self):
        return self.solver

    @property
    def _relaxation(self):
        return self._part(RELAXATION)

    @property
    def _rule(self):
        return self._part(RULE)

    @property
    def _checkpoint(self):
        """The `Checkpoint` that the parameter is or, as a path, stands for; or None."""
        value = self.checkpoint
        return value if value is None or isinstance(value, Checkpoint) else Checkpoint(value)

    @classmethod
    def _with_overrides(cls, parameters, overrides):
        """An estimator of parameters, those of its parts (``learning_rule__beta``) among the
        overrides.
        """
        nested = {name: value for name, value in overrides.items() if "__" in name}
        plain = {name: value for name, value in overrides.items() if name not in nested}
        return cls(**{**parameters, **plain}).set_params(**nested)

    # ---- sizes and rates ----

    def _hidden_sizes(self):
        sizes = self.hidden_layer_sizes
        sizes = sizes if is_list(sizes) else [sizes]
        if isinstance(sizes, (dict, set)) or not all(is_size(n) for n in sizes):
            raise ValueError(
                f"hidden_layer_sizes must be integers from 1 to {MAX_INT}, got {self.hidden_layer_sizes!r}"
            )
        return tuple(int(n) for n in sizes)

    def _check_layers(self):
        """Refuse layers that no data could suit."""
        self._hidden_sizes()

    def _sizes(self, n_features, n_outputs):
        """Units of each layer, input first, of a network for such data."""
        return n_features, *self._hidden_sizes(), n_outputs

    def _row_weights(self, X, y, sample_weight, incremental):
        """sample_weight, with class weights multiplied in by the classifier; None when all are 1."""
        if sample_weight is None:
            return None
        weight = _check_sample_weight(
            sample_weight, X, dtype=np.dtype(self.dtype), ensure_non_negative=True
        )
        return weight

    def _rates(self, n_weights):
        """Rates of weights and of biases, one per weight matrix, input first."""
        rate = self._weight_rates(n_weights)
        if self.bias_learning_rate_init is None:
            return rate, rate
        bias_rate = self.bias_learning_rate_init
        return rate, per_layer(
            "bias_learning_rate_init", bias_rate, n_weights, True, self._one_rate
        )

    def _weight_rates(self, n_weights):
        return per_layer(
            "learning_rate_init", self.learning_rate_init, n_weights, False, self._one_rate
        )

    def _batch_size(self, n_samples):
        if self.batch_size == AUTO:
            return auto.batch_size(n_samples, self._auto_batch_size)
        if self.batch_size > n_samples:
            warnings.warn(
                f"batch_size={self.batch_size} is larger than the number of training samples; "
                f"clipped to {n_samples}",
                stacklevel=7,
            )
        return min(int(self.batch_size), n_samples)

    # ---- fitting ----

    @_fit_context(prefer_skip_nested_validation=True)
    def resume(self, X, y, sample_weight=None):
        """Go on with an interrupted or reloaded fit, on the same data, until `max_iter` epochs in
        all.

        A run that ended by `tol` and `n_iter_no_change`, as they stand now, trains no more.
        Callbacks that an exception or a kill kept from answering are asked of that epoch first.

        Parameters
        ----------
        X, y, sample_weight
            As given to `fit`.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
        """
        check_is_fitted(self, "_state")
        remaining = max(0, self.max_iter - self._state.epoch)
        if remaining == 0 and not self._is_unanswered():
            return self
        return self._fit(X, y, sample_weight, n_epochs=remaining)

    def _is_unanswered(self):
        """Whether callbacks have not answered to the last epoch of a run that goes on."""
        return self._state.unanswered is not None and bool(self.callbacks)

    @contextmanager
    def _unchanged_on_error(self):
        """Undo what the block has set on the estimator if it fails: a refused call loses nothing."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(self, X, y, sample_weight=None, incremental=False, n_epochs=None, classes=None):
        with self._unchanged_on_error():
            if incremental:
                self._first_partial_fit(y, classes)
            job = self._prepare_fit(X, y, sample_weight, incremental, n_epochs)
        _, _, state, settings, _ = job
        goes_on = state.ended is None or not has_stopped(state, settings)
        if n_epochs is None or goes_on or self._is_unanswered():
            self._run(*job, incremental)
        return self

    def _exclusive_classes(self):
        """Whether the largest output is the prediction."""
        return False

    def _first_partial_fit(self, y, classes):
        """What the first partial_fit fixes for good."""

    def _prepare_fit(self, X, y, sample_weight, incremental, n_epochs):
        """Everything that can refuse the data or a parameter; nothing is trained yet."""
        self._check_layers()
        self._check_files_and_callbacks()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if incremental and self._relaxation.start == "persistent":
            raise ValueError(
                "partial_fit does not support relaxation__start='persistent': it cannot tell samples it saw "
                "before"
            )
        first = not hasattr(self, "_state") or (
            not self.warm_start and not incremental and n_epochs is None
        )
        X, y = self._validate_targets(X, y, incremental or n_epochs is not None, first)
        row_weight = self._row_weights(X, y, sample_weight, incremental)
        if row_weight is not None and not row_weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        if first:
            self._look_at(X, y, row_weight)
        X = self._to_sources(X)
        with np.errstate(over="ignore"):
            target = self._encode_targets(y, row_weight, first, incremental)
            target = np.ascontiguousarray(target, dtype=X.dtype)
        if not np.isfinite(target).all():
            raise ValueError(
                f"y is too large for {X.dtype}, in the scale of the targets of the first call"
            )
        sizes = self._sizes(X.shape[1], target.shape[1])
        kernels = get_backend(self.backend)
        if first:
            state, network = self._initialise(kernels, sizes)
            self._look_at_network(network, X, row_weight)
        else:
            state, network = self._state, self._continued_network(kernels, sizes)
        self.backend_ = kernels.name

        rows = np.arange(X.shape[0], dtype=np.int64)
        validate = None
        if self.early_stopping:
            rows, held_out = self._split(rows, y, state)
            validate = self._validator(network, X, y, row_weight, held_out)
        data = TrainingData(X, target, rows, row_weight)
        if not data.total_weight() > 0:
            raise ValueError(
                "sample_weight of the training rows left by early_stopping is zero everywhere"
            )
        settings = self._settings(
            len(rows), network, 1 if incremental else n_epochs, target.shape[1], incremental
        )
        settings = replace(settings, whole=not incremental)
        position = state.position  # only `resume` is given the data of the interrupted epoch
        if position and (
            n_epochs is None or not position.fits(len(rows), settings.plan.batch_size)
        ):
            state.position = None
        if n_epochs is None:
            state.unanswered = None
        self._prepare_particles(network, state, X.shape[0], keep=not first)
        self._adopt_solver(network, state)
        if self.checkpoint is not None:
            self._check_storable()
        return network, data, state, settings, validate

    def _look_at_network(self, network, X, weight):
        """Choose what depends on the network before training."""

    def _check_files_and_callbacks(self):
        callbacks = self.callbacks
        if callbacks is not None and not callable(callbacks):
            if not is_list(callbacks):
                raise ValueError(
                    f"callbacks must be a callable or a list of them, got {callbacks!r}"
                )
            wrong = [c for c in callbacks if not callable(c)]
            if wrong:
                raise ValueError(f"callbacks must be callables, got {wrong[0]!r}")
        if self.checkpoint is not None:
            path = self._checkpoint.path
            try:
                remove_leftovers(check_writable(path))
            except OSError as error:
                raise ValueError(f"checkpoint={path!r}: {error.strerror}") from error
            except ValueError as error:  # a null byte
                raise ValueError(f"checkpoint={path!r}: {error}") from error

    def _initialise(self, kernels, sizes):
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        state = TrainingState(RandomStreams(seed), split_seed=seed)
        try:
            network = self._new_network(kernels, sizes, state.streams.init)
        except MemoryError as error:
            raise ValueError(
                f"{self._network_parameter}={getattr(self, self._network_parameter)!r}: not enough memory "
                f"for the weights of layers {tuple(sizes)}"
            ) from error
        # set at once, so that even an interrupted or diverged first fit leaves a usable estimator
        self._state = state
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self._keep_network(network)
        return state, network

    def _continued_network(self, kernels, sizes):
        network = self._fitted_network(kernels)
        fitted_sizes = tuple(network.spec.sizes)
        if fitted_sizes[:-1] == tuple(sizes[:-1]) and fitted_sizes[-1] != sizes[-1]:
            raise ValueError(
                f"y (with the cost it is trained by) needs {sizes[-1]} outputs, the fitted network has "
                f"{fitted_sizes[-1]}; refit with warm_start=False"
            )
        if fitted_sizes != tuple(sizes):
            raise ValueError(
                f"{self._network_parameter} (layers {tuple(sizes)}) differ from the fitted ones "
                f"{fitted_sizes}; refit with warm_start=False"
            )
        fitted = network.parameters[0].dtype
        if fitted != np.dtype(self.dtype):
            raise ValueError(
                f"dtype={self.dtype!r} differs from the fitted {fitted.name}; refit with warm_start=False"
            )
        self._check_continued(network)
        self._state.make_writable()
        self._keep_network(network)
        return network

    def _adopt_solver(self, network, state):
        """An empty memory for the optimiser in a first fit, and if the solver was changed since the
        last.
        """
        expected, kept = network.new_optimizer_state(self._solver), state.optimizer_state
        if (len(expected.velocity), len(expected.second)) != (len(kept.velocity), len(kept.second)):
            state.optimizer_state = expected

    def _split(self, rows, y, state):
        rows, held_out = train_test_split(
            rows,
            random_state=state.split_seed,
            test_size=self.validation_fraction,
            stratify=self._strata(y),
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase validation_fraction or the size of your dataset."
            )
        return np.sort(rows), held_out

    def _strata(self, y):
        """Classes that keep their shares in the split, where it can hold all of them; else None.

        Multilabel y and numbers are not stratified, as in scikit-learn's MLP.
        """
        if not is_classifier(self) or y.ndim == 2:
            return None
        counts = np.unique(y, return_counts=True)[1]
        held_out = math.ceil(self.validation_fraction * len(y))
        fits = counts.min() > 1 and len(counts) <= min(held_out, len(y) - held_out)
        return y if fits else None

    def _validator(self, network, X, y, row_weight, held_out):
        x_val, y_val = X[held_out], y[held_out]
        w_val = None if row_weight is None else row_weight[held_out]
        if w_val is not None and not w_val.any():
            w_val = None

        def validate():
            return float(self._score_outputs(self._network_outputs(network, x_val), y_val, w_val))

        return validate

    def _auto_schedule(self, streams):
        """What `learning_rate` "auto" is."""
        return "constant"

    def _settings(self, n_rows, network, n_epochs, n_outputs, streams):
        rate, bias_rate = self._rates(len(self.coefs_))
        batch_size = self.batch_size_ = self._batch_size(n_rows)
        schedule = self._part("learning_rate")
        word = self.learning_rate if schedule is None else schedule.word
        word = self._auto_schedule(streams) if word == AUTO else word
        patience = self.n_iter_no_change
        return FitSettings(
            plan=self._plan(batch_size, rate, bias_rate),
            n_epochs=self.max_iter if n_epochs is None else n_epochs,
            shuffle=self.shuffle,
            random_sign=self._rule.random_sign,
            classes=self._exclusive_classes() and n_outputs > 1,
            schedule=word,
            **({} if schedule is None else schedule.get_params()),
            period=self.max_iter,
            tol=self.tol,
            n_iter_no_change=auto.patience(word) if patience == AUTO else patience,
            loss_unit=self._amplitude**2,
            n_threads=effective_n_threads(self.n_threads),
            on_interrupt=self.on_interrupt,
            normal_start=self._relaxation.start == "normal",
        )

    def _prepare_particles(self, network, state, n_rows, keep):
        if self._relaxation.start != "persistent":
            state.particles = None
        elif not (keep and state.particles is not None and len(state.particles[0]) == n_rows):
            state.particles = network.new_particles(n_rows)

    def _run(self, network, data, state, settings, validate, incremental):
        callbacks = self.callbacks
        callbacks = (
            [] if callbacks is None else [callbacks] if callable(callbacks) else list(callbacks)
        )
        checkpoint = self._checkpoint
        written = None  # what the file holds: epoch, position in it, end of the run

        def write():
            nonlocal written
            self._publish(state)
            now = state.epoch, state.position, state.ended, state.unanswered
            if checkpoint is not None and written != now:
                self.save_checkpoint(os.fspath(checkpoint.path))
                written = now

        def on_epoch():
            if state.epoch % checkpoint.every == 0:
                write()

        try:
            with make_progress(
                self.verbose, settings.n_epochs, len(data.rows), state.epoch
            ) as progress:
                reason = fit_epochs(
                    network,
                    data,
                    state,
                    settings,
                    validate=validate,
                    callbacks=callbacks,
                    progress=progress,
                    on_epoch=None if checkpoint is None else on_epoch,
                )
        except BaseException:
            self._publish(state)
            with suppress(OSError):  # the failure of the fit says more
                write()
            raise
        write()
        if settings.whole and reason in ("max_iter", "tol"):
            self._say_how_it_ended(network, data, state)
        if reason == "max_iter" and not incremental and self.n_iter_no_change != np.inf:
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and the training loss or validation score "
                "was still improving.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _say_how_it_ended(self, network, data, state):
        unit = self._amplitude**2
        say_no_better(state.loss_curve[-1], unit, data, self._cost, is_classifier(self))
        rows = data.rows[:: -(-len(data.rows) // CHECKED_ROWS)]
        residual = np.empty(len(rows))
        self._network_outputs(network, data.x[rows], residual)
        say_unsettled(residual, self._relaxation, "fit", stacklevel=7)

    def _publish(self, state):
        self.n_iter_, self.t_ = state.epoch, state.samples_seen
        self.ended_by_ = state.ended
        self.loss_curve_ = list(state.loss_curve)
        self.loss_ = state.loss_curve[-1] if state.loss_curve else np.nan
        self.best_loss_ = None if self.early_stopping else state.best_loss
        self.validation_scores_ = list(state.validation_scores) if self.early_stopping else None
        self.best_validation_score_ = state.best_validation_score if self.early_stopping else None

    # ---- using the fitted network ----

    def _network_outputs(self, network, X, residual=None):
        free = self._relaxation
        n_threads = effective_n_threads(self.n_threads)
        return network.outputs(X, free.n_steps, kernel_tol(free.tol), n_threads, residual)

    def _outputs(self, X, relax=True):
        """Free-phase outputs for user input, in float64 (n_samples, n_outputs); not `relax`: those
        of the pass upwards at which it starts.
        """
        ready, X = self._ready_network(), self._validate_x(X, reset=False)
        X = self._to_sources(X)
        if not isinstance(relax, (bool, np.bool_)):
            raise ValueError(f"relax must be True or False, got {relax!r:.80}")
        if not relax:
            return self._pass_outputs(ready.network, X).astype(np.float64)
        outputs, residual = ready.one_row(X) or self._rows_outputs(ready.network, X)
        say_unsettled(residual, ready.free, "predict", stacklevel=4)
        return outputs.astype(np.float64)

    def _pass_outputs(self, network, X):
        if not network.passes:
            raise ValueError(
                f"relax=False: relaxation__start={self._relaxation.start!r} is no pass upwards; "
                "'recognition' learns one, and 'feedforward' is one"
            )
        return network.pass_outputs(X, effective_n_threads(self.n_threads))

    def _rows_outputs(self, network, X):
        residual = np.empty(X.shape[0])
        return self._network_outputs(network, X, residual), residual

    def _ready_network(self):
        """The fitted network, parameters checked; kept until a parameter or an array is another."""
        kept, now = KEPT.get(self), what_it_is_made_of(self)
        if kept is None or not kept.made_of(now):
            check_is_fitted(self)
            self._validate_params()  # they may have been set since the fit
            network, free = self._fitted_network(get_backend(self.backend)), self._relaxation
            kept = KEPT[self] = ReadyNetwork(now, network, free)
        return kept

    def _network_for(self, X):
        """The fitted network and user input, both checked."""
        network = self._ready_network().network
        return network, self._to_sources(self._validate_x(X, reset=False))

    def equilibrium(self, X):
        """Where the free phase ends for each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        Equilibrium
            ``states`` (list, first hidden layer to output), ``steps``, ``residual``, ``energy``.
        """
        network, X = self._network_for(X)
        free = self._relaxation
        return network.relax(
            X, free.n_steps, kernel_tol(free.tol), n_threads=effective_n_threads(self.n_threads)
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
