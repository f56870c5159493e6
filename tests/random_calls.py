"""Kernel calls with every option drawn at random, and their outcomes beside the NumPy twin's.

A draw is made by (seed, number) alone, so that a failing one can be repeated: ``repeat(seed,
number, backend)``. The tables below have one entry for every option there is;
tests/test_random_options.py holds them against the signatures and dataclasses, so that a new
option cannot be forgotten.

Some nets amplify rounding: a unit on the edge where rho' jumps, a sample that stops a step earlier.
Where a backend differs by more than its tolerance, the twin is asked how far it moves itself when
weights and inputs change by a few units in the last place; a backend may differ by as much, and
the draw counts as sensitive.
"""

import dataclasses
import functools
import os

import numpy as np
import scipy.sparse as sp
from eqprop_fast.kernels import (
    Boltzmann,
    Conductances,
    Crossbar,
    CrossbarPlan,
    DivergenceError,
    LayeredSpec,
    OptimizerState,
    TrainPlan,
    get_backend,
)
from eqprop_fast.kernels.graph_spec import GraphSpec, flat_size
from eqprop_fast.kernels.reference.crossbar import NUDGINGS, NudgeError
from eqprop_fast.kernels.reference.crossbar import OPTIMIZERS as CROSSBAR_OPTIMIZERS
from eqprop_fast.kernels.reference.crossbar import SCHEDULES as CROSSBAR_SCHEDULES
from eqprop_fast.kernels.reference.nodal import NodalSystem, start_junctions
from eqprop_fast.kernels.reference.nodal_head import HeadPlan, head_factor, plan_head
from eqprop_fast.kernels.spec import (
    ACTIVATIONS,
    COSTS,
    DYNAMICS,
    MAX_WEIGHTS,
    OPTIMIZERS,
    RULES,
    SCHEDULES,
    VECTOR_FIELD_RULES,
    check_plan,
)
from eqprop_fast.kernels.tolerances import tolerance

from .nodal_systems import make_system, random_network

WIDTHS = (1, 2, 3, 7, 8, 9, 10, 11, 15, 16, 17, 31, 33)
DTYPES = ("float32", "float64")
BOOL = (False, True)
NUDGES = 8  # changed repetitions of a sensitive draw

# --- drawing: one entry per option, a function of the generator and of what has been drawn before


def one_of(values):
    values = list(values)
    return lambda rng, seen: values[rng.integers(len(values))]


def rarely(special, p, common):
    """`special` with probability p, else `common`; both are draws."""
    return lambda rng, seen: (special if rng.random() < p else common)(rng, seen)


def between(low, high):
    return lambda rng, seen: float(rng.uniform(low, high))


def integer(low, high):
    return lambda rng, seen: int(rng.integers(low, high + 1))


def constant(value):
    return lambda rng, seen: value


def _sizes(rng, seen):
    u = rng.random()
    if u < 0.03:  # as many weight matrices as there may be
        depth, widths = int(rng.integers(MAX_WEIGHTS - 1, MAX_WEIGHTS + 1)), (1, 2, 3, 7, 8, 9)
    elif u < 0.05:  # inner weights that threads share by columns
        return (int(rng.choice(WIDTHS)), 230, 230, int(rng.choice(WIDTHS)))
    else:
        depth, widths = int(rng.choice([1, 2, 2, 2, 3, 3, 4])), WIDTHS
    return tuple(int(n) for n in rng.choice(widths, depth + 1))


def _signed(low, high):
    return lambda rng, seen: float(rng.uniform(low, high) * rng.choice([-1, 1]))


def _rates(rng, seen):
    rates = rng.uniform(0.01, 0.2, len(seen["sizes"]) - 1) / seen["scale"] ** 2
    return tuple(float(r) for r in rates * (rng.random(rates.size) < 0.9))


