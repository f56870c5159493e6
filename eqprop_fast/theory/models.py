"""The networks that the checks run on, behind one small interface.

A model offers: `layers` and `synapses` (names), `depth` (distance of each layer from the output),
`drive`, `zeros`, `relax`, `step`, `vjp`, `cost_gradient`, `increment`, `learn` and `copy`.
`LayeredModel` and `GraphModel` wrap the reference kernels; `toy.ToyNetwork` and `conv.ConvNetwork`
are graphs.
"""

from __future__ import annotations

import numpy as np

from ..kernels import DivergenceError
from ..kernels.reference import gradients
from ..kernels.reference.graph import GraphNet
from ..kernels.reference.layered import (
    back_or_transpose,
    layered_drive,
    layered_step,
    relax_from_drive,
)
from ..kernels.reference.rules import continual_increment, shown_input, vector_field_increment
from ..networks.asymmetry import backward_weights
from ..networks.energy import graph_energy, layered_energy
from .values import check_dtype, check_number, generator_of


def random_parameters(sizes, rng, dtype=np.float64, gain=1.0):
    """Weights and biases, U(-gain/sqrt(fan_in), gain/sqrt(fan_in)) as in 1905.13633; lists, input
    first.
    """
    weights, biases = [], []
    for n_in, n_out in zip(sizes, sizes[1:]):
        bound = gain / np.sqrt(n_in)
        weights.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
        biases.append(rng.uniform(-bound, bound, n_out).astype(dtype))
    return weights, biases


class GraphModel:
    """A network of any shape: a `GraphSpec` and its parameters.

    Parameters
    ----------
    spec : GraphSpec
    weights, biases : lists of ndarray
        As `kernels.reference.graph` has them.
    names : sequence of str
        Of the layers, input first.
    synapses : sequence of str, optional
        Names of the connections.
    """

    back = None

    def __init__(self, spec, weights, biases, names, synapses=None):
        self.spec, self.weights, self.biases = spec, weights, biases
        self.layers = list(names[1:])
        self.synapses = synapses or [
            f"{names[c.below]} - {names[c.above]}" for c in spec.connections
        ]

    @classmethod
    def of(cls, graph, weights, biases, synapses=None, **dynamics):
        """The model of a `networks.graph.Graph`; `dynamics` are fields of `GraphSpec`."""
        names = [layer.name for layer in graph.layers]
        return cls(graph.spec(**dynamics), weights, biases, names, synapses)

    @property
    def depth(self):
        """Connections between each layer and the output."""
        away, reached = {self.spec.output_layer: 0}, [self.spec.output_layer]
        for k in reached:
            for c in self.spec.connections:
                for here, other in ((c.below, c.above), (c.above, c.below)):
                    if here == k and other not in away and other > 0:
                        away[other] = away[k] + 1
                        reached.append(other)
        return [away[k] for k in self.spec.moving]

    @property
    def dt(self):
        return self.spec.dt

    @property
    def dtype(self):
        return self.weights[0].dtype

    @property
    def net(self):
        return GraphNet(self.spec, self.weights, None, self.biases)

    def copy(self):
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.weights, twin.biases = (
            [w.copy() for w in self.weights],
            [b.copy() for b in self.biases],
        )
        return twin

    def drive(self, x):
        """What the clamped input gives."""
        return self.net.drive(x.reshape(len(x), -1))

    def zeros(self, n_samples):
        return [np.zeros((n_samples, n), self.dtype) for n in self.spec.sizes[1:]]

    def relax(self, drive, states, n_steps, tol=-1.0, y=None, beta=0.0):
        """Relax `states` in place; returns steps and residual of each sample.

        What diverges is NaN from then on: checks say that it matches nothing.
        """
        try:
            return self.net.relax(drive, states, y, beta, n_steps, tol)
        except DivergenceError:
            for s in states:
                s[...] = np.nan
            return np.full(len(states[0]), n_steps), np.full(len(states[0]), np.nan)

    def step(self, drive, states, y=None, beta=0.0):
        return self.net.step(drive, states, y, beta)[0]

    def vjp(self, drive, states, bar, with_parameters=True):
        """Reverse of one free step: derivative by the states before it, and by each of `synapses`."""
        bar, gradient = self.net.step_vjp(drive, states, bar, with_parameters)
        return bar, None if gradient is None else gradient[0]

    def cost_gradient(self, s_out, y):
        return [*self.zeros(len(y))[:-1], *gradients.cost_gradient(self.spec, s_out, y)[-1:]]

    def increment(self, drive, old, new, vector_field=False):
        """Local update of one step: list per synapse, list per bias, summed over the samples."""
        if vector_field:
            raise ValueError(
                "rule: vector-field rules need backward weights; this network has none"
            )
        ascent = self.net.contrast(_Unweighted, drive, old, new)
        return ascent.weights, ascent.biases

    def learn(self, synapses, biases, rate):
        """Add `rate` times an `increment` to the parameters, in place."""
        for p, d in zip(self.weights + self.biases, [*synapses, *biases]):
            p += self.dtype.type(rate) * d

    def energy(self, x, states):
        return graph_energy(self.spec, self.weights, self.biases, x.reshape(len(x), -1), states)


