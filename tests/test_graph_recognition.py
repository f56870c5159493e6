"""A pass that learns to predict where free phases end, through networks of any shape."""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import get_backend
from eqprop_fast.kernels.reference.graph import GraphNet
from eqprop_fast.kernels.spec import LayeredSpec
from sklearn.base import clone
from sklearn.datasets import load_digits

from eqprop_fast import (
    Continuous,
    Conv,
    ConvEqPropClassifier,
    ConvEqPropRegressor,
    Dense,
    Discrete,
    EqPropClassifier,
    GraphEqPropClassifier,
    ReadOut,
    Recognition,
    Relaxation,
    theory,
)
from eqprop_fast.networks.graph import chain
from eqprop_fast.networks.graph_network import GraphNetwork
from eqprop_fast.networks.initial import GlorotUniform
from eqprop_fast.networks.layered import LayeredNetwork
from eqprop_fast.training.checkpoint import CheckpointError

from .backend_list import BACKENDS
from .graphs import GRAPHS as SHAPES
from .graphs import make, with_own_back
from .kinds import GRAPHS, skip, small

X, Y = (a[:200] for a in load_digits(return_X_y=True))
X = X / 16


def pass_of(name, backend=BACKENDS[0], rows=9, gain=0.2, **more):
    spec, weights, biases, x, _ = make(name, rows=rows, gain=gain, **more)
    net = GraphNetwork(spec, get_backend(backend), weights, biases)
    return net, net.new_recognition(1.0), x


def model(layers=None, start="recognition", kind=ConvEqPropClassifier, **more):
    parts = dict(max_iter=2, dtype="float64", random_state=0, solver="sgd", weight_decay=0.0)
    layers = [Conv(3, 3, pool="max"), Conv(4, 2), Dense(12)] if layers is None else layers
    if kind in (ConvEqPropClassifier, ConvEqPropRegressor):
        parts["input_shape"] = (1, 8, 8)
    return kind(layers, relaxation=Relaxation(start=start), **{**parts, **more})


def arrays(fitted):
    groups = (
        fitted.coefs_,
        fitted.intercepts_,
        fitted.recognition_coefs_,
        fitted.recognition_intercepts_,
    )
    return [a for group in groups for a in group]


def centred(spec, link):
    """Whether a connection's weights learn from what its input deviates from its mean."""
    layer = spec.layers[link.above]
    return not link.kernel and layer.n_biases == layer.size


def field_along(spec, parameters, x, states, c, direction):
    """How the field above connection c changes as its weights move along a direction."""
    n, step = len(spec.connections), 1e-6
    fields = []
    for sign in (1, -1):
        weights = list(parameters[:n])
        weights[c] = weights[c] + sign * step * direction
        twin = GraphNet(spec, weights, None, parameters[n:])
        drive = twin.drive(x)
        fields.append(twin.from_below(drive, twin.shown(drive, states), spec.connections[c].above))
    return (fields[0] - fields[1]) / (2 * step)