def _sign(rng, seen):
    n = -(-max(1, len(seen["order"])) // seen["batch_size"])
    return rng.choice(np.array([-1, 1], np.int8), n) if rng.random() < 0.4 else None


def _gain(rng, seen):
    """For relaxing only, where it is drawn often enough."""
    gains = tuple(float(g) for g in rng.uniform(-0.5, 2, len(seen["sizes"]) - 1))
    return gains if seen.get("relaxes") and rng.random() < 0.3 else ()


STEPS = {"continuous": [0.2, 0.5, 1.0], "discrete": [1.0, 1.0, 0.7]}
_TOL = rarely(one_of([1e-3, 0.03]), 0.3, one_of([-1.0, -1.0, -1.0, 0.0]))
SPEC = {
    "sizes": _sizes,
    "dynamics": one_of(DYNAMICS),
    "schedule": one_of(SCHEDULES),
    "activation": one_of(ACTIVATIONS),
    "out_activation": one_of(ACTIVATIONS),
    "input_activation": rarely(one_of(ACTIVATIONS), 0.6, constant("identity")),
    "prime_hidden": one_of(BOOL),
    "prime_output": one_of(BOOL),
    "linear_output": one_of(BOOL),
    "clamp": one_of(BOOL),
    "nudge_inside": one_of(BOOL),
    "cost": one_of(COSTS),
    "cost_factor": rarely(between(0.3, 2), 0.3, one_of([1.0, 2.0])),
    "dt": lambda rng, seen: float(rng.choice(STEPS[seen["dynamics"]])),
    "gain": _gain,
}
OF_LAYERED = {name: draw for name, draw in SPEC.items() if name != "sizes"}  # which come first
PLAN = {
    "batch_size": integer(1, 17),
    "beta": _signed(0.1, 1),
    "n_free_steps": rarely(one_of([0, 17, 25]), 0.3, integer(1, 12)),
    "n_nudged_steps": rarely(one_of([0, 18]), 0.2, integer(1, 6)),
    "rate": _rates,
    "bias_rate": _rates,
    "rule": one_of(RULES),
    "tol_free": _TOL,
    "over_relaxation": rarely(between(0.8, 1.4), 0.3, constant(1.0)),
    "tol_nudged": _TOL,
    "centered": one_of(BOOL),
    "sign": _sign,
    "optimizer": one_of(OPTIMIZERS),
    "momentum": rarely(constant(0.0), 0.2, between(0, 0.95)),
    "weight_decay": rarely(between(0.001, 0.1), 0.4, constant(0.0)),
    "beta1": between(0.5, 0.95),
    "beta2": between(0.9, 0.999),
    "epsilon": one_of([1e-8, 1e-3]),
    "adam_step": one_of([0, 0, 1, 1000]),
    "loss_so_far": rarely(between(0, 100), 0.3, constant(0.0)),
}
# the values of every option that has a fixed set of them
CHOICES = {
    "dynamics": DYNAMICS,
    "schedule": SCHEDULES,
    "activation": ACTIVATIONS,
    "out_activation": ACTIVATIONS,
    "input_activation": ACTIVATIONS,
    "cost": COSTS,
    "rule": RULES,
    "optimizer": OPTIMIZERS,
}
# what else a layered call is given, as the parameters of layered_relax and layered_train are called
GIVEN = (
    "x",
    "y",
    "weights",
    "back",
    "biases",
    "states",
    "order",
    "row_weight",
    "particles",
    "optimizer_state",
    "n_threads",
)


@dataclasses.dataclass
class Call:
    """One call: `kernel` of a KernelSet, its arguments, and which of them it changes."""

    kernel: str
    dtype: str
    arguments: dict
    changes: tuple
    tags: set
    refused: tuple = ()


def _inputs(rng, rows, width, scale, dtype, tags):
    """Dense or CSR, sparse or not, of either sign; CSR also unsorted and with duplicates."""
    shape, density = (rows, width), rng.choice([0.1, 0.3, 0.6, 1])
    x = rng.uniform(rng.choice([0, -1]), 1, shape) * (rng.random(shape) < density)
    x = (scale * x).astype(dtype)
    kind = rng.choice(["dense", "dense", "csr", "odd csr"])
    tags.add(f"x {kind}")
    if kind == "dense":
        return x
    if kind == "csr":
        return sp.csr_matrix(x)
    coo = sp.coo_matrix(x)
    again = rng.permutation(np.concatenate([np.arange(coo.nnz)] * 2))
    data = (coo.data[again] / 2).astype(dtype)
    order = np.argsort(coo.row[again], kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(coo.row[again], minlength=rows))])
    return sp.csr_matrix((data[order], coo.col[again][order], indptr), shape=x.shape)


