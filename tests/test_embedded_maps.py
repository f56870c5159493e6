"""Exports of convolutional networks against the NumPy twin, on this machine's compiler."""

import re
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from click.testing import CliRunner

from eqprop_fast import (
    Connection,
    Conv,
    ConvEqPropClassifier,
    ConvEqPropRegressor,
    Dense,
    Discrete,
    Graph,
    GraphEqPropClassifier,
    Layer,
    ReadOut,
    Relaxation,
)
from eqprop_fast.cli import main
from eqprop_fast.datasets import load_digits
from eqprop_fast.export import as_model, load_eqp, save_eqp, to_c
from eqprop_fast.export.targets import multiply_accumulates
from eqprop_fast.networks.graph import chain
from tests import embedded_host as host
from tests.embedded_maps import ASYNC, SHAPES, networks

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

ALL = networks()
INFER = ("plain", "mean", "maps", "deep_sync", "read", "readsync", "input", "scaled")
NUDGED = {
    "l_once": dict(nudging="positive", beta=0.3),
    "l_away": dict(nudging="positive", beta=-0.3),
    "l_stops": dict(tol=1e-4, n_steps=60),
}
LEARNING = {
    **{f"l_{name}": model for name, model in networks({}).items()},
    **{n: host.graph_model(SHAPES["largest"], learn=o, **ASYNC) for n, o in NUDGED.items()},
    "l_read_once": host.graph_model(
        SHAPES["deep"],
        **{**ASYNC, "out_activation": "identity"},
        readout=True,
        nudge_inside=True,
        learn=dict(nudging="positive", beta=-0.4, rates=(0.1, 0.05, 0.05, 0.02)),
    ),
}


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    learning = {name: (model, {"learn": True}) for name, model in LEARNING.items()}
    still = {name: (ALL[name], {}) for name in INFER}
    flags = ["-O0", *host.TRAPS]
    return host.compile_library(tmp_path_factory.mktemp("maps"), {**still, **learning}, flags)


def _inputs(model, n):
    return host.inputs(model, n, low=-1.0 if model.input_activation != "identity" else 0.0)


@pytest.mark.parametrize("name", [*INFER, *LEARNING])
def test_states_are_those_of_the_twin(devices, name):
    device = devices[name]
    assert not device.learns or device.reset(device.net) == 0
    x = _inputs(device.model, 20)
    states, steps, residual = host.twin_relax(device.model, x)
    stopping = device.model.tol_free >= 0  # at the edge of tol one rounding may make one step more
    for row, expected, n, left in zip(x, states, steps, residual):
        status, found, n_found, left_found = device.relax(row)
        assert status == 0
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3 if n != n_found else 1e-5)
        assert abs(n_found - n) <= stopping
        np.testing.assert_allclose(left_found, left, atol=1e-3 if stopping else 1e-5)


def _targets(model, n):
    """Targets of the twin's output, and what the device is given."""
    rng, outputs = np.random.default_rng(5), model.n_outputs
    if model.kind == "exclusive":
        labels = rng.integers(0, outputs, n)
        return np.eye(outputs)[labels], labels.tolist()
    if model.kind == "multilabel":
        y = rng.integers(0, 2, (n, outputs)).astype(np.float32)
        return y, list(y)
    y = rng.normal(size=(n, outputs)).astype(np.float32)
    return (y - model.mean) / model.scale, list(y)


@pytest.mark.parametrize("name", LEARNING)
def test_streamed_samples_teach_what_they_teach_the_twin(devices, name):
    device = devices[name]
    model, n = device.model, 60
    x = _inputs(model, n)
    targets, given = _targets(model, n)
    weights, biases = host.twin_train(model, x, targets)
    assert device.reset(device.net) == 0
    before = device.parameters()
    for row, y in zip(x, given):
        y = y if model.kind == "exclusive" else device.pointer(y)
        assert device.learn(device.net, device.pointer(row), y) == 0
    found = device.parameters()
    for start, a, b in zip(before, found, (weights, biases)):
        assert np.abs(b - start).max() > 5e-3
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
    assert device.reset(device.net) == 0
    for start, a in zip(before, device.parameters()):
        np.testing.assert_array_equal(a, start)


