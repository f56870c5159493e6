"""Small calls of every kernel, and what can be done to their arguments: for tests and the fuzz
target.

``python -m tests.kernel_calls`` writes down which of them are not refused (tests/taken_calls.json):
read the difference before it is kept.
"""

import copy
import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from eqprop_fast.kernels import (
    Boltzmann,
    BoltzmannPlan,
    Conductances,
    Crossbar,
    CrossbarPlan,
    DivergenceError,
    LayeredSpec,
    OptimizerState,
    Sweeps,
    TrainPlan,
    get_backend,
)
from eqprop_fast.kernels.graph_spec import ConnectionSpec, GraphSpec, LayerSpec
from eqprop_fast.kernels.reference import nodal
from eqprop_fast.kernels.reference.crossbar import NudgeError
from eqprop_fast.kernels.reference.nodal_head import plan_head

SIZES = (5, 4, 3)
ROWS = 6
WRITTEN = {  # arguments that a kernel writes, or fields of them
    "layered_relax": {"states"},
    "layered_train": {"weights", "biases", "back", "particles", "optimizer_state"},
    "crossbar_relax": {"states"},
    "crossbar_train": {"network.weights", "network.biases", "states", "velocity"},
    "nodal_newton": {"x", "junction"},
    "nodal_head_factor": {"value", "pivot"},
    "nodal_head_forward": {"b"},
    "nodal_head_backward": {"b"},
    "nodal_update": {"conductances.velocity", "conductances.conductance", "gradient"},
    "graph_relax": {"states"},
    "graph_train": {"weights", "biases", "back", "particles", "optimizer_state"},
    "boltzmann_sweep": {"states", "means", "log_weight"},
    "boltzmann_train": {"machine.weights", "machine.biases", "particles", "offsets", "velocity"},
}


def _network(rng, rows=lambda k: SIZES[k]):
    weights = [rng.uniform(0.1, 0.6, (rows(k), SIZES[k + 1])) for k in range(2)]
    return weights, [rng.uniform(-0.1, 0.1, n) for n in SIZES[1:]]


def _data(rng, sparse):
    x, y = rng.random((ROWS, SIZES[0])), rng.random((ROWS, SIZES[-1]))
    if sparse:
        x = sp.csr_matrix(np.where(x < 0.6, x, 0))
    return x, y


def _states(rows):
    return [np.full((rows, n), 0.1) for n in SIZES[1:]]


def layered_relax(sparse):
    rng = np.random.default_rng(0)
    (weights, biases), (x, y) = _network(rng), _data(rng, sparse)
    return dict(
        spec=LayeredSpec(SIZES, gain=(1.0, 0.5) if sparse else ()),
        weights=weights,
        back=[w.T.copy() for w in weights],
        biases=biases,
        x=x,
        states=_states(ROWS),
        y=y,
        beta=0.2,
        n_steps=3,
        tol=-1.0,
        n_threads=1,
    )


def layered_train(sparse):
    rng = np.random.default_rng(1)
    (weights, biases), (x, y) = _network(rng), _data(rng, sparse)
    back = [w.T.copy() for w in weights]
    rule = (
        dict(rule="vector_field", optimizer="adam", sign=np.array([1, -1], np.int8))
        if sparse
        else {}
    )
    plan = TrainPlan(3, 0.2, 4, 2, (0.1, 0.05), (0.1, 0.05), **rule)
    memory = [[np.full_like(a, 0.01) for a in [*weights, *biases, *back]] for _ in range(2)]
    return dict(
        spec=LayeredSpec(SIZES),
        weights=weights,
        back=back,
        biases=biases,
        x=x,
        y=y,
        order=np.arange(6),
        plan=plan,
        row_weight=np.ones(ROWS),
        particles=_states(ROWS),
        optimizer_state=OptimizerState(*memory),
        n_threads=1,
    )


def crossbar_relax(sparse):
    rng = np.random.default_rng(2)
    (weights, biases), (x, y) = (
        _network(rng, lambda k: 2 * SIZES[0] if k == 0 else SIZES[k]),
        _data(rng, sparse),
    )
    bounds = [[np.full(n, v) for n in SIZES[1:]] for v in (-0.3, 0.5)]
    return dict(
        network=Crossbar(weights, biases, *bounds),
        x=x,
        states=_states(ROWS),
        y=y,
        beta=0.1,
        n_steps=3,
        tol=-1.0,
        n_threads=1,
    )