def _order(rng, rows, tags):
    kind = rng.choice(["shuffled", "repeated", "short", "empty"], p=[0.4, 0.35, 0.23, 0.02])
    tags.add(f"order {kind}")
    if kind == "repeated":
        return rng.integers(0, rows, rng.integers(1, 2 * rows + 1))
    return rng.permutation(rows)[: {"shuffled": rows, "short": max(1, rows // 3), "empty": 0}[kind]]


def _row_weight(rng, rows, order, batch_size, dtype, tags):
    kind = rng.choice(["none", "weights", "zero rows", "zero batch"], p=[0.4, 0.2, 0.2, 0.2])
    tags.add(f"row_weight {kind}")
    if kind == "none":
        return None
    weight = rng.uniform(0.1, 2, rows)
    if kind == "zero rows":
        weight *= rng.random(rows) < 0.5
    if kind == "zero batch":
        first = batch_size * int(rng.integers(0, -(-max(1, len(order)) // batch_size)))
        weight[order[first : first + batch_size]] = 0
    return weight.astype(dtype)


def _targets(rng, rows, width, cost):
    if cost == "cross_entropy" or rng.random() < 0.5:
        y = np.eye(width)[rng.integers(0, width, rows)]
        return y if rng.random() < 0.7 else 0.9 * y + 0.1 / width
    return rng.uniform(-1, 1, (rows, width))


def _arrays(rng, shapes, dtype, low=-1.0, high=1.0):
    return [rng.uniform(low, high, s).astype(dtype) for s in shapes]


def _options(table, rng, seen):
    for name, draw in table.items():
        seen[name] = draw(rng, seen)
    return {name: seen[name] for name in table}


def layered_call(rng):
    """A call of layered_relax or layered_train."""
    dtype, tags, seen = str(rng.choice(DTYPES)), set(), {}
    seen["scale"] = scale = float(rng.choice([1, 1, 1, 1, 100]))
    seen["relaxes"] = relaxes = rng.random() < 0.3
    sizes = seen["sizes"] = SPEC["sizes"](rng, seen)
    n, rows = len(sizes) - 1, int(rng.integers(1, 41))
    shapes, tops = list(zip(sizes, sizes[1:])), [(m,) for m in sizes[1:]]
    order = _order(rng, rows, tags)
    rule, back, particles, refused = PLAN["rule"](rng, seen), False, False, ()
    while True:  # the rule stays, so that all are drawn as often; the rest must suit it
        seen |= {"order": order}
        spec = LayeredSpec(**_options(OF_LAYERED, rng, seen), sizes=sizes)
        plan = TrainPlan(**_options(PLAN, rng, seen) | {"rule": rule})
        back, particles = rng.random() < 0.4 or rule in VECTOR_FIELD_RULES, rng.random() < 0.3
        if relaxes:
            break
        try:
            check_plan(spec, plan, back, particles)
            break
        except ValueError:
            refused = (spec, plan, back, particles)
    wild = rng.random() < 0.05
    gain = 30.0 if wild else float(rng.choice([0.5, 1.0]))
    weights = _arrays(rng, shapes, dtype)
    weights = [(gain * w / np.sqrt(sum(w.shape))).astype(dtype) for w in weights]
    backs = None
    if back:
        drawn = [w.T * rng.uniform(0.5, 1.5, w.T.shape) for w in weights[1:]]
        backs = [None] + [np.ascontiguousarray(b, dtype) for b in drawn]
    arguments = dict(
        spec=spec,
        weights=weights,
        back=backs,
        biases=_arrays(rng, tops, dtype, -0.3, 0.3),
        x=_inputs(rng, rows, sizes[0], scale, dtype, tags),
        y=_targets(rng, rows, sizes[-1], spec.cost).astype(dtype),
        n_threads=int(rng.integers(1, 4)),
    )
    states = _arrays(rng, [(rows, m) for m in sizes[1:]], dtype, -0.5, 1.2)
    tags |= {"wild"} if wild else set()
    tags |= {"large"} if scale > 1 else set()
    tags |= {"deep"} if n >= MAX_WEIGHTS - 1 else {"wide"} if 230 in sizes else set()
    if relaxes:
        beta = plan.beta if rng.random() < 0.5 else 0.0
        arguments |= dict(states=states, beta=beta, n_steps=plan.n_free_steps, tol=plan.tol_free)
        if beta == 0 and rng.random() < 0.5:
            arguments["y"] = None
        return Call("layered_relax", dtype, arguments, ("states",), tags)
    memory = None
    if plan.optimizer != "sgd":
        all_shapes = shapes + tops + ([(m, k) for k, m in shapes] if back else [])
        second = _arrays(rng, all_shapes, dtype, 0.01, 1) if plan.optimizer == "adam" else []
        memory = OptimizerState(_arrays(rng, all_shapes, dtype, -0.1, 0.1), second)
    arguments |= dict(
        plan=plan,
        order=order,
        particles=states if particles else None,
        optimizer_state=memory,
        row_weight=_row_weight(rng, rows, order, plan.batch_size, dtype, tags),
    )
    changes = ("weights", "back", "biases", "particles", "optimizer_state")
    return Call("layered_train", dtype, arguments, changes, tags, refused)


# --- the resistive crossbar: one entry per field of its records that is no array, and per parameter

CROSSBAR = {
    "input_gain": one_of([1.0, 3.0]),
    "schedule": one_of(CROSSBAR_SCHEDULES),
    "pairs": one_of(BOOL),
}
CROSSBAR_RELAX = {
    "input_gain": CROSSBAR["input_gain"],
    "schedule": CROSSBAR["schedule"],
    "n_steps": integer(0, 12),
    "tol": _TOL,
    "beta": rarely(constant(0.0), 0.3, _signed(0.01, 0.5)),
    "pairs": CROSSBAR["pairs"],
    "n_threads": integer(1, 3),
}
CROSSBAR_TRAIN = {
    "batch_size": integer(1, 17),
    "input_gain": CROSSBAR["input_gain"],
    "schedule": CROSSBAR["schedule"],
    "n_free_steps": integer(0, 12),
    "n_nudged_steps": integer(0, 6),
    "tol_free": _TOL,
    "tol_nudged": _TOL,
    "beta": between(0.05, 1),
    "nudging": one_of(NUDGINGS),
    "rate": lambda rng, seen: tuple(rng.uniform(0, 0.05, seen["n"])),
    "bias_rate": lambda rng, seen: tuple(rng.uniform(0, 0.05, seen["n"])),
    "g_min": one_of([0.0, 0.01]),
    "g_max": one_of([np.inf, 0.4]),
    "pairs": CROSSBAR["pairs"],
    "carry": one_of(BOOL),
    "optimizer": one_of(CROSSBAR_OPTIMIZERS),
    "momentum": rarely(constant(0.0), 0.2, between(0, 0.95)),
    "loss_so_far": rarely(between(0, 100), 0.3, constant(0.0)),
    "n_threads": integer(1, 3),
}
CROSSBAR_CHOICES = {
    "network.schedule": CROSSBAR_SCHEDULES,
    "plan.nudging": NUDGINGS,
    "plan.optimizer": CROSSBAR_OPTIMIZERS,
    "network.pairs": BOOL,
    "plan.carry": BOOL,
}
CROSSBAR_ARRAYS = ("weights", "biases", "lower", "upper")
CROSSBAR_GIVEN = ("network", "x", "y", "states", "order", "row_weight", "velocity")


def crossbar_call(rng):
    dtype, tags, seen = str(rng.choice(DTYPES)), set(), {}
    relaxes = rng.random() < 0.3
    depth, rows = int(rng.choice([1, 2, 2, 3, 4])), int(rng.integers(1, 31))
    sizes = [int(n) for n in rng.choice(WIDTHS, depth + 1)]
    if rng.random() < 0.03:
        sizes, tags = [4, 500, 480, 4], {"wide"}
    seen["n"] = len(sizes) - 1
    options = _options(CROSSBAR_RELAX if relaxes else CROSSBAR_TRAIN, rng, seen)
    if options["pairs"]:
        sizes[-1] += sizes[-1] % 2
    fan_in = [2 * sizes[0], *sizes[1:-1]]
    weights = [np.maximum(rng.uniform(-1, 1, s), 0) / np.sqrt(s[0]) for s in zip(fan_in, sizes[1:])]
    bounds = options.get("g_min", 0), options.get("g_max", np.inf)
    weights = [np.clip(w, *bounds).astype(dtype) for w in weights]
    lower, upper = [np.full(m, -np.inf) for m in sizes[1:]], [np.full(m, np.inf) for m in sizes[1:]]
    for lo, hi in zip(lower, upper):
        lo[rng.random(lo.size) < 0.4], hi[rng.random(hi.size) < 0.3] = 0, 0.5
    tops = [(m,) for m in sizes[1:]]
    x = _inputs(rng, rows, sizes[0], 1.0, dtype, tags)
    y = rng.normal(size=(rows, sizes[-1] // 2 if options["pairs"] else sizes[-1])).astype(dtype)
    held = rows if relaxes else options["batch_size"]
    states = [
        np.clip(rng.normal(size=(held, m)), lo, hi).astype(dtype)
        for m, lo, hi in zip(sizes[1:], lower, upper)
    ]
    network = Crossbar(
        weights,
        _arrays(rng, tops, dtype, -0.1, 0.1),
        [a.astype(dtype) for a in lower],
        [a.astype(dtype) for a in upper],
        **{name: options.pop(name) for name in CROSSBAR},
    )
    n_threads = options.pop("n_threads")
    arguments = dict(network=network, x=x, y=y, states=states, n_threads=n_threads)
    if relaxes:
        arguments |= options
        if rng.random() < 0.2:
            arguments["y"] = None
        return Call("crossbar_relax", dtype, arguments, ("states",), tags)
    order = _order(rng, rows, tags)
    arguments |= dict(
        plan=CrossbarPlan(**options),
        order=None if rng.random() < 0.1 else order,
        velocity=None,
        row_weight=_row_weight(rng, rows, order, options["batch_size"], dtype, tags),
    )
    if options["optimizer"] != "sgd":
        arguments["velocity"] = _arrays(rng, [w.shape for w in weights] + tops, dtype, -0.05, 0.05)
    changes = ("network.weights", "network.biases", "states", "velocity")
    return Call("crossbar_train", dtype, arguments, changes, tags)


# --- the step of a circuit's conductances

NODAL_UPDATE = {
    "learning_rate": between(0.1, 20),
    "momentum": rarely(constant(0.0), 0.3, between(0, 0.95)),
    "n_threads": integer(1, 3),
}
NODAL_UPDATE_ARRAYS = ("pairs", "scale", "conductance", "velocity", "low", "high")
NODAL_UPDATE_GIVEN = ("conductances", "difference", "total", "gradient")


def nodal_update_call(rng):
    dtype = str(rng.choice(DTYPES))
    n, m = int(rng.choice([0, *WIDTHS, 200])), int(rng.choice([0, *WIDTHS]))
    first = rng.normal(size=(20, m))
    second = first + 1e-2 * rng.normal(size=(20, m))
    low, high = rng.uniform(0.0, 0.4, n), rng.uniform(0.6, 1.0, n)
    arrays = dict(
        difference=first - second,
        total=first + second,
        scale=rng.uniform(1, 2, n),
        low=low,
        high=high,
        velocity=0.1 * rng.normal(size=n),
        conductance=rng.uniform(low, high),
    )
    arrays = {k: a.astype(dtype) for k, a in arrays.items()}
    arguments = {k: arrays.pop(k) for k in ("difference", "total")}
    arguments |= _options(NODAL_UPDATE, rng, {}) | dict(gradient=np.zeros(n, dtype))
    pairs = rng.integers(0, 20, (n, 2)).astype(np.int32)
    arguments["conductances"] = Conductances(pairs=pairs, **arrays)
    changes = ("conductances.velocity", "conductances.conductance", "gradient")
    return Call("nodal_update", dtype, arguments, changes, set())


# --- the voltages of a circuit, and the elimination of one without diodes

NODAL_NEWTON = {
    "max_iter": rarely(one_of([0, 1, 3]), 0.2, one_of([60, 100])),
    "vtol": one_of([1e-10, 1e-6]),
    "rtol": one_of([1e-9, 1e-5]),
    "single_after": one_of([1, 3, 40]),
    "n_threads": integer(1, 3),
}
NODAL_NEWTON_GIVEN = ("system", "rhs", "offset", "x", "junction")


def nodal_newton_call(rng):
    """In float64: in float32 only C computes in it."""
    n, m = int(rng.choice([1, 2, 3, 5, 8, 9, 17, 33])), int(rng.choice([0, *WIDTHS]))
    kinds = {"dense": bool(rng.random() < 0.5), "ideal": bool(rng.random() < 0.4)}
    system = make_system(n, int(rng.integers(1 << 30)), **kinds)
    tags = {"dense" if kinds["dense"] else "sparse"} | ({"ideal"} if kinds["ideal"] else set())
    rhs, offset = np.zeros((m, system.n)), rng.normal(scale=0.5, size=(m, n))
    rhs[:, :n] = rng.choice([1, 100]) * rng.normal(scale=5e-3, size=(m, n))
    offset[:, system.cathode >= 0] = 0
    x = rng.choice([0, 1]) * rng.normal(size=rhs.shape)
    junction = start_junctions(system, m)
    closed = (system.branch >= 0) & (rng.random(junction.shape) < 0.3)
    junction[closed] = 1
    arguments = dict(system=system, rhs=rhs, offset=offset, x=x, junction=junction)
    arguments |= _options(NODAL_NEWTON, rng, {})
    return Call("nodal_newton", "float64", arguments, ("x", "junction"), tags)


def nodal_head_call(rng):
    """A factorisation, of an indefinite matrix too, or a substitution with what it left."""
    matrix = random_network(int(rng.choice([1, 2, 3, 9, 20, 60])), int(rng.integers(1 << 30)))
    plan = plan_head(matrix, float(rng.choice([0.1, 0.3, 0.5, 1.0])))
    tags = {"all head"} if plan.n_tail == 0 else {"no head"} if plan.n_head == 0 else set()
    value, pivot = np.zeros(plan.ptr[-1] + plan.n_tail**2), np.zeros(plan.n_head)
    value[plan.a_place] = matrix.data[plan.a_from]
    pivot[plan.diagonal_at] = matrix.data[plan.diagonal_from]
    if (name := str(rng.choice(["factor", "forward", "backward"]))) == "factor":
        if plan.n_head and rng.random() < 0.3:
            tags.add("indefinite")
            pivot[rng.integers(plan.n_head)] *= rng.choice([-1, 0, 1e-3])
        arguments, changes = dict(plan=plan, value=value, pivot=pivot), ("value", "pivot")
    else:
        head_factor(plan, value, pivot)
        b = rng.normal(size=(plan.n, int(rng.choice(WIDTHS))))
        arguments, changes = dict(plan=plan, value=value, pivot=pivot, b=b), ("b",)
    return Call(f"nodal_head_{name}", "float64", arguments, changes, tags)


def graph_call(rng):
    from .random_graphs import graph_call

    return graph_call(rng)


def machine_call(rng):
    from .random_machines import machine_call

    return machine_call(rng)


FAMILIES = {
    "layered": layered_call,
    "graph": graph_call,
    "boltzmann": machine_call,
    "crossbar": crossbar_call,
    "nodal_update": nodal_update_call,
    "nodal_newton": nodal_newton_call,
    "nodal_head": nodal_head_call,
}
SHARES = {
    "layered": 0.69,
    "crossbar": 0.18,
    "nodal_update": 0.03,
    "nodal_newton": 0.07,
    "nodal_head": 0.03,
}
ALONE = {"graph": 1.0, "boltzmann": 1.0}  # drawn where the others of their family are tested


def draw(seed, number, family=""):
    """The call of that seed and number; of the families whose names begin so."""
    rng = np.random.default_rng([seed, number])
    of_family = SHARES | ALONE if family else SHARES
    names = [name for name in of_family if name.startswith(family)]
    shares = np.array([of_family[name] for name in names])
    return FAMILIES[str(rng.choice(names, p=shares / shares.sum()))](rng)


def _multiplications(spec, weights):
    """Of one sample in one step."""
    if not isinstance(spec, GraphSpec):
        return sum(w.size for w in weights)
    pixels = [c.window**2 * flat_size(spec.layers[c.above].sides[1:]) for c in spec.connections]
    return sum(w.size * n for w, n in zip(weights, pixels))


STEPS_OF = {"n_steps": 1, "n_free_steps": 1, "n_nudged_steps": 2}  # phases
STEPS_OF |= {"n": 1, "n_mean_field": 1, "n_sweeps": 1}  # of machines


def work(call):
    """About how many multiplications it takes."""
    a = call.arguments
    if "system" in a:
        return len(a["x"]) * a["system"].n ** 2 * min(a["max_iter"], 20)
    network = a.get("network") or a.get("machine")
    weights = network.weights if network else a.get("weights")
    if not weights:
        return 0
    told = a.get("plan") or a.get("sweeps")
    options = vars(told) if told else a
    steps = sum(phases * options.get(name, 0) for name, phases in STEPS_OF.items())
    rows = a["x"].shape[0] if "x" in a else len(a["states"][0])
    return rows * steps * _multiplications(a.get("spec"), weights)


# --- outcomes


@dataclasses.dataclass
class Outcome:
    error: tuple | None
    numbers: dict  # name -> array: within a tolerance of the twin's
    counts: dict  # name -> array: equal to the twin's


def argument(arguments, name):
    """An argument of a call, or ("network.weights") a field of one."""
    name, *fields = name.split(".")
    return functools.reduce(getattr, fields, arguments[name])


def _flat(value):
    """All arrays in an argument, in order."""
    if value is None:
        return []
    if isinstance(value, OptimizerState):
        return [*_flat(value.velocity), *_flat(value.second)]
    if isinstance(value, list):
        return [a for part in value for a in _flat(part)]
    return [np.asarray(value)]


def _copy(value):
    if isinstance(value, OptimizerState):
        return OptimizerState(_copy(value.velocity), _copy(value.second))
    for record, names in (
        (Crossbar, CROSSBAR_ARRAYS),
        (Conductances, NODAL_UPDATE_ARRAYS),
        (Boltzmann, ("weights", "biases")),
    ):
        if isinstance(value, record):
            copies = {name: _copy(getattr(value, name)) for name in names}
            return dataclasses.replace(value, **copies)
    if isinstance(value, list):
        return [_copy(a) for a in value]
    return value.copy() if isinstance(value, np.ndarray) or sp.issparse(value) else value


SHAKEN = (
    "weights",
    "back",
    "biases",
    "difference",
    "total",
    "rhs",
    "offset",
    "value",
    "pivot",
    "b",
)


def _shake(arguments, noise):
    """Multiply weights and inputs by 1 + a few units in the last place, in place."""
    rng = np.random.default_rng(noise)
    moved = [name for name in SHAKEN if name in arguments]
    arrays = [a for name in moved for a in _flat(arguments[name])]
    if "network" in arguments:
        arrays += arguments["network"].weights + arguments["network"].biases
    if "machine" in arguments:
        arrays += arguments["machine"].weights + arguments["machine"].biases
    elif "x" in arguments:
        arrays.append(arguments["x"].data if sp.issparse(arguments["x"]) else arguments["x"])
    for a in arrays:
        a *= (1 + rng.uniform(-4, 4, a.shape) * np.finfo(a.dtype).eps).astype(a.dtype)


def outcome(backend, call, n_threads=None, noise=None):
    """What `call` does on `backend`."""
    arguments = {name: _copy(value) for name, value in call.arguments.items()}
    if n_threads is not None and "n_threads" in arguments:
        arguments["n_threads"] = n_threads
    if noise is not None:
        _shake(arguments, noise)
    error, result = None, None
    with np.errstate(all="ignore"):
        try:
            result = getattr(get_backend(backend), call.kernel)(**arguments)
        except DivergenceError as e:
            # a gradient that overflows names no step, nor, in some backends, a layer
            error = (type(e).__name__, e.phase, e.step, None if e.step is None else e.layer)
        except (np.linalg.LinAlgError, NudgeError) as e:
            error = (type(e).__name__,)
    numbers, counts = {}, {}
    if error is None or call.kernel in ("layered_train", "graph_train"):
        for name in call.changes:
            parts = [a.astype(float).ravel() for a in _flat(argument(arguments, name))]
            numbers[name] = np.concatenate([*parts, np.zeros(0)])
    if call.kernel.endswith(("relax", "sweep")) and result is not None:
        counts["steps"], numbers["residual"] = (np.asarray(a, float) for a in result)
    elif call.kernel in ("layered_train", "graph_train") and result is not None:
        numbers["loss"] = np.array([result.loss])
        for name in ("n_correct", "free_steps", "nudged_steps", "n_samples", "n_batches"):
            counts[name] = np.array([getattr(result, name)])
    elif call.kernel == "crossbar_train" and result is not None:
        numbers["loss"], counts["n_correct"] = (np.array([float(v)]) for v in result)
    elif call.kernel == "boltzmann_train" and result is not None:
        counts["n_batches"], counts["n_sweeps"] = (np.array([n]) for n in result)
    elif call.kernel in ("nodal_update", "nodal_head_factor"):
        counts["good"] = np.array([result])
    elif call.kernel == "nodal_newton":
        counts["iterations"], counts["status"] = result.iterations, result.status
        numbers["step"] = result.step
    return Outcome(error, numbers, counts)


def _allowed(call, name, want):
    """The tolerance of a quantity, for numbers as large as the twin's; a residual is a change / dt."""
    values, dt = want.numbers[name], 1.0
    if name == "residual":
        values = want.numbers["states"]
        dt = call.arguments["spec"].dt if "spec" in call.arguments else 1.0
    of = "state" if name in ("states", "residual") else "trajectory"
    finite = np.abs(values[np.isfinite(values)])
    return tolerance(of, call.dtype) * max(1.0, finite.max(initial=0)) / dt


def _uncounted(call):
    """With a tolerance of 0 a sample stops where a step changes no bit of it: a matter of rounding."""
    plan, arguments = call.arguments.get("plan"), call.arguments
    tolerances = [arguments.get("tol"), arguments.get("tol_free"), arguments.get("tol_nudged")]
    tolerances += [plan.tol_free, plan.tol_nudged] if isinstance(plan, TrainPlan) else []
    uncounted = {"steps", "free_steps", "nudged_steps", "residual"} if 0 in tolerances else set()
    saturated = call.tags & {"wild", "large"}  # outputs tie
    return uncounted | ({"n_correct"} if saturated else set())


def gaps(call, want, got):
    """name -> how far `got` is from `want`, of all that is compared."""
    wild = "wild" in call.tags
    if wild and _lost(want) and _lost(got) and None in (want.error, got.error):
        return {}  # with or without a batch after the one that was lost
    if got.error != want.error:
        alive = want if want.error is None else got
        if alive.error is None and _squares_overflow(call, alive):
            return {}
        return {"error": (want.error, got.error)}
    found, uncounted = {}, _uncounted(call)
    for name in set(want.numbers) - uncounted:
        a, b = want.numbers[name], got.numbers[name]
        with np.errstate(invalid="ignore"):
            gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(b - a))
        found[name] = gap.max(initial=0)
    for name in set(want.counts) - uncounted:
        found[name] = np.abs(got.counts[name].astype(float) - want.counts[name]).max(initial=0)
    return found


def _lost(outcome):
    return bool(outcome.error) or not all(np.isfinite(a).all() for a in outcome.numbers.values())


def _squares_overflow(call, outcome):
    """Whether products of its numbers exceed the dtype: which of them is formed first decides."""
    largest = max((np.abs(a).max(initial=0) for a in outcome.numbers.values()), default=0)
    return not largest**2 < np.finfo(call.dtype).max


def differences(call, want, got):
    """Those of the gaps that are beyond what is allowed."""
    found = gaps(call, want, got)
    if "error" in found:
        return found
    allowed = {name: _allowed(call, name, want) for name in want.numbers}
    return {name: gap for name, gap in found.items() if not gap <= allowed.get(name, 0)}


def is_sensitive(call, want, got, found):
    """Whether the twin moves as far as `got` is from it when its inputs change in the last places."""
    others = [outcome("numpy", call, noise=noise) for noise in range(NUDGES)]
    if "error" in found:
        return got.error in [o.error for o in others]
    reach = [gaps(call, want, o) for o in others]
    if any("error" in r for r in reach):
        return True
    return all(gap <= 10 * max(r.get(name, 0) for r in reach) for name, gap in found.items())


def check(call, backend, name=""):
    """Run `call` on `backend` and the twin. Returns whether it was sensitive.

    Raises AssertionError where they differ otherwise, or where the number of threads matters.
    """
    want, got = outcome("numpy", call), outcome(backend, call)
    if call.arguments.get("n_threads", 1) > 1:
        alone = outcome(backend, call, n_threads=1)
        assert alone.error == got.error, (
            f"{name}: threads change the error {alone.error} to {got.error}"
        )
        for part in ("numbers", "counts"):
            for key, a in getattr(alone, part).items():
                b = getattr(got, part)[key]
                assert np.array_equal(a, b, equal_nan=True), (
                    f"{name}: threads change {key}: {describe(call)}"
                )
    found = differences(call, want, got)
    if found and not is_sensitive(call, want, got, found):
        raise AssertionError(f"{name} on {backend}: {found}\n{describe(call)}")
    return bool(found)


GIVEN_WHOLE = (np.ndarray, list, OptimizerState, NodalSystem, HeadPlan)  # too long to be shown


def describe(call):
    parts = [call.kernel, call.dtype, *sorted(call.tags)]
    for name, value in call.arguments.items():
        if value is not None and (isinstance(value, GIVEN_WHOLE) or sp.issparse(value)):
            value = "given"
        parts.append(f"{name}={value}")
    return " ".join(map(str, parts))


DRAWS = int(os.environ.get("EQPROP_RANDOM_DRAWS", 240))
SEED = int(os.environ.get("EQPROP_RANDOM_SEED", 0))
WORK = float(os.environ.get("EQPROP_RANDOM_WORK", "inf"))


def check_draws(backend, family="", numbers=None):
    """Calls by number on a backend beside the twin; without numbers, a fifth of DRAWS."""
    sensitive, numbers = [], range(DRAWS // 5) if numbers is None else numbers
    for number in numbers:
        call = draw(SEED, number, family)
        if work(call) > WORK:
            continue
        if check(call, backend, f"random_calls.repeat({SEED}, {number}, {backend!r}, {family!r})"):
            sensitive.append(number)
        if call.refused:
            check_refusal(call, backend)
    # excused are few, or the comparison would say little
    assert len(sensitive) <= max(2, 0.02 * len(numbers)), sensitive


def repeat(seed, number, backend, family=""):
    return check(draw(seed, number, family), backend, f"draw({seed}, {number})")


def check_refusal(call, backend):
    """A rule that a net or plan cannot serve is refused alike by every backend."""
    spec, plan, back, particles = call.refused
    arguments = {**call.arguments, "spec": spec, "plan": plan}
    arguments["back"] = [None] + [w.T.copy() for w in arguments["weights"][1:]] if back else None
    arguments["particles"] = None
    if particles:
        arguments["particles"] = [np.zeros((len(arguments["y"]), n)) for n in spec.sizes[1:]]
    messages = []
    for name in ("numpy", backend):
        try:
            getattr(get_backend(name), call.kernel)(**arguments)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) == 2 and messages[0] == messages[1], messages