def test_of_equal_units_of_a_square_the_first_counts(devices):
    """A blank image: all squares of the first map hold one value, bit for bit."""
    device = devices["l_deep"]
    assert device.reset(device.net) == 0
    for value in (0.0, 0.5, 1.0):
        row = np.full(device.model.spec.sizes[0], value, np.float32)
        expected, _, _ = host.twin_relax(device.model, row[None])
        np.testing.assert_allclose(device.relax(row)[1], expected[0], atol=1e-5)


# ---- fitted estimators ----


def _skips(bias=True):
    layers = [Layer("x"), Layer("a", (3, 3, 3), bias=bias), Layer("b", 8), Layer("out")]
    links = [
        Connection("x", "a", kernel=3, pool="max"),
        Connection("a", "b"),
        Connection("b", "out"),
    ]
    return layers, links


def _fitted():
    x, x_test, y, y_test = load_digits()
    images, y = x[:200].reshape(-1, 8, 8), y[:200]
    keep = dict(max_iter=2, random_state=0, backend="numpy")
    rng = np.random.default_rng(0)
    three = np.stack([y % 2, y > 4, y > 7], axis=1).astype(int)
    inside = Discrete(nudge_inside=True)
    conv = [Conv(4, 3, pool="max"), Dense(12)]

    def made(layers=conv, y=y, cls=ConvEqPropClassifier, X=images, **options):
        return cls(layers, **{**keep, **options}).fit(X, y)

    return x_test[:60], {
        "digits": made(),
        "raw": made(input_scaling=None, relaxation="synchronous"),
        "padded": made([Conv(3, 3, padding=1, pool="average"), Conv(4, 2, stride=2)]),
        "over": made(relaxation=Relaxation(over_relaxation=1.2)),
        "reads": made([*conv, ReadOut()], dynamics=inside, cost="cross_entropy"),
        "two": made(y=y > 4),
        "sets": made(y=three),
        "values": made(y=rng.normal(3, 2, (len(y), 2)), cls=ConvEqPropRegressor),
        "graph": made(Graph(*_skips()), cls=GraphEqPropClassifier),
    }


@pytest.fixture(scope="module")
def fitted():
    return _fitted()


def test_fitted_networks_say_what_python_says(fitted, tmp_path):
    x, models = fitted
    named = {name: (as_model(m), {}) for name, m in models.items()}
    devices = host.compile_library(tmp_path, named)
    for name, model in models.items():
        device, net = devices[name], named[name][0]
        expected = model.predict(x.reshape(-1, 8, 8))
        save_eqp(model, tmp_path / "net.eqp")
        host.assert_same_answers(model, load_eqp(tmp_path / "net.eqp"), x)
        if net.kind == "exclusive":
            np.testing.assert_array_equal(np.asarray(net.classes)[device.labels(x)], expected)
            p = device.probabilities(x)
            np.testing.assert_allclose(p, model.predict_proba(x), atol=1e-4)
            continue
        out = np.zeros(net.n_outputs, np.uint8 if net.kind == "multilabel" else np.float32)
        kind = "uint8_t" if net.kind == "multilabel" else "float"
        for row, y in zip(x, expected):
            assert device.predict(device.net, device.pointer(row), device.pointer(out, kind)) == 0
            np.testing.assert_allclose(out, y, atol=1e-4)


def test_a_file_becomes_c_by_the_command_line(fitted, tmp_path):
    path, out = tmp_path / "net.eqp", tmp_path / "out"
    save_eqp(fitted[1]["padded"], path)
    for dtype in ("float32", "int8"):
        words = ["export", str(path), str(out), "--dtype", dtype, "--name", "digits"]
        words += ["--learn", "--learning-rate", "0.01"]
        with pytest.warns(UserWarning, match="input_scaling") if dtype == "int8" else nullcontext():
            done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        assert "digits_from_above" in (out / "digits.c").read_text()


def test_scales_of_a_channel_are_stored_once(fitted, tmp_path):
    header, source = fitted[1]["digits"].to_c(tmp_path, name="once")
    assert "1 x 8 x 8" in header.read_text()
    assert re.search(r"once_input_center\[\] = \{\n +[\d.]+f\n\}", source.read_text())