def crossbar_train(sparse):
    call = crossbar_relax(sparse)
    for name in ("beta", "n_steps", "tol"):
        del call[name]
    network = call["network"]
    plan = CrossbarPlan(
        [0.1, 0.1],
        [0.1, 0.1],
        batch_size=3,
        beta=0.1,
        n_free_steps=3,
        n_nudged_steps=2,
        g_max=2.0,
        optimizer="momentum",
        momentum=0.5,
    )
    return call | dict(
        plan=plan,
        states=_states(3),
        order=np.arange(ROWS),
        row_weight=np.ones(ROWS),
        velocity=[np.full_like(a, 0.01) for a in [*network.weights, *network.biases]],
    )


def nodal_newton(sparse):
    rng = np.random.default_rng(3)
    n, m = 5, 3
    g = rng.uniform(1e-4, 1e-2, (n, n))
    g = np.triu(g, 1) + np.triu(g, 1).T
    base = np.zeros((n + 1, n + 1))
    base[:n, :n] = np.diag(g.sum(axis=1) + 1e-3) - g
    anode, cathode = np.array([0, 1, 2], np.int32), np.array([-1, 2, 3], np.int32)
    branch = np.array([-1, -1, n], np.int32)  # the last diode is an ideal one
    base[2, n], base[3, n] = 1, -1
    parameters = np.array([[1e-14, 0.02585, 0, 0.73, 1e-12, np.inf, 0.02585]] * 2 + [[0.0] * 7])
    if sparse:
        full = np.abs(base) + np.eye(n + 1)
        full[n, [2, 3, n]] = 1
        pattern = sp.csr_matrix(full)
        place = np.repeat(np.arange(n + 1), np.diff(pattern.indptr)), pattern.indices
        stamp = nodal.stamps(n + 1, anode, cathode, branch, pattern.indptr, pattern.indices)
        system = nodal.NodalSystem(
            n + 1,
            base[place],
            pattern.indptr,
            pattern.indices,
            anode,
            cathode,
            branch,
            stamp,
            parameters,
            nodal.lu_pattern(pattern, [n]),
        )
    else:
        stamp = nodal.stamps(n + 1, anode, cathode, branch)
        system = nodal.NodalSystem(
            n + 1, base, None, None, anode, cathode, branch, stamp, parameters
        )
    rhs = np.zeros((m, n + 1))
    rhs[:, :n] = rng.normal(scale=5e-3, size=(m, n))
    return dict(
        system=system,
        rhs=rhs,
        offset=np.zeros((m, 3)),
        x=np.zeros((m, n + 1)),
        junction=nodal.start_junctions(system, m),
        max_iter=40,
        vtol=1e-10,
        rtol=1e-9,
        single_after=20,
        n_threads=1,
    )


@functools.cache
def _head():
    rng = np.random.default_rng(4)
    n = 12
    a, b = np.r_[np.arange(n - 1), [0, 3]], np.r_[np.arange(1, n), [5, 9]]
    g = rng.uniform(0.1, 1, a.size)
    matrix = sp.coo_matrix((np.r_[-g, -g], (np.r_[a, b], np.r_[b, a])), shape=(n, n)).toarray()
    matrix = sp.csr_matrix(np.diag(0.1 - matrix.sum(axis=1)) + matrix)
    plan = plan_head(matrix, 0.5)
    value = np.zeros(plan.ptr[-1] + plan.n_tail**2)
    value[plan.a_place] = matrix.data[plan.a_from]
    pivot = np.zeros(plan.n_head)
    pivot[plan.diagonal_at] = matrix.data[plan.diagonal_from]
    return plan, value, pivot


def nodal_head_factor(_):
    plan, value, pivot = copy.deepcopy(_head())
    return dict(plan=plan, value=value, pivot=pivot)


def nodal_head_forward(_):
    call = nodal_head_factor(_)
    return call | dict(b=np.ones((call["plan"].n, 2)))


