"""Convolutional networks in integers: the C on this machine and the simulation, bit for bit."""

import sys

import numpy as np
import pytest

from eqprop_fast import Conv, ConvEqPropClassifier, Dense
from eqprop_fast.datasets import load_digits
from eqprop_fast.export import c_texts, simulate, untrained
from eqprop_fast.networks.graph import chain
from tests import embedded_host as host
from tests.embedded_maps import ASYNC, SHAPES, SYNC, networks

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:input_scaling"),
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

MODELS = {n: m for n, m in networks({}).items() if n != "input"}
ONCE = dict(nudging="positive", beta=-0.3)
MODELS["once"] = host.graph_model(SHAPES["largest"], learn=ONCE, **ASYNC)
MODELS["drawn"] = host.graph_model(SHAPES["mean"], learn=dict(nudging="random_sign"), **SYNC)
LEARN = "largest mean padded strides deep deep_sync maps damped relu values labels read".split()
LEARN += ["scaled", "once", "drawn"]
INFER, NARROW = ["entropy", "scaled", "maps"], ["deep", "scaled", "read", "drawn"]


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    found = {}
    for dtype, infer, learn in (("int16", INFER, LEARN), ("int8", INFER, NARROW)):
        models = {n: (MODELS[n], {"dtype": dtype}) for n in infer}
        models |= {f"l_{n}": (MODELS[n], {"dtype": dtype, "learn": True}) for n in learn}
        folder = tmp_path_factory.mktemp(dtype)
        library = host.compile_library(folder, models, ["-O0", *host.TRAPS])
        found |= {f"{dtype} {name}": device for name, device in library.items()}
    return found


CASES = [f"int16 {n}" for n in INFER] + [f"int16 l_{n}" for n in LEARN]
CASES += [f"int8 {n}" for n in INFER] + [f"int8 l_{n}" for n in NARROW]


def _simulation(devices, case):
    device = devices[case]
    assert not device.learns or device.reset(device.net) == 0
    return device, simulate(device.model, case.partition(" ")[0], device.learns)


def _inputs(simulation, n, apart):
    """Usual rows, and the largest numbers there are: sums must hold them."""
    x = simulation.inputs(host.inputs(simulation.model, n))
    x[::apart] = 32767
    x[1::apart] = -32768
    return x


@pytest.mark.parametrize("case", CASES)
def test_states_are_those_of_the_simulation(devices, case):
    device, simulation = _simulation(devices, case)
    x = _inputs(simulation, 12, 3)
    host.assert_same_states(device, simulation, x)
    if device.model.kind == "exclusive":
        np.testing.assert_array_equal(device.labels(x), simulation.labels(x))
        np.testing.assert_array_equal(device.probabilities(x), simulation.predict_proba(x))


@pytest.mark.parametrize("case", [case for case in CASES if " l_" in case])
def test_streamed_samples_teach_bit_for_bit(devices, case):
    device, simulation = _simulation(devices, case)
    model, n, rng = device.model, 60, np.random.default_rng(3)
    x = _inputs(simulation, n, 7)
    if model.kind == "exclusive":
        y = targets = rng.integers(0, model.n_outputs, n)
    else:
        y = rng.integers(0, 2, (n, model.n_outputs))
        targets = simulation.targets(y)
    before = simulation.weights.copy(), simulation.biases.copy()
    simulation.learn(x[:40], y[:40])
    simulation.learn(x[40:], y[40:])
    for row, target in zip(x, targets):
        target = int(target) if model.kind == "exclusive" else device.pointer(target)
        assert device.learn(device.net, device.pointer(row), target) == 0
    for found, expected, start in zip(
        device.parameters(), (simulation.weights, simulation.biases), before
    ):
        assert (expected != start).mean() > 0.5
        np.testing.assert_array_equal(found, expected)
    assert device.net.learned.random == simulation.random


