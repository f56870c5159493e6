"""float32 exports against the NumPy twin, on this machine's compiler."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from eqprop_fast.kernels import get_backend
from eqprop_fast.kernels.spec import ACTIVATIONS

from eqprop_fast import EqPropClassifier, EqPropRegressor
from eqprop_fast.datasets import load_digits
from eqprop_fast.export import as_model, c_texts, csource, load_eqp, save_eqp, to_c
from eqprop_fast.export.template import macro_prefix
from eqprop_fast.generative import DeepBoltzmannMachine
from tests import embedded_host as host

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
]

UNBOUNDED = ("identity", "relu")
MODELS = {
    **{
        f"act_{a}": (
            host.random_model(activation=a, out_activation=a, gain=0.5 if a in UNBOUNDED else 1),
            {},
        )
        for a in ACTIVATIONS
    },
    "depth1": (host.random_model((7, 4)), {}),
    "depth1sync": (host.random_model((7, 4), schedule="synchronous"), {}),
    "depth4": (host.random_model((5, 6, 4, 7, 3), activation="tanh", out_activation="sigmoid"), {}),
    "sync": (host.random_model((6, 5, 4, 3), schedule="synchronous"), {}),
    "async": (host.random_model((6, 5, 4, 3), schedule="asynchronous"), {}),
    "forward": (host.random_model((6, 5, 4, 3), schedule="forward"), {}),
    "damped": (
        host.random_model(
            (6, 5, 3), schedule="asynchronous", dt=0.7, tol_free=1e-3, n_free_steps=60
        ),
        {},
    ),
    "relaxed": (host.random_model((6, 5, 4, 3), schedule="asynchronous", dt=1.3), {}),
    "input": (host.random_model(input_activation="tanh"), {}),
    "stops": (host.random_model(schedule="asynchronous", tol_free=1e-4, n_free_steps=200), {}),
    "softmax": (
        host.random_model(
            out_activation="identity", cost="cross_entropy", proba="softmax", gain=0.5
        ),
        {},
    ),
    "binary": (host.random_model((6, 5, 1), proba="binary"), {}),
    "one": (host.random_model((6, 5, 1), proba="one"), {}),
}
LEARNING = {
    "centered": host.random_model(schedule="asynchronous", learn={}),
    "positive": host.random_model(
        schedule="asynchronous", learn=dict(nudging="positive", beta=0.3)
    ),
    "negative": host.random_model(
        schedule="asynchronous", learn=dict(nudging="positive", beta=-0.3)
    ),
    "learnsync": host.random_model(
        (6, 5, 4, 3), schedule="synchronous", activation="tanh", learn=dict(n_steps=5)
    ),
    "inside": host.random_model(nudge_inside=True, learn=dict(tol=1e-5, n_steps=30)),
    "entropy": host.random_model(
        schedule="asynchronous",
        out_activation="identity",
        cost="cross_entropy",
        proba="softmax",
        gain=0.5,
        learn={},
    ),
    "hard": host.random_model(
        (6, 8, 3),
        activation="hard_sigmoid",
        out_activation="hard_sigmoid",
        input_activation="hard_sigmoid",
        schedule="asynchronous",
        learn=dict(rates=(0.2, 0.05)),
        cost_factor=2.0,
    ),
    "dt": host.random_model((6, 5, 4, 3), schedule="asynchronous", dt=0.8, learn=dict(step=0.8)),
}


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """All networks in one library: every symbol has its network's prefix."""
    learning = {name: (model, {"learn": True}) for name, model in LEARNING.items()}
    return host.compile_library(
        tmp_path_factory.mktemp("embedded"), {**MODELS, **learning}, host.TRAPS
    )


@pytest.mark.parametrize("name", MODELS)
def test_states_are_those_of_the_twin(devices, name):
    device = devices[name]
    x = host.inputs(device.model, low=-1.0 if name == "input" else 0.0)
    states, steps, residual = host.twin_relax(device.model, x)
    stopping = device.model.tol_free >= 0  # at the edge of tol one rounding may make one step more
    for row, expected, n, left in zip(x, states, steps, residual):
        status, found, n_found, left_found = device.relax(row)
        assert status == 0
        np.testing.assert_allclose(
            found, expected, rtol=1e-5, atol=1e-3 if stopping and n != n_found else 1e-5
        )
        assert abs(n_found - n) <= stopping
        np.testing.assert_allclose(left_found, left, atol=1e-3 if stopping else 1e-5)