def fitted_subject(estimator, X, y):
    """What checks of a fitted network take: its parameters and some samples, in float64.

    Parameters
    ----------
    estimator : fitted ConvEqPropClassifier, GraphEqPropClassifier or a regressor of these
        Its network is looked at under synchronous steps.
    X, y : as of `fit`

    Returns
    -------
    dict
        `model`, `x` and `y`: ``gradient_match(**fitted_subject(model, X, y), rule=..., ...)``.
    """
    network, x = estimator._network_for(X)
    target = estimator._encode_targets(np.asarray(y), None, False).astype(np.float64)
    spec = network.spec._replace(schedule="synchronous")
    weights, biases = (
        [p.astype(np.float64) for p in group] for group in (network.weights, network.biases)
    )
    shape = spec.layers[0].shape
    return dict(
        model=GraphModel(spec, weights, biases, network.names),
        x=x.astype(np.float64).reshape(len(x), *shape),
        y=target,
    )


class _Unweighted:
    """A batch as `GraphNet.contrast` reads it: every sample counts once, no target."""

    row_weight = y = None


class LayeredModel:
    """A layered network: a `LayeredSpec` and its parameters.

    Parameters
    ----------
    spec : LayeredSpec
    weights, biases : lists of ndarray
        Input first; float64 for proofs, float32 to see rounding.
    back : list of ndarray, optional
        Independent backward weights; symmetric without.
    learns_first_bias : bool
        Whether `learn` moves the bias of the first hidden layer; 2005.04168's discrete C-VF does
        not.
    """

    def __init__(self, spec, weights, biases, back=None, learns_first_bias=True):
        self.spec, self.weights, self.biases, self.back = spec, weights, biases, back
        self.learns_first_bias = learns_first_bias

    @classmethod
    def random(cls, spec, random_state=None, *, angle=None, gain=1.0, dtype=np.float64, **more):
        """Random parameters; `angle` (degrees) between forward and backward weights, symmetric when
        None.
        """
        rng = generator_of(random_state)
        check_number(gain, "gain")
        weights, biases = random_parameters(spec.sizes, rng, check_dtype(dtype), gain)
        back = None if angle is None else backward_weights(weights, angle, rng)
        return cls(spec, weights, biases, back, **more)

    @property
    def layers(self):
        n = self.spec.n_weights
        return [f"hidden {k}" for k in range(1, n)] + ["output"]

    @property
    def synapses(self):
        n = self.spec.n_weights
        forward = [f"W{k}{k + 1}" for k in range(n)]
        return forward if self.back is None else forward + [f"W{k + 1}{k}" for k in range(1, n)]

    @property
    def depth(self):
        return list(range(self.spec.n_weights - 1, -1, -1))

    @property
    def dt(self):
        return self.spec.dt

    @property
    def dtype(self):
        return self.weights[0].dtype

    def copy(self):
        copies = [
            None if g is None else [p.copy() for p in g]
            for g in (self.weights, self.biases, self.back)
        ]
        return LayeredModel(self.spec, *copies, self.learns_first_bias)

    def _arrays(self):
        return self.spec, self.weights, back_or_transpose(self.weights, self.back), self.biases

    def drive(self, x):
        """What the clamped input gives: drive of the first layer, what it shows to the synapses, x
        itself.
        """
        return layered_drive(self.spec, self.weights, self.biases, x), shown_input(self.spec, x), x

    def zeros(self, n_samples):
        return [np.zeros((n_samples, n), self.dtype) for n in self.spec.sizes[1:]]

    def relax(self, drive, states, n_steps, tol=-1.0, y=None, beta=0.0):
        """Relax `states` in place; returns steps and residual of each sample."""
        return relax_from_drive(*self._arrays(), drive[0], states, y, beta, n_steps, tol)

    def step(self, drive, states, y=None, beta=0.0):
        return layered_step(*self._arrays(), drive[0], states, y, beta)[0]

    def vjp(self, drive, states, bar, with_parameters=True):
        """Reverse of one free step: derivative by the states before it, and by each of `synapses`."""
        bar, gradient = gradients.step_vjp(
            self.spec,
            self.weights,
            self.back,
            self.biases,
            drive[0],
            drive[1],
            states,
            bar,
            with_parameters,
        )
        return bar, None if gradient is None else gradient[0] + (gradient[2] or [])[1:]

    def cost_gradient(self, s_out, y):
        return gradients.cost_gradient(self.spec, s_out, y)

    def increment(self, drive, old, new, vector_field=False):
        """Local update of one step: list per synapse, list per bias, summed over the samples."""
        rule = vector_field_increment if vector_field else continual_increment
        ascent = rule(self.spec, drive[2], old, new)
        return ascent.weights + (ascent.back or [])[1:], ascent.biases

    def learn(self, synapses, biases, rate):
        """Add `rate` times an `increment` to the parameters, in place."""
        n = self.spec.n_weights
        for p, d in zip(self.weights + (self.back or [])[1:], synapses):
            p += self.dtype.type(rate) * d
        for p, d in list(zip(self.biases, biases))[0 if self.learns_first_bias else 1 :]:
            p += self.dtype.type(rate) * d
        assert len(synapses) in (n, 2 * n - 1)

    def energy(self, x, states):
        return layered_energy(self.spec, self.weights, self.biases, x, states)

    def step_jacobian(self, drive, states):
        """Jacobian of one synchronous free step of a single sample."""
        return gradients.step_jacobian(
            self.spec, self.weights, self.back, self.biases, drive[0], states
        )
