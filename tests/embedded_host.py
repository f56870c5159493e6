"""Exported networks compiled on this machine, called through cffi: the kernels' fourth twin."""

import os
import re
import shutil
import subprocess

import cffi
import numpy as np
from eqprop_fast.kernels import LayeredSpec, ResistiveSpec, TrainPlan, get_backend

from eqprop_fast.auto import scaled
from eqprop_fast.export import c_texts
from eqprop_fast.export.model import LearnPlan, NetModel
from eqprop_fast.export.template import macro_prefix
from eqprop_fast.networks.graph import chain, draw_parameters

CC = (
    shutil.which(os.environ.get("CC", "cc").split()[-1])
    or shutil.which("gcc")
    or shutil.which("clang")
)
# undefined behaviour ends the process; this needs no library
TRAPS = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
WARNINGS = "-Wall -Wextra -Wconversion -Wshadow -Wpedantic -Wdouble-promotion -Werror".split()
CFLAGS = ["-std=c99", "-O1", "-ffp-contract=off", *WARNINGS]


def random_model(
    sizes=(6, 5, 3),
    kind="exclusive",
    proba="share",
    seed=0,
    gain=1.0,
    learn=None,
    n_free_steps=9,
    tol_free=-1.0,
    **spec,
):
    """A network that nobody fitted: any option, at once."""
    rng = np.random.default_rng(seed)
    pairs = list(zip(sizes[:-1], sizes[1:]))
    weights = [(gain * rng.uniform(-1, 1, p) / np.sqrt(p[0])).astype(np.float32) for p in pairs]
    biases = [rng.uniform(-0.3, 0.3, n).astype(np.float32) for n in sizes[1:]]
    classes = [] if kind == "regressor" else list(range(2 if proba == "binary" else sizes[-1]))
    mean, scale = (
        (rng.normal(size=sizes[-1]), rng.uniform(0.5, 2, sizes[-1]))
        if not classes
        else (np.zeros(0),) * 2
    )
    model = NetModel(
        LayeredSpec(tuple(sizes), **spec),
        weights,
        biases,
        n_free_steps,
        tol_free,
        kind,
        classes,
        "none" if kind == "regressor" else proba,
        mean,
        scale,
    )
    if learn is not None:
        plan = dict(
            beta=0.5, nudging="centered", n_steps=4, tol=-1.0, step=1.0, rates=(0.05,) * len(pairs)
        )
        model.learn = LearnPlan(**{**plan, **learn})
    return model


def graph_model(
    graph,
    kind="exclusive",
    proba="share",
    seed=0,
    gain=1.0,
    learn=None,
    n_free_steps=9,
    tol_free=-1.0,
    **spec,
):
    """A network of maps that nobody fitted; `graph` is a `Graph`, or the shape of the input and the
    layers of a chain.
    """
    if isinstance(graph, tuple):
        shape, *layers = graph
        graph = chain(shape, layers, readout=spec.pop("readout", False))
    spec = graph.spec(**spec)
    weights, biases = draw_parameters(spec, np.random.default_rng(seed), np.float32, gain)
    n = spec.sizes[-1]
    classes = [] if kind == "regressor" else list(range(2 if proba == "binary" else n))
    ends = (np.linspace(-1, 1, n), np.linspace(0.5, 2, n)) if kind == "regressor" else ()
    proba = "none" if kind == "regressor" else proba
    answers = kind, classes, proba, *ends
    model = NetModel(spec, weights, biases, n_free_steps, tol_free, *answers)
    if learn is not None:
        plan = dict(beta=0.5, nudging="centered", n_steps=4, tol=-1.0, step=1.0)
        plan = {**plan, "rates": (0.05,) * len(weights), **learn}
        model.learn = LearnPlan(**plan)
    return model