@pytest.mark.parametrize("name", LEARNING)
def test_200_streamed_samples_teach_what_they_teach_the_twin(devices, name):
    device, n = devices[name], 200
    x = host.inputs(device.model, n)
    labels = np.random.default_rng(5).integers(0, 3, n)
    weights, biases = host.twin_train(device.model, x, np.eye(3)[labels])
    assert device.reset(device.net) == 0
    for row, label in zip(x, labels):
        assert device.learn(device.net, device.pointer(row), int(label)) == 0
    found_weights, found_biases = device.parameters()
    assert np.abs(weights - np.concatenate([w.ravel() for w in device.model.weights])).max() > 0.01
    np.testing.assert_allclose(found_weights, weights, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found_biases, biases, atol=1e-5, rtol=1e-5)


def test_reset_brings_the_exported_weights_back(devices):
    device = devices["centered"]
    x = host.inputs(device.model, 3)
    assert device.learn(device.net, device.pointer(x[0]), 1) == 0
    assert device.set_rate(device.net, 1, 0.5) == 0
    assert device.reset(device.net) == 0
    weights, biases = device.parameters()
    np.testing.assert_array_equal(
        weights, np.concatenate([w.ravel() for w in device.model.weights])
    )
    np.testing.assert_array_equal(biases, np.concatenate(device.model.biases))
    np.testing.assert_array_equal(
        device.array(device.net.learned.rates, np.float32), np.float32([0.05, 0.05])
    )


def test_a_rate_of_zero_learns_nothing_in_its_layer(devices):
    device = devices["centered"]
    device.reset(device.net)
    before = device.parameters()[0]
    assert device.set_rate(device.net, 2, 0.0) == 0
    assert device.learn(device.net, device.pointer(host.inputs(device.model, 1)[0]), 2) == 0
    after = device.parameters()[0]
    n = device.model.weights[0].size
    assert (after[:n] != before[:n]).any()
    np.testing.assert_array_equal(after[n:], before[n:])
    device.reset(device.net)


# ---- fitted estimators ----


def _of_paper(name, hidden):
    return EqPropClassifier.from_paper(name, hidden_layer_sizes=hidden, max_iter=1, backend="numpy")


def _over_relaxed(model):
    name = next(name for name in model.get_params() if name.endswith("over_relaxation"))
    return model.set_params(**{name: 1.2})


def _fitted():
    x, x_test, y, y_test = load_digits()
    x, y = x[:300], y[:300]
    options = dict(max_iter=3, random_state=0, backend="numpy")
    rng = np.random.default_rng(0)
    labels = np.stack([y % 2, y > 4, y > 7], axis=1).astype(int)
    words = np.array(["zero?", 'q"uote', "back\\slash", "für"])[y % 4]
    return x_test[:100], {
        "digits": EqPropClassifier((12,), **options).fit(x, y),
        "over": _over_relaxed(EqPropClassifier((12, 8), **options)).fit(x, y),
        "entropy": EqPropClassifier((12,), cost="cross_entropy", **options).fit(x, y),
        "two": EqPropClassifier((12,), **options).fit(x, y > 4),
        "twosoft": EqPropClassifier((12,), cost="cross_entropy", **options).fit(x, y > 4),
        "single": EqPropClassifier((12,), **options).fit(x[:40], np.full(40, 7)),
        "labels": EqPropClassifier((12,), **options).fit(x, labels),
        "net_x": EqPropClassifier((12,), **options).fit(x, np.array(["net_a", "@FILE@"])[y % 2]),
        "words": EqPropClassifier((12,), out_activation="tanh", **options).fit(x, words),
        "swept": _of_paper("1602.05179/speed_net2", (12, 8)).fit(x, y),
        "values": EqPropRegressor((12,), **options).fit(x, rng.normal(3, 2, (len(x), 2))),
    }


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    x, models = _fitted()
    named = {name: (as_model(m), {}) for name, m in models.items()}
    return x, models, host.compile_library(tmp_path_factory.mktemp("fitted"), named)


@pytest.mark.parametrize(
    "name", ["digits", "over", "entropy", "two", "twosoft", "single", "words", "net_x", "swept"]
)
def test_classifiers_say_what_python_says(fitted, name):
    x, models, devices = fitted
    model, device = models[name], devices[name]
    classes = getattr(device.lib, f"{name}_classes")
    found = [classes[i] for i in device.labels(x)]
    if name in ("words", "net_x"):
        found = [device.ffi.string(c).decode() for c in found]
    np.testing.assert_array_equal(found, model.predict(x))
    np.testing.assert_allclose(device.probabilities(x), model.predict_proba(x), atol=1e-4)


