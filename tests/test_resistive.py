"""Resistive estimators: physics of the fitted network, presets, devices, CSV, checkpoints, bad
input.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels.reference.crossbar import NudgeError
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.preprocessing import scale

from eqprop_fast import ResistiveClassifier, ResistiveRegressor, get_backend, list_resistive_presets
from eqprop_fast.circuits.devices import DeviceModel
from eqprop_fast.networks.resistive import ResistiveNetwork, ResistiveSpec, init_conductances
from eqprop_fast.presets import resistive_preset

from .backend_list import BACKENDS
from .build import build

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:batch_size"
)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="module")
def fitted(iris):
    return ResistiveClassifier((16,), max_iter=40, random_state=0).fit(*iris)


@pytest.mark.parametrize("backend", BACKENDS)
def test_learns(backend, iris):
    model = ResistiveClassifier((16,), max_iter=40, random_state=0, backend=backend).fit(*iris)
    assert model.score(*iris) > 0.9
    proba = model.predict_proba(iris[0])
    np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(iris[0]))
    X, y = make_regression(150, 6, n_targets=2, noise=1.0, random_state=0)
    regressor = ResistiveRegressor((24,), max_iter=60, random_state=0, backend=backend).fit(
        scale(X), y
    )
    assert regressor.score(scale(X), y) > 0.95
    assert regressor.predict(scale(X)).shape == (150, 2)


@pytest.mark.parametrize("kind", ["classes", "two", "labels", "one"])
def test_probabilities_are_probabilities(iris, kind):
    """No zeros, rows of sum 1, the order of `predict`, and a log-loss not ruled by a few sure
    mistakes.
    """
    X, y = iris
    y = {"classes": y, "two": y > 0, "labels": np.eye(3)[y].astype(int), "one": np.zeros_like(y)}[
        kind
    ]
    model = ResistiveClassifier((16,), max_iter=40, random_state=0).fit(X[::2], y[::2])
    for data in (X[1::2], 100 * X[1::2]):  # far from all that was seen, too
        p = model.predict_proba(data)
        assert p.dtype == np.float64 and (p >= 0).all() and (p <= 1).all()
        if kind == "labels":
            np.testing.assert_array_equal(p > 0.5, model.predict(data) == 1)
        else:
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
            np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(data))
    p = model.predict_proba(X[1::2])
    assert (p > 0).all()
    if kind == "classes":
        assert log_loss(y[1::2], p) < 0.25  # 0.5 and more with the clipped voltages of before
        ratio = np.log(p[:, 1] / p[:, 0])
        volts = model.decision_function(X[1::2])
        np.testing.assert_allclose(
            ratio, (volts[:, 1] - volts[:, 0]) / (2 * model.loss_ / 3 + 1 / 16), atol=1e-4
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [
        dict(circuit__output_pairs=True),
        dict(circuit__diodes="clipped", circuit__amplifier_gain=4.0),
        dict(learning_rule__nudging="positive"),
        dict(learning_rule__nudging="negative", relaxation__start="carry_over"),
        dict(hidden_layer_sizes=(12, 9), relaxation__schedule="forward", learning_rule__beta=0.05),
        dict(early_stopping=True, relaxation__start="carry_over"),
        dict(circuit__g_min=1e-4, circuit__g_max=0.5, dtype="float64"),
        dict(solver="momentum", learning_rate_init=0.01, circuit__g_max=0.5),
        dict(solver="nesterov", momentum=0.8, learning_rate_init=0.01, hidden_layer_sizes=(12, 9)),
    ],
)
def test_options_learn_and_obey_the_bounds(backend, options, iris):
    options = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.05, **options}
    model = build(ResistiveClassifier, **options, max_iter=40, random_state=0, backend=backend).fit(
        *iris
    )
    assert model.score(*iris) > 0.85
    low, high = model.get_params()["circuit__g_min"], model.get_params()["circuit__g_max"]
    for g in model.conductances_:
        assert (g >= low).all() and (high is None or (g <= high).all())


@pytest.mark.parametrize("solver", ["sgd", "momentum"])
def test_same_on_every_backend_and_sparse_as_dense(iris, solver):
    X, y = iris
    X = np.where(np.abs(X) > 0.7, X, 0)
    fits = [
        ResistiveClassifier(
            (16,), max_iter=5, random_state=0, solver=solver, dtype="float64", backend=b
        ).fit(data, y)
        for b in BACKENDS
        for data in (X, sp.csr_matrix(X))
    ]
    for other in fits[1:]:
        for a, b in zip(other.conductances_, fits[0].conductances_, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_do_not_matter(iris, backend):
    one, three = (
        ResistiveClassifier((16,), max_iter=5, random_state=0, n_threads=n, backend=backend).fit(
            *iris
        )
        for n in (1, 3)
    )
    for a, b in zip(one.conductances_, three.conductances_, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.decision_function(iris[0]), three.decision_function(iris[0]))


def test_equilibrium_obeys_kirchhoff(iris):
    model = build(
        ResistiveClassifier,
        (16, 8),
        max_iter=3,
        random_state=0,
        dtype="float64",
        input_scaling=None,
        relaxation__tol=1e-14,
        relaxation__n_steps=2000,
    ).fit(*iris)
    rest = model.equilibrium(iris[0])
    assert [s.shape for s in rest.states] == [(150, 16), (150, 8), (150, 3)]
    assert (rest.states[0][:, :8] >= 0).all() and (rest.states[0][:, 8:] <= 0).all()
    assert (rest.residual <= 1e-14).all() and (rest.steps < 2000).all()
    network = model._fitted_network(get_backend())
    largest = (
        max(np.abs(w).max() for w in model.conductances_)
        * model.input_gain_
        * np.abs(iris[0]).max()
    )
    assert max(np.abs(r).max() for r in network.kcl(iris[0], rest.states)) < 1e-10 * largest
    # Tellegen: the power that the conductances turn to heat, from the drops one by one
    volts = [model.input_gain_ * np.concatenate([iris[0], -iris[0]], 1), *rest.states]
    heat = sum(
        np.einsum("ij,mij->m", g, (a[:, :, None] - b[:, None, :]) ** 2)
        for g, a, b in zip(model.conductances_, volts, volts[1:])
    )
    np.testing.assert_allclose(model.dissipated_power(iris[0]), heat, rtol=1e-9)


@pytest.mark.parametrize("diodes", ["signed", "clipped"])
def test_amplifiers_are_input_gain(diodes):
    """Node voltages of a network with amplifiers solve its own KCL: a forward, 1/a of the current
    back.
    """
    spec = ResistiveSpec((3, 5, 4, 2), input_gain=2.0, amplifier_gain=3.0, diodes=diodes)
    rng = np.random.default_rng(0)
    g, b = init_conductances(spec, 1.0, rng, np.dtype("float64"))
    g = [w + 0.01 for w in g]
    x = rng.normal(size=(4, 3))
    v = ResistiveNetwork(spec, get_backend(), g, b).relax(x, 5000, 1e-15).states
    source = 2.0 * np.concatenate([x, -x], 1)
    shown = [source, *(3.0 * s for s in v)]
    low, high = {"signed": (-np.inf, np.inf), "clipped": (0, 1)}[diodes]
    for k in range(2):
        below = shown[k] @ g[k] - v[k] * g[k].sum(0)
        above = (shown[k + 1] * g[k + 1].sum(1) - v[k + 1] @ g[k + 1].T) / 3.0
        net = below - above
        inside = (v[k] > low + 1e-9) & (v[k] < high - 1e-9) & (np.abs(v[k]) > 1e-9)
        assert inside.any() and np.abs(net[inside]).max() < 1e-10
    np.testing.assert_allclose(shown[2] @ g[2], v[2] * g[2].sum(0), rtol=1e-10)


def test_presets():
    assert [p for p in list_resistive_presets() if p.startswith("2402")] == [
        f"2402.11674/DRN-{size}" for size in ("XS", "XL", "1H", "2H", "3H")
    ]
    for name in list_resistive_presets():
        model = ResistiveClassifier.from_paper(name, max_iter=7)
        assert model.max_iter == 7
        rates = model.learning_rate_init
        assert len(rates) == len(resistive_preset(name).layers) - 1
    with pytest.raises(ValueError, match="DRN-XS"):
        ResistiveClassifier.from_paper("2402.11674/DRN-XXS")


@pytest.mark.parametrize("name", ["2402.11674/DRN-XS", "2006.01981/mnist"])
def test_presets_learn_digits(name):
    X, y = load_digits(return_X_y=True)
    model = ResistiveClassifier.from_paper(name, max_iter=8, random_state=0).fit(
        X[:1200] / 16, y[:1200]
    )
    assert model.score(X[1200:] / 16, y[1200:]) > 0.85


@pytest.mark.parametrize("solver", ["sgd", "momentum"])
def test_continuing_is_as_if_never_stopped(iris, tmp_path, solver):
    options = dict(relaxation__start="carry_over", solver=solver, learning_rate_init=0.01)
    whole = build(ResistiveClassifier, (16,), max_iter=6, random_state=0, **options).fit(*iris)
    half = clone(whole).set_params(max_iter=3).fit(*iris)
    half.save_checkpoint(tmp_path / "half.npz")
    again = (
        ResistiveClassifier.load_checkpoint(tmp_path / "half.npz")
        .set_params(max_iter=6)
        .resume(*iris)
    )
    for a, b in zip(
        whole.conductances_ + whole.bias_currents_,
        again.conductances_ + again.bias_currents_,
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    part = ResistiveClassifier((16,), random_state=0)
    for _ in range(3):
        part.partial_fit(*iris, classes=[0, 1, 2])
    assert part.n_iter_ == 3 and part.loss_curve_[-1] < part.loss_curve_[0]
    whole.set_params(max_iter=3, shuffle=False, batch_size=len(iris[0])).fit(*iris)
    part = clone(whole)
    for _ in range(3):  # the state is carried from call to call
        part.partial_fit(*iris, classes=[0, 1, 2])
    np.testing.assert_array_equal(part.conductances_[0], whole.conductances_[0])
    dropped = clone(whole).set_params(relaxation__start="zero").fit(*iris)
    assert not np.array_equal(dropped.conductances_[0], whole.conductances_[0])


def test_conductances_csv(fitted, iris, tmp_path):
    path = tmp_path / "g.csv"
    fitted.export_conductances(path)
    other = (
        ResistiveClassifier((16,), max_iter=1, random_state=5).fit(*iris).import_conductances(path)
    )
    np.testing.assert_array_equal(
        other.decision_function(iris[0]), fitted.decision_function(iris[0])
    )
    lines = path.read_text().splitlines()
    for broken, message in [
        (lines[:-1], "1 positions are missing"),
        ([*lines, lines[1]], rf"line {len(lines) + 1}"),
        (["layer,row"], "header"),
        ([lines[0], "1,0,0,-1.0", *lines[2:]], "line 2"),
        ([lines[0], "9,0,0,1.0", *lines[2:]], "line 2"),
        ([lines[0], "1,0,0,nan", *lines[2:]], "line 2"),
    ]:
        path.write_text("\n".join(broken) + "\n")
        before = other.decision_function(iris[0])
        with pytest.raises(ValueError, match=message):
            other.import_conductances(path)
        np.testing.assert_array_equal(other.decision_function(iris[0]), before)


def test_devices():
    rng = np.random.default_rng(0)
    g = rng.random((40, 30)) * (rng.random((40, 30)) < 0.5)
    np.testing.assert_array_equal(DeviceModel().program(g, 0), g)
    held = DeviceModel(n_levels=5, on_off_ratio=10).program(g, 0)
    np.testing.assert_allclose(np.unique(held), g.max() * np.linspace(0.1, 1, 5))
    assert np.abs(held - np.clip(g, g.max() / 10, None)).max() <= g.max() * 0.9 / 8 + 1e-12
    curved = np.unique(
        DeviceModel(n_levels=9, nonlinearity=3.0).program(np.linspace(0, 1, 500)[None], 0)
    )
    assert len(curved) == 9 and (np.diff(curved, 2) < 0).all()
    stuck = DeviceModel(stuck_off=0.2, stuck_on=0.1).program(
        np.full((100, 100), 0.5) + np.eye(100) * 0.5, 0
    )
    assert abs((stuck == 0).mean() - 0.2) < 0.02 and abs((stuck == 1).mean() - 0.1) < 0.03
    noisy = DeviceModel(write_noise=0.05).program(np.full((100, 100), 0.5) + np.eye(100) * 0.5, 0)
    assert abs((noisy - 0.5)[noisy < 0.9].std() - 0.05) < 0.005
    spread = DeviceModel(variability=0.3, g_on=1.5).array((100, 100), 1)
    assert abs(np.log(spread.write(np.full((100, 100), 0.5)) / 0.5).std() - 0.3) < 0.01
    # a writer that reads back compensates a device's factor as far as its range goes
    assert (
        np.mean(np.isclose(spread.write(np.full((100, 100), 0.5) + np.eye(100), verify=True), 0.5))
        > 0.9
    )
    for bad in (
        dict(n_levels=1),
        dict(on_off_ratio=0.5),
        dict(write_noise=-1),
        dict(stuck_on=2),
        dict(g_on=0),
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            DeviceModel(**bad)


def test_wire_resistance_to_first_order():
    """Against the exact nodal solution of the array with all its wire segments, columns at ground."""
    rng = np.random.default_rng(1)
    R, C = 5, 4
    g, v = rng.random((R, C)) + 0.1, rng.random(R)
    for r, worst in ((1e-3, 1e-3), (1e-2, 5e-2)):
        exact = _crossbar_currents(g, v, r)
        ideal, seen = v @ g, v @ DeviceModel(wire_resistance=r).program(g)
        assert np.abs(seen - exact).max() < 0.8 * np.abs(ideal - exact).max()
        assert np.abs(seen / exact - 1).max() < max(worst, 30 * r)


def _crossbar_currents(g, v, r):
    """Column currents of a crossbar with wire resistance r between neighbours; two nodes a device."""
    R, C = g.shape
    row, col = np.arange(R * C).reshape(R, C), R * C + np.arange(R * C).reshape(R, C)
    H, rhs = np.zeros((2 * R * C,) * 2), np.zeros(2 * R * C)

    def join(a, b, siemens):
        H[a, a] += siemens
        H[b, b] += siemens
        H[a, b] -= siemens
        H[b, a] -= siemens

    for i in range(R):
        for j in range(C):
            join(row[i, j], col[i, j], g[i, j])
            if j:
                join(row[i, j - 1], row[i, j], 1 / r)
            if i:
                join(col[i - 1, j], col[i, j], 1 / r)
        H[row[i, 0], row[i, 0]] += 1 / r
        rhs[row[i, 0]] += v[i] / r
    for j in range(C):
        H[col[-1, j], col[-1, j]] += 1 / r
    return np.linalg.solve(H, rhs)[col[-1]] / r


def test_programming_and_training_on_devices(fitted, iris):
    same = fitted.program({}, 0)
    np.testing.assert_array_equal(same.predict(iris[0]), fitted.predict(iris[0]))
    coarse = fitted.program(dict(n_levels=2, stuck_off=0.3), 0)
    assert coarse.score(*iris) < fitted.score(*iris)
    device = dict(n_levels=32, stuck_off=0.05, write_noise=0.01)
    trained = ResistiveClassifier(
        (16,),
        max_iter=30,
        learning_rate_init=0.05,
        random_state=0,
        device=device,
        input_scaling=None,
    ).fit(*iris)
    assert trained.score(*iris) > 0.8
    for g in (
        ResistiveClassifier((16,), max_iter=2, random_state=0, device=dict(n_levels=4))
        .fit(*iris)
        .conductances_
    ):
        assert len(np.unique(g)) <= 4


def test_bad_input_names_the_parameter(iris):
    for options, message in [
        (dict(circuit__g_min=1.0, circuit__g_max=0.5), "g_max"),
        (dict(input_gain=-1.0), "input_gain"),
        (dict(learning_rule__nudging="random_sign"), "nudging"),
        (dict(solver="adam"), "solver"),
        (dict(momentum=1.0), "momentum"),
        (dict(learning_rate_init=(0.1,)), "learning_rate_init"),
        (dict(device=dict(n_levels=1)), "n_levels"),
        (dict(hidden_layer_sizes=(4,) * 20), "hidden_layer_sizes"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(ResistiveClassifier, **options).fit(*iris)
    with pytest.raises(NudgeError, match="smaller beta"):
        build(ResistiveClassifier, (8,), learning_rule__beta=100.0).fit(*iris)
    assert issubclass(ConvergenceWarning, Warning)


@pytest.mark.slow
@pytest.mark.needs_mnist
def test_drn_xs_reaches_the_papers_error():
    from eqprop_fast.datasets import load_mnist

    X, X_test, y, y_test = load_mnist()
    model = ResistiveClassifier.from_paper("2402.11674/DRN-XS", random_state=0).fit(X, y)
    assert 1 - model.score(X_test, y_test) <= 0.037  # the paper: 3.46 %, one run
