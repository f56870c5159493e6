"""Exports of resistive networks against the estimators and the NumPy twin, on this compiler."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from eqprop_fast.kernels import get_backend
from sklearn.datasets import make_regression
from sklearn.preprocessing import scale

from eqprop_fast import (
    ResistiveCircuit,
    ResistiveClassifier,
    ResistiveEP,
    ResistiveRegressor,
    ResistiveRelaxation,
)
from eqprop_fast.circuits.errors import FloatingNodeError
from eqprop_fast.cli import main
from eqprop_fast.datasets import load_digits
from eqprop_fast.export import as_model, c_texts, load_eqp, save_eqp, simulate, to_c
from eqprop_fast.networks.resistive import ResistiveNetwork
from tests import embedded_host as host
from tests.embedded_host import assert_same_answers

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

SCHEDULES = ("asynchronous", "synchronous", "forward", "backward")
BOUNDED = dict(g_min=0.01, g_max=0.8)


def _estimators():
    """{name: (fitted, its X, targets to learn on)}: every circuit, schedule, nudging and output."""
    x, _, y, _ = load_digits()
    x, y = 2 * x[:200].astype(np.float64) - 1, y[:200]
    labels = np.stack([y % 2, y > 4, y > 7], axis=1).astype(int)
    values = make_regression(200, 64, n_targets=2, noise=1.0, random_state=0)
    rng = np.random.default_rng(0)
    keep = dict(max_iter=2, random_state=0, backend="numpy", batch_size=16, input_scaling=None)

    def made(hidden=(12,), cls=ResistiveClassifier, X=x, y=y, **options):
        return cls(hidden, **{**keep, **options}).fit(X, y), X, y

    pairs = ResistiveCircuit("clipped", amplifier_gain=2.0, output_pairs=True, **BOUNDED)
    return {
        **{s: made((10, 8, 6), relaxation=ResistiveRelaxation(s, n_steps=9)) for s in SCHEDULES},
        **{
            f"diodes_{d}": made(circuit=ResistiveCircuit(d, **BOUNDED))
            for d in ("signed", "clipped", "none")
        },
        "flat": made((), circuit=ResistiveCircuit("none", **BOUNDED)),
        "one_unit": made((1, 1), circuit=ResistiveCircuit("clipped", **BOUNDED)),
        "amplified": made(
            (9, 7), circuit=ResistiveCircuit("clipped", amplifier_gain=3.0, **BOUNDED)
        ),
        "pairs": made((9, 7), circuit=pairs),
        "positive": made(learning_rule=ResistiveEP(nudging="positive")),
        "negative": made(learning_rule=ResistiveEP(nudging="negative")),
        "stops": made(relaxation=ResistiveRelaxation(n_steps=60, tol=1e-5)),
        "two": made(y=y > 4),
        "words": made(y=np.array(["no", "yes", "für"])[y % 3]),
        "labels": made(y=labels),
        "single": made(y=np.full(200, 7)),
        "wide": made(dtype="float64"),
        "values": made(cls=ResistiveRegressor, X=scale(values[0]), y=values[1]),
        "value": made(cls=ResistiveRegressor, X=scale(values[0]), y=rng.normal(3, 2, 200)),
    }


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    fitted = _estimators()
    models = {name: (as_model(m, 0.01), {"learn": True}) for name, (m, _, _) in fitted.items()}
    infers = {f"{name}_i": (m, {}) for name, (m, _) in models.items()}
    folder = tmp_path_factory.mktemp("resistive")
    return fitted, host.compile_library(folder, {**models, **infers}, host.TRAPS)


def _names():
    return (
        "asynchronous synchronous forward backward diodes_signed diodes_clipped diodes_none "
        "flat one_unit amplified pairs positive negative stops two words labels single wide values value"
    ).split()


def _referred(fitted, x):
    """Voltages of the NumPy twin as the device has them, referred to the output; steps."""
    network = fitted._fitted_network(get_backend("numpy"))
    rest = network.relax(
        x.astype(network.dtype), fitted._relaxation.n_steps, fitted._relaxation.tol or -1.0
    )
    factors = [network.spec.referred(k) for k in range(1, network.spec.n_weights + 1)]
    return np.hstack([s * f for s, f in zip(rest.states, factors)]), rest.steps


@pytest.mark.parametrize("name", _names())
@pytest.mark.parametrize("learns", [False, True])
def test_voltages_are_those_of_the_twin(devices, name, learns):
    fitted, X, _ = devices[0][name]
    device = devices[1][name if learns else f"{name}_i"]
    expected, steps = _referred(fitted, X[:30])
    for row, volts, n in zip(X[:30].astype(np.float32), expected, steps):
        status, found, used, _ = device.relax(row)
        assert status == 0 and abs(used - n) <= 1
        np.testing.assert_allclose(found, volts, rtol=1e-5, atol=1e-4 if used != n else 1e-5)


@pytest.mark.parametrize("name", _names())
def test_answers_are_those_of_the_estimator(devices, name):
    fitted, X, _ = devices[0][name]
    device, x = devices[1][f"{name}_i"], X.astype(np.float32)
    expected = fitted.predict(X)
    if device.model.kind == "regressor":
        y = np.zeros(device.model.n_outputs, np.float32)
        for row, values in zip(x, expected):
            assert device.predict(device.net, device.pointer(row), device.pointer(y)) == 0
            np.testing.assert_allclose(y, np.atleast_1d(values), rtol=1e-4, atol=1e-3)
        return
    np.testing.assert_allclose(device.probabilities(x), fitted.predict_proba(X), atol=1e-4)
    if device.model.kind == "multilabel":
        labels = np.zeros(3, np.uint8)
        for row, values in zip(x, expected):
            out = device.pointer(labels, "uint8_t")
            assert device.predict(device.net, device.pointer(row), out) == 0
            np.testing.assert_array_equal(labels, values)
        return
    np.testing.assert_array_equal(np.asarray(device.model.classes)[device.labels(x)], expected)


@pytest.mark.parametrize("name", _names())
def test_a_model_file_holds_all_of_it(devices, name, tmp_path):
    """What comes back from the file answers as the estimator does, and gives the same C."""
    fitted, X, _ = devices[0][name]
    model = as_model(fitted, 0.01)
    save_eqp(model, tmp_path / "net.eqp")
    loaded = load_eqp(tmp_path / "net.eqp")
    assert_same_answers(fitted, loaded, X)
    plan = replace(loaded.learn, rates=model.learn.rates)  # in the file, rates are float32
    assert c_texts(replace(loaded, learn=plan), learn=True) == c_texts(model, learn=True)


def test_commands_take_the_file_of_a_circuit_with_scaled_inputs(tmp_path):
    x, _, y, _ = load_digits()
    fitted = ResistiveClassifier((6,), max_iter=2, random_state=0).fit(16 * x[:200], y[:200])
    assert as_model(fitted).is_scaled
    save_eqp(fitted, tmp_path / "net.eqp")
    loaded = load_eqp(tmp_path / "net.eqp")
    assert_same_answers(fitted, loaded, 16 * x)
    call, out = CliRunner().invoke, str(tmp_path / "out")
    done = call(main, ["export", str(tmp_path / "net.eqp"), out, "--learn", "--name", "volts"])
    assert done.exit_code == 0, done.output
    texts = [(tmp_path / "out" / f"volts.{end}").read_text() for end in "hc"]
    assert tuple(texts) == c_texts(fitted, learn=True, name="volts")
    done = call(main, ["export", str(tmp_path / "net.eqp"), out, "--dtype", "int8"])
    assert done.exit_code == 1 and "float32 only" in done.output
    done = call(main, ["size", str(tmp_path / "net.eqp")])
    assert done.exit_code == 0 and "cortex-m0" in done.output


def _taught(fitted, model, x, targets, dtype):
    """Conductances and currents after the NumPy kernels have seen the rows one by one."""
    g, b = ([a.astype(dtype) for a in arrays] for arrays in (model.weights, model.biases))
    network = ResistiveNetwork(model.spec, get_backend("numpy"), g, b)
    plan = fitted._plan(1, model.learn.rates, model.learn.rates)
    network.train(x.astype(dtype), targets.astype(dtype), np.arange(len(x)), plan)
    return np.concatenate([w.ravel() for w in g]), np.concatenate(b)


@pytest.mark.parametrize("name", _names())
def test_streamed_samples_teach_what_they_teach_the_twin(devices, name):
    """The device is as near to the twin in float64 as the twin in float32 is: sources of many volt
    and a small beta make a float32 step inexact in its fifth digit."""
    fitted, X, y = devices[0][name]
    device, n = devices[1][name], 5
    x, encoded = X[:n].astype(np.float32), np.asarray(fitted._encode_targets(y[:n], None, False))
    exact = _taught(fitted, device.model, x, encoded, np.float64)
    single = _taught(fitted, device.model, x, encoded, np.float32)
    assert device.reset(device.net) == 0
    before = device.parameters()
    for row, target, told in zip(x, encoded, np.asarray(y[:n])):
        if device.model.kind == "exclusive":
            answer = device.model.classes.index(told)
        elif device.model.kind == "multilabel":
            answer = device.pointer(target.astype(np.float32))
        else:
            answer = device.pointer(np.atleast_1d(told).astype(np.float32))
        assert device.learn(device.net, device.pointer(row), answer) == 0
    for found, first, right, rounded in zip(device.parameters(), before, exact, single):
        error, moved = np.abs(found - right).max(), np.abs(right - first).max()
        own = np.abs(rounded - right).max()
        assert error < 0.02 * moved + 3 * own and own < 0.1 * moved and moved > 1e-4
    assert device.reset(device.net) == 0
    np.testing.assert_array_equal(device.parameters()[0], before[0])


def test_a_nudge_beyond_the_conductance_is_told_and_teaches_nothing(tmp_path):
    x, _, y, _ = load_digits()
    model = as_model(
        ResistiveClassifier((6,), max_iter=1, random_state=0, input_scaling=None).fit(
            x[:60], y[:60]
        )
    )
    model.weights[-1][:] = 1e-4
    device = host.compile_library(tmp_path, {"weak": (model, {"learn": True})})["weak"]
    before = device.parameters()
    assert device.learn(device.net, device.pointer(x[0]), 1) == device.status("ERROR_DIVERGED")
    assert "conductance" in device.text(device.status("ERROR_DIVERGED"))
    for a, b in zip(before, device.parameters()):
        np.testing.assert_array_equal(a, b)
    assert device.relax(x[0])[0] == 0


def test_what_is_refused(tmp_path):
    x, _, y, _ = load_digits()
    model = ResistiveClassifier((6,), max_iter=1, random_state=0, input_scaling=None).fit(
        x[:60], y[:60]
    )
    for dtype in ("int16", "int8"):
        with pytest.raises(ValueError, match="dtype.*float32 only"):
            to_c(model, tmp_path / "out", dtype)
        with pytest.raises(ValueError, match="dtype.*float32 only"):
            simulate(model, dtype)
    momentum = ResistiveClassifier((6,), solver="momentum", max_iter=1).fit(x[:60], y[:60])
    with pytest.raises(ValueError, match="learning_rate"):
        to_c(momentum, tmp_path / "out", learn=True)
    model.coefs_[-1][:, 2] = 0
    with pytest.raises(FloatingNodeError, match="output node 2"):
        to_c(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_voltages_too_large_to_learn_from_touch_nothing(tmp_path):
    x, _, y, _ = load_digits()
    model = as_model(
        ResistiveClassifier((6,), max_iter=1, random_state=0, input_scaling=None).fit(
            x[:60], y[:60]
        )
    )
    device = host.compile_library(tmp_path, {"huge": (model, {"learn": True})})["huge"]
    before = device.parameters()
    for size in (1e12, 1e25, 3e38):
        row = (size * x[0]).astype(np.float32)
        if device.learn(device.net, device.pointer(row), 1):
            for a, b in zip(before, device.parameters()):
                np.testing.assert_array_equal(a, b)
        before = device.parameters()
        assert all(np.isfinite(a).all() for a in before)
    assert device.learn(device.net, device.pointer(row), 1) == device.status("ERROR_DIVERGED")
