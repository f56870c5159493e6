"""Tables of the kernels for Boltzmann machines (kernels/reference/boltzmann.py)."""

import numpy as np

from ..boltzmann_spec import Boltzmann, BoltzmannPlan, Sweeps
from ..spec import MAX_WEIGHTS
from .rows import (
    Fields,
    Flag,
    Inputs,
    Integer,
    Order,
    Real,
    check_array,
    check_dtype,
    check_flag,
    check_list,
    check_real,
    describe,
    plain_array,
)

MAX_SEED = 2**63 - 1
I8, F64 = np.dtype(np.int8), np.dtype(np.float64)


def _finite(name, a):
    if not np.isfinite(a).all():
        raise ValueError(f"{name} must be finite")
    return a


class Weights:
    """They give the call its dtype, its sizes N and their number L."""

    def __init__(self, written=False):
        self.written = written

    def __call__(self, at, name, value):
        check_list(name, value, None)
        if not 1 <= len(value) <= MAX_WEIGHTS:
            raise ValueError(f"{name} must have 1 to {MAX_WEIGHTS} entries, got {len(value)}")
        check_dtype(at, f"{name}[0]", value[0])
        sizes, kept = [], []
        for k, w in enumerate(value):
            w = plain_array(f"{name}[{k}]", w)
            if w.ndim != 2 or not w.size:
                raise ValueError(f"{name}[{k}] must be a matrix, not empty, got {describe(w)}")
            shape = (sizes[-1] if sizes else len(w), w.shape[1])
            w = check_array(at, f"{name}[{k}]", w, shape, at.dtype, self.written)
            kept.append(_finite(f"{name}[{k}]", w))
            sizes += [w.shape[1]] if sizes else [*w.shape]
        at.N, at.L = tuple(sizes), len(value)
        return kept


class Layers:
    """An array for each layer, of shape ``shape(at, N[k])``."""

    def __init__(self, shape, *, written=False, optional=False, finite=False):
        self.shape, self.written, self.optional = shape, written, optional
        self.finite = finite

    def __call__(self, at, name, value):
        if value is None and self.optional:
            return None
        check_list(name, value, at.L + 1)
        arrays = [
            check_array(at, f"{name}[{k}]", a, self.shape(at, at.N[k]), at.dtype, self.written)
            for k, a in enumerate(value)
        ]
        if self.finite:
            for k, a in enumerate(arrays):
                _finite(f"{name}[{k}]", a)
        return arrays


def states(at, name, value):
    """They give the call its number of rows M."""
    check_list(name, value, at.L + 1)
    first = plain_array(f"{name}[0]", value[0])
    at.M = len(first) if first.ndim else 0
    return Layers(lambda at, n: (at.M, n), written=True, finite=True)(at, name, value)


def clamped(at, name, value):
    value = check_list(name, value, at.L + 1)
    return [check_flag(f"{name}[{k}]", v) for k, v in enumerate(value)]


def mask(at, name, value):
    if value is None:
        return None
    return check_array(at, name, value, (at.M, at.N[0]), I8, strict=True)


def upward(at, name, value):
    value = Flag()(at, name, value)
    if value and at.draw:
        raise ValueError(f"{name} is a pass of mean field: draw must be False")
    return value


def n_sweeps(at, name, value):
    at.n = Integer()(at, name, value)
    return at.n


def base(at, name, value):
    at.base = Layers(lambda at, n: (n,), optional=True, finite=True)(at, name, value)
    return at.base


def betas(at, name, value):
    at.betas = value
    if value is None:
        return None
    if at.base is None:
        raise ValueError(f"{name} needs base, the biases at temperature 0")
    return _finite(name, check_array(at, name, np.asarray(value), (at.n + 1,), F64))


def log_weight(at, name, value):
    if value is None:
        return None
    if at.betas is None:
        raise ValueError(f"{name} needs betas")
    if any(at.given["clamped"]) or at.given["mask"] is not None:
        raise ValueError(f"{name} needs a machine of which nothing is clamped")
    return check_array(at, name, value, (at.M,), F64, written=True, strict=True)


MACHINE = {
    "weights": Weights(),
    "biases": Layers(lambda at, n: (n,), finite=True),
    "categorical_top": Flag(),
}
SEEDED = {"seed": Integer(0, MAX_SEED), "first_sweep": Integer(0, MAX_SEED // 2)}  # sweeps to come
SWEEP = {
    "machine": Fields(Boltzmann, MACHINE),
    "states": states,
    "sweeps": Fields(
        Sweeps,
        {
            "n": n_sweeps,
            "draw": Flag(),
            "even_first": Flag(),
            "upward": upward,
            "tol": Real(),
            **SEEDED,
        },
    ),
    "clamped": clamped,
    "mask": mask,
    "means": Layers(lambda at, n: (at.M, n), written=True, optional=True),
    "base": base,
    "betas": betas,
    "log_weight": log_weight,
    "n_threads": Integer(1),
}


def inputs(at, name, value):
    """Dense, and within [0, 1]: numbers between are probabilities."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} must be an array, got {describe(value)}")
    value = Inputs()(at, name, value)
    if value.size and not (value.min() >= 0 and value.max() <= 1):
        raise ValueError(f"{name} must lie in [0, 1]")
    return value


def labels(at, name, value):
    if value is None:
        return None
    value = check_array(at, name, value, (at.R, at.N[-1]), at.dtype)
    return _finite(name, value)


def particles(at, name, value):
    check_list(name, value, at.L + 1)
    first = plain_array(f"{name}[0]", value[0])
    at.C = len(first) if first.ndim else 0
    if at.C < 1:
        raise ValueError(f"{name} must have at least one row")
    return Layers(lambda at, n: (at.C, n), written=True, finite=True)(at, name, value)


def velocity(at, name, value):
    if value is None:
        if at.momentum:
            raise ValueError(f"{name} is needed where momentum is not 0")
        return None
    check_list(name, value, 2 * at.L + 1)
    shapes = [*zip(at.N, at.N[1:]), *((n,) for n in at.N)]
    return [
        _finite(f"{name}[{i}]", check_array(at, f"{name}[{i}]", a, shape, at.dtype, written=True))
        for i, (a, shape) in enumerate(zip(value, shapes))
    ]


def share(at, name, value):
    return check_real(name, value, 0, 1)


TRAIN = {
    "machine": Fields(
        Boltzmann,
        {
            **MACHINE,
            "weights": Weights(written=True),
            "biases": Layers(lambda at, n: (n,), written=True, finite=True),
        },
    ),
    "x": inputs,
    "y": labels,
    "order": Order(),
    "plan": Fields(
        BoltzmannPlan,
        {
            "batch_size": Integer(1),
            "n_mean_field": Integer(),
            "n_sweeps": Integer(1),
            "rate": Real(),
            "tol": Real(),
            "draw": Flag(),
            "momentum": Real(),
            "weight_decay": Real(),
            "offset_rate": share,
            **SEEDED,
        },
    ),
    "particles": particles,
    "offsets": Layers(lambda at, n: (n,), written=True, optional=True, finite=True),
    "velocity": velocity,
    "n_threads": Integer(1),
}