nodal_head_backward = nodal_head_forward


def nodal_update(_):
    rng = np.random.default_rng(5)
    d, t, p = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)), 4
    return dict(
        conductances=Conductances(
            pairs=rng.integers(0, 6, (p, 2)).astype(np.int32),
            scale=np.ones(p),
            conductance=np.full(p, 0.5),
            velocity=np.full(p, 0.1),
            low=np.full(p, 0.1),
            high=np.full(p, 0.9),
        ),
        difference=d,
        total=t,
        gradient=np.zeros(p),
        learning_rate=0.1,
        momentum=0.5,
        n_threads=1,
    )


def _graph(sparse):
    """A convolution with its maxima, then dense ones, one of them past a layer; `sparse`: flat
    layers, sparse inputs, and weights of their own for the way back.
    """
    rng = np.random.default_rng(6)
    if sparse:
        layers = tuple(LayerSpec((n,), "hard_sigmoid") for n in SIZES)
        links = (ConnectionSpec(0, 1), ConnectionSpec(1, 2, own_back=True), ConnectionSpec(0, 2))
        x = _data(rng, True)[0]
    else:
        shapes = (1, 5, 5), (2, 2, 2), (3,)
        layers = tuple(LayerSpec(shape, "shifted_sigmoid") for shape in shapes)
        links = (
            ConnectionSpec(0, 1, kernel=2, pool="max", window=2),
            ConnectionSpec(1, 2),
            ConnectionSpec(0, 2),
        )
        x = rng.random((ROWS, 25))
    spec = GraphSpec(layers, links)
    arrays = [rng.uniform(0.05, 0.3, link.weight_shape(layers)) for link in links]
    back = [rng.uniform(0, 0.2, c.back_shape(layers)) if c.own_back else None for c in links]
    return dict(
        spec=spec,
        weights=arrays,
        back=back if sparse else None,
        biases=[rng.uniform(-0.1, 0.1, layer.n_biases) for layer in layers[1:]],
        x=x,
        y=rng.random((ROWS, SIZES[-1])),
    )


def _graph_states(spec, rows):
    return [np.full((rows, n), 0.1) for n in spec.sizes[1:]]


def graph_relax(sparse):
    call = _graph(sparse)
    if sparse:
        call["spec"] = call["spec"]._replace(gain=(1.0, 0.5))
    states = _graph_states(call["spec"], ROWS)
    return call | dict(states=states, beta=0.2, n_steps=3, tol=-1.0, n_threads=1)


def graph_train(sparse):
    call = _graph(sparse)
    rule = (
        dict(rule="vector_field", optimizer="adam", sign=np.array([1, -1], np.int8))
        if sparse
        else {}
    )
    n = len(call["weights"])
    plan = TrainPlan(3, 0.2, 4, 2, (0.1,) * n, (0.1,) * 2, **rule)
    learned = [*call["weights"], *call["biases"], *(call["back"] or [])]
    memory = [[a if a is None else np.full_like(a, 0.01) for a in learned] for _ in range(2)]
    return call | dict(
        order=np.arange(ROWS),
        plan=plan,
        row_weight=np.ones(ROWS),
        particles=_graph_states(call["spec"], ROWS),
        optimizer_state=OptimizerState(*memory),
        n_threads=1,
    )


def _machine(rng):
    weights = [rng.uniform(-0.5, 0.5, shape) for shape in zip(SIZES, SIZES[1:])]
    return Boltzmann(weights, [rng.uniform(-0.2, 0.2, n) for n in SIZES], True)


def _units(rng, rows):
    states = [(rng.random((rows, n)) < 0.5).astype(float) for n in SIZES[:-1]]
    return [*states, np.eye(SIZES[-1])[rng.integers(0, SIZES[-1], rows)]]


