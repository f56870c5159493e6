"""The toy network of 1905.13633 Fig. 2: input, hidden and output layer, with an output-input skip
connection (docs/equations.md 10.3).
"""

from __future__ import annotations

import numpy as np

from ..networks.graph import Connection, Graph, Layer
from .models import GraphModel
from .values import check_dtype, check_positive, check_sizes, generator_of


class ToyNetwork(GraphModel):
    """Fully connected energy-based network with a skip connection, a `GraphModel`.

    Euler steps of the gradient of its energy, rho' on the output too.

    Parameters
    ----------
    sizes : (int, int, int)
        Input, hidden, output; the paper's 5, 50, 10.
    dt : float
        Euler step.
    random_state : None, int or numpy.random.Generator
        Parameters are U(-1/sqrt(fan_in), 1/sqrt(fan_in)); the output has the biases of both its
        linear maps.
    """

    def __init__(
        self, sizes=(5, 50, 10), dt=0.08, random_state=None, *, dtype=np.float64, activation="tanh"
    ):
        rng, dtype = generator_of(random_state), check_dtype(dtype).type
        n_in, n_hidden, n_out = check_sizes(sizes, length=3)
        check_positive(dt, "dt")

        def uniform(fan_in, *shape):
            return rng.uniform(-1, 1, shape).astype(dtype) / dtype(np.sqrt(fan_in))

        weights = [
            uniform(n_in, n_in, n_hidden),
            uniform(n_hidden, n_hidden, n_out),
            uniform(n_in, n_in, n_out),
        ]
        biases = [uniform(n_in, n_hidden), uniform(n_hidden, n_out) + uniform(n_in, n_out)]
        layers = [Layer("input", n_in), Layer("hidden", n_hidden), Layer("output", n_out)]
        joined = [
            Connection("input", "hidden"),
            Connection("hidden", "output"),
            Connection("input", "output"),
        ]
        spec = Graph(layers, joined).spec(
            activation=activation,
            out_activation=activation,
            input_activation=activation,
            dynamics="continuous",
            prime_output=True,
            dt=dt,
        )
        names = [layer.name for layer in layers]
        synapses = ["W hidden-input", "W output-hidden", "W output-input"]
        super().__init__(spec, weights, biases, names, synapses)
