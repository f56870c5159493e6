"""What `ResistiveClassifier` and `ResistiveRegressor` share: network, presets, fit."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from ..circuits.devices import DeviceModel
from ..kernels import TrainPlan
from ..kernels.reference.crossbar import NUDGINGS, OPTIMIZERS, SCHEDULES
from ..kernels.spec import MAX_WEIGHTS
from ..networks.resistive import DIODES, ResistiveNetwork, ResistiveSpec, init_conductances
from ._base import MAX_INT, BaseNetworkEstimator
from ._resistive_io import ResistiveInterop
from .resistive_presets import resistive_preset

AUTO_BETA = 0.1  # beta="auto": at most this, and half the conductance at any output node
AUTO_RATE = 0.02  # learning_rate_init="auto"; less for the first layer of small networks, see `_rates`
SMALL = 1.6  # n hidden nodes are few if n^2 < SMALL * features * outputs
DEVICE_RANGE = 4.0  # device without g_on or g_max: largest over largest initial conductance
AUTO_GAIN = 2.0  # input_gain="auto": AUTO_GAIN**n_hidden sqrt(2 n_features) keeps voltages of order 1 V
_UNUSED = {"weight_decay", "beta_1", "beta_2", "epsilon"}  # conductances: SGD, with or without momentum


class BaseResistiveEstimator(ResistiveInterop, BaseNetworkEstimator):
    """What the classifier and the regressor share; not for direct use."""

    _parameter_constraints: dict = {
        **{k: v for k, v in BaseNetworkEstimator._parameter_constraints.items() if k not in _UNUSED},
        "solver": [StrOptions(set(OPTIMIZERS))],
        "learning_rate_init": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither"), "array-like"],
        "input_gain": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "amplifier_gain": [Interval(Real, 0, None, closed="neither")],
        "diodes": [StrOptions(set(DIODES))],
        "output_pairs": ["boolean"],
        "schedule": [StrOptions(set(SCHEDULES))],
        "beta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "nudging": [StrOptions(set(NUDGINGS))],
        "n_free_steps": [Interval(Integral, 1, MAX_INT, closed="both")],
        "n_nudged_steps": [Interval(Integral, 1, MAX_INT, closed="both")],
        "tol_free": [None, Interval(Real, 0, None, closed="left")],
        "tol_nudged": [None, Interval(Real, 0, None, closed="left")],
        "carry_over": ["boolean"],
        "conductance_gain": [Interval(Real, 0, None, closed="neither")],
        "g_min": [Interval(Real, 0, None, closed="left")],
        "g_max": [None, Interval(Real, 0, None, closed="neither")],
        "device": [None, dict],
    }
    _has_beta = True
    cost, persistent_particles, free_start = "squared_error", False, "zero"  # fixed; what the base asks for

    def _spec(self, sizes):
        if len(sizes) - 1 > MAX_WEIGHTS:
            raise ValueError(
                f"hidden_layer_sizes: at most {MAX_WEIGHTS - 1} hidden layers, got {len(sizes) - 2}"
            )
        g_max = np.inf if self.g_max is None else float(self.g_max)
        if not self.g_min < g_max:
            raise ValueError(
                f"g_max must be larger than g_min, got g_min={self.g_min!r} and g_max={self.g_max!r}"
            )
        low, high = _within(self.g_min, self.dtype, np.inf), _within(g_max, self.dtype, 0.0)
        if not low < high or low == np.inf:
            raise ValueError(
                f"g_min={self.g_min!r} and g_max={self.g_max!r} leave no range of {self.dtype} between them"
            )
        n_hidden, gain = len(sizes) - 2, self.input_gain
        if gain == "auto":
            gain = AUTO_GAIN ** max(n_hidden, 1) * np.sqrt(2.0 * sizes[0])
        return ResistiveSpec(
            sizes=tuple(int(n) for n in sizes),
            input_gain=float(gain),
            amplifier_gain=float(self.amplifier_gain),
            diodes=self.diodes,
            pairs=self.output_pairs,
            schedule=self.schedule,
            carry_over=self.carry_over,
            g_min=low,
            g_max=high,
        )

    def _new_network(self, kernels, sizes, rng):
        spec = self._spec(sizes)
        if self.device is not None:
            self._device_model(spec, 1)  # refuse bad devices before anything is fitted
        self._check_steps(spec)
        self.n_outputs_ = spec.sizes[-1]
        self._rates(spec.n_weights)  # refuse bad rates before anything is fitted
        weights, biases = init_conductances(spec, self.conductance_gain, rng, np.dtype(self.dtype))
        self.beta_ = min(AUTO_BETA, 0.5 * float(weights[-1].sum(axis=0, dtype=np.float64).min()))
        return ResistiveNetwork(spec, kernels, weights, biases)

    def _weight_rates(self, n_weights):
        """Rates of conductances; "auto" spares the first layer of a small network.

        Each of n hidden nodes makes 1/n of every output and takes the nudges of all outputs; with few of them
        the first updates are so large that diodes close for every sample, and a node held at 0 V learns no
        more. Measured with one hidden layer; deeper networks did not gain.
        """
        if not isinstance(self.learning_rate_init, str):
            return super()._weight_rates(n_weights)
        rate = np.full(n_weights, AUTO_RATE)
        hidden = self._hidden_sizes()
        if len(hidden) == 1:
            rate[0] *= min(1.0, hidden[0] ** 2 / (SMALL * self.n_features_in_ * self.n_outputs_))
        return tuple(rate.tolist())

    def _check_steps(self, spec):
        if self.n_free_steps < spec.steps_to_output:
            raise ValueError(
                f"n_free_steps={self.n_free_steps}: with schedule={self.schedule!r} the input needs "
                f"{spec.steps_to_output} steps to the output of {spec.n_weights - 1} hidden layers"
            )

    def _device_model(self, spec, rows):
        """The devices of a crossbar with `rows` rows; what they can hold is fixed once and for all."""
        model = DeviceModel.of(self.device)
        if model.g_on is not None:
            return model
        g_on = spec.g_max if np.isfinite(spec.g_max) else DEVICE_RANGE * self.conductance_gain / np.sqrt(rows)
        return replace(model, g_on=float(g_on))

    def _fitted_network(self, kernels):
        nodes = [w.shape[1] for w in self.coefs_]
        sizes = (self.coefs_[0].shape[0] // 2, *nodes[:-1], nodes[-1] // (2 if self.output_pairs else 1))
        spec = self._spec(sizes)
        if kernels is not None:  # to relax, and not only to be looked at
            self._check_steps(spec)
        weights, biases, _ = self._fitted_arrays()
        return ResistiveNetwork(spec, kernels, weights, biases)

    def _keep_network(self, network):
        self.coefs_, self.intercepts_ = network.weights, network.biases
        self.input_gain_ = network.spec.input_gain
        self.out_activation_ = "identity"

    @property
    def conductances_(self):
        return self.coefs_

    @property
    def bias_currents_(self):
        return self.intercepts_

    def _check_arrays(self, name, arrays, shapes):
        super()._check_arrays(name, arrays, shapes)
        conductances = [a for a in arrays if a.ndim == 2]
        if "parameters" in name or "coefs_" in name:
            if any((g < 0).any() for g in conductances):
                raise ValueError("conductances must be >= 0")

    def _check_continued(self, network):
        self._rates(network.spec.n_weights)
        self._check_steps(network.spec)
        if self.device is not None:
            self._device_model(network.spec, 1)

    def _plan(self, batch_size, rate, bias_rate):
        beta = float(self.beta_ if self.beta == "auto" else self.beta)
        return TrainPlan(
            batch_size=batch_size,
            beta=-beta if self.nudging == "negative" else beta,
            n_free_steps=self.n_free_steps,
            n_nudged_steps=self.n_nudged_steps,
            rate=rate,
            bias_rate=bias_rate,
            tol_free=-1.0 if self.tol_free is None else float(self.tol_free),
            tol_nudged=-1.0 if self.tol_nudged is None else float(self.tol_nudged),
            centered=self.nudging == "centered",
            optimizer=self.solver,
            momentum=float(self.momentum),
        )

    def _prepare_particles(self, network, state, n_rows, keep):
        """The state carried from batch to batch; made anew for another batch size."""
        if not self.carry_over:
            state.particles = None
            return
        rows = self._batch_size(n_rows) if not self.early_stopping else None
        if not (keep and state.particles is not None and (rows is None or len(state.particles[0]) == rows)):
            state.particles = network.new_particles(rows or self._batch_size(n_rows))

    def _run(self, network, data, state, settings, validate, incremental):
        if self.device is not None:
            seed = state.split_seed
            arrays = [
                self._device_model(network.spec, len(g)).array(g.shape, np.random.default_rng((seed, k)))
                for k, g in enumerate(network.weights)
            ]

            def write():
                epoch = state.epoch
                for k, (g, array) in enumerate(zip(network.weights, arrays)):
                    g[...] = array.write(g, np.random.default_rng((seed, k, epoch + 1)), verify=True)

            done = 0 if state.position is None else state.position.batches * settings.plan.batch_size
            network.write_after(len(data.rows), write, done)
        super()._run(network, data, state, settings, validate, incremental)

    @classmethod
    def from_paper(cls, name, **overrides):
        """An estimator with a paper's hyperparameters.

        Parameters
        ----------
        name : str
            A name of `eqprop_fast.list_resistive_presets()`, such as ``"2402.11674/DRN-XS"``.
        **overrides
            Any constructor parameter, replacing the preset's.

        Raises
        ------
        ValueError
            Unknown preset.
        """
        return cls(**{**resistive_preset(name).parameters, **overrides})

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit to data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Scaled to about [-1, 1]; zeros cost nothing, so do not centre sparse data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,) or None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad data or parameters.
        NudgeError
            Centered or negative nudging, and `beta` exceeds the conductance at an output node.
        DivergenceError
            Voltages or conductances became non-finite; the estimator is as after its last whole epoch.
        """
        return self._fit(X, y, sample_weight)


def _within(bound, dtype, towards):
    """The number of `dtype` next to `bound` that does not pass it on the way out of the range."""
    with np.errstate(over="ignore", under="ignore"):
        number = np.dtype(dtype).type(bound)
    passed = float(number) > bound if towards == 0 else float(number) < bound
    return float(np.nextafter(number, np.dtype(dtype).type(towards)) if passed else number)