def same(a, b):
    return all((p == q).all() for p, q in zip(arrays(a), arrays(b)))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_begins_as_the_doubled_pass(backend, name):
    net, own, x = pass_of(name, backend)
    for a, b in zip(own.states(x), net.pass_upwards(x)):
        assert np.abs(a - b).max() < 1e-12
    assert all(not np.shares_memory(a, b) for a, b in zip(own.parameters, net.parameters))
    assert [net.layer_of(k) for k in range(len(net.parameters))] * 2 == [
        net.layer_of(k) for k in range(2 * len(net.parameters))
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_the_rule_goes_down_the_error_of_each_layer(name):
    """A small step is along minus the gradient of ``sum |s - f|^2`` in the fields f, by layer."""
    _, own, x = pass_of(name)
    predicted = own.states(x)
    settled = [p + np.random.default_rng(1).normal(size=p.shape) for p in predicted]
    before = [p.copy() for p in own.parameters]
    own.learning_rate = 1e-3
    own.learn(x, predicted, settled)
    moved = [a - b for a, b in zip(own.parameters, before)]
    spec, n = own.spec, len(own.weights)
    error = [s - p for s, p in zip(settled, predicted)]
    rng, rates = np.random.default_rng(2), {}
    for c, link in enumerate(spec.connections):
        if link.below == link.above:
            assert not moved[c].any()  # it has no part in the pass
            continue
        assert moved[c].any() and np.isfinite(moved[c]).all()
        e = error[link.above - 1]
        for _ in range(3):
            direction = rng.normal(size=moved[c].shape)
            field = field_along(spec, before, x, predicted, c, direction)
            if centred(spec, link):
                field = field - field.mean(axis=0)
            downhill = (e * field).sum() / len(x)
            rates.setdefault(link.above, []).append((moved[c] * direction).sum() / downhill)
    for found in rates.values():  # one rate for all that leads to a layer
        assert 0 < found[0] <= own.learning_rate and np.allclose(found, found[0], rtol=1e-4)
    assert all(moved[n + k].any() for k in range(len(own.biases)))
    after = own.states(x)
    first = error[0], settled[0] - after[0]  # the layer that gets x alone
    assert np.square(first[1]).sum() < np.square(first[0]).sum()


def test_a_graph_of_a_chain_learns_what_the_chain_does():
    sizes = (64, 17, 16, 3)
    weights, biases = GlorotUniform().draw(sizes, np.random.default_rng(0), np.dtype(float))
    fields = dict(activation="tanh", out_activation="identity")
    kernels = get_backend(BACKENDS[0])
    spec = chain(64, [Dense(n) for n in sizes[1:]]).spec(**fields)
    nets = (
        LayeredNetwork(LayeredSpec(sizes, **fields), kernels, weights, biases),
        GraphNetwork(spec, kernels, weights, biases),
    )
    x, weight = X[:9], np.random.default_rng(1).uniform(0, 2, 9)
    passes = [net.new_recognition(0.7) for net in nets]
    for own in passes:
        for _ in range(3):
            predicted = own.states(x)
            own.learn(x, predicted, [np.full_like(p, 0.3) for p in predicted], weight)
    for a, b in zip(*(own.parameters for own in passes)):
        assert np.abs(a - b).max() < 1e-13


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_it_comes_to_predict_fixed_points(name, offset):
    """Of one batch over and over; inputs that are never 0 do no harm."""
    net, own, x = pass_of(name, rows=4, gain=0.3)
    x = x + offset
    fixed = net.relax(x, 900, 1e-12).states

    def errors():
        return np.array([np.square(a - b).mean() for a, b in zip(own.states(x), fixed)])

    first, last = errors(), None
    for _ in range(4000):
        own.learn(x, own.states(x), fixed)
        last = errors() if last is None else last
    assert last.sum() < 2 * first.sum()  # no step too far
    assert errors().sum() < 0.1 * first.sum()


def test_rows_that_weigh_nothing_teach_nothing():
    _, own, x = pass_of("residual")
    before = [p.copy() for p in own.parameters]
    predicted = own.states(x)
    more = [p + 1 for p in predicted]
    own.learn(x, predicted, more, np.zeros(len(x)))
    assert all((a == b).all() for a, b in zip(before, own.parameters))
    half = np.r_[np.ones(4), np.zeros(len(x) - 4)]
    _, other, _ = pass_of("residual")
    own.learn(x, predicted, more, half)
    other.learn(x[:4], [p[:4] for p in predicted], [m[:4] for m in more])
    for a, b in zip(own.parameters, other.parameters):
        assert np.abs(a - b).max() < 1e-12


def test_ways_back_of_their_own_have_no_part_in_it():
    spec, weights, biases, x, _ = make("residual", rows=9, gain=0.2)
    own_back, back = with_own_back(spec, weights)
    kernels = get_backend(BACKENDS[0])
    a = GraphNetwork(spec, kernels, weights, biases).new_recognition(1.0)
    b = GraphNetwork(own_back, kernels, weights, biases, back).new_recognition(1.0)
    assert all((p == q).all() for p, q in zip(a.states(x), b.states(x)))


@pytest.mark.parametrize("rule", ["ep", "continual", "contrastive", "coupled"])
def test_backends_and_threads_learn_alike(rule):
    few = X[:60], Y[:60]
    fits = [
        model(backend=backend, n_threads=n, learning_rule=rule).fit(*few)
        for backend in BACKENDS
        for n in (1, 3)
    ]
    for one, many in zip(fits[::2], fits[1::2]):
        assert same(one, many)
        assert all(np.abs(a - b).max() < 1e-8 for a, b in zip(arrays(one), arrays(fits[0])))
        for relax in (True, False):
            alone = one.decision_function(X[3:4], relax=relax)[0]
            assert (alone == many.decision_function(X[:9], relax=relax)[3]).all()


def test_it_saves_sweeps_and_predicts_by_itself():
    layers = [Conv(8, 3, pool="average"), Dense(32)]
    fitted = model(layers, max_iter=40, solver="adam", learning_rate_init=0.01).fit(X, Y)
    from_zero = clone(fitted)
    from_zero.__dict__.update(fitted.__dict__)
    from_zero.set_params(relaxation=Relaxation())
    assert fitted.equilibrium(X).steps.mean() < from_zero.equilibrium(X).steps.mean()
    assert (fitted.predict(X, relax=False) == Y).mean() > 0.9
    assert set(theory.feedforward_consistency(fitted, X).sweeps) == {
        "zero",
        "pass",
        "doubled",
        "learned",
    }


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"start": Recognition(learning_rate=0.5), "solver": "adam"},
        {"early_stopping": True, "augment": "shift"},
        {
            "layers": [Conv(4, 3, pool="average"), ReadOut()],
            "cost": "cross_entropy",
            "dynamics": Discrete(nudge_inside=True),
        },
        {"layers": skip(9), "kind": GraphEqPropClassifier},
    ],
)
def test_a_checkpoint_goes_on_bit_for_bit(case, tmp_path):
    whole = model(max_iter=4, **case).fit(X, Y)
    model(max_iter=2, checkpoint=tmp_path / "a.npz", **case).fit(X, Y)
    part = type(whole).load_checkpoint(tmp_path / "a.npz").set_params(max_iter=4)
    part.resume(X, Y)
    assert same(whole, part)
    for relax in (True, False):
        assert (whole.predict(X, relax=relax) == part.predict(X, relax=relax)).all()
    path = tmp_path / "b.npz"
    whole.save_checkpoint(path)
    with np.load(path) as file:
        members = dict(file)
    name = "recognition_coefs_/0"
    for wrong in (None, np.full_like(members[name], np.nan), members[name][..., :1]):
        kept = {k: v for k, v in members.items() if k != name}
        np.savez(path, **kept, **({} if wrong is None else {name: wrong}))
        with pytest.raises(CheckpointError, match="recognition"):
            type(whole).load_checkpoint(path)


