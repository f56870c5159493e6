"""What the estimators of networks of any shape share: samples of a shape, network, augmentation."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np
from scipy.sparse import issparse

from .. import auto
from ..auto import AUTO
from ..kernels.graph_spec import check_graph_plan, flat_size, free_graph_spec
from ..kernels.spec import VECTOR_FIELD_RULES
from ..networks.asymmetry import check_angle, flipped
from ..networks.graph import Connection, Conv, Dense, Graph, Layer, ReadOut, depths, draw_parameters
from ..networks.graph_network import GraphNetwork
from ..training.augment import AUGMENTATIONS, augmentation_list, augmenter
from ._checks import per_layer
from ._eqprop import BaseEqPropEstimator
from ._export import ExportMixin

NOT_HERE = ("hidden_layer_sizes", "epsilon")  # parameters of chains


class BaseGraphEstimator(ExportMixin, BaseEqPropEstimator):
    """What the estimators of networks of any shape share; not for direct use.

    Parameters
    ----------
    input_scaling : {"auto"} or None
        "auto": the input units take ``(x - centre) / scale``, both those of the first `fit` or
        `partial_fit`: of maps one a channel, else one a feature. None: they take x.
    activation, out_activation : str
        As of `EqPropClassifier`; of layers that have none of their own. Hidden "auto":
        "shifted_sigmoid" where maxima are pooled (docs/network.md), under `Continuous` and of
        continual rules; else "tanh".
    learning_rate_init : "auto", float or sequence of float
        Rate of the connections from the input; each further layer has 0.35 times that of the one
        below it. Or one a connection, in their order. "auto": 0.004 of "adam", 0.05 of "sgd", 0.005
        of "momentum" and "nesterov".
    bias_learning_rate_init : None, float or sequence of float
        One number, or one a layer above the input. None: each bias has the rate of the first
        connection that leads to its layer.
    momentum, beta_1, beta_2 : float
        Of the solver.
    augment : {"shift", "crop", "flip"}, callable, list of them or None
        Changes each batch of training samples: `Shift`, `Crop`, `Flip`, or a callable ``(images,
        rng) -> images`` that is given what the input units take, (n, channels, height, width) or
        (n, units), and a `numpy.random.Generator` of the batch. In a list one after another. A
        checkpoint stores those built in, and no other callable.

    Attributes
    ----------
    input_shape_ : tuple of int
        Of a sample: (channels, height, width), or (units,).
    coefs_ : list of ndarray
        One a connection: (units below, units above), or (channels above, channels below, kernel,
        kernel).
    intercepts_ : list of ndarray
        One a layer above the input: one bias a unit, or one a channel.
    feedback_coefs_ : list of ndarray or None
        Where connections are not symmetric: weights of the way back, (units above, units below) or
        as the kernels; None for the others.
    """

    layer_decay, epsilon = AUTO, 1e-8
    _one_rate = "connection"
    _chosen = ("_auto", "input_shape_")
    _words: dict = {**BaseEqPropEstimator._words, "augment": AUGMENTATIONS}
    _parameter_objects = (
        *BaseEqPropEstimator._parameter_objects,
        *AUGMENTATIONS.values(),
        *(Conv, Dense, ReadOut, Graph, Layer, Connection),
    )
    _parameter_constraints: dict = {
        **{
            name: options
            for name, options in BaseEqPropEstimator._parameter_constraints.items()
            if name not in NOT_HERE
        },
        "augment": [None, str, callable, "array-like"],
    }

    # ---- what a concrete estimator supplies ----

    @abstractmethod
    def _graph(self, input_shape, n_outputs):
        """The `Graph` for samples of this shape and so many outputs."""

    @abstractmethod
    def _skeleton(self):
        """What is known without data: pairs of layers that are joined, whether each layer above the
        input has a bias, whether a connection pools maxima, whether the last is a read-out.
        """

    @abstractmethod
    def _shape_of_input(self, shape):
        """The shape of the input layer, given that of a sample."""

    # ---- samples ----

    def _validate_x(self, X, reset, *y, **options):
        X, shape = self._as_rows(X)
        if not reset and shape is not None and flat_size(shape) != flat_size(self.input_shape_):
            raise ValueError(
                f"X has samples of shape {shape}, the fitted network takes {self.input_shape_}"
            )
        checked = super()._validate_x(X, reset, *y, **options)
        if reset:
            self.input_shape_ = self._shape_of_input(shape or (self.n_features_in_,))
        return checked

    @staticmethod
    def _as_rows(X):
        """X with a row for each sample; and the shape of a sample, None if X came so."""
        if issparse(X):
            return X, None
        n_sides = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if n_sides <= 2:
            return X, None
        if n_sides > 4:
            raise ValueError(
                "X must be (samples, channels, height, width), (samples, height, width) or (samples, "
                f"features), got {n_sides} dimensions"
            )
        X = np.asarray(X)
        shape = X.shape[1:] if n_sides == 4 else (1, *X.shape[1:])
        return X.reshape(len(X), flat_size(shape)), shape

    def _to_sources(self, X):
        X = super()._to_sources(X)
        return X.toarray() if issparse(X) else X

    def _centre_and_scale(self, X, weight):
        """Of maps, one a channel: a pixel is what its neighbours are."""
        if len(self.input_shape_) == 1:
            return super()._centre_and_scale(X, weight)
        pixels = flat_size(self.input_shape_[1:])
        centre, scale = auto.centre_and_scale(X, weight, pixels)
        return np.repeat(centre, pixels), None if scale is None else np.repeat(scale, pixels)

    def _settings(self, *arguments):
        settings = super()._settings(*arguments)
        augmentations = augmentation_list(self.augment)
        if not augmentations:
            return settings
        shape = self.input_shape_
        if len(shape) == 1 and any(type(a) in AUGMENTATIONS.values() for a in augmentations):
            raise ValueError(
                f"augment={self.augment!r:.60} moves images, and the samples are {shape[0]} units in no order"
            )
        return replace(settings, augment=augmenter(augmentations, shape))

    # ---- network ----

    def _check_layers(self):
        augmentation_list(self.augment)
        self._skeleton()

    def _sizes(self, n_features, n_outputs):
        graph = self._graph(self.input_shape_, n_outputs)
        graph.validate()
        return tuple(flat_size(layer.sides) for layer in graph.layers)

    def _depths(self):
        joined, biases, _, _ = self._skeleton()
        return depths(len(biases) + 1, joined)

    def _n_hidden(self):
        return max(self._depths()[-1] - 1, 0)

    def _hidden_function(self):
        if self.activation == AUTO and self._skeleton()[2]:
            return "shifted_sigmoid"
        return super()._hidden_function()

    def _output_function(self):
        readout = self._skeleton()[3]
        if not readout:
            return super()._output_function()
        if self.out_activation not in (AUTO, "identity"):
            raise ValueError(
                f"out_activation={self.out_activation!r}: a read-out is W s + b, without an activation"
            )
        return "identity"

    def _falling_rates(self, rate, n_weights):
        depth = self._depths()
        falling = auto.layer_rates(rate, self.layer_decay, max(depth))
        return tuple(falling[depth[above] - 1] for _, above in self._skeleton()[0])

    def _rates(self, n_weights):
        joined, biases, _, _ = self._skeleton()
        rate, own = self._weight_rates(n_weights), self.bias_learning_rate_init
        if own is None:
            first = {above: c for c, (_, above) in reversed(list(enumerate(joined)))}
            bias_rate = [rate[first[k]] for k in range(1, len(biases) + 1)]
        else:
            bias_rate = per_layer(
                "bias_learning_rate_init", own, len(biases), True, "layer above the input"
            )
        return rate, tuple(r if bias else 0.0 for r, bias in zip(bias_rate, biases))

    def _spec(self, graph):
        return self._part("dynamics").graph_spec(graph, **self._described())

    def _new_network(self, kernels, sizes, rng):
        graph = self._graph(self.input_shape_, sizes[-1])
        spec = self._spec(graph)
        self._check_together(spec)  # before anything is fitted
        self._check_rule(graph, spec)
        init, dtype = self._weight_init, np.dtype(self.dtype)
        gain = per_layer("weight_init__gain", init.gain, spec.n_weights, False, self._one_rate)
        weights, biases = draw_parameters(spec, rng, dtype, gain, init)
        graph.clear_biases(biases)
        back = self._back(spec, weights, rng)
        network = self._network(graph, spec, kernels, weights, biases, back)
        self._give_new_pass(network)
        return network

    def _back(self, spec, weights, rng):
        """Weights of the way back: at the rule's angle to those of the way up, or as they are."""
        if not spec.own_back:
            return None
        angle = getattr(self._rule, "feedback_angle", 0.0)
        angle = check_angle(angle, "learning_rule__feedback_angle")
        return [
            flipped(w if link.kernel else w.T, angle, rng) if link.own_back else None
            for link, w in zip(spec.connections, weights)
        ]

    def _network(self, graph, spec, kernels, weights, biases, back):
        return GraphNetwork(
            spec,
            kernels,
            weights,
            biases,
            back,
            [layer.name for layer in graph.layers],
            self._free_spec(spec),
            self._relaxation.start == "carry_over",
            self._relaxation.start == "feedforward",
        )

    def _free_spec(self, spec):
        return free_graph_spec(spec, float(self._relaxation.over_relaxation))

    def _may_over_relax(self, network):
        """Young's theory is of two colours and smooth maps."""
        return len(network.spec.colours()) <= 2 and not self._skeleton()[2]

    def _check_rule(self, graph, spec):
        """Refuse a rule that cannot serve this graph, in the user's words."""
        word = self._rule.word
        if getattr(self._rule, "reconstruction_rate", 0.0):
            raise ValueError(
                "learning_rule__reconstruction_rate: layers reconstruct each other in chains of dense layers "
                "alone (EqPropClassifier, EqPropRegressor)"
            )
        if word == "clamped_sweep":
            raise ValueError(
                f"learning_rule={word!r} sweeps along a chain of dense layers: EqPropClassifier has it"
            )
        if graph.readout and word not in ("ep", "bptt", "recurrent_backprop", "implicit"):
            raise ValueError(
                f"learning_rule={word!r}: layer {graph.layers[-1].name!r} is a read-out, whose output is no "
                "state that could be held or carried along; 'ep'"
            )
        if word in VECTOR_FIELD_RULES:
            for c, link in zip(graph.connections, spec.connections):
                if c.symmetric and link.below > 0:
                    raise ValueError(
                        f"learning_rule={word!r}: connection {c} needs weights of its own for the way back, "
                        "symmetric=False"
                    )
        plan = self._plan(1, *self._rates(spec.n_weights))
        check_graph_plan(spec, plan, self._relaxation.start == "persistent")

    def _check_continued(self, network):
        super()._check_continued(network)
        self._check_rule(self._graph(self.input_shape_, self.n_outputs_), network.spec)

    def _fitted_network(self, kernels):
        graph = self._graph(self.input_shape_, self.n_outputs_)
        spec = self._spec(graph)
        weights, biases, back = self._fitted_arrays()
        self._check_unchanged(spec, weights, biases, back)
        network = self._network(graph, spec, kernels, weights, biases, back)
        self._give_fitted_pass(network)
        return network

    def _check_unchanged(self, spec, weights, biases, back):
        """Refuse parameters that describe another network than the fitted one."""
        fitted = [
            [p if p is None else p.shape for p in group or ()] for group in (weights, biases, back)
        ]
        if fitted != list(self._shapes(spec).values()) + [[]] * (not spec.own_back):
            raise ValueError(
                f"{self._network_parameter} describes another network than the fitted one; refit with "
                "warm_start=False"
            )

    @staticmethod
    def _shapes(spec):
        """Shapes of the fitted lists of arrays, None where there is no array."""
        links, layers = spec.connections, spec.layers
        shapes = {
            "coefs_": [link.weight_shape(layers) for link in links],
            "intercepts_": [(layer.n_biases,) for layer in layers[1:]],
        }
        if spec.own_back:
            shapes["feedback_coefs_"] = [
                link.back_shape(layers) if link.own_back else None for link in links
            ]
        return shapes

    # ---- in a checkpoint ----

    def _array_shapes(self, archive):
        spec = self._spec(self._graph(self.input_shape_, self.n_outputs_))
        if len(spec.layers) != self.n_layers_ or spec.sizes[0] != self.n_features_in_:
            raise ValueError(f"{self._network_parameter} has other layers than the fitted network")
        return self._with_pass(self._shapes(spec)), spec.sizes[1:]

    def _fitted_shapes(self):
        spec = self._spec(self._graph(self.input_shape_, self.n_outputs_))
        return [(0,) if s is None else s for group in self._shapes(spec).values() for s in group]

    @staticmethod
    def _are_a_chain(shapes):
        return True  # or `_check_unchanged` says why not

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
