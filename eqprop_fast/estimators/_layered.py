"""What the layered classifier and regressor share: parameters, network, plan, `fit`, `resume`."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from ..kernels import ACTIVATIONS, LayeredSpec, TrainPlan
from ..kernels.spec import COSTS, DYNAMICS, MAX_WEIGHTS, RULES, SCHEDULES, VECTOR_FIELD_RULES, check_rule
from ..networks.asymmetry import backward_weights, check_angle
from ..networks.layered import WEIGHT_INITS, LayeredNetwork, init_parameters
from ._base import MAX_INT, BaseNetworkEstimator, _per_layer
from ._export import ExportMixin
from .presets import preset_parameters

NUDGINGS = ("positive", "random_sign", "centered")
NOT_NUDGED = ("contrastive", "clamped_sweep", "bptt", "recurrent_backprop", "implicit")


class BaseLayeredEstimator(ExportMixin, BaseNetworkEstimator):
    """What the classifier and the regressor share; not for direct use."""

    _has_beta = False  # whether a fit chooses the strength of the nudge, `beta_`
    _not_of_papers = ()  # parameters of a preset that the estimator keeps at its own default

    _parameter_constraints: dict = {
        **BaseNetworkEstimator._parameter_constraints,
        "dynamics": [StrOptions(set(DYNAMICS))],
        "schedule": [StrOptions(set(SCHEDULES) - {"forward"})],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "out_activation": [StrOptions({"auto", *ACTIVATIONS})],
        "input_activation": [StrOptions(set(ACTIVATIONS))],
        "learning_rule": [StrOptions(set(RULES))],
        "feedback_angle": [Interval(Real, 0, 180, closed="both")],
        "beta": [Interval(Real, 0, None, closed="neither"), Interval(Real, None, 0, closed="neither")],
        "nudging": [StrOptions(set(NUDGINGS))],
        "nudge_inside": ["boolean"],
        "n_free_steps": [Interval(Integral, 1, MAX_INT, closed="both")],
        "n_nudged_steps": [Interval(Integral, 1, MAX_INT, closed="both")],
        "over_relaxation": [Interval(Real, 1, 2, closed="left")],
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
        "carry_over": ["boolean"],
        "free_start": [StrOptions({"zero", "normal"})],
        "weight_init": [StrOptions(set(WEIGHT_INITS))],
        "weight_gain": [Interval(Real, 0, None, closed="neither"), "array-like"],
    }

    def _spec(self, sizes):
        if len(sizes) - 1 > MAX_WEIGHTS:
            raise ValueError(
                f"hidden_layer_sizes: at most {MAX_WEIGHTS - 1} hidden layers, got {len(sizes) - 2}"
            )
        return LayeredSpec(
            sizes=tuple(int(n) for n in sizes), dynamics=self.dynamics, schedule=self.schedule,
            activation=self.activation, out_activation=self._output_function(),
            input_activation=self.input_activation, prime_hidden=self.prime_hidden,
            prime_output=self.prime_output, linear_output=self.linear_output,
            clamp=self.clamp and self.dynamics == "continuous", nudge_inside=self.nudge_inside,
            cost=self.cost, cost_factor=float(self.cost_factor), dt=float(self.dt),
        )

    def _output_function(self):
        """`out_activation`, "auto" resolved: the softmax of cross-entropy wants outputs without bounds."""
        if self.out_activation != "auto":
            return self.out_activation
        return "identity" if self.cost == "cross_entropy" else "shifted_sigmoid"

    def _new_network(self, kernels, sizes, rng):
        spec = self._spec(sizes)
        self._check_rule(spec)  # before anything is fitted
        weights, biases = init_parameters(
            spec.sizes, self.weight_init,
            _per_layer("weight_gain", self.weight_gain, spec.n_weights, allow_zero=False),
            rng, np.dtype(self.dtype),
        )
        back = None
        if self.learning_rule in VECTOR_FIELD_RULES:
            back = backward_weights(weights, check_angle(self.feedback_angle, "feedback_angle"), rng)
        return self._network(spec, kernels, weights, biases, back)

    def _network(self, spec, kernels, weights, biases, back):
        return LayeredNetwork(
            spec, kernels, weights, biases, back, float(self.over_relaxation), self.carry_over,
            self.learning_rule,
        )

    def _check_rule(self, spec):
        """Refuse what the learning rule cannot serve, in the estimator's own parameter names."""
        plan = self._plan(1, *self._rates(spec.n_weights))
        self._check_range(plan)
        if self.nudging == "random_sign" and plan.rule in NOT_NUDGED:
            raise ValueError(f"nudging: learning_rule={plan.rule!r} has no nudging whose sign could change")
        if self.carry_over and plan.rule != "ep":
            raise ValueError(f"carry_over: only for learning_rule='ep', not {plan.rule!r}")
        if self.carry_over and self.persistent_particles:
            raise ValueError("carry_over and persistent_particles are two starts of the free phase: take one")
        if self.free_start != "zero":
            if self.carry_over or self.persistent_particles:
                raise ValueError("free_start: carry_over and persistent_particles have starts of their own")
            if plan.rule == "bptt":
                raise ValueError("free_start: learning_rule='bptt' unrolls the free phase from zero")
        if self.feedback_angle != 0 and plan.rule not in VECTOR_FIELD_RULES:
            raise ValueError(
                f"feedback_angle={self.feedback_angle!r}: learning_rule={plan.rule!r} has no feedback "
                f"weights of its own; only {VECTOR_FIELD_RULES} have"
            )
        if plan.rule == "clamped_sweep" and spec.schedule != "asynchronous":
            raise ValueError("schedule: learning_rule='clamped_sweep' sweeps layer by layer: 'asynchronous'")
        try:
            check_rule(spec, plan, plan.rule in VECTOR_FIELD_RULES, self.persistent_particles)
        except ValueError as error:
            message = str(error).replace("optimizer=", "solver=").replace("tol:", "tol_nudged:")
            raise ValueError(message.replace("persistent particles:", "persistent_particles:")) from None

    def _check_range(self, plan):
        """Refuse numbers that `dtype` has not: they would act as 0 or as infinity."""
        limits, dtype = np.finfo(self.dtype), np.dtype(self.dtype).type
        smallest, largest = float(limits.tiny), float(limits.max)
        bounds = f"{smallest:.2g} to {largest:.2g}"
        factors = {name: [getattr(self, name)] for name in ("beta", "dt", "cost_factor")}
        factors["learning_rate_init"], factors["bias_learning_rate_init"] = plan.rate, plan.bias_rate
        factors["weight_decay"] = [plan.weight_decay]
        if plan.optimizer == "adam":
            factors["epsilon"] = [plan.epsilon]
        for name, values in factors.items():
            for value in values:
                if value != 0 and not smallest <= abs(value) <= largest:
                    raise ValueError(f"{name}={value!r}: its size must be from {bounds} in {self.dtype}")
        for name in ("momentum", "beta_1", "beta_2"):
            value = getattr(self, name)
            if dtype(value) == 1:
                raise ValueError(f"{name}={value!r} is 1 in {self.dtype}: it would never forget")

    def _check_continued(self, network):
        if (self.learning_rule in VECTOR_FIELD_RULES) != (network.back is not None):
            has = "independent" if network.back is not None else "no independent"
            raise ValueError(
                f"learning_rule={self.learning_rule!r}: the fitted network has {has} feedback weights; refit "
                "with warm_start=False"
            )
        self._check_rule(network.spec)

    def _fitted_network(self, kernels):
        sizes = (self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_))
        return self._network(self._spec(sizes), kernels, *self._fitted_arrays())

    def _keep_network(self, network):
        self.coefs_, self.intercepts_ = network.weights, network.biases
        if network.back is not None:
            self.feedback_coefs_ = network.back
        elif hasattr(self, "feedback_coefs_"):
            del self.feedback_coefs_
        self.out_activation_ = "softmax" if self.cost == "cross_entropy" else self._output_function()

    def _prepare_particles(self, network, state, n_rows, keep):
        if not self.carry_over:
            super()._prepare_particles(network, state, n_rows, keep)
        elif not (keep and state.particles is not None):
            state.particles = network.new_particles(self._batch_size(n_rows))

    def _publish(self, state):
        super()._publish(state)
        if hasattr(self, "feedback_coefs_"):
            self.feedback_angle_curve_ = [list(angles) for angles in state.angle_curve]
        elif hasattr(self, "feedback_angle_curve_"):
            del self.feedback_angle_curve_

    def _plan(self, batch_size, rate, bias_rate):
        return TrainPlan(
            batch_size=batch_size, beta=float(self.beta), n_free_steps=self.n_free_steps,
            n_nudged_steps=self.n_nudged_steps, rate=rate, bias_rate=bias_rate, rule=self.learning_rule,
            over_relaxation=float(self.over_relaxation),
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
        parameters = {k: v for k, v in preset_parameters(name).items() if k not in cls._not_of_papers}
        return cls(**{**parameters, **overrides})

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
            States or weights became non-finite; the estimator is as after its last whole epoch.
        """
        return self._fit(X, y, sample_weight)