def test_multilabel_and_regression(fitted):
    x, models, devices = fitted
    labels, values = np.zeros(3, np.uint8), np.zeros(2, np.float32)
    expected = models["labels"].predict(x), models["values"].predict(x)
    for i, row in enumerate(x):
        device = devices["labels"]
        assert (
            device.predict(device.net, device.pointer(row), device.pointer(labels, "uint8_t")) == 0
        )
        np.testing.assert_array_equal(labels, expected[0][i])
        device = devices["values"]
        assert device.predict(device.net, device.pointer(row), device.pointer(values)) == 0
        np.testing.assert_allclose(values, expected[1][i], atol=1e-4)
    np.testing.assert_allclose(
        devices["labels"].probabilities(x), models["labels"].predict_proba(x), atol=1e-4
    )


def test_a_loaded_file_answers_as_the_estimator(fitted, tmp_path):
    x, models, _ = fitted
    for name, model in models.items():
        save_eqp(model, tmp_path / f"{name}.eqp")
        host.assert_same_answers(model, load_eqp(tmp_path / f"{name}.eqp"), x)


# ---- bad input ----


def test_errors_have_their_codes_and_nothing_is_touched(devices):
    device = devices["centered"]
    ffi, net = device.ffi, device.net
    device.reset(net)
    x = host.inputs(device.model, 1)[0]
    before = bytes(ffi.buffer(device.arena))
    good, label, p = device.pointer(x), ffi.new("int *"), device.pointer(np.zeros(3, np.float32))
    bad = x.copy()
    null = ffi.NULL

    def says(word, status):
        assert status == device.status(word), device.text(status)
        assert bytes(ffi.buffer(device.arena)) == before

    for value in (np.nan, np.inf, -np.inf):
        bad[3] = value
        says("ERROR_NOT_FINITE", device.predict(net, device.pointer(bad), label))
        says("ERROR_NOT_FINITE", device.learn(net, device.pointer(bad), 0))
        says("ERROR_NOT_FINITE", device.predict_proba(net, device.pointer(bad), p))
    lib_relax = device.lib.centered_relax
    for call in (
        device.predict(null, good, label),
        device.predict(net, null, label),
        device.predict(net, good, null),
        lib_relax(null, good, null),
        lib_relax(net, null, null),
        device.predict_proba(net, good, null),
        device.learn(null, good, 0),
        device.learn(net, null, 0),
        device.reset(null),
        device.set_rate(null, 1, 0.1),
        device.save(net, null),
        device.load(net, null),
        device.save(null, ffi.new("centered_flash *")),
        device.save(net, ffi.new("centered_flash *")),
        device.init(null, 100000, ffi.new("centered_memory **")),
        device.init(device.arena, 100000, null),
    ):
        says("ERROR_NULL", call)
    for call in (
        device.learn(net, good, 3),
        device.learn(net, good, -1),
        device.set_rate(net, 0, 0.1),
        device.set_rate(net, 3, 0.1),
        device.set_rate(net, 1, -0.1),
        device.set_rate(net, 1, np.nan),
        device.set_rate(net, 1, 101.0),
    ):
        says("ERROR_ARGUMENT", call)
    out = ffi.new("centered_memory **")
    size = ffi.sizeof("centered_memory")
    says("ERROR_ARENA", device.init(device.arena, size - 1, out))
    room = ffi.new("char[]", size + 8)
    says("ERROR_ARENA", device.init(ffi.cast("char *", room) + 1, size, out))
    raw = ffi.new("centered_memory *")
    assert device.predict(raw, good, label) == device.status("ERROR_NOT_READY")
    assert bytes(ffi.buffer(raw)) == bytes(size)


def test_a_network_that_diverges_says_so_and_keeps_its_weights(tmp_path):
    model = host.random_model(
        activation="identity", out_activation="identity", gain=40.0, n_free_steps=200, learn={}
    )
    device = host.compile_library(tmp_path, {"wild": (model, {"learn": True})})["wild"]
    before = device.parameters()
    x = host.inputs(model, 1)[0]
    assert device.learn(device.net, device.pointer(x), 1) == device.status("ERROR_DIVERGED")
    assert device.relax(x)[0] == device.status("ERROR_DIVERGED")
    for a, b in zip(before, device.parameters()):
        np.testing.assert_array_equal(a, b)


