"""Free phases that start after a pass upwards (1606.01651)."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import get_backend
from eqprop_fast.kernels.reference.activations import rho
from eqprop_fast.kernels.reference.connections import bias_map
from eqprop_fast.kernels.reference.graph import GraphNet
from eqprop_fast.kernels.spec import LayeredSpec, TrainPlan
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.datasets import load_digits

from eqprop_fast import (
    EP,
    Continuous,
    Conv,
    ConvEqPropClassifier,
    DeepBoltzmannMachine,
    Dense,
    EqPropClassifier,
    Relaxation,
    ResistiveClassifier,
    ResistiveRelaxation,
    theory,
)
from eqprop_fast.networks.graph import chain
from eqprop_fast.networks.graph_network import GraphNetwork
from eqprop_fast.networks.initial import GlorotUniform
from eqprop_fast.networks.layered import LayeredNetwork

from .backend_list import BACKENDS
from .graphs import GRAPHS as SHAPES
from .graphs import make
from .kinds import GRAPHS, RESISTIVE, small

X, Y = (a[:300] for a in load_digits(return_X_y=True))
X = X / 16
SIZES = (64, 20, 15, 10)


def network_of(backend, feedforward=True, dtype="float64", sizes=SIZES):
    weights, biases = GlorotUniform(0.5).draw(sizes, np.random.default_rng(0), np.dtype(dtype))
    spec = LayeredSpec(sizes, schedule="asynchronous")
    return LayeredNetwork(spec, get_backend(backend), weights, biases, feedforward=feedforward)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_pass_is_its_formula(backend):
    net = network_of(backend)
    x = X[:30].astype(float)
    one = rho("shifted_sigmoid", 2 * x @ net.weights[0] + net.biases[0])
    two = rho("shifted_sigmoid", one @ net.weights[1] + net.biases[1])  # under the output: once
    out = rho("shifted_sigmoid", two @ net.weights[2] + net.biases[2])
    for a, b in zip(net.pass_upwards(x), (one, two, out)):
        assert np.abs(a - b).max() < 1e-12
    plain = net.pass_upwards(x, gain=1.0)[0]
    assert np.abs(plain - rho("shifted_sigmoid", x @ net.weights[0] + net.biases[0])).max() < 1e-12
    assert all(
        (a == b).all() for a, b in zip(net.pass_upwards(sp.csr_matrix(x)), net.starting_states(x))
    )


GAINS = 0.5, 2.0, -1.5


@pytest.mark.parametrize("dynamics", ["discrete", "continuous"])
@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous", "forward"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gain_multiplies_the_field(backend, schedule, dynamics):
    """As if weights, feedback and biases of a layer were so many times larger."""
    sizes = (64, 17, 16, 3)
    weights, biases = GlorotUniform(0.5).draw(sizes, np.random.default_rng(0), np.dtype("float64"))
    back = [None, *(w.T.copy() for w in weights[1:])]
    spec = LayeredSpec(sizes, dynamics, schedule, gain=GAINS, dt=0.8)
    larger = [g * np.asarray(w) for g, w in zip(GAINS, weights)]
    own = [None, *(g * b for g, b in zip(GAINS, back[1:]))]
    found, wanted = ([np.full((9, n), 0.1) for n in sizes[1:]] for _ in range(2))
    relax = get_backend(backend).layered_relax
    relax(spec, weights, back, biases, X[:9], found, n_steps=3)
    plain = replace(spec, gain=())
    scaled = [g * b for g, b in zip(GAINS, biases)]
    get_backend("numpy").layered_relax(plain, larger, own, scaled, X[:9], wanted, n_steps=3)
    assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(found, wanted))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_narrow_network_has_gains_too(backend):
    spec = LayeredSpec((64, 17, 3), gain=(2.0, 0.5))  # C has kernels of their own for these
    weights, biases = GlorotUniform(0.5).draw(spec.sizes, np.random.default_rng(0), np.dtype("f8"))
    found, wanted = ([np.zeros((9, n)) for n in spec.sizes[1:]] for _ in range(2))
    for name, states in ((backend, found), ("numpy", wanted)):
        get_backend(name).layered_relax(spec, weights, None, biases, X[:9], states, n_steps=4)
    assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(found, wanted))


def test_only_relaxing_kernels_take_gains():
    weights, biases = GlorotUniform().draw((64, 5, 3), np.random.default_rng(0), np.dtype("f8"))
    plan = TrainPlan(4, 0.1, 3, 3, (0.1, 0.1), (0.1, 0.1))
    graph, *more = make("skip")
    n, order = len(more[0]), np.arange(4)
    for name in BACKENDS:
        kernels = get_backend(name)
        for gain, what in (((1.0, 2.0), "gain"), ((1.0,), "gain"), ((1.0, np.inf), "gain")):
            spec = LayeredSpec((64, 5, 3), gain=gain)
            with pytest.raises(ValueError, match=what):
                kernels.layered_train(
                    spec, weights, None, biases, X[:4], np.eye(3)[[0, 1, 2, 0]], order, plan
                )
        spec = graph._replace(gain=(2.0,) * (len(graph.layers) - 1))
        rates = replace(plan, rate=(0.1,) * n, bias_rate=(0.1,) * len(more[1]))
        with pytest.raises(ValueError, match="gain"):
            kernels.graph_train(spec, more[0], None, more[1], *more[2:], order, rates)


def shaped(name, backend, feedforward=True, dtype="float64", **fields):
    spec, weights, biases, x, y = make(name, rows=9, dtype=np.dtype(dtype), **fields)
    kernels = get_backend(backend)
    return GraphNetwork(spec, kernels, weights, biases, feedforward=feedforward), x, y


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_pass_of_a_graph_is_its_formula(backend, name):
    net, x, _ = shaped(name, backend)
    spec, twin = net.spec, GraphNet(net.spec, net.weights, None, net.biases)
    drive, wanted = twin.drive(x), net.new_particles(len(x))
    hidden = range(1, spec.output_layer)
    for k in range(1, spec.output_layer + 1):
        below = twin.from_below(drive, wanted, k)
        bias = bias_map(net.biases[k - 1], spec.layers[k].shape)
        answered = any(
            link.below == k != link.above and link.above in hidden for link in spec.connections
        )
        field = 2 * below - bias if answered else below
        readout = spec.readout and k == spec.output_layer
        wanted[k - 1] = field if readout else rho(spec.activation_of(k), field)
    for n in (1, 3):
        found = net.pass_upwards(x, n)
        assert all(np.abs(a - b).max() < 1e-12 for a, b in zip(found, wanted))
        alone = net.pass_upwards(x[4:5], n)  # whatever rows are beside it
        assert all((a[0] == b[4]).all() for a, b in zip(alone, found))
    assert all((a == b).all() for a, b in zip(found, net.starting_states(x)))
    plain = net.pass_upwards(x, gain=1.0)
    assert any((a != b).any() for a, b in zip(plain, found)) == any(map(net.under_hidden, hidden))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_of_a_chain_passes_as_the_chain_does(backend):
    net = network_of(backend)
    graph = chain(64, [Dense(20), Dense(15), Dense(10)])
    spec = graph.spec(activation="shifted_sigmoid", out_activation="shifted_sigmoid")
    twin = GraphNetwork(spec, net.kernels, net.weights, net.biases)
    x = X[:9]
    for a, b in zip(twin.pass_upwards(x), net.pass_upwards(x)):
        assert np.abs(a - b).max() < 1e-12


@pytest.mark.parametrize("name", ["skip", "wide", "residual", "readout"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_starts_elsewhere_and_ends_at_the_same_fixed_points(backend, name):
    start, zero = (
        shaped(name, backend, f, gain=0.2)[0].relax(shaped(name, backend)[1], 900, 1e-10)
        for f in (True, False)
    )
    assert start.success.all() and zero.success.all()
    assert all(np.abs(a - b).max() < 1e-8 for a, b in zip(start.states, zero.states))
    assert (start.steps != zero.steps).any()


def graph_model(backend="auto", n_threads=1, **more):
    layers = [Conv(3, 3, pool="max"), Conv(4, 2), Dense(12)]
    return ConvEqPropClassifier(
        layers,
        input_shape=(1, 8, 8),
        relaxation=Relaxation(start="feedforward"),
        random_state=0,
        dtype="float64",
        backend=backend,
        n_threads=n_threads,
        **{"max_iter": 2, "solver": "sgd", "weight_decay": 0.0, "learning_rate_init": 0.1, **more},
    )


@pytest.mark.parametrize("rule", ["ep", "continual", "contrastive", "coupled"])
def test_backends_and_threads_train_graphs_alike(rule):
    few = X[:60], Y[:60]
    fits = [
        graph_model(backend, n, learning_rule=rule).fit(*few)
        for backend in BACKENDS
        for n in (1, 3)
    ]
    from_zero = graph_model(learning_rule=rule).set_params(relaxation__start="zero").fit(*few)
    for one, many in zip(fits[::2], fits[1::2]):
        assert all((a == b).all() for a, b in zip(one.coefs_, many.coefs_))
        assert all(np.abs(a - b).max() < 1e-9 for a, b in zip(one.coefs_, fits[0].coefs_))
        outputs = one.decision_function(few[0][:7])
        assert (outputs == many.decision_function(few[0][:7])).all()
        assert (outputs[3] == one.decision_function(few[0][3:4])[0]).all()
    assert any((a != b).any() for a, b in zip(fits[0].coefs_, from_zero.coefs_))


@pytest.mark.parametrize("make", [graph_model, lambda **more: graph_model(**more, solver="adam")])
def test_a_graph_that_starts_so_goes_on_from_its_checkpoint(make, tmp_path):
    few = X[:60], Y[:60]
    whole = make(max_iter=3, shuffle=True).fit(*few)
    make(max_iter=1, checkpoint=tmp_path / "a.npz").fit(*few)
    part = ConvEqPropClassifier.load_checkpoint(tmp_path / "a.npz").set_params(max_iter=3)
    part.resume(*few)
    assert all((a == b).all() for a, b in zip(whole.coefs_, part.coefs_))
    assert (whole.predict(X) == part.predict(X)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_starts_elsewhere_and_ends_at_the_same_fixed_points(backend):
    x = X[:60].astype(float)
    start, zero = (network_of(backend, f).relax(x, 500, 1e-10) for f in (True, False))
    assert start.success.all() and zero.success.all()
    assert all(np.abs(a - b).max() < 1e-8 for a, b in zip(start.states, zero.states))
    assert (start.steps != zero.steps).any()
    outputs = network_of(backend).outputs(x, 500, 1e-10)
    assert (outputs == start.states[-1]).all()


@pytest.mark.parametrize("rule", ["ep", "continual", "contrastive", "coupled", "vector_field"])
def test_backends_and_threads_train_alike(rule):
    fits = [
        EqPropClassifier(
            (20, 15),
            learning_rule=rule,
            relaxation=Relaxation(start="feedforward"),
            max_iter=2,
            solver="sgd",
            weight_decay=0.0,
            random_state=0,
            dtype="float64",
            backend=backend,
            n_threads=n,
        ).fit(X, Y)
        for backend in BACKENDS
        for n in (1, 3)
    ]
    for one, many in zip(fits[::2], fits[1::2]):
        assert all((a == b).all() for a, b in zip(one.coefs_, many.coefs_))
        assert all(np.abs(a - b).max() < 1e-9 for a, b in zip(one.coefs_, fits[0].coefs_))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_with_tight_tolerances_it_learns_what_a_zero_start_does():
    """Each batch's gradient is that of its fixed points, however they were found."""
    zero, start = (
        EqPropClassifier(
            (20, 15),
            learning_rule=EP(n_steps=400, tol=1e-12),
            relaxation=Relaxation(start=start, n_steps=400, tol=1e-12, over_relaxation=1.0),
            max_iter=3,
            solver="adam",
            random_state=0,
            dtype="float64",
            backend=BACKENDS[0],
        ).fit(X, Y)
        for start in ("zero", "feedforward")
    )
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(zero.coefs_, start.coefs_))
    assert zero.score(X, Y) == start.score(X, Y)
    assert (start.partial_fit(X, Y).predict(X[:5]) == start.predict(X)[:5]).all()