def resistive_model(
    sizes=(3, 4, 4, 2),
    kind="exclusive",
    *,
    diodes="signed",
    pairs=False,
    schedule="forward",
    g_max=1.0,
    scaled=False,
    **plan,
):
    """A resistive network that nobody fitted."""
    spec = ResistiveSpec(
        sizes, 5.0, diodes=diodes, pairs=pairs, schedule=schedule, g_min=0.01, g_max=g_max
    )
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.01, 1, s).astype(np.float32) for s in spec.crossbar_shapes]
    biases = [rng.uniform(-0.1, 0.1, n).astype(np.float32) for n in spec.node_sizes]
    n_classes = sizes[-1] + (kind == "exclusive" and sizes[-1] == 1)
    proba = {"exclusive": "softmax", "multilabel": "logistic", "regressor": "none"}[kind]
    if kind == "exclusive" and sizes[-1] == 1:
        proba = "binary_logistic"
    ends = (np.zeros(sizes[-1]), np.ones(sizes[-1])) if kind == "regressor" else ()
    learn = {"beta": 0.1, "nudging": "centered", "n_steps": 5, "tol": 1e-5, "step": 1.0, **plan}
    learn = LearnPlan(**learn, rates=(0.01,) * len(weights))
    classes = [] if kind == "regressor" else list(range(n_classes))
    model = NetModel(spec, weights, biases, 9, 1e-5, kind, classes, proba, *ends, learn=learn)
    if scaled:
        model.input_center, model.input_scale = (
            rng.normal(size=sizes[0]),
            rng.uniform(1, 3, sizes[0]),
        )
        model.source_limit = 2.0
    return model


def inputs(model, n=20, seed=1, low=0.0, high=1.0):
    x = np.random.default_rng(seed).uniform(low, high, (n, model.spec.sizes[0])).astype(np.float32)
    x[x < low + 0.2 * (high - low)] = 0
    return x


def compile_library(folder, models, flags=()):
    """{name: (model, options of c_texts)} as one shared library; {name: Device}."""
    sources, cdef = [], ""
    for name, (model, options) in models.items():
        header, source = c_texts(model, name=name, **options)
        (folder / f"{name}.h").write_text(header)
        (folder / f"{name}.c").write_text(source)
        sources.append(str(folder / f"{name}.c"))
        text = subprocess.run(
            [CC, "-E", "-P", folder / f"{name}.h"], capture_output=True, text=True, check=True
        )
        cdef += text.stdout[text.stdout.index("typedef enum") :]
    library = folder / f"{'_'.join(models)[:40]}.so"
    command = [CC, *CFLAGS, *flags, "-shared", "-fPIC", "-o", str(library), *sources]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ffi = cffi.FFI()
    ffi.cdef(re.sub(r"_Static_assert.*;", "", cdef))
    lib = ffi.dlopen(str(library))
    return {name: Device(ffi, lib, name, *models[name]) for name in models}


class Device:
    """One exported network in its arena; its functions by their names without prefix."""

    def __init__(self, ffi, lib, name, model, options):
        self.ffi, self.lib, self.name, self.model = ffi, lib, name, model
        self.learns = options.get("learn", False)
        self.value = np.float32 if options.get("dtype", "float32") == "float32" else np.int16
        self.c_value = "float" if self.value is np.float32 else "int16_t"
        self.arena = ffi.new(f"{name}_memory *")
        out = ffi.new(f"{name}_memory **")
        assert self.init(self.arena, ffi.sizeof(f"{name}_memory"), out) == 0
        self.net = out[0]

    def __getattr__(self, function):
        return getattr(self.lib, f"{self.name}_{function}")

    def status(self, word):
        return getattr(self.lib, f"{macro_prefix(self.name)}_{word}")

    def text(self, status):
        return self.ffi.string(getattr(self.lib, f"{self.name}_text")(status)).decode()

    def pointer(self, x, c_type=None):
        return self.ffi.from_buffer(f"{c_type or self.c_value}[]", x)

    def array(self, member, dtype):
        """A copy of an array of the arena."""
        return np.frombuffer(self.ffi.buffer(member), dtype).copy()

    def relax(self, x):
        """States of all layers, steps, residual."""
        result = self.ffi.new(f"{self.name}_result *")
        status = getattr(self.lib, f"{self.name}_relax")(self.net, self.pointer(x), result)
        return status, self.array(self.net.states, self.value), result.steps, result.residual

    def labels(self, x):
        out, found = self.ffi.new("int *"), []
        for row in x:
            assert self.predict(self.net, self.pointer(row), out) == 0
            found.append(out[0])
        return np.array(found)

    def probabilities(self, x):
        dtype, c_type = (
            (np.float32, "float") if self.value is np.float32 else (np.uint16, "uint16_t")
        )
        p = np.empty((len(x), max(len(self.model.classes), 1)), dtype)
        for row, out in zip(x, p):
            assert self.predict_proba(self.net, self.pointer(row), self.pointer(out, c_type)) == 0
        return p

    def parameters(self):
        """Learned weights (one array) and biases."""
        learned = self.net.learned
        dtype = np.float32 if self.value is np.float32 else np.int16
        wide = np.float32 if self.value is np.float32 else np.int32
        return self.array(learned.weights, dtype), self.array(learned.biases, wide)