def boltzmann_sweep(sparse):
    """Mean field with a mask; `sparse`: annealing, whose states are drawn."""
    rng = np.random.default_rng(7)
    machine = _machine(rng)
    call = dict(
        machine=machine,
        states=_units(rng, ROWS),
        sweeps=Sweeps(3, draw=sparse, upward=not sparse, seed=1),
        clamped=[False, False, not sparse],
        mask=None,
        means=[np.zeros((ROWS, n)) for n in SIZES],
        base=None,
        betas=None,
        log_weight=None,
        n_threads=1,
    )
    if sparse:
        base = [np.zeros(n) for n in SIZES]
        return call | dict(base=base, betas=np.linspace(0, 1, 4), log_weight=np.zeros(ROWS))
    return call | dict(mask=(rng.random((ROWS, SIZES[0])) < 0.5).astype(np.int8))


def boltzmann_train(sparse):
    """With momentum, offsets and labels; `sparse`: with none of them."""
    rng = np.random.default_rng(8)
    machine = _machine(rng)
    learned = [*machine.weights, *machine.biases]
    return dict(
        machine=machine,
        x=rng.random((ROWS, SIZES[0])),
        y=None if sparse else _units(rng, ROWS)[-1],
        order=np.arange(ROWS),
        plan=BoltzmannPlan(3, 4, 2, 0.1, momentum=0.0 if sparse else 0.5, offset_rate=0.1, seed=1),
        particles=_units(rng, 4),
        offsets=None if sparse else [np.full(n, 0.5) for n in SIZES],
        velocity=None if sparse else [np.full_like(a, 0.01) for a in learned],
        n_threads=1,
    )


MAKERS = {
    f.__name__: f
    for f in (
        layered_relax,
        layered_train,
        graph_relax,
        graph_train,
        boltzmann_sweep,
        boltzmann_train,
        crossbar_relax,
        crossbar_train,
        nodal_newton,
        nodal_head_factor,
        nodal_head_forward,
        nodal_update,
    )
}
MAKERS["nodal_head_backward"] = nodal_head_backward
IGNORED = {
    ("plan", "order"),
    ("plan", "a_place"),
    ("plan", "a_from"),
    ("plan", "diagonal_from"),
    ("plan", "diagonal_at"),
    ("system", "cache"),
}


def make(name, sparse=False):
    """Arguments of a call that every backend takes; `sparse` is its other variant."""
    return MAKERS[name](sparse)


# --- arguments as a tree ---


def children(value):
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, dict):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return []


def paths(call):
    """(path, value) of every argument and of what is in it."""
    todo = [((name,), value) for name, value in call.items()]
    for path, value in todo:
        if path not in IGNORED:
            yield path, value
            todo += [((*path, key), part) for key, part in children(value)]