def test_where_it_cannot_be_it_is_refused():
    for parts in (dict(dynamics=Continuous()), dict(learning_rule="bptt")):
        model = EqPropClassifier((8,), relaxation=Relaxation(start="feedforward"), **parts)
        with pytest.raises(ValueError, match="feedforward"):
            model.fit(X, Y)
    for kind in GRAPHS:
        for parts in (dict(dynamics=Continuous()), dict(learning_rule="bptt", backend="numpy")):
            graph = kind(small(kind), relaxation=Relaxation(start="feedforward"), **parts)
            with pytest.raises(ValueError, match="feedforward"):
                graph.fit(X, Y)
    for kind in RESISTIVE:
        model = kind(relaxation=ResistiveRelaxation(start="feedforward"))
        with pytest.raises(ValueError, match="feedforward.*0 V"):
            model.fit(X, Y)


def agreeing_machine():
    """Two hidden layers in which what comes from above equals what comes from below, at one x."""
    model = DeepBoltzmannMachine((6, 6), n_iter=0, tol=1e-9, n_mean_field=500).fit(np.ones((2, 6)))
    x = np.array([1.0, 0, 1, 1, 0, 1])
    w = 0.5 * np.random.default_rng(0).normal(size=(6, 6))
    below = x @ w
    first = expit(2 * below)
    size = brentq(lambda c: 6 * c * expit(c * (below @ first)) - 1, 0, 10)
    model.weights_ = [w, np.outer(below, np.full(6, size))]  # so that W_2 s_2 = below
    model.biases_ = [np.zeros(6) for _ in range(3)]
    return model, x[None]