def test_what_is_not_exported_is_refused_by_name(fitted, tmp_path):
    x, _, y, _ = load_digits()
    x, y = x[:60].reshape(-1, 8, 8), y[:60]
    short = dict(max_iter=1, backend="numpy", random_state=0)
    folder = tmp_path / "out"

    def refused(model, match, **options):
        with pytest.raises(ValueError, match=match):
            to_c(model, folder, **options)
        assert not folder.exists()

    layers, links = _skips()
    skip = Graph(layers, [*links, Connection("a", "out")])
    refused(GraphEqPropClassifier(skip, **short).fit(x, y), "'a' -> 'out': only chains")
    lateral = Graph(layers, [*links, Connection("b", "b")])
    refused(
        GraphEqPropClassifier(lateral, relaxation="synchronous", **short).fit(x, y),
        "'b' -> 'b': only chains",
    )
    bare = GraphEqPropClassifier(Graph(*_skips(bias=False)), solver="sgd", weight_decay=0, **short)
    bare.fit(x, y)
    refused(bare, "bias=False of layer 'a'", learn=True)
    to_c(bare, folder)
    folder = tmp_path / "other"
    conv = [Conv(2, 3)]
    euler = ConvEqPropClassifier(conv, dynamics="continuous", **short).fit(x, y)
    refused(euler, "dynamics")
    field = ConvEqPropClassifier(conv, learning_rule="vector_field", **short).fit(x, y)
    refused(field, "feedback")
    gradients = ConvEqPropClassifier(conv, learning_rule="bptt", **short).fit(x, y)
    refused(gradients, "only 'ep' learns", learn=True)
    wide = ConvEqPropClassifier([Conv(2, 1, pool="max", pool_size=16)], **short)
    refused(wide.fit(np.zeros((60, 16, 16)), y), "pool_size=16 of layer 'conv 1'")
    shallow = ConvEqPropClassifier([ReadOut()], dynamics=Discrete(nudge_inside=True), **short)
    refused(shallow.fit(x, y), "'output': a read-out")


def test_squares_of_one_unit_are_not_pooled(tmp_path):
    """Whatever the user calls it: the kernels and the exports are told of no pooling."""
    plain, *others = (
        chain((1, 4, 4), [Conv(2, 3, pool=pool, pool_size=1), Dense(2)]).spec()
        for pool in (None, "max", "average")
    )
    assert others == [plain, plain]
    x, y = np.random.default_rng(0).random((12, 16)), np.arange(12) % 2
    layers, keep = [Conv(2, 3, pool="max", pool_size=1)], dict(input_shape=(4, 4), max_iter=1)
    for backend in ("c", "numpy"):
        ConvEqPropClassifier(layers, backend=backend, random_state=0, **keep).fit(x, y)


def test_multiply_accumulates_are_counted_by_hand():
    model = host.graph_model(SHAPES["deep"], **ASYNC)
    first = 3 * 10 * 10 * 2 * 9  # window and all, once
    second = 4 * 3 * 9 * 9, 4 * 3 * 9 * 9  # up and down: the mean of a square has all its places
    dense = 2 * (4 * 4 + 4 * 3)
    assert multiply_accumulates(model, 5) == first + 5 * (sum(second) + dense)
    model = host.graph_model(SHAPES["wide"], readout=True, nudge_inside=True, **ASYNC)
    up, down = 3 * 2 * 4 * 4, 3 * 2 * 4  # 3 maps over 2, kernels of 4; of 4 places one comes back
    assert multiply_accumulates(model, 2) == 2 * 81 + 3 * 3 + 2 * (up + down)


def test_what_is_no_number_passes_the_pool(tmp_path):
    """Wherever in its square: of 0, 0, 0 and inf - inf the last is the largest."""
    model = host.graph_model(((2, 2, 2), Conv(1, 1, pool="max"), Dense(2)), **ASYNC)
    model.weights[0][...] = np.float32([1e10, -1e10]).reshape(1, 2, 1, 1)
    device = host.compile_library(tmp_path, {"net": (model, {})}, ["-O0"])["net"]
    for place in range(4):
        x = np.zeros((2, 4), np.float32)
        assert device.relax(x.ravel())[0] == 0
        x[:, place] = 3e38
        assert device.relax(x.ravel())[0] == device.status("ERROR_DIVERGED")
