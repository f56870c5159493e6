"""Integer exports: the C on this machine and the simulation in Python, bit for bit."""

import sys

import numpy as np
import pytest
from eqprop_fast.kernels.spec import ACTIVATIONS

from eqprop_fast import EqPropClassifier, EqPropRegressor
from eqprop_fast.datasets import load_digits
from eqprop_fast.export import c_texts, simulate, untrained
from eqprop_fast.export.integers import SIGMOID, quantize
from tests import embedded_host as host

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

SWEEPS = dict(schedule="asynchronous")
HARD = dict(activation="hard_sigmoid", out_activation="hard_sigmoid", **SWEEPS)
NETWORKS = {
    **{f"act_{a}": dict(activation=a, out_activation=a, gain=0.7) for a in ACTIVATIONS},
    "depth1": dict(sizes=(7, 4)),
    "depth4": dict(sizes=(5, 6, 4, 7, 3), activation="tanh", out_activation="sigmoid", **SWEEPS),
    "sync": dict(sizes=(6, 5, 4, 3), schedule="synchronous"),
    "forward": dict(sizes=(6, 5, 4, 3), schedule="forward"),
    "damped": dict(sizes=(6, 5, 3), dt=0.7, tol_free=1e-3, n_free_steps=60, **HARD),
    "relaxed": dict(sizes=(6, 5, 4, 3), dt=1.3, **HARD),
    "softmax": dict(out_activation="identity", cost="cross_entropy", proba="softmax", gain=0.5),
    "binary": dict(sizes=(6, 5, 1), proba="binary"),
    "one": dict(sizes=(6, 5, 1), proba="one"),
    "values": dict(sizes=(6, 5, 2), kind="regressor", out_activation="identity"),
    "labels": dict(sizes=(6, 5, 3), kind="multilabel", proba="clip"),
    "strong": dict(gain=30.0, activation="relu", out_activation="identity"),
}
LEARNING = {
    **{
        f"l_{a}": dict(activation=a, out_activation=a, gain=0.7, learn={}, **SWEEPS)
        for a in ACTIVATIONS
    },
    "deep": dict(sizes=(6, 8, 5, 3), learn=dict(rates=(0.2, 0.1, 0.05)), **HARD),
    "once": dict(learn=dict(nudging="positive", beta=0.3), **HARD),
    "away": dict(learn=dict(nudging="positive", beta=-0.3), **HARD),
    "drawn": dict(learn=dict(nudging="random_sign", beta=0.3), **HARD),
    "inside": dict(nudge_inside=True, learn=dict(tol=1e-3, n_steps=30), **HARD),
    "lsync": dict(sizes=(6, 5, 4, 3), schedule="synchronous", learn=dict(n_steps=5)),
    "ldamped": dict(dt=0.8, learn=dict(step=0.7), **HARD),
    "lbinary": dict(sizes=(6, 5, 1), proba="binary", learn={}, **HARD),
    "lvalues": dict(
        sizes=(6, 5, 2), kind="regressor", out_activation="identity", learn={}, **SWEEPS
    ),
}


@pytest.fixture(scope="module", params=["int16", "int8"])
def devices(request, tmp_path_factory):
    models = {
        **{n: (host.random_model(**o), {"dtype": request.param}) for n, o in NETWORKS.items()},
        **{
            n: (host.random_model(**o), {"dtype": request.param, "learn": True})
            for n, o in LEARNING.items()
        },
    }
    folder = tmp_path_factory.mktemp("integers")
    return request.param, host.compile_library(folder, models, host.TRAPS)


def _simulation(devices, name):
    dtype, library = devices
    device = library[name]
    return device, simulate(device.model, dtype, device.learns)


def _inputs(simulation, n, extreme=False):
    x = simulation.inputs(host.inputs(simulation.model, n))
    if extreme:  # the largest numbers there are: sums must hold them
        x[::3] = 32767
        x[1::3] = -32768
    return x


@pytest.mark.parametrize("name", [*NETWORKS, *LEARNING])
def test_states_are_those_of_the_simulation(devices, name):
    device, simulation = _simulation(devices, name)
    if device.learns:
        device.reset(device.net)
    x = _inputs(simulation, 24, extreme=True)
    host.assert_same_states(device, simulation, x)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("values", "labels")])
def test_labels_and_probabilities(devices, name):
    device, simulation = _simulation(devices, name)
    x = _inputs(simulation, 24)
    np.testing.assert_array_equal(device.labels(x), simulation.labels(x))
    p = simulation.predict_proba(x)
    np.testing.assert_array_equal(device.probabilities(x), p)
    assert np.abs(p.sum(axis=1) - 32768).max() <= p.shape[1]


