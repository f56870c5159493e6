"""What the estimators of chains and of graphs share: parameters, plan, `fit`, `resume`."""

from __future__ import annotations

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions

from .. import auto
from ..auto import AUTO
from ..costs import COSTS, Cost
from ..dynamics import DYNAMICS, Dynamics
from ..kernels import ACTIVATIONS
from ..networks.initial import WEIGHT_INITS, WeightInit
from ..parts import part_classes
from ..presets import preset
from ..relaxation import RELAXATIONS, Recognition, Relaxation
from ..rules import RULES, LearningRule
from ._base import BaseNetworkEstimator
from ._checks import check_sizes, is_list
from ._recognition import RecognitionMixin


class BaseEqPropEstimator(RecognitionMixin, BaseNetworkEstimator):
    """What the estimators of Hopfield-like networks share; not for direct use.

    Parameters
    ----------
    activation, out_activation : str
        "auto", or a key of `eqprop_fast.kernels.ACTIVATIONS`: "shifted_sigmoid" 1/(1+exp(2-4x)),
        "hard_sigmoid" clip(x,0,1), "tanh", "sigmoid", "relu", "half_hard_sigmoid" clip(x/2,0,1),
        "centered_hard_sigmoid" clip(x,-1/2,1/2), "wide_hard_sigmoid" clip(x,-1,2),
        "relu6" clip(x,0,6), "identity".
        Hidden "auto": "tanh"; under `Continuous` and of continual rules "shifted_sigmoid". Output:
        "auto" is "identity" under cross-entropy, whose softmax wants values without bounds, else
        "shifted_sigmoid".
    dynamics : {"discrete", "continuous"} or Dynamics
        How states move: `Discrete`, the map ``s <- rho(field)``, or `Continuous`, Euler steps down
        the Hopfield energy.
    relaxation : {"asynchronous", "synchronous"} or Relaxation
        The free phase, in training and prediction: order of the layers, steps, tolerance, start.
    learning_rule : str or LearningRule
        What is learnt from the phases: "ep", "continual", "vector_field", "continual_vector_field",
        "coupled", "contrastive", "clamped_sweep"; as baselines the exact gradients "bptt",
        "recurrent_backprop", "implicit"; or an object such as
        ``EP(beta=0.1, nudging="positive")``.
    cost : {"squared_error", "cross_entropy"} or Cost
        `SquaredError` or `CrossEntropy`.
    solver : {"auto", "sgd", "momentum", "nesterov", "adam"}
        How the weights follow the rule. "auto": "adam", but "sgd" of the continual rules.
    momentum, beta_1, beta_2, epsilon : float
        Of the solver.
    weight_decay : "auto" or float
        Adds ``weight_decay * W`` to the gradient of weights, not of biases. "auto": 0.1 n_features
        / n_samples of the first fit (of numbers 0.3, times the share of their variance that a
        linear model leaves), at most 0.02, and that over the squared number of hidden layers; 0 of
        the continual rules.
    weight_init : {"auto", "fan_in_uniform", "glorot_uniform", "orthogonal"} or WeightInit
        Initial weights: `FanInUniform`, `GlorotUniform` or `Orthogonal`. "auto": the last of
        `EqPropRegressor` where it learns small signals, else the first.

    Attributes
    ----------
    feedback_angle_curve_ : list of list of float
        Vector-field rules: angle in degrees between forward and feedback weights of each layer
        pair, lowest first, after each epoch (2005.04168).
    """

    _chosen = ("_auto",)
    _not_of_papers = ()  # parameters of a preset that the estimator keeps at its own default
    _words: dict = {
        **BaseNetworkEstimator._words,
        "dynamics": DYNAMICS,
        "relaxation": RELAXATIONS,
        "learning_rule": RULES,
        "cost": COSTS,
        "weight_init": {AUTO: None, **WEIGHT_INITS},
    }
    _parameter_objects = *part_classes(_words), Recognition
    _parameter_constraints: dict = {
        **BaseNetworkEstimator._parameter_constraints,
        "activation": [StrOptions({AUTO, *ACTIVATIONS})],
        "out_activation": [StrOptions({AUTO, *ACTIVATIONS})],
        "dynamics": [StrOptions(set(DYNAMICS)), Dynamics],
        "relaxation": [StrOptions(set(RELAXATIONS)), Relaxation],
        "learning_rule": [StrOptions(set(RULES)), LearningRule],
        "cost": [StrOptions(set(COSTS)), Cost],
        "weight_init": [StrOptions({AUTO, *WEIGHT_INITS}), WeightInit],
    }

    # ---- what a concrete estimator supplies besides ----

    def _n_hidden(self):
        """Hidden layers on the longest way from the input to the output."""
        return len(self._hidden_sizes())

    def _has_back(self):
        """Whether connections have weights of their own for the way back."""
        return self._rule.independent_feedback

    def _noise(self, X, y, weight):
        """Share of the targets' variance that is noise; None where weight decay does not ask."""

    def _may_over_relax(self, network):
        """Whether "auto" may over-relax this network."""
        return True

    def _free_spec(self, spec):
        """The dynamics of free phases outside training."""
        return self._rule.free_spec(spec, self._relaxation)

    @property
    def _cost(self):
        return self._part("cost")

    # ---- parameters without "auto" ----

    def _wants_small_signals(self, n_samples, n_features):
        return False

    @property
    def _amplitude(self):
        return getattr(self, "_auto", {}).get("amplitude", 1.0)

    @property
    def _small_signals(self):
        """Whether "auto" is what a network of small signals wants."""
        return self._amplitude < 1

    @property
    def _relaxation(self):
        factor = getattr(self, "_auto", {}).get("over_relaxation", 1.0)
        tol = super()._rule.auto_tol(self._amplitude)
        return super()._relaxation.in_numbers(self._n_hidden(), factor, tol)

    @property
    def _rule(self):
        return super()._rule.in_numbers(self._n_hidden(), self._relaxation, self._amplitude)

    @property
    def _solver(self):
        return auto.solver(super()._rule.continual) if self.solver == AUTO else self.solver

    @property
    def _weight_decay(self):
        return self._auto["weight_decay"] if self.weight_decay == AUTO else float(self.weight_decay)

    def _auto_schedule(self, streams):
        return auto.schedule(self._rule.continual, streams)

    def _hidden_function(self):
        if self.activation != AUTO:
            return self.activation
        return auto.activation(
            self._part("dynamics").word, self._rule.continual, self._small_signals
        )

    @property
    def _weight_init(self):
        auto_word = auto.weight_init(self._small_signals)
        return WEIGHT_INITS[auto_word]() if self.weight_init == AUTO else self._part("weight_init")

    def _weight_rates(self, n_weights):
        rate = self.learning_rate_init
        if is_list(rate) and not isinstance(rate, str):
            return super()._weight_rates(n_weights)
        if isinstance(rate, str):
            rate = self._auto_rate()
        return self._falling_rates(rate, n_weights)

    def _auto_rate(self):
        return auto.learning_rate_init(self._solver)

    def _falling_rates(self, rate, n_weights):
        """One rate a layer of weights, where that of the lowest is given."""
        return auto.layer_rates(rate, self.layer_decay, n_weights, self._small_signals)

    def _look_at(self, X, y, weight):
        super()._look_at(X, y, weight)
        n_samples = X.shape[0] if weight is None else float(np.sum(weight, dtype=np.float64))
        continual = self._rule.continual
        asks = self.weight_decay == AUTO and not continual
        noise = self._noise(X, y, weight) if asks else None
        small, n_hidden = self._wants_small_signals(n_samples, X.shape[1]), self._n_hidden()
        decay = auto.weight_decay(n_samples, X.shape[1], n_hidden, continual, noise, small)
        amplitude = auto.AMPLITUDE if small else 1.0
        self._auto = {"weight_decay": decay, "over_relaxation": 1.0, "amplitude": amplitude}

    def _look_at_network(self, network, X, weight):
        self._rule.say_weak_nudge(self._relaxation, self.dtype, stacklevel=7)
        rule, plain = self._rule, self._relaxation.can_over_relax(self._part("dynamics"))
        if plain and rule.over_relaxes and self._may_over_relax(network):
            step = -(-X.shape[0] // auto.PROBE_ROWS)
            weight = np.ones(X.shape[0]) if weight is None else weight
            contraction = network.contraction(X[::step], weight[::step])
            self._auto["over_relaxation"] = auto.over_relaxation(contraction)
            network.free_spec = self._free_spec(network.spec)

    def _output_function(self):
        """`out_activation`, "auto" resolved: the softmax of cross-entropy wants outputs without
        bounds.
        """
        if self.out_activation != AUTO:
            return self.out_activation
        return "identity" if self._cost.word == "cross_entropy" else "shifted_sigmoid"

    def _described(self):
        """What the parameters say of a network beside its layers, as `Dynamics.spec` takes it."""
        return dict(
            schedule=self._relaxation.schedule,
            activation=self._hidden_function(),
            out_activation=self._output_function(),
            cost=self._cost.word,
            cost_factor=float(self._cost.factor),
        )

    def _check_together(self, spec):
        """Refuse numbers that `dtype` has not, and parts that do not go together."""
        self._check_range(self._plan(1, *self._rates(spec.n_weights)))
        self._rule.check(
            dynamics=self._part("dynamics"),
            relaxation=self._relaxation,
            cost=self._cost.word,
            solver=self._solver,
            weight_decay=self._weight_decay,
        )

    def _check_range(self, plan):
        """Refuse numbers that `dtype` has not: they would act as 0 or as infinity."""
        dtype = np.dtype(self.dtype).type
        factors = {
            f"{name}__{factor}": [getattr(self._part(name), factor)]
            for name in ("learning_rule", "dynamics", "cost")
            for factor in self._part(name)._factors
        }
        if self.layer_decay != AUTO:
            factors["layer_decay"] = [self.layer_decay]
        factors["learning_rate_init"], factors["bias_learning_rate_init"] = (
            plan.rate,
            plan.bias_rate,
        )
        factors["weight_decay"] = [plan.weight_decay]
        if plan.optimizer == "adam":
            factors["epsilon"] = [plan.epsilon]
        check_sizes(self.dtype, factors)
        for name in ("momentum", "beta_1", "beta_2"):
            value = getattr(self, name)
            if dtype(value) == 1:
                raise ValueError(f"{name}={value!r} is 1 in {self.dtype}: it would never forget")

    def _check_continued(self, network):
        super()._check_continued(network)
        if self._has_back() != (network.back is not None):
            has = "independent" if network.back is not None else "no independent"
            raise ValueError(
                f"learning_rule={self._rule.word!r}: the fitted network has {has} feedback weights; refit "
                "with warm_start=False"
            )
        self._check_together(network.spec)

    def _keep_network(self, network):
        super()._keep_network(network)
        self.coefs_, self.intercepts_ = network.weights, network.biases
        if network.back is not None:
            self.feedback_coefs_ = network.back
        elif hasattr(self, "feedback_coefs_"):
            del self.feedback_coefs_
        self.out_activation_ = (
            "softmax" if self._cost.word == "cross_entropy" else self._output_function()
        )

    def _prepare_particles(self, network, state, n_rows, keep):
        if self._relaxation.start != "carry_over":
            super()._prepare_particles(network, state, n_rows, keep)
        elif not (keep and state.particles is not None):
            state.particles = network.new_particles(self._batch_size(n_rows))

    def _publish(self, state):
        super()._publish(state)
        self.activation_, self.solver_ = self._hidden_function(), self._solver
        self.relaxation_, self.learning_rule_ = self._relaxation, self._rule
        self.learning_rate_init_ = self._weight_rates(len(self.coefs_))
        self.weight_decay_ = self._weight_decay
        if hasattr(self, "feedback_coefs_"):
            self.feedback_angle_curve_ = [list(angles) for angles in state.angle_curve]
        elif hasattr(self, "feedback_angle_curve_"):
            del self.feedback_angle_curve_

    def _plan(self, batch_size, rate, bias_rate):
        return self._rule.plan(
            self._relaxation,
            batch_size=batch_size,
            rate=rate,
            bias_rate=bias_rate,
            optimizer=self._solver,
            momentum=float(self.momentum),
            weight_decay=self._weight_decay,
            beta1=float(self.beta_1),
            beta2=float(self.beta_2),
            epsilon=float(self.epsilon),
        )

    @classmethod
    def _preset(cls, name):
        return preset(name)

    @classmethod
    def from_paper(cls, name, **overrides):
        """An estimator with exactly a paper's hyperparameters.

        Parameters
        ----------
        name : str
            A name of `eqprop_fast.list_presets()`, such as ``"1905.13633/P-1h"``; of convolutional
            networks of `list_conv_presets()`, of other graphs of `list_graph_presets()`.
        **overrides
            Parameters that replace the preset's, nested ones (``learning_rule__beta``) too.

        Raises
        ------
        ValueError
            Unknown preset.
        """
        parameters = {
            k: v for k, v in cls._preset(name).parameters.items() if k not in cls._not_of_papers
        }
        return cls._with_overrides(parameters, overrides)

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