@pytest.mark.parametrize("kind", GRAPHS)
def test_every_graph_estimator_learns_a_pass(kind):
    dense, sparse = (
        kind(
            small(kind),
            relaxation=Relaxation(start="recognition"),
            input_scaling=None,
            random_state=0,
            max_iter=2,
        ).fit(x, Y)
        for x in (X, sp.csr_matrix(X))
    )
    assert same(dense, sparse) and dense.predict(X, relax=False).shape == Y.shape
    shapes = [[a.shape for a in group] for group in (dense.coefs_, dense.recognition_coefs_)]
    assert shapes[0] == shapes[1]
    dense.set_params(relaxation__start="zero").predict(X)
    with pytest.raises(ValueError, match="has learnt a pass"):
        dense.partial_fit(X, Y)
    assert not hasattr(dense.fit(X, Y), "recognition_coefs_")
    with pytest.raises(ValueError, match="learnt no pass"):
        dense.set_params(relaxation__start="recognition").predict(X)
    with pytest.raises(ValueError, match="recognition"):
        clone(dense).set_params(dynamics=Continuous()).fit(X, Y)


def test_docstrings_of_both_families_say_what_the_pass_has_learnt():
    assert "recognition_coefs_" in EqPropClassifier.__doc__
    assert "recognition_coefs_" in ConvEqPropClassifier.__doc__