def test_every_status_has_its_own_text(devices):
    device = devices["sync"]
    texts = [device.text(i) for i in range(device.status("N_STATUS"))]
    assert len(set(texts)) == len(texts) and texts[0] == "ok"
    assert device.text(device.status("ERROR_NOT_FINITE")) == "an input or target is NaN or infinite"
    assert device.text(device.status("N_STATUS")) == device.text(10**6) == "no such status"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2fast",
        "a-b",
        "int",
        "class",
        "Über",
        "x" * 42,
        "_x",
        None,
        "a b",
        "x\n",
        "bitor",
        "typeof",
        "new",
        "Class",
        "stdint",
        "String",
        "a__b",
        "net_",
    ],
)
def test_names_that_are_no_identifiers_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="^name"):
        to_c(host.random_model(), tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


def test_names_that_differ_in_capitals_live_in_one_program(tmp_path):
    """In one translation unit too: neither a guard, a macro nor a symbol is shared."""
    names, sizes = ("digits", "Digits", "DIGITS", "dIGITS"), {}
    for n, name in enumerate(names, start=4):
        to_c(host.random_model((n, 3, 2), learn={}), tmp_path, "float32", True, name)
        sizes[name] = n
    prefixes = [macro_prefix(name) for name in names]
    assert prefixes == ["DIGITS", "Digits", "digits", "dIGITS"]
    uses = "".join(
        f'#include "{name}.h"\nenum {{ n_{name} = {prefix}_INPUTS }};\n'
        f"int use_{name}({name}_memory *m, const float *x) {{ int label;\n"
        f"return n_{name} == {sizes[name]} && {name}_predict(m, x, &label) == {prefix}_OK; }}\n"
        for name, prefix in zip(names, prefixes)
    )
    (tmp_path / "one.c").write_text(uses + "".join(f'#include "{n}.c"\n' for n in names))
    for standard in (["-std=c99"], ["-x", "c++", "-std=c++11"]):
        command = [host.CC, *standard, *host.WARNINGS, "-c", "one.c", "-o", "one.o"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]
    with pytest.MonkeyPatch.context() as patch:  # where files differ in capitals only, they are one
        patch.setattr(os, "listdir", lambda folder: ["DIGITS.h", "DIGITS.c"])
        with pytest.raises(FileExistsError, match="capitals"):
            to_c(host.random_model(), tmp_path, name="digits")


def test_a_folder_is_written_whole_or_left_as_it_was(tmp_path, monkeypatch):
    model = host.random_model()
    out = tmp_path / "with space"
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "no" / "out"):
        with pytest.raises(OSError):
            to_c(model, folder)
    to_c(model, out, name="kept", layout="zephyr")
    (out / "src" / "kept.h").write_text("old")
    to_c(model, out, np.float32, name="kept", layout="zephyr")  # replaces its own
    assert (out / "src" / "kept.h").read_text() != "old"
    seen = _tree(tmp_path)
    for name, layout in (("other", "zephyr"), ("kept", "esp-idf")):  # somebody else's manifest
        with pytest.raises(FileExistsError, match="layout"):
            to_c(model, out, name=name, layout=layout)
        assert _tree(tmp_path) == seen
    (out / "src" / "taken.c").mkdir()
    seen = _tree(tmp_path)
    for place, layout in ((out / "src", "plain"), (out, "arduino")):
        with pytest.raises(IsADirectoryError):
            to_c(model, place, name="taken", layout=layout)
        assert _tree(tmp_path) == seen
    write = csource.write_text
    for n in range(5):  # the disk is full after n files
        left = iter([write] * n)

        def full(path, text, left=left):
            next(left, _no_space)(path, text)

        monkeypatch.setattr(csource, "write_text", full)
        for place, name in ((out, "kept"), (tmp_path / "new", "fresh")):
            with pytest.raises(OSError, match="no space"):
                to_c(host.random_model(seed=5), place, name=name, layout="zephyr")
            assert _tree(tmp_path) == seen


def _no_space(path, text):
    raise OSError("no space")


def _tree(folder):
    return {p: p.is_dir() or p.read_bytes() for p in folder.rglob("*")}