def assert_same_states(device, simulation, x):
    """States, fields of the output, steps and residual of integers, bit for bit."""
    states, scores, steps, residual = simulation.relax(x)
    for i, row in enumerate(x):
        status, found, n, left = device.relax(row)
        assert status == 0
        np.testing.assert_array_equal(found, states[i])
        np.testing.assert_array_equal(device.array(device.net.score, np.int32), scores[i])
        assert (n, left) == (steps[i], residual[i])


def _inputs_of(model, x):
    """What the input units take of x."""
    if not model.is_scaled:
        return x
    x = scaled(x, model.input_center, model.input_scale, model.source_limit)
    return x.astype(np.float32)


def twin_relax(model, x):
    """The NumPy kernels' states of all layers in one array, steps, residual."""
    states = [np.zeros((len(x), n), np.float32) for n in model.spec.sizes[1:]]
    kernels = get_backend("numpy")
    steps, residual = (kernels.graph_relax if model.is_graph else kernels.layered_relax)(
        model.spec,
        model.weights,
        None,
        model.biases,
        _inputs_of(model, x),
        states,
        n_steps=model.n_free_steps,
        tol=model.tol_free,
    )
    return np.hstack(states), steps, residual


def twin_train(model, x, targets):
    """Weights (one array) and biases after the NumPy kernels have seen the rows one by one."""
    weights, biases = [w.copy() for w in model.weights], [b.copy() for b in model.biases]
    plan = TrainPlan(
        1,
        model.learn.beta,
        model.n_free_steps,
        model.learn.n_steps,
        model.learn.rates,
        model.learn.rates,
        tol_free=model.tol_free,
        tol_nudged=model.learn.tol,
        centered=model.learn.nudging == "centered",
    )
    x, targets = _inputs_of(model, x), targets.astype(np.float32)
    kernels = get_backend("numpy")
    (kernels.graph_train if model.is_graph else kernels.layered_train)(
        model.spec, weights, None, biases, x, targets, np.arange(len(x)), plan
    )
    return np.concatenate([w.ravel() for w in weights]), np.concatenate(biases)


def assert_same_answers(fitted, model, X):
    """`NetModel.predict` and `predict_proba` are the estimator's."""
    for backend in ("auto", "numpy"):
        expected, found = fitted.predict(X), model.predict(X, backend)
        if model.kind == "regressor":
            spread = float(np.max(model.scale))  # outputs are in units of it
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4 * spread)
            continue
        np.testing.assert_array_equal(found, expected)
        found = model.predict_proba(X, backend)
        np.testing.assert_allclose(found, fitted.predict_proba(X), atol=1e-4)


def check_learns_alike(device, simulation, x, y):
    """Sample after sample of classes y, bit for bit."""
    simulation.learn(x, y)
    for row, label in zip(x, y):
        assert device.learn(device.net, device.pointer(row), int(label)) == 0
    for found, expected in zip(device.parameters(), (simulation.weights, simulation.biases)):
        np.testing.assert_array_equal(found, expected)