def test_multilabel_and_regression(devices):
    device, simulation = _simulation(devices, "labels")
    x, labels, values = _inputs(simulation, 24), np.zeros(3, np.uint8), np.zeros(2, np.int16)
    other, regression = _simulation(devices, "values")
    expected, expected_values = simulation.labels(x), regression.labels(x)
    for i, row in enumerate(x):
        assert (
            device.predict(device.net, device.pointer(row), device.pointer(labels, "uint8_t")) == 0
        )
        np.testing.assert_array_equal(labels, expected[i])
        assert other.predict(other.net, other.pointer(row), other.pointer(values)) == 0
        np.testing.assert_array_equal(values, expected_values[i])
    np.testing.assert_array_equal(device.probabilities(x), simulation.predict_proba(x))


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("name", LEARNING)
def test_200_streamed_samples_teach_bit_for_bit(devices, name, extreme):
    device, simulation = _simulation(devices, name)
    device.reset(device.net)
    n, model = 200, device.model
    x, rng = _inputs(simulation, n, extreme), np.random.default_rng(3)
    if model.kind == "regressor":
        y = rng.normal(size=(n, model.spec.sizes[-1])) * model.scale + model.mean
        targets = simulation.targets(y)
    else:
        y = targets = rng.integers(0, len(model.classes), n)
    before = simulation.weights.copy()
    simulation.learn(x[:150], y[:150])
    simulation.learn(x[150:], y[150:])
    for row, target in zip(x, targets):
        target = device.pointer(target) if model.kind == "regressor" else int(target)
        assert device.learn(device.net, device.pointer(row), target) == 0
    weights, biases = device.parameters()
    assert (weights != before).any()
    np.testing.assert_array_equal(weights, simulation.weights)
    np.testing.assert_array_equal(biases, simulation.biases)
    assert device.net.learned.random == simulation.random
    np.testing.assert_array_equal(
        device.labels(x[:5]) if model.kind == "exclusive" else 0,
        simulation.labels(x[:5]) if model.kind == "exclusive" else 0,
    )
    device.reset(device.net)
    np.testing.assert_array_equal(device.parameters()[0], before)


def test_fastest_rates_and_largest_numbers_do_not_overflow(tmp_path):
    """All at their limits, under the sanitizer; what it compares is the simulation with 64 bits."""
    model = host.random_model((6, 5, 3), learn=dict(beta=3.9, rates=(50.0, 50.0)), **HARD)
    models = {f"fast_{d}": (model, {"dtype": d, "learn": True}) for d in ("int16", "int8")}
    for dtype, device in zip(
        ("int16", "int8"), host.compile_library(tmp_path, models, host.TRAPS).values()
    ):
        simulation = simulate(model, dtype, learn=True)
        x = np.where(np.random.default_rng(0).random((300, 6)) < 0.5, -32768, 32767).astype(
            np.int16
        )
        y = np.random.default_rng(1).integers(0, 3, 300)
        host.check_learns_alike(device, simulation, x, y)
        assert np.abs(simulation.weights).max() == 32767


def test_rates_out_of_range_are_refused(devices):
    device, simulation = _simulation(devices, "once")
    device.reset(device.net)
    before = device.array(device.net.learned.rates, np.uint8)
    bits = simulation.formats.rate_bits[0]
    good = [(8, 1 - bits if bits < 1 else 10), (0, 14), (15, 20)]
    for mantissa, shift in [(16, 14), (8, 31 - bits), (8, 255)]:
        status = device.set_rate(device.net, 1, {"mantissa": mantissa, "shift": shift})
        assert status == device.status("ERROR_ARGUMENT")
    np.testing.assert_array_equal(device.array(device.net.learned.rates, np.uint8), before)
    for mantissa, shift in good[1:]:
        assert device.set_rate(device.net, 2, {"mantissa": mantissa, "shift": shift}) == 0
    device.reset(device.net)


# ---- what integers lose ----


def test_integer_states_are_close_to_those_of_floats():
    for name, options in NETWORKS.items():
        if name in ("strong", "act_identity", "act_relu", "values", "softmax"):
            continue  # states beyond the format
        model = host.random_model(**options)
        x = host.inputs(model, 20)
        expected, _, _ = host.twin_relax(model, x)
        for dtype, tol in (("int16", 2e-3), ("int8", 6e-2)):
            simulation = simulate(model, dtype)
            bits = np.repeat(simulation.formats.state_bits, model.spec.sizes[1:])
            found = simulation.relax(x)[0] / 2.0**bits
            np.testing.assert_allclose(found, expected, atol=tol, err_msg=f"{name} {dtype}")


