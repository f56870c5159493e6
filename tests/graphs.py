"""Small graphs of every kind of connection, and data for them; for tests."""

import numpy as np

from eqprop_fast.networks.graph import Connection, Conv, Dense, Graph, Layer, chain, draw_parameters

# where a maximum is pooled, a unit above it that is negative would push it down until another is the
# largest, and so on without end: these states are positive
SMOOTH = dict(activation="shifted_sigmoid")
# name -> (Graph, fields of its GraphSpec)
GRAPHS = {
    "skip": (
        Graph(
            [Layer("x", 7), Layer("a", 9), Layer("b", 17), Layer("out", 3)],
            [
                Connection("x", "a"),
                Connection("a", "b"),
                Connection("x", "b"),
                Connection("b", "out"),
                Connection("a", "out"),
            ],
        ),
        {},
    ),
    "max": (chain((2, 10, 10), [Conv(3, 3, pool="max"), Conv(5, 3, pool="max"), Dense(3)]), SMOOTH),
    "wide": (
        chain((1, 9, 11), [Conv(17, 2, pool="max"), Conv(33, 3, padding=1), Dense(9), Dense(3)]),
        SMOOTH,
    ),
    "residual": (
        Graph(
            [
                Layer("x", (2, 8, 8)),
                Layer("a", (4, 8, 8)),
                Layer("b", (6, 4, 4), bias=False),
                Layer("c", (6, 4, 4)),
                Layer("d", (5, 2, 2)),
                Layer("out", 3),
            ],
            [
                Connection("x", "a", kernel=3, padding=1),
                Connection("a", "b", kernel=3, stride=2, padding=1),
                Connection("b", "c", kernel=3, padding=1),
                Connection("a", "c", kernel=1, stride=2),
                Connection("c", "d", kernel=1, pool="average"),
                Connection("d", "out"),
                Connection("c", "out"),
            ],
        ),
        {},
    ),
    "readout": (
        chain(
            (1, 8, 8), [Conv(4, 3, pool="average"), Conv(6, 3, padding=1), Dense(3)], readout=True
        ),
        dict(nudge_inside=True, cost="cross_entropy"),
    ),
    "lateral": (
        Graph(
            [Layer("x", 5), Layer("a", 8), Layer("out", 3)],
            [
                Connection("x", "a"),
                Connection("a", "a"),
                Connection("a", "out"),
                Connection("x", "out"),
            ],
        ),
        dict(schedule="synchronous"),
    ),
}


def spec_of(name, **more):
    graph, fields = GRAPHS[name]
    wanted = {
        "activation": "tanh",
        "out_activation": "identity",
        "nudge_inside": True,
        **fields,
        **more,
    }
    if wanted.get("dynamics") == "continuous":
        wanted.pop("nudge_inside")
    return graph.spec(**wanted)


def make(name, seed=0, rows=5, dtype=np.float64, gain=0.5, **more):
    """spec, weights, biases, x, y of a small graph at random."""
    spec, rng = spec_of(name, **more), np.random.default_rng(seed)
    weights, biases = draw_parameters(spec, rng, dtype, gain)
    x = rng.uniform(0, 1, (rows, spec.sizes[0])).astype(dtype)
    y = np.eye(spec.sizes[-1], dtype=dtype)[rng.integers(0, spec.sizes[-1], rows)]
    return spec, weights, biases, x, y


def zeros(spec, rows, dtype=np.float64):
    return [np.zeros((rows, n), dtype) for n in spec.sizes[1:]]


def with_own_back(spec, weights, seed=0):
    """The same network whose inner connections have weights of their own for the way back."""
    rng = np.random.default_rng(seed)
    links = tuple(link._replace(own_back=0 < link.below < link.above) for link in spec.connections)
    back = [
        rng.normal(0, 0.1, link.back_shape(spec.layers)).astype(w.dtype) if link.own_back else None
        for link, w in zip(links, weights)
    ]
    return spec._replace(connections=links), back