def test_where_the_condition_holds_the_pass_is_the_fixed_point():
    model, x = agreeing_machine()
    result = theory.feedforward_consistency(model, x, tol=1e-9)
    assert result.mismatch[0] < 1e-6 and result.verdict < 1e-6 and result.holds
    assert result.sweeps["doubled"] == 1 and result.speed_up >= 3
    assert result.sweeps["zero"] > 3 and result.residual["pass"].max() > 0.01
    _, steps = model.mean_field(x)
    assert steps == 1  # the kernel's own pass
    model.weights_[1] *= 2
    assert not theory.feedforward_consistency(model, x, tol=1e-9).verdict < 1e-3


def test_consistency_of_fitted_networks():
    layered = EqPropClassifier((12, 9), max_iter=2, random_state=0).fit(X, Y)
    machine = DeepBoltzmannMachine((12, 9), n_iter=2, use_labels=True, random_state=0).fit(X, Y)
    shaped = graph_model(max_iter=1).fit(X[:60], Y[:60])
    for model, y, layers in (
        (layered, None, 3),
        (shaped, None, 4),
        (machine, None, 3),
        (machine, Y, 2),
    ):
        result = theory.feedforward_consistency(model, X, y)
        assert len(result.layers) == len(result.mismatch) == layers
        assert result.residual["doubled"][-1] < 1e-5  # the top layer has nothing above it
        assert -1 <= result.correlation <= 1 and result.verdict > 0
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    assert len(result.plot().axes) == 3
    plt.close("all")
    resistive = ResistiveClassifier(max_iter=1).fit(X[:60], Y[:60])
    for wrong, name in [
        (lambda: theory.feedforward_consistency(layered, X, Y), "y"),
        (lambda: theory.feedforward_consistency(object(), X), "model"),
        (lambda: theory.feedforward_consistency(resistive, X), "model.*Resistive"),
        (lambda: theory.feedforward_consistency(shaped, X, Y), "y"),
        (lambda: theory.feedforward_consistency(layered, X, tol=-1), "tol"),
        (lambda: theory.feedforward_consistency(layered, X, n_steps=0), "n_steps"),
    ]:
        with pytest.raises(ValueError, match=name):
            wrong()


