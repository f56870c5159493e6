"""Convolutional networks for the tests of exports: kernels, strides, padding, pooling, read-outs."""

from eqprop_fast import Connection, Conv, Dense, Graph, Layer
from tests import embedded_host as host

ASYNC = dict(schedule="asynchronous", activation="shifted_sigmoid", out_activation="hard_sigmoid")
SYNC = {**ASYNC, "schedule": "synchronous"}
TO_MAP = Graph(  # all units to a map; a map as output
    [Layer("x", 5), Layer("a", (2, 4, 4)), Layer("b", (3, 2, 2)), Layer("out", (3, 1, 1))],
    [
        Connection("x", "a"),
        Connection("a", "b", kernel=1, pool="max"),
        Connection("b", "out", kernel=2),
    ],
)
FIRST_FLAT = Graph(
    [Layer("x", (2, 4, 4)), Layer("a", 12, "tanh"), Layer("out", 3)],
    [Connection("x", "a"), Connection("a", "out")],
)
SHAPES = {
    "plain": ((1, 6, 6), Conv(3, 3), Dense(3)),
    "largest": ((2, 8, 8), Conv(4, 3, pool="max"), Dense(3)),
    "mean": ((1, 8, 8), Conv(3, 3, pool="average"), Dense(3)),
    "padded": ((2, 6, 6), Conv(3, 3, padding=1, pool="max"), Conv(4, 3, padding=2), Dense(3)),
    "strides": (
        (1, 9, 9),
        Conv(3, 3, stride=2),
        Conv(4, 2, stride=2, pool="max"),
        Dense(5),
        Dense(3),
    ),
    "deep": (
        (2, 12, 12),
        Conv(3, 3, pool="max"),
        Conv(4, 3, padding=1, stride=2, pool="average", pool_size=3),
        Dense(4, activation="tanh"),
        Dense(3),
    ),
    "uneven": ((1, 8, 4), Conv(2, 3, pool="average", padding=1, stride=2), Dense(3)),
    "maps": TO_MAP,
    "flat": FIRST_FLAT,
    "wide": ((1, 9, 9), Conv(2, 1, pool="max", pool_size=3), Conv(3, 2, pool="max"), Dense(3)),
}


def networks(learn=None):
    """{name: NetModel}: each shape; schedules, activations, outputs and dynamics."""
    found = {name: host.graph_model(shape, learn=learn, **ASYNC) for name, shape in SHAPES.items()}
    for name in ("largest", "deep", "padded"):
        found[f"{name}_sync"] = host.graph_model(SHAPES[name], learn=learn, **SYNC)
    more = {
        "stops": ("largest", dict(tol_free=1e-4, n_free_steps=100)),
        "damped": (
            "largest",
            dict(dt=0.7, learn=learn if learn is None else {**learn, "step": 0.7}),
        ),
        "relu": ("mean", dict(activation="relu", out_activation="identity", gain=0.7)),
        "tanh": ("padded", dict(activation="tanh")),
        "input": ("largest", dict(input_activation="tanh")),
        "values": ("largest", dict(kind="regressor", out_activation="identity", gain=0.7)),
        "labels": ("mean", dict(kind="multilabel", proba="clip")),
        "read": ("deep", dict(readout=True, nudge_inside=True, out_activation="identity")),
        "readsync": (
            "largest",
            dict(
                readout=True, nudge_inside=True, out_activation="identity", schedule="synchronous"
            ),
        ),
        "entropy": (
            "largest",
            dict(
                readout=True,
                nudge_inside=True,
                out_activation="identity",
                cost="cross_entropy",
                proba="softmax",
            ),
        ),
        "inside": ("plain", dict(nudge_inside=True)),
    }
    for name, (shape, options) in more.items():
        found[name] = host.graph_model(SHAPES[shape], **{"learn": learn, **ASYNC, **options})
    scaled = host.graph_model(SHAPES["padded"], learn=learn, **ASYNC)
    centre, scale = [0.3] * 36 + [-0.2] * 36, [0.5] * 36 + [2.0] * 36
    scaled.input_center, scaled.input_scale = map(host.np.float64, (centre, scale))
    found["scaled"] = scaled
    return found
