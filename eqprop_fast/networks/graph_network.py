"""A network of any shape over one backend: a `GraphSpec`, its parameters and the kernels that move
them.
"""

from __future__ import annotations

import numpy as np

from ..kernels import get_backend
from .asymmetry import measured_angle
from .base import HopfieldNetwork
from .energy import graph_energy
from .graph import draw_parameters
from .graph_recognition import GraphRecognitionPass


class GraphNetwork(HopfieldNetwork):
    """Network of any shape, with the methods of `eqprop_fast.networks.protocol.Network`.

    Parameters
    ----------
    spec : GraphSpec
        Of a `Graph`: ``graph.spec(activation=..., ...)``.
    kernels : KernelSet
    weights : list of C-contiguous ndarray of one float dtype
        One a connection, of the shapes of ``ConnectionSpec.weight_shape``; trained in place.
    biases : list of ndarray
        One a layer above the input.
    back : list of ndarray or None
        Of connections that are not symmetric, the weights of the way back; None for the others.
    names : sequence of str, optional
        Of the layers.
    free_spec : GraphSpec, optional
        Dynamics of free phases outside training; None: `spec`.
    carry_over, feedforward : bool
        See `LayeredNetwork`.
    """

    _relax_kernel, _train_kernel = "graph_relax", "graph_train"

    def __init__(
        self,
        spec,
        kernels,
        weights,
        biases,
        back=None,
        names=None,
        free_spec=None,
        carry_over=False,
        feedforward=False,
    ):
        self.carry_over, self.feedforward = carry_over, feedforward
        self.spec, self.kernels = spec, kernels
        self.free_spec = spec if free_spec is None else free_spec
        self.weights, self.biases, self.back = weights, biases, back
        self.names = list(names or map(str, range(len(spec.layers))))

    @classmethod
    def of(cls, graph, random_state=None, *, backend="auto", dtype="float32", gain=1.0, **dynamics):
        """A `Graph` with fresh parameters, U(-gain/sqrt(fan_in), gain/sqrt(fan_in)).

        Parameters
        ----------
        graph : Graph
        random_state : int, numpy.random.Generator or None
        backend : {"auto", "c", "numba", "numpy"}
        dtype : {"float32", "float64"}
        gain : float or sequence of float
            One, or one a connection.
        **dynamics
            Fields of `GraphSpec`, and the activations of layers that have none of their own.

        Returns
        -------
        GraphNetwork
        """
        spec, rng = graph.spec(**dynamics), np.random.default_rng(random_state)
        weights, biases = draw_parameters(spec, rng, np.dtype(dtype), gain)
        graph.clear_biases(biases)
        back = None
        if spec.own_back:
            twin, _ = draw_parameters(spec, rng, np.dtype(dtype), gain)
            back = [
                None if not link.own_back else w if link.kernel else np.ascontiguousarray(w.T)
                for link, w in zip(spec.connections, twin)
            ]
        names = [layer.name for layer in graph.layers]
        return cls(spec, get_backend(backend), weights, biases, back, names)

    @property
    def parameters(self):
        """Weights, biases and, if any connection has its own, weights of the way back: of the other
        connections they are empty.
        """
        empty = np.zeros(0, self.dtype)
        return [*self.weights, *self.biases, *(empty if b is None else b for b in self.back or [])]

    def layer_of(self, index):
        """Layer (1 = first above the input) that `learned[index]` leads to."""
        n, index = len(self.weights), index % len(self.parameters)
        if n <= index < n + len(self.biases):
            return index - n + 1
        return self.spec.connections[index if index < n else index - n - len(self.biases)].above

    def feedback_angles(self):
        """Of each connection with weights of its own for the way back; see `BaseNetwork`."""
        if self.back is None:
            return None
        return [measured_angle(w, b) for w, b in zip(self.weights, self.back) if b is not None]

    def under_hidden(self, k):
        hidden = range(k + 1, self.spec.output_layer)
        return any(link.below == k and link.above in hidden for link in self.spec.connections)

    def recognition_of(self, weights, biases, learning_rate):
        return GraphRecognitionPass(self, weights, biases, learning_rate)

    def _upward_spec(self, gain):
        return self.spec._replace(schedule="forward", dt=1.0, gain=gain)

    def _energy(self, x, states):
        if self.spec.own_back or self.spec.readout:
            return np.nan
        return graph_energy(self.spec, self.weights, self.biases, x, states)
