"""What the layered classifier and regressor share: a chain of fully connected layers."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..auto import AUTO
from ..kernels.spec import MAX_WEIGHTS
from ..networks.asymmetry import backward_weights, check_angle
from ..networks.layered import LayeredNetwork
from ._checks import per_layer
from ._eqprop import BaseEqPropEstimator
from ._export import ExportMixin


class BaseLayeredEstimator(ExportMixin, BaseEqPropEstimator):
    """What the classifier and the regressor share; not for direct use.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer, from input to output.
    layer_decay : "auto" or float
        Each layer of weights has this times the rate of the one below it, where
        `learning_rate_init` is no sequence. "auto": 0.35.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray
        ``coefs_[k]`` (units of layer k, units of layer k+1); input first.
    feedback_coefs_ : list of ndarray
        Vector-field rules: ``feedback_coefs_[k]`` (units of layer k+1, units of layer k); [0] is
        unused.
    """

    _parameter_constraints: dict = {
        **BaseEqPropEstimator._parameter_constraints,
        "layer_decay": [StrOptions({AUTO}), Interval(Real, 0, None, closed="neither")],
    }

    def _spec(self, sizes):
        if len(sizes) - 1 > MAX_WEIGHTS:
            raise ValueError(
                f"hidden_layer_sizes: at most {MAX_WEIGHTS - 1} hidden layers, got {len(sizes) - 2}"
            )
        return self._part("dynamics").spec(sizes, **self._described())

    def _new_network(self, kernels, sizes, rng):
        spec = self._spec(sizes)
        self._check_together(spec)  # before anything is fitted
        init = self._weight_init
        per_layer("weight_init__gain", init.gain, spec.n_weights, allow_zero=False)
        weights, biases = init.draw(spec.sizes, rng, np.dtype(self.dtype))
        back = None
        if self._rule.independent_feedback:
            angle = check_angle(self._rule.feedback_angle, "learning_rule__feedback_angle")
            back = backward_weights(weights, angle, rng)
        network = self._network(spec, kernels, weights, biases, back)
        self._give_new_pass(network)
        return network

    def _network(self, spec, kernels, weights, biases, back):
        rate = float(getattr(self._rule, "reconstruction_rate", 0.0))
        if rate and spec.n_weights < 3:
            raise ValueError(
                f"learning_rule__reconstruction_rate={rate!r}: hidden_layer_sizes has no two hidden "
                "layers, of which one could reconstruct the other"
            )
        return LayeredNetwork(
            spec,
            kernels,
            weights,
            biases,
            back,
            self._free_spec(spec),
            self._relaxation.start == "carry_over",
            self._relaxation.start == "feedforward",
            reconstruction_rate=rate,
        )

    def _fitted_network(self, kernels):
        sizes = (self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_))
        network = self._network(self._spec(sizes), kernels, *self._fitted_arrays())
        self._give_fitted_pass(network)
        return network
