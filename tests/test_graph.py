"""Networks of any shape: the description, and the NumPy twin against the chain's, differences and
exact gradients.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from eqprop_fast.kernels import LayeredSpec, OptimizerState, TrainPlan, get_backend
from eqprop_fast.kernels.reference import gradients
from eqprop_fast.kernels.reference.connections import connection
from eqprop_fast.kernels.reference.graph import GraphNet
from eqprop_fast.kernels.reference.layered import layered_cost
from eqprop_fast.kernels.reference.rules import estimate_of

from eqprop_fast.networks.energy import graph_energy
from eqprop_fast.networks.graph import Connection, Conv, Dense, Graph, Layer, chain

from .graphs import GRAPHS, make, spec_of, with_own_back, zeros

NUMPY = get_backend("numpy")


def layers(**shapes):
    return [Layer(name, shape) for name, shape in shapes.items()]


def joined(*pairs, **more):
    return [Connection(a, b, **more) for a, b in pairs]


MAPS = dict(x=(1, 28, 28), a=(32, 12, 12), out=10)
WRONG = {
    "connection 'x' -> 'a': 28 - 4 + 1 = 25 cannot be pooled by 2": lambda: Graph(
        layers(**MAPS), [Connection("x", "a", kernel=4, pool="max"), Connection("a", "out")]
    ),
    "layer 'a' has shape (32, 12, 12), but connection 'x' -> 'a' gives 28 - 7 + 1 = 22, pooled 11: "
    "(32, 11, 11)": lambda: Graph(
        layers(**MAPS), [Connection("x", "a", kernel=7, pool="max"), Connection("a", "out")]
    ),
    "a kernel of side 31 is larger than its input, 28 + 2 * 1": lambda: Graph(
        layers(**MAPS), [Connection("x", "a", kernel=31, padding=1), Connection("a", "out")]
    ),
    "(28 + 2 * 1 - 3) // 2 + 1 = 14": lambda: Graph(
        layers(**MAPS),
        [Connection("x", "a", kernel=3, padding=1, stride=2), Connection("a", "out")],
    ),
    "padding=3 must be below": lambda: Graph(
        layers(**MAPS), [Connection("x", "a", kernel=3, padding=3), Connection("a", "out")]
    ),
    "layer 'out' has 10 units in no order": lambda: Graph(
        layers(**MAPS),
        [Connection("x", "out", kernel=3), Connection("x", "a", kernel=5, pool="max")],
    ),
    "kernel is None": lambda: Graph(layers(x=4, out=2), joined(("x", "out"), pool="max")),
    "layers in a circle: 'a' -> 'b' -> 'a'": lambda: Graph(
        layers(x=4, a=3, b=3, out=2), joined(("x", "a"), ("a", "b"), ("b", "a"), ("b", "out"))
    ),
    "goes down: list layer 'b' before 'a'": lambda: Graph(
        layers(x=4, a=3, b=3, out=2), joined(("x", "b"), ("b", "a"), ("a", "out"))
    ),
    "layer 'b': no connection leads to it from the input": lambda: Graph(
        layers(x=4, a=3, b=3, out=2), joined(("x", "a"), ("b", "out"), ("a", "out"))
    ),
    "layer 'a': there are two of this name": lambda: Graph(
        [Layer("x", 2), Layer("a", 3), Layer("a", 4)], joined(("x", "a"))
    ),
    "there is no layer 'c'": lambda: Graph(layers(x=4, out=2), joined(("x", "c"))),
    "there are two of them": lambda: Graph(layers(x=4, out=2), joined(("x", "out"), ("x", "out"))),
    "'x' is the input, nothing leads into it": lambda: Graph(
        layers(x=4, out=2), joined(("x", "out"), ("x", "x"))
    ),
    "nothing leads back to the input": lambda: Graph(
        layers(x=4, out=2), joined(("x", "out"), symmetric=False)
    ),
    "shape must be a number of units, or (channels": lambda: Graph(
        layers(x=(4, 4), out=2), joined(("x", "out"))
    ),
    "an input and an output are needed": lambda: Graph(layers(x=4), []),
    "layers must be Layer objects": lambda: Graph([4, 2], joined(("x", "out"))),
    "'pool' parameter": lambda: Graph(
        layers(**MAPS), [Connection("x", "a", kernel=5, pool="min"), Connection("a", "out")]
    ),
    "is a read-out, nothing leads on": lambda: Graph(
        layers(x=4, a=3, out=2), joined(("x", "a"), ("a", "out"), ("out", "out")), readout=True
    ),
    "is a read-out: it nudges the fields": lambda: Graph(
        layers(x=4, a=3, out=2), joined(("x", "a"), ("a", "out")), readout=True
    ),
    "layer 'conv 2': 12 - 4 + 1 = 9 cannot be pooled by 2": lambda: chain(
        (1, 28, 28), [Conv(32, 5, pool="max"), Conv(64, 4, pool="max"), Dense(10)]
    ),
    "layer 'conv 1': a convolution needs a map below it": lambda: chain(
        784, [Conv(32, 5), Dense(10)]
    ),
    "layers must be Conv or Dense": lambda: chain(784, [10]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused_with_the_arithmetic(message):
    with pytest.raises(ValueError) as error:
        WRONG[message]().spec()
    assert message in str(error.value)


def test_lateral_connections_are_synchronous():
    with pytest.raises(
        ValueError, match="connection 'a' -> 'a': the units of layer 'a' act on each"
    ):
        spec_of("lateral", schedule="asynchronous")
    assert spec_of("lateral").passes() == [[1, 2]]


def test_fan_in_is_of_one_unit():
    """Of a convolution the channels below in a square, whatever the channels above."""
    spec = spec_of("residual")
    fan_in = [link.fan_in(spec.layers) for link in spec.connections]
    assert fan_in == [2 * 9, 4 * 9, 6 * 9, 4, 6, 5 * 4, 6 * 16]


def test_colours():
    """No two of a colour meet; odd layers, then even ones, in a chain."""
    long = chain(4, [Dense(n) for n in (5, 6, 7, 8, 3)]).spec(schedule="asynchronous")
    assert long.passes() == [[1, 3, 5], [2, 4]]
    for name in ("skip", "residual", "wide", "readout"):
        spec = spec_of(name, schedule="asynchronous")
        groups = spec.passes()
        assert sorted(k for group in groups for k in group) == list(spec.moving)
        for group in groups:
            assert not any({link.below, link.above} <= set(group) for link in spec.connections)
    assert spec_of("skip", schedule="asynchronous").passes() == [[1], [2], [3]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
@pytest.mark.parametrize(
    "dynamics",
    [{}, dict(nudge_inside=True, dt=0.7), dict(dynamics="continuous", dt=0.3, clamp=True)],
    ids=["map", "damped", "continuous"],
)
def test_a_chain_is_the_layered_network_bit_for_bit(dynamics, schedule, dtype):
    sizes, rows, rng = (9, 7, 6, 5, 4), 11, np.random.default_rng(0)
    layered = LayeredSpec(sizes, schedule=schedule, out_activation="tanh", **dynamics)
    graph = chain(9, [Dense(n) for n in sizes[1:]]).spec(
        activation="shifted_sigmoid", out_activation="tanh", schedule=schedule, **dynamics
    )
    weights = [rng.normal(size=pair).astype(dtype) for pair in zip(sizes, sizes[1:])]
    biases = [rng.normal(size=n).astype(dtype) for n in sizes[1:]]
    x = rng.random((rows, 9)).astype(dtype)
    y = np.eye(4, dtype=dtype)[rng.integers(0, 4, rows)]

    ends = [zeros(layered, rows, dtype), zeros(layered, rows, dtype)]
    one = NUMPY.layered_relax(layered, weights, None, biases, x, ends[0], y, 0.3, 7, 1e-3)
    two = NUMPY.graph_relax(graph, weights, None, biases, x, ends[1], y, 0.3, 7, 1e-3)
    for a, b in zip([*one, *ends[0]], [*two, *ends[1]]):
        np.testing.assert_array_equal(a, b)

    plan = TrainPlan(4, 0.3, 9, 5, (0.1, 0.2, 0.3, 0.1), (0.1, 0.2, 0.3, 0.4), tol_free=0.01)
    variants = [
        plan,
        replace(plan, centered=True, optimizer="adam"),
        replace(plan, sign=np.array([1, -1, 1]), optimizer="momentum", weight_decay=0.01),
        *[replace(plan, rule=rule) for rule in ("continual", "coupled", "contrastive")],
        *[replace(plan, rule=rule) for rule in ("bptt", "recurrent_backprop", "implicit")],
    ]
    for variant in variants:
        learned = []
        for train, spec in ((NUMPY.layered_train, layered), (NUMPY.graph_train, graph)):
            w, b = [a.copy() for a in weights], [a.copy() for a in biases]
            memory = OptimizerState(
                [np.zeros_like(a) for a in (*w, *b)] if variant.optimizer != "sgd" else [],
                [np.zeros_like(a) for a in (*w, *b)] if variant.optimizer == "adam" else [],
            )
            particles = None if variant.rule == "bptt" else zeros(layered, rows, dtype)
            weight = np.linspace(0, 2, rows).astype(dtype)
            stats = train(
                spec, w, None, b, x, y, np.arange(rows), variant, weight, particles, memory
            )
            learned.append([stats, *w, *b, *(particles or [])])
        assert learned[0][0] == learned[1][0]
        for a, b in zip(learned[0][1:], learned[1][1:]):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", GRAPHS)
def test_connections_have_their_adjoints(name):
    """<lift v, u> = <v, drop u> = <W, correlation(v, u)>, pooling and all."""
    spec, weights, *_ = make(name)
    rng = np.random.default_rng(1)
    for link, w in zip(spec.connections, weights):
        op = connection(spec.layers, link)
        low, v = rng.normal(size=(2, 3, spec.sizes[link.below]))
        u = rng.normal(size=(3, spec.sizes[link.above]))
        lifted, where = op.up(low, w)
        np.testing.assert_array_equal(lifted, op.lift(low, w, where))
        product = (op.lift(v, w, where) * u).sum()
        assert (v * op.drop(u, w, where)).sum() == pytest.approx(product, rel=1e-10)
        assert (w * op.correlation(v, u, where)).sum() == pytest.approx(product, rel=1e-10)


def _differences(function, arrays, derivatives, rng, h=1e-6, atol=1e-6):
    for array, derivative in zip(arrays, derivatives):
        for flat in rng.choice(array.size, min(array.size, 4), replace=False):
            i = np.unravel_index(flat, array.shape)
            old, ends = array[i], []
            for sign in (1, -1):
                array[i] = old + sign * h
                ends.append(function())
            array[i] = old
            assert derivative[i] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=atol)


@pytest.mark.parametrize("own_back", [False, True])
@pytest.mark.parametrize(
    "dynamics",
    [
        dict(schedule="synchronous"),
        dict(schedule="asynchronous"),
        dict(dynamics="continuous", dt=0.4, prime_output=True, schedule="asynchronous"),
    ],
    ids=["synchronous", "asynchronous", "continuous"],
)
@pytest.mark.parametrize("name", ["skip", "max", "residual", "wide"])
def test_reverse_step(name, dynamics, own_back):
    """Against central differences of one step."""
    spec, weights, biases, x, _ = make(name, rows=2, **dynamics)
    back = None
    if own_back:
        spec, back = with_own_back(spec, weights)
    net, rng = GraphNet(spec, weights, back, biases), np.random.default_rng(2)
    states, bar = ([rng.normal(size=s.shape) for s in zeros(spec, 2)] for _ in range(2))
    before, gradient = net.step_vjp(net.drive(x), states, bar)

    def product():
        return sum((b * s).sum() for b, s in zip(bar, net.step(net.drive(x), states)[0]))

    arrays = [*states, *weights, *biases, *(b for b in back or [] if b is not None)]
    found = [*before, *gradient[0], *gradient[1], *(g for g in gradient[2] or [] if g is not None)]
    _differences(product, arrays, found, rng)


@pytest.mark.parametrize("name", ["skip", "max", "residual", "readout", "lateral"])
def test_exact_gradients_are_those_of_the_cost(name):
    """BPTT over a whole free phase, against central differences; the others at the equilibrium."""
    spec, weights, biases, x, y = make(name, rows=2, gain=0.3)
    plan = TrainPlan(2, 1.0, 30, 30, (1.0,) * len(weights), (1.0,) * len(biases), rule="bptt")
    net = GraphNet(spec, weights, None, biases)
    ascent, _ = estimate_of(net, x, y, plan)

    def cost():
        states = zeros(spec, 2)
        net.relax(net.drive(x), states, n_steps=30)
        return -layered_cost(spec, states[-1], y)[0] / 2

    _differences(
        cost, [*weights, *biases], [*ascent.weights, *ascent.biases], np.random.default_rng(3)
    )
    small = name in ("skip", "lateral")  # implicit differentiation solves for all units at once
    for rule in ("recurrent_backprop", "implicit") if small else ("recurrent_backprop",):
        other, _ = estimate_of(net, x, y, replace(plan, rule=rule, n_nudged_steps=30))
        for a, b in zip([*ascent.weights, *ascent.biases], [*other.weights, *other.biases]):
            np.testing.assert_allclose(a, b, atol=1e-6)


def deviation(name, beta, centered, **more):
    """Largest RMSE per parameter, relative, between EP and BPTT."""
    spec, weights, biases, x, y = make(name, rows=3, gain=0.4, **more)
    net = GraphNet(spec, weights, None, biases)
    rates = (1.0,) * len(weights), (1.0,) * len(biases)
    ep = TrainPlan(3, beta, 120, 60, *rates, centered=centered)
    truth, _ = estimate_of(net, x, y, replace(ep, rule="bptt", beta=1.0, centered=False))
    found, _ = estimate_of(net, x, y, ep)
    pairs = zip([*truth.weights, *truth.biases], [*found.weights, *found.biases])
    return max(np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs)


@pytest.mark.parametrize("name", ["skip", "max", "residual", "readout", "lateral"])
@pytest.mark.parametrize("centered", [False, True], ids=["one-sided", "centered"])
def test_ep_estimates_the_gradient(name, centered):
    """Of order beta, centered beta^2 (smooth net, nudge inside)."""
    errors = [deviation(name, beta, centered) for beta in (0.02, 0.01)]
    assert errors[-1] < (1e-3 if centered else 2e-2)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2 if centered else 1, abs=0.15)


@pytest.mark.parametrize("dynamics", [{}, dict(dynamics="continuous", dt=0.5, prime_output=True)])
@pytest.mark.parametrize("name", ["skip", "residual"])
def test_an_asynchronous_sweep_reaches_the_synchronous_equilibrium(name, dynamics):
    """(Where maxima are pooled there may be several equilibria.)"""
    ends = []
    for schedule in ("synchronous", "asynchronous"):
        spec, weights, biases, x, _ = make(name, schedule=schedule, **dynamics)
        states = zeros(spec, 5)
        steps, residual = NUMPY.graph_relax(
            spec, weights, None, biases, x, states, n_steps=500, tol=1e-12
        )
        assert (residual <= 1e-12).all() and (steps < 500).all()
        ends.append(states)
    for a, b in zip(*ends):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("name", ["skip", "residual", "lateral"])
def test_small_euler_steps_descend_the_energy(name):
    spec, weights, biases, x, _ = make(
        name, gain=1.5, dynamics="continuous", dt=0.05, prime_output=True, out_activation="tanh"
    )
    net, states = GraphNet(spec, weights, None, biases), zeros(spec, 5)
    drive, last = net.drive(x), np.inf
    for _ in range(40):
        energy = graph_energy(spec, weights, biases, x, states)
        assert (energy <= last + 1e-12).all()
        states, last = net.step(drive, states)[0], energy


@pytest.mark.parametrize("name", GRAPHS)
def test_a_sample_does_not_see_its_batch_mates(name):
    spec, weights, biases, x, y = make(name, dtype=np.float32)
    whole = zeros(spec, 5, np.float32)
    NUMPY.graph_relax(spec, weights, None, biases, x, whole, y, 0.2, 9, 1e-3)
    for m in range(5):
        alone = zeros(spec, 1, np.float32)
        NUMPY.graph_relax(spec, weights, None, biases, x[[m]], alone, y[[m]], 0.2, 9, 1e-3)
        for a, b in zip(whole, alone):
            np.testing.assert_array_equal(a[m], b[0])


def test_a_readout_reads_what_the_states_say():
    spec, weights, biases, x, _ = make("readout")
    states = zeros(spec, 5)
    NUMPY.graph_relax(spec, weights, None, biases, x, states, n_steps=20)
    np.testing.assert_allclose(states[-1], states[-2] @ weights[-1] + biases[-1], atol=1e-12)


REFUSED_RULES = [
    ("readout", {}, "coupled", "readout"),
    ("skip", {}, "vector_field", "connection 1 "),
    ("skip", {}, "clamped_sweep", "chain"),
]


@pytest.mark.parametrize("name, fields, rule, why", REFUSED_RULES)
def test_rules_that_cannot_serve_say_so(name, fields, rule, why):
    spec, weights, biases, x, y = make(name, **fields)
    plan = TrainPlan(5, 0.1, 3, 3, (0.1,) * len(weights), (0.1,) * len(biases), rule=rule)
    with pytest.raises(ValueError, match=why):
        NUMPY.graph_train(spec, weights, None, biases, x, y, np.arange(5), plan)


@pytest.mark.parametrize("rule", ["vector_field", "continual_vector_field", "continual", "coupled"])
@pytest.mark.parametrize("name", ["max", "residual"])
def test_local_rules_lower_the_cost(name, rule):
    spec, weights, biases, x, y = make(name, schedule="asynchronous")
    back = None
    if "vector" in rule:
        spec, back = with_own_back(spec, weights)
        for link, w, b in zip(spec.connections, weights, back):
            if b is not None:
                b[...] = w if link.kernel else w.T
    rate = 2e-4 if rule.startswith("continual") else 0.02
    rates = (rate,) * len(weights), (rate,) * len(biases)
    plan = TrainPlan(5, 0.1, 30, 15, *rates, rule=rule)
    train = partial(NUMPY.graph_train, spec, weights, back, biases, x, y, np.arange(5), plan)
    losses = [train().loss for _ in range(6)]
    assert all(a > b for a, b in zip(losses, losses[1:]))


WRONG_CALLS = {
    "spec.connections[1] is dense": lambda s: s._replace(
        connections=(s.connections[0], s.connections[1]._replace(pool="max"), *s.connections[2:])
    ),
    "spec.layers[2] has no connection from below": lambda s: s._replace(
        connections=tuple(c for c in s.connections if c.above != 2)
    ),
    "spec.connections[0].above": lambda s: s._replace(
        connections=(s.connections[0]._replace(above=9), *s.connections[1:])
    ),
    "spec.layers[1].activation": lambda s: s._replace(
        layers=(s.layers[0], s.layers[1]._replace(activation="step"), *s.layers[2:])
    ),
    "spec.layers[1].size": lambda s: s._replace(
        layers=(s.layers[0], s.layers[1]._replace(shape=(2**31 - 64,)), *s.layers[2:])
    ),
    "weights must have 5 entries": None,
}


@pytest.mark.parametrize("message", WRONG_CALLS)
def test_wrong_kernel_calls_are_refused(message):
    spec, weights, biases, x, _ = make("skip")
    wrong, states = WRONG_CALLS[message], zeros(spec, 5)
    spec, weights = (wrong(spec), weights) if wrong else (spec, weights[:-1])
    with pytest.raises(ValueError) as error:
        NUMPY.graph_relax(spec, weights, None, biases, x, states)
    assert message in str(error.value)


def test_the_jacobian_of_a_step():
    spec, weights, biases, x, _ = make("residual", rows=1)
    net, rng = GraphNet(spec, weights, None, biases), np.random.default_rng(0)
    states = [rng.normal(size=s.shape) for s in zeros(spec, 1)]
    n = sum(s.shape[1] for s in states)
    drive = net.drive(x)
    jacobian = gradients.jacobian(net.vjp(None, drive[np.zeros(n, int)]), states)
    push = [rng.normal(size=s.shape) for s in states]
    h = 1e-6
    moved = [
        np.concatenate(net.step(drive, [s + sign * h * p for s, p in zip(states, push)])[0], axis=1)
        for sign in (1, -1)
    ]
    expected = (moved[0] - moved[1])[0] / (2 * h)
    np.testing.assert_allclose(jacobian @ np.concatenate(push, axis=1)[0], expected, atol=1e-7)