def test_inputs_that_data_show_get_their_bits():
    model = host.random_model(activation="relu", out_activation="identity", gain=0.5)
    x = 100 * host.inputs(model, 30)
    expected, _, _ = host.twin_relax(model, x)
    simulation = simulate(model, "int16", X=x)
    bits = np.repeat(simulation.formats.state_bits, model.spec.sizes[1:])
    assert simulation.formats.input_bits == 8
    np.testing.assert_allclose(simulation.relax(x)[0] / 2.0**bits, expected, rtol=0.01, atol=0.1)


def test_the_table_of_the_sigmoid_is_as_close_as_it_says():
    from eqprop_fast.export import integer_kernels

    t = np.arange(-13 * 4096, 13 * 4096, 7)
    found = np.array([integer_kernels._logistic(int(v)) for v in t]) / 2.0**14
    assert np.abs(found - 1 / (1 + np.exp(-t / 4096))).max() < 1.3e-4
    assert len(SIGMOID) == 193


def test_learning_in_integers_is_learning():
    """Digits from scratch, one sample at a time, as little as shows it."""
    x, x_test, y, y_test = load_digits()
    model = untrained((64, 32, 10), learning_rate=0.05, random_state=0)
    for dtype in ("int16", "int8"):
        simulation = simulate(model, dtype, learn=True)
        before = simulation.score(x_test[:150], y_test[:150])
        assert before < 0.4
        simulation.learn(x[:1000], y[:1000])
        assert simulation.score(x_test[:150], y_test[:150]) > 0.7


def test_estimators_in_integers(tmp_path):
    x, x_test, y, y_test = load_digits()
    options = dict(max_iter=4, random_state=0, backend="numpy")
    classifier = EqPropClassifier((16,), **options).fit(x[:500], y[:500] + 3)
    exact = classifier.score(x_test, y_test + 3)
    for dtype, loss in (("int16", 0.01), ("int8", 0.03)):
        assert simulate(classifier, dtype).score(x_test, y_test + 3) > exact - loss
    values = np.stack([x[:500] @ np.linspace(0, 1, 64), x[:500, 20] * 5], axis=1)
    regressor = EqPropRegressor((16,), **options).fit(x[:500], values)
    exact = regressor.score(x[:500], values)
    assert simulate(regressor, "int16", X=x[:500]).score(x[:500], values) > exact - 0.02


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "keywords", "word"),
    [
        (dict(input_activation="tanh"), {}, "input_activation"),
        (dict(learn={}, cost="cross_entropy"), dict(learn=True), "cost"),
        (dict(), dict(learn=True), "learn"),
        (dict(gain=1e6), {}, "coefs_"),
        (dict(learn={}), dict(weight_range=2.0), "weight_range"),
        (dict(learn={}), dict(learn=True, weight_range=3.0), "weight_range"),
        (dict(learn={}), dict(learn=True, weight_range=2.0**-6), "weight_range"),
        (dict(learn={}), dict(learn=True, weight_range=[1.0]), "weight_range"),
        (dict(learn={}), dict(learn=True, weight_range=np.nan), "weight_range"),
        (dict(learn=dict(rates=(1e-9, 0.1))), dict(learn=True), "learning_rate"),
        (dict(learn=dict(beta=8.0)), dict(learn=True), "beta"),
        (dict(), dict(X=[[1.0]]), "X"),
        (dict(), dict(X=np.full((1, 6), np.inf)), "X"),
        (dict(), dict(X=np.full((1, 6), 1e6)), "X"),
        (dict(sizes=(60000, 2), learn={}), dict(learn=True, weight_range=128.0), "32 bits"),
    ],
)
def test_what_has_no_place_in_integers(options, keywords, word):
    model = host.random_model(**options)
    with pytest.raises(ValueError, match=word):
        c_texts(model, "int16", **keywords)


def test_large_biases_have_no_place():
    model = host.random_model()
    model.biases[0][0] = 17
    with pytest.raises(ValueError, match="intercepts_"):
        quantize(model, "int8")


def test_the_simulation_refuses_what_it_cannot_do():
    model = host.random_model(learn={})
    with pytest.raises(ValueError, match="dtype"):
        simulate(model, "float32")
    with pytest.raises(ValueError, match="learn"):
        simulate(model, "int16").learn(np.zeros((1, 6)), [0])
    simulation = simulate(model, "int16", learn=True)
    for y in ([3], [-1]):
        with pytest.raises(ValueError, match="labels"):
            simulation.learn(np.zeros((1, 6)), y)
    with pytest.raises(ValueError, match="rows"):
        simulation.learn(np.zeros((2, 6)), [0])
    with pytest.raises(ValueError, match="shape"):
        simulation.relax(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="NaN"):
        simulation.relax(np.full((2, 6), np.nan))
