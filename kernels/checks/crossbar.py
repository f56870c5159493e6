"""Tables of the crossbar kernels (kernels/reference/crossbar.py)."""

import numpy as np

from ..reference.crossbar import NUDGINGS, OPTIMIZERS, SCHEDULES
from ..spec import MAX_WEIGHTS, Crossbar, CrossbarPlan
from .rows import (
    Array,
    Arrays,
    Fields,
    Flag,
    Inputs,
    Integer,
    Numbers,
    Option,
    Order,
    Real,
    check_array,
    check_dtype,
    check_list,
    check_real,
    describe,
    plain_array,
)


class Conductances:
    """The matrices of a chain of layers; they give the call its dtype, its sizes N and their number
    L.

    The inputs drive the first one twice, as +x and as -x.
    """

    def __init__(self, written=False):
        self.written = written

    def __call__(self, at, name, value):
        check_list(name, value, None)
        if not 1 <= len(value) <= MAX_WEIGHTS:
            raise ValueError(f"{name} must have 1 to {MAX_WEIGHTS} entries, got {len(value)}")
        check_dtype(at, f"{name}[0]", value[0])
        sizes, kept = [], []
        for k, w in enumerate(value):
            w = w if type(w) is np.ndarray else plain_array(f"{name}[{k}]", w)
            if w.ndim != 2 or not w.size or (k == 0 and len(w) % 2):
                raise ValueError(
                    f"{name}[{k}] must be a matrix, {'of two rows an input' if k == 0 else 'not empty'}, "
                    f"got {describe(w)}"
                )
            shape = getattr(at.given["x"], "shape", ()) if k == 0 else ()
            if len(shape) == 2 and len(w) != 2 * shape[1]:
                raise ValueError(
                    f"{name}[0] must have two rows for each column of x, got {len(w)}, {shape[1]}"
                )
            rows = len(w) if k == 0 else sizes[-1]
            kept.append(
                check_array(at, f"{name}[{k}]", w, (rows, w.shape[1]), at.dtype, self.written)
            )
            sizes.append(w.shape[1])
        at.N, at.L = (len(value[0]) // 2, *sizes), len(sizes)
        return kept


def upper(at, name, value):
    """Not below `lower`, and no NaN; infinite where there is no diode."""
    value = BOUNDS(at, name, value)
    for k, (low, high) in enumerate(zip(at.lower, value)):
        if not (low <= high).all():
            raise ValueError(f"{name}[{k}] must not be below lower[{k}], and neither be NaN")
    return value


def lower(at, name, value):
    at.lower = BOUNDS(at, name, value)
    return at.lower


BOUNDS = Arrays(lambda n, k: (n[k + 1],))


def pairs(at, name, value):
    """Leaves the number of predictions, `at.outputs`."""
    value = Flag()(at, name, value)
    if value and at.N[-1] % 2:
        raise ValueError(
            f"{name}: the output layer must have an even number of nodes, got {at.N[-1]}"
        )
    at.outputs = at.N[-1] // 2 if value else at.N[-1]
    return value


class States:
    """Node voltages of each layer; `rows` of them."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, at, name, value):
        rows, n = getattr(at, self.rows), at.N
        return [
            check_array(at, f"{name}[{k}]", v, (rows, n[k + 1]), at.dtype, written=True)
            for k, v in enumerate(check_list(name, value, at.L))
        ]


def batch_size(at, name, value):
    at.B = Integer(1)(at, name, value)
    return at.B


def nudge(at, name, value):
    value = check_real(name, value, dtype=at.dtype)
    if not value > 0:
        raise ValueError(f"{name} must be above 0 (`nudging` has the sign), got {value}")
    return value


def g_max(at, name, value):
    value = check_real(name, value, dtype=at.dtype, infinite=True)
    if not at.g_min <= value:
        raise ValueError(f"{name} must not be below g_min={at.g_min}, got {value}")
    return value


def loss(at, name, value):
    return check_real(name, value)  # costs are added up in float64


def velocity(at, name, value):
    """What the optimiser moves; None under plain SGD."""
    if value is not None:
        check_list(name, value, None)
    if at.optimizer == "sgd":
        return None
    if value is None:
        raise ValueError(f"{name} is needed for optimizer={at.optimizer!r}")
    n, L = at.N, at.L
    shapes = [(2 * n[0] if k == 0 else n[k], n[k + 1]) for k in range(L)] + [(m,) for m in n[1:]]
    return [
        check_array(at, f"{name}[{i}]", a, shapes[i], at.dtype, written=True)
        for i, a in enumerate(check_list(name, value, 2 * L))
    ]


# the fields of a `Crossbar` and of a `CrossbarPlan`, in the order in which they can be checked
NETWORK = {
    "biases": Arrays(lambda n, k: (n[k + 1],)),
    "lower": lower,
    "upper": upper,
    "input_gain": Real(),
    "schedule": Option(SCHEDULES),
    "pairs": pairs,
}
RELAXED = {"weights": Conductances(), **NETWORK}
TRAINED = {
    "weights": Conductances(written=True),
    **NETWORK,
    "biases": Arrays(lambda n, k: (n[k + 1],), written=True),
}
PLAN = {
    "batch_size": batch_size,
    "n_free_steps": Integer(),
    "n_nudged_steps": Integer(),
    "tol_free": Real(),
    "tol_nudged": Real(),
    "beta": nudge,
    "nudging": Option(NUDGINGS),
    "rate": Numbers(),
    "bias_rate": Numbers(),
    "g_min": Real(infinite=True),
    "g_max": g_max,
    "carry": Flag(),
    "optimizer": Option(OPTIMIZERS),
    "momentum": Real(),
    "loss_so_far": loss,
}


RELAX = {
    "network": Fields(Crossbar, RELAXED),
    "x": Inputs(),
    "states": States("R"),
    "n_steps": Integer(),
    "tol": Real(),
    "beta": Real(),
    "y": Array(lambda at: (at.R, at.outputs), optional=True),  # None is the free phase
    "n_threads": Integer(1),
}

TRAIN = {
    "network": Fields(Crossbar, TRAINED),
    "x": Inputs(),
    "y": Array(lambda at: (at.R, at.outputs)),
    "plan": Fields(CrossbarPlan, PLAN),
    "states": States("B"),
    "order": Order(optional=True),
    "row_weight": Array(lambda at: (at.R,), optional=True, low=0),
    "velocity": velocity,
    "n_threads": Integer(1),
}
