"""What `ResistiveClassifier` and `ResistiveRegressor` share: network, presets, fit."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.base import _fit_context, clone
from sklearn.utils._param_validation import Interval, StrOptions

from .. import auto
from ..circuits.devices import DeviceModel
from ..costs import SquaredError
from ..kernels.reference.crossbar import OPTIMIZERS
from ..kernels.spec import MAX_WEIGHTS
from ..networks.resistive import CIRCUITS, ResistiveCircuit, ResistiveNetwork, init_conductances
from ..parts import part_classes
from ..presets import resistive_preset
from ..relaxation import RESISTIVE_RELAXATIONS, ResistiveRelaxation
from ..rules import RESISTIVE_RULES, ResistiveEP
from ._base import BaseNetworkEstimator
from ._checks import check_sizes
from ._export import ExportMixin
from ._resistive_io import ResistiveInterop

AUTO_BETA = 0.1  # beta="auto": at most this, and half the conductance at any output node
# learning_rate_init="auto"; less for the first layer of small networks, see `_rates`
AUTO_RATE = 0.02
SMALL = 1.6  # n hidden nodes are few if n^2 < SMALL * features * outputs
DEVICE_RANGE = 4.0  # device without g_on or g_max: largest over largest initial conductance
# input_gain="auto": AUTO_GAIN**n_hidden sqrt(2 n_features) keeps voltages of order 1 V
AUTO_GAIN = 2.0
_UNUSED = {
    "weight_decay",
    "beta_1",
    "beta_2",
    "epsilon",
}  # conductances: SGD, with or without momentum


class BaseResistiveEstimator(ExportMixin, ResistiveInterop, BaseNetworkEstimator):
    """What the classifier and the regressor share; not for direct use.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Nodes of each hidden layer, from input to output.
    circuit : {"signed", "clipped", "none"} or ResistiveCircuit
        Diodes, amplifiers, outputs and the range of the conductances; a word names the diodes.
    input_gain : "auto" or float
        The sources stand at +-input_gain * x volt. Every layer of conductances averages, and so
        attenuates: deep or wide-input networks need a large gain (2402.11674 uses 100 to 4000 on
        MNIST). "auto" takes ``2**n_hidden * sqrt(2 * n_features)``, for inputs scaled to about unit
        size.
    relaxation : {"asynchronous", "synchronous", "forward", "backward"} or ResistiveRelaxation
        How the circuit is solved; a word names the order of the layers.
    learning_rule : {"ep"} or ResistiveEP
        Such as ``ResistiveEP(beta=0.05, nudging="positive")``.
    device : DeviceModel, dict of its parameters or None
        After every epoch the conductances are written to such devices
        (`eqprop_fast.circuits.devices.DeviceModel`), and training goes on from what the devices
        hold. Their `g_on` is by default the circuit's g_max, or without that 4 conductance_gain /
        sqrt(rows). None: ideal conductances.
    solver : {"sgd", "momentum", "nesterov"}
        How conductances and bias currents follow the gradient; conductances are clamped to their
        bounds after every step, the momentum is not.
    learning_rate_init : "auto", float or sequence of float
        Rate of every layer of conductances, or one per layer from input to output. "auto": 0.02;
        with one hidden layer of n nodes, the first rate is 0.02 n^2 / (1.6 n_features n_outputs) if
        that is less.
    bias_learning_rate_init : None, float or sequence of float
        Rate of the bias currents; None: that of the conductances that feed the layer.
    momentum : float
        Of "momentum" and "nesterov", in [0, 1).

    Attributes
    ----------
    conductances_ : list of ndarray
        ``conductances_[0]`` (2 n_features, nodes of layer 1): rows of +x, then of -x.
        ``conductances_[k]`` (nodes of layer k, nodes of layer k+1). In siemens; `coefs_` is the
        same list.
    bias_currents_ : list of ndarray
        Current into each node, in ampere (referred to the output); `intercepts_` is the same list.
    input_gain_, beta_ : float
        What "auto" means for this network.
    """

    _words: dict = {
        **BaseNetworkEstimator._words,
        "circuit": CIRCUITS,
        "relaxation": RESISTIVE_RELAXATIONS,
        "learning_rule": RESISTIVE_RULES,
    }
    _parameter_objects = *part_classes(_words), DeviceModel
    _parameter_constraints: dict = {
        **{
            k: v for k, v in BaseNetworkEstimator._parameter_constraints.items() if k not in _UNUSED
        },
        "circuit": [StrOptions(set(CIRCUITS)), ResistiveCircuit],
        "input_gain": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "relaxation": [StrOptions(set(RESISTIVE_RELAXATIONS)), ResistiveRelaxation],
        "learning_rule": [StrOptions(set(RESISTIVE_RULES)), ResistiveEP],
        "device": [None, dict, DeviceModel],
        "solver": [StrOptions(set(OPTIMIZERS))],
        "learning_rate_init": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
        ],
    }
    _chosen = ("beta_",)
    _source_limit = auto.SOURCE_LIMIT
    _auto_batch_size = auto.RESISTIVE_BATCH_SIZE
    _cost = SquaredError()  # the only one

    @property
    def _circuit(self):
        return self._part("circuit")

    def _spec(self, sizes):
        if len(sizes) - 1 > MAX_WEIGHTS:
            raise ValueError(
                f"hidden_layer_sizes: at most {MAX_WEIGHTS - 1} hidden layers, got {len(sizes) - 2}"
            )
        n_hidden, gain, relaxation = len(sizes) - 2, self.input_gain, self._relaxation
        if gain == "auto":
            gain = AUTO_GAIN ** max(n_hidden, 1) * np.sqrt(2.0 * sizes[0])
        return self._circuit.spec(
            sizes,
            self.dtype,
            input_gain=float(gain),
            schedule=relaxation.schedule,
            carry_over=relaxation.start == "carry_over",
        )

    def _new_network(self, kernels, sizes, rng):
        spec = self._spec(sizes)
        if self.device is not None:
            self._device_model(spec, 1)  # refuse bad devices before anything is fitted
        self._relaxation.check(spec)
        self.n_outputs_ = spec.sizes[-1]
        self._rates(spec.n_weights)  # refuse bad rates before anything is fitted
        weights, biases = init_conductances(
            spec, self._circuit.conductance_gain, rng, np.dtype(self.dtype)
        )
        self.beta_ = min(AUTO_BETA, 0.5 * float(weights[-1].sum(axis=0, dtype=np.float64).min()))
        if self._rule.beta == "auto" and not self.beta_ >= np.finfo(self.dtype).tiny:
            raise ValueError(
                f"circuit: conductance_gain={self._circuit.conductance_gain!r} leaves an output node without "
                "a conductance of which beta='auto' could take half"
            )
        return ResistiveNetwork(spec, kernels, weights, biases)

    def _look_at_network(self, network, X, weight):
        siemens = float(network.weights[-1].sum(axis=0, dtype=np.float64).max())
        self._rule.say_weak_nudge(self._relaxation, self.beta_, siemens, self.dtype, stacklevel=7)

    def _weight_rates(self, n_weights):
        """Rates of conductances; "auto" spares the first layer of a small network.

        Each of n hidden nodes makes 1/n of every output and takes the nudges of all outputs; with
        few of them the first updates are so large that diodes close for every sample, and a node
        held at 0 V learns no more. Measured with one hidden layer; deeper networks did not gain.
        """
        if not isinstance(self.learning_rate_init, str):
            return super()._weight_rates(n_weights)
        rate = np.full(n_weights, AUTO_RATE)
        hidden = self._hidden_sizes()
        if len(hidden) == 1:
            rate[0] *= min(1.0, hidden[0] ** 2 / (SMALL * self.n_features_in_ * self.n_outputs_))
        return tuple(rate.tolist())

    def _device_model(self, spec, rows):
        """The devices of a crossbar with `rows` rows; what they can hold is fixed once and for all."""
        model = DeviceModel.of(self.device)
        if model.g_on is not None:
            return model
        g_on = spec.g_max
        if not np.isfinite(g_on):
            g_on = DEVICE_RANGE * self._circuit.conductance_gain / np.sqrt(rows)
        return clone(model).set_params(g_on=float(g_on))

    def _fitted_network(self, kernels):
        nodes = [w.shape[1] for w in self.coefs_]
        sizes = (
            self.coefs_[0].shape[0] // 2,
            *nodes[:-1],
            nodes[-1] // (2 if self._circuit.output_pairs else 1),
        )
        spec = self._spec(sizes)
        if kernels is not None:  # to relax, and not only to be looked at
            self._relaxation.check(spec)
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
        super()._check_continued(network)
        self._rates(network.spec.n_weights)
        self._relaxation.check(network.spec)
        if self.device is not None:
            self._device_model(network.spec, 1)

    def _rates(self, n_weights):
        rate, bias_rate = super()._rates(n_weights)
        check_sizes(self.dtype, {"learning_rate_init": rate, "bias_learning_rate_init": bias_rate})
        return rate, bias_rate

    def _plan(self, batch_size, rate, bias_rate):
        return self._rule.plan(
            self._relaxation,
            self.beta_,
            batch_size=batch_size,
            rate=rate,
            bias_rate=bias_rate,
            optimizer=self.solver,
            momentum=float(self.momentum),
        )

    def _prepare_particles(self, network, state, n_rows, keep):
        """The state carried from batch to batch; made anew for another batch size."""
        if self._relaxation.start != "carry_over":
            state.particles = None
            return
        rows = self._batch_size(n_rows) if not self.early_stopping else None
        if not (
            keep
            and state.particles is not None
            and (rows is None or len(state.particles[0]) == rows)
        ):
            state.particles = network.new_particles(rows or self._batch_size(n_rows))

    def _run(self, network, data, state, settings, validate, incremental):
        if self.device is not None:
            seed = state.split_seed
            arrays = [
                self._device_model(network.spec, len(g)).array(
                    g.shape, np.random.default_rng((seed, k))
                )
                for k, g in enumerate(network.weights)
            ]

            def write():
                epoch = state.epoch
                for k, (g, array) in enumerate(zip(network.weights, arrays)):
                    g[...] = array.write(
                        g, np.random.default_rng((seed, k, epoch + 1)), verify=True
                    )

            done = (
                0 if state.position is None else state.position.batches * settings.plan.batch_size
            )
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
            Parameters that replace the preset's, nested ones (``learning_rule__beta``) too.

        Raises
        ------
        ValueError
            Unknown preset.
        """
        return cls._with_overrides(resistive_preset(name).parameters, overrides)

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
            Centered or negative nudging, and the rule's `beta` exceeds the conductance at an output
            node.
        DivergenceError
            Voltages or conductances became non-finite; the estimator is as after its last whole
            epoch.
        """
        return self._fit(X, y, sample_weight)
