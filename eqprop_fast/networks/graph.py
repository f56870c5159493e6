"""Networks of any shape, as a user writes them: layers, and the connections between them.

A chain is the simplest graph. `Graph.spec` checks that all fits together and gives the record that
the kernels are told.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from ..docstrings import documented
from ..kernels.graph_spec import (
    MAX_CONNECTIONS,
    MAX_LAYERS,
    ConnectionSpec,
    GraphSpec,
    LayerSpec,
    flat_size,
)
from ..kernels.spec import ACTIVATIONS
from ..parts import Part
from ..relaxation import MAX_INT
from .initial import FanInUniform

_COUNT = Interval(Integral, 1, MAX_INT, closed="both")
_POOLING = {
    "kernel": [None, _COUNT],
    "stride": [_COUNT],
    "padding": [Interval(Integral, 0, MAX_INT, closed="both")],
    "pool": [None, StrOptions({"max", "average"})],
    "pool_size": [_COUNT],
}


def validated(part, what):
    """Refuse parameters of a part out of range, saying which part it is.

    Raises
    ------
    ValueError
    """
    try:
        part.validate()
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _arithmetic(shape):
    """A shape, and the number of its units where it is a product: "(3, 4, 4) = 48"."""
    return f"{tuple(shape)} = {flat_size(shape)}" if len(shape) > 1 else str(shape[0])


@documented
class Layer(Part):
    """A layer of a `Graph`.

    Parameters
    ----------
    name : str
    shape : int, (int, int, int) or None
        Units, or channels, height and width of a map. None, of the input and the output: what the
        data of an estimator have.
    activation : str or None
        A key of `eqprop_fast.kernels.ACTIVATIONS`; None: the estimator's `activation`, of the last
        layer its `out_activation`, of the first the `input_activation` of its dynamics.
    bias : bool
        One a unit, or one a channel.
    """

    _parameter_constraints: dict = {
        "name": [str],
        "shape": [None, "array-like", _COUNT],
        "activation": [None, StrOptions(set(ACTIVATIONS))],
        "bias": ["boolean"],
    }

    def __init__(self, name, shape=None, activation=None, bias=True):
        self.name = name
        self.shape = shape
        self.activation = activation
        self.bias = bias

    @property
    def sides(self):
        """The shape as a tuple of one or three integers.

        Raises
        ------
        ValueError
        """
        if self.shape is None:
            raise ValueError(
                f"layer {self.name!r}: shape=None is for the input and the output of an estimator's network"
            )
        shape = [self.shape] if isinstance(self.shape, Integral) else list(self.shape)
        good = all(isinstance(n, Integral) and 1 <= n <= MAX_INT for n in shape)
        if len(shape) not in (1, 3) or not good or flat_size(shape) > MAX_INT:
            raise ValueError(
                f"layer {self.name!r}: shape must be a number of units, or (channels, height, width), "
                f"got {self.shape!r}"
            )
        return tuple(int(n) for n in shape)


@documented
class Connection(Part):
    """A connection of a `Graph`, from a lower to a higher layer.

    Parameters
    ----------
    below, above : str
        Names of layers. Equal: a lateral connection, by which a layer acts on itself; synchronous
        relaxation only.
    kernel : int or None
        Side of a convolution's kernel; None: dense, all units to all units.
    stride, padding : int
        Of the convolution.
    pool : {"max", "average"} or None
        Of the convolution's map.
    pool_size : int
        Side of the squares that are pooled; they do not overlap.
    symmetric : bool
        Whether the way back uses the same weights; else it has its own (vector-field rules).
    """

    _parameter_constraints: dict = {
        "below": [str],
        "above": [str],
        **_POOLING,
        "symmetric": ["boolean"],
    }

    def __init__(
        self, below, above, kernel=None, stride=1, padding=0, pool=None, pool_size=2, symmetric=True
    ):
        self.below = below
        self.above = above
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.pool = pool
        self.pool_size = pool_size
        self.symmetric = symmetric

    def __str__(self):
        return f"{self.below!r} -> {self.above!r}"

    @property
    def window(self):
        return self.pool_size if self.pool else 1

    def map_sides(self, height, width, what):
        """Height and width of the pooled map over one of these sides.

        Raises
        ------
        ValueError
            Does the arithmetic.
        """
        return tuple(self._side(n, what) for n in (height, width))

    def _side(self, n, what):
        padded = n + 2 * self.padding
        wide = f"{n}" + (f" + 2 * {self.padding}" if self.padding else "")
        if self.kernel > padded:
            raise ValueError(
                f"{what}: a kernel of side {self.kernel} is larger than its input, {wide}"
            )
        if self.padding >= self.kernel:
            raise ValueError(
                f"{what}: padding={self.padding} must be below the kernel's {self.kernel}"
            )
        out = (padded - self.kernel) // self.stride + 1
        sum_ = f"{wide} - {self.kernel} + 1"
        if self.stride > 1:
            sum_ = f"({wide} - {self.kernel}) // {self.stride} + 1"
        if out % self.window:
            raise ValueError(
                f"{what}: {sum_} = {out} cannot be pooled by {self.window}, which leaves "
                f"{out % self.window} over"
            )
        return out // self.window

    def arithmetic(self, n):
        """How a side of n units becomes one of the map above, in words."""
        padding = f" + 2 * {self.padding}" if self.padding else ""
        out = (n + 2 * self.padding - self.kernel) // self.stride + 1
        text = f"{n}{padding} - {self.kernel} + 1 = {out}"
        if self.stride > 1:
            text = f"({n}{padding} - {self.kernel}) // {self.stride} + 1 = {out}"
        return text + (f", pooled {out // self.window}" if self.window > 1 else "")


@documented
class Graph(Part):
    """A network of any shape: skip connections, several inputs to a layer, maps.

    Parameters
    ----------
    layers : sequence of Layer
        Input first, output last; the others in an order in which every connection goes up.
    connections : sequence of Connection
    readout : bool
        The last layer is no state but a read-out, ``W s + b`` (2006.03824): the layers below it are
        nudged by ``beta W (y - prediction)``. Needs dynamics with ``nudge_inside``.

    Examples
    --------
    >>> from eqprop_fast import Connection, Graph, Layer
    >>> net = Graph([Layer("x", 4), Layer("a", 8), Layer("b", 8), Layer("out", 3)],
    ...             [Connection("x", "a"), Connection("a", "b"), Connection("x", "b"),
    ...              Connection("b", "out")])
    >>> net.spec().colours()
    [[1, 3], [2]]
    """

    _parameter_constraints: dict = {
        "layers": ["array-like"],
        "connections": ["array-like"],
        "readout": ["boolean"],
    }

    def __init__(self, layers, connections, readout=False):
        self.layers = layers
        self.connections = connections
        self.readout = readout

    def spec(
        self,
        *,
        activation="identity",
        out_activation="identity",
        input_activation="identity",
        **more,
    ):
        """The record that the kernels are told.

        Parameters
        ----------
        activation, out_activation, input_activation : str
            Of layers that have none of their own: hidden ones, the last, the first.
        **more
            The other fields of `GraphSpec`: dynamics, schedule, cost, ...

        Returns
        -------
        GraphSpec

        Raises
        ------
        ValueError
            Names the layer or connection that does not fit, and does the arithmetic.
        """
        self.validate()
        index = {layer.name: k for k, layer in enumerate(self.layers)}
        ends = [input_activation, *[activation] * (len(self.layers) - 2), out_activation]
        layers = tuple(
            LayerSpec(layer.sides, layer.activation or name)
            for layer, name in zip(self.layers, ends)
        )
        connections = tuple(
            ConnectionSpec(
                index[c.below],
                index[c.above],
                kernel=int(c.kernel or 0),
                stride=int(c.stride),
                padding=int(c.padding),
                pool="none" if c.window == 1 else c.pool,
                window=int(c.window),
                own_back=not c.symmetric,
            )
            for c in self.connections
        )
        spec = GraphSpec(layers, connections, readout=bool(self.readout), **more)
        self._check_dynamics(spec)
        return spec

    def clear_biases(self, biases):
        """`biases`, one array a layer above the input, in place: 0 of layers that have none."""
        for layer, bias in zip(self.layers[1:], biases):
            if not layer.bias:
                bias[...] = 0

    def sized(self, input_shape, n_outputs):
        """This graph for such data: the input and the output have a shape.

        Parameters
        ----------
        input_shape : tuple of int
        n_outputs : int

        Returns
        -------
        Graph

        Raises
        ------
        ValueError
            They have another one.
        """
        self.validate()
        first, *others, last = self.layers
        ends = []
        for layer, shape, what in (
            (first, tuple(input_shape), "the samples of X have"),
            (last, (n_outputs,), "y (with the cost it is trained by) needs"),
        ):
            if layer.shape is None:
                layer = clone(layer).set_params(shape=shape)
            elif flat_size(layer.sides) != flat_size(shape):
                raise ValueError(
                    f"layer {layer.name!r} has {_arithmetic(layer.sides)} units, {what} "
                    f"{_arithmetic(shape)}"
                )
            ends.append(layer)
        return Graph([ends[0], *others, ends[1]], self.connections, self.readout)

    def joined(self):
        """Numbers of the layers that each connection joins: (below, above)."""
        index = {layer.name: k for k, layer in enumerate(self.layers)}
        return [(index[c.below], index[c.above]) for c in self.connections]

    def validate(self):
        """Raise a ValueError that names the first layer or connection that does not fit."""
        super().validate()
        self._check_parts()
        self._check_order()
        for layer in self.layers[1:-1]:
            layer.sides  # noqa: B018  raises
        open_ends = {layer.name for layer in self.layers if layer.shape is None}
        for c in self.connections:
            if not open_ends & {c.below, c.above}:
                self._check_shapes(c)
        self._check_reached()

    # ---- what can be wrong ----

    def _check_parts(self):
        for kind, name, most in (
            (Layer, "layers", MAX_LAYERS),
            (Connection, "connections", MAX_CONNECTIONS),
        ):
            parts = getattr(self, name)
            for part in parts:
                if not isinstance(part, kind):
                    raise ValueError(f"{name} must be {kind.__name__} objects, got {part!r:.60}")
                what = f"layer {part.name!r}" if kind is Layer else f"connection {part}"
                validated(part, what)
            if len(parts) > most:
                raise ValueError(f"{name}: at most {most}, got {len(parts)}")
        if len(self.layers) < 2:
            raise ValueError("layers: an input and an output are needed at least")
        names = [layer.name for layer in self.layers]
        for k, layer in enumerate(self.layers):
            if layer.name in names[:k]:
                raise ValueError(f"layer {layer.name!r}: there are two of this name")

    def _check_order(self):
        index = {layer.name: k for k, layer in enumerate(self.layers)}
        first, last = self.layers[0].name, self.layers[-1].name
        below, pairs = {name: set() for name in index}, set()
        for c in self.connections:
            for end in (c.below, c.above):
                if end not in index:
                    raise ValueError(f"connection {c}: there is no layer {end!r}")
            if c.above == first:
                raise ValueError(
                    f"connection {c}: layer {first!r} is the input, nothing leads into it"
                )
            if (c.below, c.above) in pairs:
                raise ValueError(f"connection {c}: there are two of them")
            if c.below == first and not c.symmetric:
                raise ValueError(f"connection {c}: nothing leads back to the input; symmetric=True")
            if self.readout and c.below == last:
                raise ValueError(f"connection {c}: layer {last!r} is a read-out, nothing leads on")
            if self.readout and not c.symmetric:
                raise ValueError(f"connection {c}: with readout=True all connections are symmetric")
            pairs.add((c.below, c.above))
            if c.below != c.above:
                below[c.above].add(c.below)
        try:
            TopologicalSorter(below).prepare()
        except CycleError as error:
            circle = " -> ".join(repr(name) for name in reversed(error.args[1]))
            raise ValueError(
                f"layers in a circle: {circle}; a connection acts both ways already"
            ) from None
        for c in self.connections:
            if index[c.below] > index[c.above]:
                raise ValueError(
                    f"connection {c} goes down: list layer {c.below!r} before {c.above!r}"
                )

    def _check_shapes(self, c):
        by_name = {layer.name: layer for layer in self.layers}
        below, above = by_name[c.below], by_name[c.above]
        what = f"connection {c}"
        if c.kernel is None:
            if c.pool or c.stride != 1 or c.padding:
                raise ValueError(
                    f"{what}: stride, padding and pool are for convolutions; kernel is None"
                )
            return
        for layer in (below, above):
            if len(layer.sides) == 1:
                raise ValueError(
                    f"{what}: a convolution joins maps, layer {layer.name!r} has {layer.sides[0]} units "
                    "in no order"
                )
        made = c.map_sides(*below.sides[1:], what)
        if made != above.sides[1:]:
            work = " and ".join(c.arithmetic(n) for n in dict.fromkeys(below.sides[1:]))
            raise ValueError(
                f"layer {above.name!r} has shape {above.sides}, but {what} gives {work}: "
                f"{(above.sides[0], *made)}"
            )

    def _check_reached(self):
        reached = {self.layers[0].name}
        for layer in self.layers[1:]:
            if any(c.above == layer.name and c.below in reached for c in self.connections):
                reached.add(layer.name)
            else:
                raise ValueError(f"layer {layer.name!r}: no connection leads to it from the input")

    def _check_dynamics(self, spec):
        for c, link in zip(self.connections, spec.connections):
            if link.below == link.above and spec.schedule != "synchronous":
                raise ValueError(
                    f"connection {c}: the units of layer {c.below!r} act on each other, so no order moves "
                    "one after the other at rest; relaxation='synchronous'"
                )
        if spec.readout and spec.dynamics == "discrete" and not spec.nudge_inside:
            raise ValueError(
                f"layer {self.layers[-1].name!r} is a read-out: it nudges the fields of the layers below; "
                "dynamics=Discrete(nudge_inside=True)"
            )


@documented
class Conv(Part):
    """A convolutional layer of a chain.

    Parameters
    ----------
    channels : int
    kernel : int
        Side of the kernel.
    stride, padding : int
    pool : {"max", "average"} or None
    pool_size : int
        Side of the squares that are pooled.
    activation : str or None
        None: the estimator's.
    bias : bool
    """

    _parameter_constraints: dict = {
        "channels": [_COUNT],
        **_POOLING,
        "kernel": [_COUNT],
        "activation": Layer._parameter_constraints["activation"],
        "bias": ["boolean"],
    }

    def __init__(
        self,
        channels,
        kernel,
        stride=1,
        padding=0,
        pool=None,
        pool_size=2,
        activation=None,
        bias=True,
    ):
        self.channels = channels
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.pool = pool
        self.pool_size = pool_size
        self.activation = activation
        self.bias = bias

    def join(self, below, name, symmetric):
        """The connection from layer `below`, and the layer of this name that it leads to."""
        what = f"layer {name!r}"
        if len(below.sides) == 1:
            raise ValueError(f"{what}: a convolution needs a map below it, {below.name!r} has none")
        geometry = {key: getattr(self, key) for key in _POOLING}
        connection = Connection(below.name, name, **geometry, symmetric=symmetric)
        shape = self.channels, *connection.map_sides(*below.sides[1:], what)
        return connection, Layer(name, shape, self.activation, self.bias)


@documented
class Dense(Part):
    """A fully connected layer of a chain.

    Parameters
    ----------
    units : int
    activation : str or None
        None: the estimator's.
    bias : bool
    """

    _parameter_constraints: dict = {
        "units": [_COUNT],
        "activation": Layer._parameter_constraints["activation"],
        "bias": ["boolean"],
    }

    def __init__(self, units, activation=None, bias=True):
        self.units = units
        self.activation = activation
        self.bias = bias

    def join(self, below, name, symmetric):
        """The connection from layer `below`, and the layer of this name that it leads to."""
        connection = Connection(below.name, name, symmetric=symmetric)
        return connection, Layer(name, self.units, self.activation, self.bias)


@documented
class ReadOut(Part):
    """The end of a chain whose output is no state, but what the layer below it is read as.

    See `Graph`: 2006.03824's cross-entropy read-out, a softmax of ``W s + b``.
    """

    def __init__(self):
        pass


def name_of(layer, k):
    """What the k-th layer of a chain is called, but the last: "conv 1"."""
    return f"{type(layer).__name__.lower()} {k}"


def chain(input_shape, layers, *, symmetric=True, readout=False):
    """The `Graph` of layers one above the other.

    Parameters
    ----------
    input_shape : int or (int, int, int)
    layers : sequence of Conv or Dense
        The last is the output. Layers are called "conv 1", "dense 2", ..., the last "output".
    symmetric : bool
        False: all connections but the first have weights of their own for the way back.
    readout : bool
        See `Graph`.

    Returns
    -------
    Graph

    Raises
    ------
    ValueError
        Names the layer whose kernel or pooling does not fit, and does the arithmetic.
    """
    made, connections = [Layer("input", input_shape)], []
    for k, layer in enumerate(layers, start=1):
        if not isinstance(layer, (Conv, Dense)):
            raise ValueError(f"layers must be Conv or Dense objects, got {layer!r:.60}")
        name = "output" if k == len(layers) else name_of(layer, k)
        validated(layer, f"layer {name!r}")
        connection, above = layer.join(made[-1], name, symmetric or k == 1)
        connections.append(connection)
        made.append(above)
    return Graph(made, connections, readout)


def depths(n_layers, joined):
    """Connections on the longest way from the input to each layer.

    Parameters
    ----------
    n_layers : int
    joined : sequence of (int, int)
        See `Graph.joined`.
    """
    depth = [0] * n_layers
    for below, above in sorted(joined, key=lambda ends: ends[1]):
        if below != above:
            depth[above] = max(depth[above], depth[below] + 1)
    return depth


def draw_parameters(spec, rng, dtype=np.float64, gain=1.0, scheme=None):
    """Fresh weights and biases, drawn connection after connection, each layer's bias with the first
    that leads to it.

    Parameters
    ----------
    spec : GraphSpec
    rng : numpy.random.Generator
    gain : float or sequence of float
        One, or one a connection.
    scheme : WeightInit, optional
        Bounds of weights and biases; U(-1/sqrt(fan_in), 1/sqrt(fan_in)) without.

    Returns
    -------
    weights, biases : lists of ndarray
    """
    scheme = FanInUniform() if scheme is None else scheme
    weights, biases = [], [None] * (len(spec.layers) - 1)
    gains = np.broadcast_to(np.asarray(gain, np.float64), len(spec.connections))
    for link, g in zip(spec.connections, gains):
        shape, fan_in = link.weight_shape(spec.layers), link.fan_in(spec.layers)
        fan_out = shape[0] * link.kernel**2 if link.kernel else shape[1]
        drawn = scheme.weights(g, shape, fan_in, fan_out, rng, link.below == 0)
        weights.append(drawn.astype(dtype))
        if biases[link.above - 1] is None:
            n = spec.layers[link.above].n_biases
            drawn = scheme.biases(n, fan_in, fan_out, rng)
            biases[link.above - 1] = drawn.astype(dtype)
    return weights, biases
