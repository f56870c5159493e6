"""What a graph kernel is told: layers, the connections between them, and the dynamics, as plain
records.

A chain of dense connections is the simplest graph; `LayeredSpec` (spec.py) is its short form, with
kernels of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from .spec import GRADIENT_RULES, RULES, VECTOR_FIELD_RULES, _limits

POOLS = {"none": 0, "max": 1, "average": 2}
MAX_LAYERS = 64  # EQP_MAX_LAYERS
MAX_CONNECTIONS = 128  # EQP_MAX_CONNECTIONS


def flat_size(shape):
    n = 1
    for side in shape:
        n *= side
    return n


class LayerSpec(NamedTuple):
    """A layer.

    Attributes
    ----------
    shape : tuple of int
        ``(n,)``, or ``(channels, height, width)``, which has one bias a channel.
    activation : str
        A key of `ACTIVATIONS`; that of the input says how x acts.
    """

    shape: tuple
    activation: str

    @property
    def size(self):
        return flat_size(self.shape)

    @property
    def n_biases(self):
        return self.shape[0]

    @property
    def sides(self):
        """Channels, height and width; of a flat layer n, 1, 1."""
        return (*self.shape, 1, 1)[:3]


class ConnectionSpec(NamedTuple):
    """A connection, forward from layer `below`, transposed from layer `above`.

    Attributes
    ----------
    below, above : int
        Layers, 0 being the input; equal: a lateral connection, which acts with ``W + W^T``.
    kernel : int
        Side of a convolution's kernel; 0: dense.
    stride, padding : int
    pool : {"none", "max", "average"}
        Of the convolution's map, in squares of `window` units that do not overlap.
    window : int
    own_back : bool
        The way back has weights of its own.
    """

    below: int
    above: int
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    pool: str = "none"
    window: int = 1
    own_back: bool = False

    def weight_shape(self, layers):
        """Shape of the weights: (units below, units above), or (channels above, channels below,
        kernel, kernel).
        """
        below, above = layers[self.below], layers[self.above]
        if not self.kernel:
            return below.size, above.size
        return above.shape[0], below.shape[0], self.kernel, self.kernel

    def back_shape(self, layers):
        """Shape of weights of its own for the way back: transposed if dense."""
        shape = self.weight_shape(layers)
        return shape if self.kernel else shape[::-1]

    def fan_in(self, layers):
        """How many units below feed one unit above."""
        shape = self.weight_shape(layers)
        return flat_size(shape[1:]) if self.kernel else shape[0]


class GraphSpec(NamedTuple):
    """A network of any shape and its dynamics (docs/equations.md 1, 2).

    Fields without a comment are those of `LayeredSpec`.

    Attributes
    ----------
    layers : tuple of LayerSpec
        Input first, output last.
    connections : tuple of ConnectionSpec
        From a lower to a higher layer, or lateral.
    readout : bool
        The output is no state but what ``W s + b`` reads from the layers below it, which feel the
        target as ``W (y - prediction)`` (2006.03824).
    """

    layers: tuple
    connections: tuple
    dynamics: str = "discrete"
    schedule: str = "synchronous"
    prime_hidden: bool = True
    prime_output: bool = False
    linear_output: bool = False
    clamp: bool = False
    nudge_inside: bool = False
    cost: str = "squared_error"
    cost_factor: float = 1.0
    dt: float = 1.0
    readout: bool = False
    gain: tuple = ()

    @property
    def sizes(self):
        return tuple(layer.size for layer in self.layers)

    @property
    def n_weights(self):
        return len(self.connections)

    @property
    def output_layer(self):
        return len(self.layers) - 1

    @property
    def input_activation(self):
        return self.layers[0].activation

    def activation_of(self, k):
        return self.layers[k].activation

    @property
    def moving(self):
        """Layers that have a state of their own."""
        return range(1, len(self.layers) - self.readout)

    @property
    def own_back(self):
        """Connections with weights of their own for the way back."""
        return [c for c, link in enumerate(self.connections) if link.own_back]

    def colours(self):
        """Layers that an asynchronous sweep moves together, group after group.

        Each layer takes the first colour that none of its neighbours below it in the list has:
        odd layers, then even ones, in a chain.
        """
        meets = {k: set() for k in self.moving}
        for link in self.connections:
            if link.below in meets and link.above in meets:
                meets[link.below].add(link.above)
                meets[link.above].add(link.below)
        colour = {}
        for k in self.moving:
            taken = {colour[other] for other in meets[k] if other in colour}
            colour[k] = next(c for c in range(len(meets) + 1) if c not in taken)
        groups = range(max(colour.values(), default=-1) + 1)
        return [[k for k in self.moving if colour[k] == c] for c in groups]

    def passes(self):
        """Layers that move together, pass after pass, in one step."""
        if self.schedule == "forward":
            return [[k] for k in self.moving]
        return [list(self.moving)] if self.schedule == "synchronous" else self.colours()


def check_graph_plan(spec, plan, has_particles):
    """Refuse a plan that no graph kernel runs, as `check_plan` does for layered ones.

    Raises
    ------
    ValueError
        Names what cannot be served, and where.
    """
    if plan.rule not in RULES:
        raise ValueError(f"learning_rule must be one of {sorted(RULES)}, got {plan.rule!r}")
    own = set(spec.own_back)
    unfit = [n for n, fits in _limits(spec, plan, bool(own), has_particles) if not fits]
    if plan.rule == "clamped_sweep":
        unfit.append("graph: it sweeps along a chain")
    if plan.rule in VECTOR_FIELD_RULES:
        tied = [
            c
            for c, link in enumerate(spec.connections)
            if 0 < link.below
            and c not in own
            and not (spec.readout and link.above == spec.output_layer)
        ]
        unfit += [f"connection {c} (its way back needs weights of its own)" for c in tied]
    if spec.readout and plan.rule not in (*GRADIENT_RULES, "ep"):
        unfit.append("readout (its output is no state)")
    if unfit:
        raise ValueError(f"no kernel runs learning_rule={plan.rule!r} with this {', '.join(unfit)}")


def free_graph_spec(spec, over_relaxation):
    """The dynamics of the free phase, see `spec.free_spec`."""
    return spec if over_relaxation == 1 else spec._replace(dt=spec.dt * over_relaxation)
