"""Free phases that start after a pass upwards (1606.01651)."""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import get_backend
from eqprop_fast.kernels.reference.activations import rho
from eqprop_fast.kernels.spec import LayeredSpec
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.datasets import load_digits

from eqprop_fast import EP, Continuous, DeepBoltzmannMachine, EqPropClassifier, Relaxation, theory
from eqprop_fast.networks.layered import GlorotUniform, LayeredNetwork

from .backend_list import BACKENDS
from .kinds import GRAPHS, small

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
    plain = net.pass_upwards(x, doubled=False)[0]
    assert np.abs(plain - rho("shifted_sigmoid", x @ net.weights[0] + net.biases[0])).max() < 1e-12
    assert all(
        (a == b).all() for a, b in zip(net.pass_upwards(sp.csr_matrix(x)), net.starting_states(x))
    )


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
        graph = kind(small(kind), relaxation=Relaxation(start="feedforward"))
        with pytest.raises(ValueError, match="feedforward"):
            graph.fit(X, Y)


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
    chain = EqPropClassifier((12, 9), max_iter=2, random_state=0).fit(X, Y)
    machine = DeepBoltzmannMachine((12, 9), n_iter=2, use_labels=True, random_state=0).fit(X, Y)
    for model, y, layers in ((chain, None, 3), (machine, None, 3), (machine, Y, 2)):
        result = theory.feedforward_consistency(model, X, y)
        assert len(result.layers) == len(result.mismatch) == layers
        assert result.residual["doubled"][-1] < 1e-5  # the top layer has nothing above it
        assert -1 <= result.correlation <= 1 and result.verdict > 0
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    assert len(result.plot().axes) == 3
    plt.close("all")
    for wrong, name in [
        (lambda: theory.feedforward_consistency(chain, X, Y), "y"),
        (lambda: theory.feedforward_consistency(object(), X), "model"),
        (lambda: theory.feedforward_consistency(chain, X, tol=-1), "tol"),
        (lambda: theory.feedforward_consistency(chain, X, n_steps=0), "n_steps"),
    ]:
        with pytest.raises(ValueError, match=name):
            wrong()