def put(value, path, new):
    """`value` with `new` at `path`; arrays are shared."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{key: put(getattr(value, key), rest, new)})
    if isinstance(value, dict):
        return {**value, key: put(value[key], rest, new)}
    if hasattr(value, "_fields"):  # a NamedTuple
        return value._replace(**{key: put(getattr(value, key), rest, new)})
    parts = [put(v, rest, new) if k == key else v for k, v in enumerate(value)]
    return type(value)(parts)


def arrays(call):
    """Every array of a call, parts of sparse matrices included."""
    found = []
    for _, value in paths(call):
        if isinstance(value, np.ndarray):
            found.append(value)
        elif sp.issparse(value):
            found += [part for part in vars(value).values() if isinstance(part, np.ndarray)]
    return found


# --- what is done to a value ---

PARTS = ("data", "indices", "indptr")


def _edited(a, change):
    b = a.copy()
    change(b)
    return b


def _first(a, value):
    def change(b):
        b.flat[0] = value

    return _edited(a, change)


def bad_arrays(a):
    yield "None", None
    yield "text", "text"
    yield "number", 3.5
    yield "list", a.tolist()
    yield "object", np.empty(a.shape, object)
    yield "complex", a.astype(complex)
    yield "text array", a.astype("U9")
    yield "other float", a.astype(np.float32 if a.dtype != np.float32 else np.float64)
    yield "half", a.astype(np.float16)
    yield "int64", a.astype(np.int64)
    yield "int32", a.astype(np.int32)
    yield "bool", a.astype(bool)
    yield "swapped", a.astype(a.dtype.newbyteorder())
    yield "Fortran", np.array(a, order="F")
    yield "short", a[:-1].copy() if a.ndim else a
    yield "long", np.concatenate([a, a[:1]])
    yield "empty", a[:0].copy()
    yield "wide", np.concatenate([a, a[..., :1]], axis=-1)
    yield "deep", a[None].copy()
    yield "flat", a.ravel()[:, None].copy() if a.ndim == 1 else a.ravel().copy()
    yield "scalar", np.array(a.flat[0])
    yield "transposed", a.T.copy() if a.ndim > 1 else a.copy()
    yield "reversed", a[::-1].copy()[::-1]
    yield "every other", np.repeat(a, 2, axis=-1)[..., ::2]
    yield (
        "unaligned",
        np.frombuffer(bytearray(b" " + a.tobytes()), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    )
    yield (
        "one place",
        np.lib.stride_tricks.as_strided(a.copy(), a.shape, (0,) * a.ndim, writeable=True),
    )
    if a.ndim == 2 and a.shape[1] > 1:
        row = (a.shape[1] - 1) * a.itemsize
        memory = np.resize(a, a.size)
        yield "rows that meet", np.lib.stride_tricks.as_strided(memory, a.shape, (row, a.itemsize))
    yield "masked", np.ma.masked_array(a, np.zeros(a.shape, bool))
    yield "memmap", a.copy().view(np.memmap)
    yield "read-only", _locked(a)
    if a.dtype.kind == "f":
        yield "NaN", _first(a, np.nan)
        yield "inf", _first(a, np.inf)
        yield "huge", _first(a, 1e308)
        yield "negative", _first(a, -0.01)
    else:
        for value in (-1, -2, -(2**31), 2**31 - 1, a.size, int(a.max()) + 1, 0):
            yield f"holds {value}", _first(a, value if a.dtype.itemsize > 1 else value % 128)
        yield "falling", a.ravel()[::-1].reshape(a.shape).copy()
        yield (
            "last too large",
            _edited(a, lambda b: b.reshape(-1).__setitem__(-1, min(1000, np.iinfo(a.dtype).max))),
        )


def _locked(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _csr(x, **parts):
    parts = {part: parts[part] if part in parts else getattr(x, part).copy() for part in PARTS}
    new = sp.csr_matrix(x.shape)
    for part, value in parts.items():  # past SciPy's own checks
        setattr(new, part, value)
    return new


def bad_sparse(x):
    for part in ("data", "indices", "indptr"):
        for label, value in bad_arrays(getattr(x, part)):
            yield f"{part}: {label}", _csr(x, **{part: value})
    for form in ("csc", "coo", "lil", "dok", "bsr", "dia"):
        yield form, x.asformat(form)
    yield "array", sp.csr_array(x)
    yield "csc's arrays", _csr(x.tocsc())
    doubled = _csr(
        x, data=np.repeat(x.data, 2) / 2, indices=np.repeat(x.indices, 2), indptr=x.indptr * 2
    )
    yield "duplicates", doubled
    lie = doubled.copy()
    lie.has_canonical_format = True
    yield "duplicates, said to be none", lie
    unsorted = x.copy()
    for row in range(x.shape[0]):
        span = slice(x.indptr[row], x.indptr[row + 1])
        unsorted.indices[span], unsorted.data[span] = x.indices[span][::-1], x.data[span][::-1]
    yield "unsorted", _csr(unsorted)
    yield "fewer columns", x[:, :-1]
    yield "fewer rows", x[:-1]
    wide = x.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    yield "int64 indices", wide
    yield "None", None
    yield "NaN", _csr(x, data=_first(x.data, np.nan))


INTEGERS = (None, "1", 1.0, True, -1, 0, 2**31, 2**63, -(2**63), 10**30, 1j, np.float64(2), [1])
REALS = (
    None,
    "1",
    True,
    np.nan,
    np.inf,
    -np.inf,
    1e308,
    -1e308,
    0,
    -0.5,
    10**400,
    1j,
    [0.1],
    np.True_,
)
WORDS = (None, "", "nonsense", 0, b"ep", ["sgd"])
FLAGS = (None, 1, 0, "yes", np.True_, [])


def bad_values(value):
    """(label, value) pairs to put in the place of `value`."""
    if isinstance(value, np.ndarray):
        yield from bad_arrays(value)
    elif sp.issparse(value):
        yield from bad_sparse(value)
    elif isinstance(value, (bool, int, float, str)):
        for new in {bool: FLAGS, int: INTEGERS, float: REALS, str: WORDS}[type(value)]:
            yield f"NumPy's {new}" if isinstance(new, np.generic) else f"{new!r:.30}", new
        if type(value) in (int, float):
            yield "NumPy's", {int: np.int64, float: np.float32}[type(value)](value)
    elif children(value):
        yield "None", None
        yield "text", "text"
        yield "number", 1
        if isinstance(value, (list, tuple)):
            yield "empty", value[:0]
            yield "short", value[:-1]
            yield "long", [*value, value[-1]]
            yield "reversed", value[::-1]
            yield "dict", dict(enumerate(value))
            if isinstance(value[0], np.ndarray):
                yield "object array", np.array([None, *value], object)[1:]


def abuses(name, sparse=False):
    """(path, label, call) for each thing that can be done to the arguments of a kernel, one at a
    time.
    """
    base = make(name, sparse)
    for path, value in list(paths(base)):
        for label, new in bad_values(value):
            yield path, label, put(copy.deepcopy(base), path, new)
    known = [(path, a) for path, a in paths(base) if isinstance(a, np.ndarray) and a.size]
    for path, a in known:
        if not WRITTEN[name] & {path[0], ".".join(map(str, path[:2]))}:
            continue
        for other, b in known:
            if other != path:
                size = max(a.nbytes, b.nbytes)
                memory = np.zeros(size, np.uint8)
                memory[: b.nbytes] = b.view(np.uint8).reshape(-1)
                memory[: a.nbytes] = a.view(np.uint8).reshape(-1)
                call = put(
                    copy.deepcopy(base), path, memory[: a.nbytes].view(a.dtype).reshape(a.shape)
                )
                yield (
                    path,
                    f"lies over {'.'.join(map(str, other))}",
                    put(call, other, memory[: b.nbytes].view(b.dtype).reshape(b.shape)),
                )


NAMED = (DivergenceError, NudgeError, np.linalg.LinAlgError)


def verdict(name, backend, call):
    """("refused", message), ("failed", kind) for an error with a name, or ("taken", what came
    back).

    Any other exception passes. `call` is changed as the kernel changes it, and not when it is
    refused.
    """
    watched = [(a, a.copy()) for a in arrays(call)]
    kernel = getattr(get_backend(backend), name)
    try:
        with np.errstate(all="ignore"):
            result = kernel(**call)
    except np.linalg.LinAlgError:  # a ValueError, but not for what was asked
        return "failed", "LinAlgError"
    except NAMED as error:
        return "failed", type(error).__name__
    except ValueError as error:
        for a, before in watched:
            assert a.tobytes() == before.tobytes(), (
                f"{name} on {backend} refused a call and changed an array"
            )
        return "refused", str(error)
    return "taken", result


# --- which are not refused: {variant of a kernel: {argument: labels}}

TAKEN = Path(__file__).with_name("taken_calls.json")


def variant(name, sparse):
    return f"{name}, sparse" if sparse else name


def taken():
    """What is written down: arguments that may be the same stand in one entry."""
    parts = json.loads(TAKEN.read_text())
    return {
        (kind, path, label)
        for kind, entries in parts.items()
        for paths, labels in entries
        for path in paths
        for label in labels
    }


def write_taken():
    parts = {}
    for name, sparse in [(name, sparse) for name in MAKERS for sparse in (False, True)]:
        of_path = {}
        for path, label, call in abuses(name, sparse):
            if verdict(name, "numpy", call)[0] != "refused":
                of_path.setdefault(".".join(map(str, path)), []).append(label)
        paths = {}
        for path, labels in of_path.items():
            paths.setdefault(tuple(labels), []).append(path)
        parts[variant(name, sparse)] = [[p, list(labels)] for labels, p in paths.items()]
    rows = [
        f" {json.dumps(kind)}: [\n"
        + ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
        + "\n ]"
        for kind, entries in parts.items()
    ]
    TAKEN.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write_taken()