def test_models_that_cannot_be_exported(tmp_path):
    x, _, y, _ = load_digits()
    x, y = x[:60], y[:60]
    short = dict(max_iter=1, backend="numpy")
    from sklearn.exceptions import NotFittedError
    from sklearn.neural_network import MLPClassifier

    cases = [
        (NotFittedError, EqPropClassifier(), {}),
        (TypeError, MLPClassifier(), {}),
        (ValueError, host.random_model(), dict(dtype="float16")),
        (ValueError, host.random_model(), dict(dtype=np.float64)),
        (ValueError, host.random_model(), dict(dtype=None)),
        (ValueError, host.random_model(), dict(dtype=object)),
        (ValueError, host.random_model(learn={}), dict(learn=True, learning_rate="fast")),
        (ValueError, host.random_model(), dict(layout=None)),
        (ValueError, host.random_model(), dict(learn=True)),
        (TypeError, host.random_model(), dict(weight_range=2)),
        (ValueError, host.random_model(learn={}), dict(learn=True, learning_rate=[0.1])),
        (ValueError, host.random_model(learn={}), dict(learn=True, learning_rate=-1)),
        (ValueError, host.random_model(learn={}), dict(learn=True, learning_rate=np.nan)),
        (ValueError, host.random_model(learn={}), dict(learn=True, learning_rate=101)),
    ]
    folder = tmp_path / "out"
    for error, model, options in cases:
        with pytest.raises(error):
            to_c(model, folder, **options)
        assert not folder.exists()
    with pytest.raises(TypeError, match="EqPropClassifier.* not MLPClassifier"):
        to_c(MLPClassifier(), folder)
    for export in (lambda m: to_c(m, folder), lambda m: save_eqp(m, folder)):
        with pytest.raises(TypeError, match="EqPropClassifier.* not DeepBoltzmannMachine"):
            export(DeepBoltzmannMachine((4,)))
        assert not folder.exists()
    continuous = _of_paper("1905.13633/EB-1h", (4,)).fit(x, y)
    with pytest.raises(ValueError, match="dynamics"):
        to_c(continuous, folder)
    field = _of_paper("2005.04168/C-VF-1h", (4,)).fit(x, y)
    with pytest.raises(ValueError, match="feedback"):
        to_c(field, folder)
    swept = _of_paper("1602.05179/speed_net1", (4,)).fit(x, y)
    with pytest.raises(ValueError, match="only 'ep' learns"):
        to_c(swept, folder, learn=True)
    decayed = EqPropClassifier((4,), solver="sgd", weight_decay=1e-4, **short).fit(x, y)
    with pytest.raises(ValueError, match="learning_rate"):
        to_c(decayed, folder, learn=True)
    to_c(decayed, folder, learn=True, learning_rate=0.02)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "no" / "folder"):
        with pytest.raises(OSError):
            to_c(host.random_model(), folder)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# ---- the text ----


def test_constants_lose_no_digit():
    from eqprop_fast.export.template import c_float, c_string

    values = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    assert all(np.float32(c_float(v)[:-1]) == v for v in values)
    assert c_float(1) == "1.0f" and c_string('a"?\\\n') == '"a\\042\\077\\134\\012"'


@pytest.mark.parametrize("compiler", ["gcc", "g++", "clang", "clang++"])
@pytest.mark.parametrize("learn", [False, True])
def test_no_compiler_warns(tmp_path, compiler, learn):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    model = host.random_model(
        (6, 5, 4, 3), activation="tanh", out_activation="hard_sigmoid", learn={}
    )
    texts = c_texts(model, learn=learn, name="quiet")
    for end, text in zip("hc", texts):
        (tmp_path / f"quiet.{end}").write_text(text)
    language = ["-x", "c++", "-std=c++11"] if "+" in compiler else ["-std=c99"]
    for extra in ([], ["-ffreestanding"]):
        command = [
            compiler,
            *language,
            *host.WARNINGS,
            *extra,
            "-Os",
            "-c",
            "quiet.c",
            "-o",
            "quiet.o",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_twin_has_not_moved():
    """The tests above compare with this: one sweep of one unit, by hand."""
    model = host.random_model((2, 1, 1), n_free_steps=1, schedule="asynchronous")
    x = np.float32([[0.5, 0.25]])
    states, steps, _ = host.twin_relax(model, x)
    first = 1 / (1 + np.exp(2 - 4 * (x @ model.weights[0] + model.biases[0])))
    second = 1 / (1 + np.exp(2 - 4 * (first @ model.weights[1] + model.biases[1])))
    np.testing.assert_allclose(states, np.hstack([first, second]), rtol=1e-6)
    assert steps == 1 and get_backend("numpy").name == "numpy"


def test_inputs_too_large_to_learn_from_touch_nothing(tmp_path):
    """An input without weights: states stay small, but the step of its weights would not."""
    model = host.random_model(activation="hard_sigmoid", learn={})
    model.weights[0][0] = 0
    device = host.compile_library(tmp_path, {"huge": (model, {"learn": True})})["huge"]
    before = device.parameters()
    x = host.inputs(model, 1)[0]
    x[0] = 3e38
    assert device.set_rate(device.net, 1, 100.0) == 0
    assert device.learn(device.net, device.pointer(x), 1) == device.status("ERROR_DIVERGED")
    for a, b in zip(before, device.parameters()):
        np.testing.assert_array_equal(a, b)
    x[0] = 0
    assert device.learn(device.net, device.pointer(x), 1) == 0
    assert any((a != b).any() for a, b in zip(before, device.parameters()))