def test_what_the_pass_leaves_follows_the_condition_over_training():
    """1606.01651's claim, in its own networks; with labels clamped as well."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:600] / 16, y[:600]
    machine = DeepBoltzmannMachine((60, 40, 20), learning_rate=0.05, batch_size=20, random_state=0)
    result = theory.feedforward_training(machine, x, rows=x[:200], n_epochs=30)
    assert result.correlation > 0.95 and result.holds and not hasattr(machine, "weights_")
    assert result.layers == ["hidden 1", "hidden 2"]
    assert result.gap.shape == result.residual.shape == (30, 2)
    machine.set_params(hidden_layer_sizes=(60, 40), use_labels=True)
    labelled = theory.feedforward_training(machine, x, y, clamp=y, n_epochs=5)
    assert labelled.settings["clamped"] and labelled.gap.shape == (5, 1)
    layered = EqPropClassifier((12, 9), random_state=0)
    assert theory.feedforward_training(layered, X, Y, n_epochs=3).gap.shape == (3, 1)
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    assert len(result.plot().axes) == 1
    plt.close("all")
    for wrong, name in [
        (lambda: theory.feedforward_training(machine, x, y, n_epochs=1), "n_epochs"),
        (lambda: theory.feedforward_training(machine, x, y, n_epochs=2.5), "n_epochs"),
        (lambda: theory.feedforward_training(EqPropClassifier((9,)), X, Y, n_epochs=2), "hidden"),
    ]:
        with pytest.raises((ValueError, TypeError), match=name):
            wrong()