def test_fastest_rates_and_largest_numbers_do_not_overflow(tmp_path):
    """All at their limits, under the sanitizer; what it compares is the simulation with 64 bits."""
    learn = dict(beta=3.9, rates=(50.0, 50.0, 50.0))
    shape = (1, 12, 12), Conv(2, 3, pool="max"), Conv(3, 2, padding=1, pool="average"), Dense(3)
    model = host.graph_model(shape, learn=learn, **{**ASYNC, "activation": "hard_sigmoid"})
    models = {f"fast_{d}": (model, {"dtype": d, "learn": True}) for d in ("int16", "int8")}
    devices = host.compile_library(tmp_path, models, host.TRAPS)
    rng = np.random.default_rng(0)
    x = np.where(rng.random((100, 144)) < 0.5, -32768, 32767).astype(np.int16)
    y = rng.integers(0, 3, 100)
    for dtype in ("int16", "int8"):
        device, simulation = devices[f"fast_{dtype}"], simulate(model, dtype, learn=True)
        host.check_learns_alike(device, simulation, x, y)
        assert np.abs(simulation.weights).max() == 32767


# ---- what integers lose ----


def test_integer_states_are_close_to_those_of_floats():
    for name, model in MODELS.items():
        x = host.inputs(model, 12)
        expected, _, _ = host.twin_relax(model, x)
        for dtype, tol in (("int16", 3e-3), ("int8", 8e-2)):
            simulation = simulate(model, dtype)
            bits = np.repeat(simulation.formats.state_bits, model.layer_sizes[1:])
            found = simulation.relax(x)[0] / 2.0**bits
            np.testing.assert_allclose(found, expected, atol=tol, err_msg=f"{name} {dtype}")


def test_fitted_networks_keep_their_labels():
    """Scaled inputs too: the scale in the weights, and the centre where the padding is to be it."""
    x, x_test, y, y_test = load_digits()
    keep = dict(max_iter=3, random_state=0, backend="numpy", input_shape=(8, 8))
    for layer in (Conv(4, 3, pool="max"), Conv(4, 3, padding=1, pool="average")):
        model = ConvEqPropClassifier([layer], **keep).fit(x[:300], y[:300])
        expected = model.predict(x_test)
        padded = layer.padding > 0
        for dtype, share in (("int16", 0.99), ("int8", 0.95)):
            simulation = simulate(model, dtype)
            assert (simulation.predict(x_test) == expected).mean() >= share
            assert (simulation.formats.centres.size > 0) == padded
            assert ("net_input_center" in c_texts(model, dtype, name="net")[1]) == padded


def test_learning_in_integers_is_learning():
    """Digits from scratch, one sample at a time, as little as shows it."""
    x, x_test, y, y_test = load_digits()
    graph = chain((1, 8, 8), [Conv(6, 3, pool="max"), Dense(10)])
    model = untrained(graph, learning_rate=(0.02, 0.05), random_state=0)
    for dtype in ("int16", "int8"):
        simulation = simulate(model, dtype, learn=True)
        assert simulation.score(x_test[:150], y_test[:150]) < 0.4
        simulation.learn(x[:1400], y[:1400])
        assert simulation.score(x_test[:150], y_test[:150]) > 0.7


@pytest.mark.parametrize(
    ("options", "keywords", "word"),
    [
        (dict(input_activation="tanh"), {}, "input_activation"),
        (dict(readout=True, nudge_inside=True, cost="cross_entropy"), dict(learn=True), "cost"),
        (dict(gain=1e6), {}, "coefs_"),
        (dict(learn=dict(rates=(1e-9, 0.1))), dict(learn=True), "learning_rate"),
    ],
)
def test_what_has_no_place_in_integers(options, keywords, word):
    model = host.graph_model(SHAPES["largest"], **{"learn": {}, **ASYNC, **options})
    with pytest.raises(ValueError, match=word):
        c_texts(model, "int16", **keywords)


def test_maps_too_large_to_learn_from():
    model = host.graph_model(((1, 200, 200), Conv(1, 1), Dense(2)), learn={}, **ASYNC)
    with pytest.raises(ValueError, match="maps of 40000"):
        c_texts(model, "int16", learn=True)
