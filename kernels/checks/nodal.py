"""Tables of the kernels for circuits (kernels/reference/nodal.py, nodal_head.py, nodal_update.py).

Here arrays must be C-contiguous and of the right dtype already: circuits are prepared once and
solved often.
"""

import math

import numpy as np

from ..reference.nodal import LuPattern, NodalSystem
from ..reference.nodal_head import HeadPlan
from ..spec import Conductances
from .rows import (
    Array,
    Fields,
    Integer,
    Real,
    check_array,
    check_dtype,
    check_integer,
    check_real,
    describe,
    plain_array,
)

I32, I64, F64 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float64)


def _indices(at, name, a, shape, low, high, dtype=I32):
    """Integers from `low` to `high`; `shape` may leave the length open with None."""
    a = a if type(a) is np.ndarray else plain_array(name, a)
    if shape is None:
        shape = (a.size,)
    check_array(at, name, a, shape, dtype, strict=True)
    if a.size and (a.min() < low or a.max() > high):
        raise ValueError(
            f"{name} must hold integers from {low} to {high}, got {a.min()} to {a.max()}"
        )


def _pointers(at, name, a, n, rows_name, rows, dtype=I32):
    """Starts of n columns in `rows`."""
    check_array(at, name, a, (n + 1,), dtype, strict=True)
    if a[0] != 0 or a[-1] != rows.size or (n and np.diff(a).min() < 0):
        raise ValueError(f"{name} must rise from 0 to the length of {rows_name}, {rows.size}")


def _permutation(at, name, a, n):
    _indices(at, name, a, (n,), 0, n - 1)
    if n and np.bincount(a, minlength=n).min() == 0:
        raise ValueError(f"{name} must hold every number from 0 to {n - 1} once")


def _integers(a):
    """int32 or int64: SciPy has CSR indices of both."""
    return I64 if getattr(a, "dtype", None) == I64 else I32


def system(at, name, value):
    """A `NodalSystem`; every place that a kernel follows lies within its arrays."""
    if not isinstance(value, NodalSystem):
        raise ValueError(f"{name} must be a NodalSystem, got {describe(value)}")
    n = at.n = check_integer(f"{name}.n", value.n)
    for field in ("anode", "cathode", "branch"):
        a = getattr(value, field)
        if field == "anode":
            at.n_d = len(plain_array(f"{name}.anode", a)) if np.ndim(a) else 0
        _indices(at, f"{name}.{field}", a, (at.n_d,), -1, n - 1)
    check_array(at, f"{name}.parameters", value.parameters, (at.n_d, 7), F64, strict=True)
    if (value.indptr is None) != (value.lu is None) or (value.indptr is None) != (
        value.indices is None
    ):
        raise ValueError(
            f"{name}: indptr, indices and lu must be given together (sparse) or not at all"
        )
    if value.lu is None:
        nnz = n * n
        check_array(at, f"{name}.base", value.base, (n, n), F64, strict=True)
    else:
        nnz = len(plain_array(f"{name}.base", value.base)) if np.ndim(value.base) else 0
        check_array(at, f"{name}.base", value.base, (nnz,), F64, strict=True)
        _indices(at, f"{name}.indices", value.indices, (nnz,), 0, n - 1, _integers(value.indices))
        _pointers(
            at, f"{name}.indptr", value.indptr, n, "base", value.base, _integers(value.indptr)
        )
        rising = np.diff(value.indices) > 0
        inner = value.indptr[1:-1]
        rising[inner[(inner > 0) & (inner < nnz)] - 1] = True  # from one row to the next
        if not rising.all():
            raise ValueError(f"{name}.indices must rise within each row")
        _pattern(at, f"{name}.lu", value.lu, n, nnz)
    _indices(at, f"{name}.stamp", value.stamp, (at.n_d, 9), -1, nnz - 1)
    if ((value.branch >= 0) & (value.stamp[:, 8] < 0)).any():
        raise ValueError(f"{name}.stamp must have the place (branch, branch) of every ideal diode")
    return value


def _pattern(at, name, lu, n, nnz):
    if not isinstance(lu, LuPattern):
        raise ValueError(f"{name} must be a LuPattern, got {describe(lu)}")
    _permutation(at, f"{name}.row_of", lu.row_of, n)
    _permutation(at, f"{name}.col_of", lu.col_of, n)
    for part in "alu":
        rows = getattr(lu, f"{part}_row")
        _indices(at, f"{name}.{part}_row", rows, None, 0, n - 1)
        _pointers(at, f"{name}.{part}_ptr", getattr(lu, f"{part}_ptr"), n, f"{part}_row", rows)
    _indices(at, f"{name}.a_src", lu.a_src, (lu.a_row.size,), 0, nnz - 1)
    for part, sign, where in (("l", 1, "below"), ("u", -1, "above")):
        column = np.repeat(np.arange(n, dtype=I32), np.diff(getattr(lu, f"{part}_ptr")))
        rows = getattr(lu, f"{part}_row")
        if (sign * (rows - column) <= 0).any():
            raise ValueError(f"{name}.{part}_row must lie strictly {where} the diagonal")


def unknowns(at, name, value):
    """They give the call its dtype and the number M of samples."""
    check_dtype(at, name, value)
    at.M = len(value) if value.ndim else 0
    return Array(lambda at: (at.M, at.n), written=True, strict=True)(at, name, value)


NEWTON = {
    "system": system,
    "x": unknowns,
    "rhs": Array(lambda at: (at.M, at.n), strict=True),
    "offset": Array(lambda at: (at.M, at.n_d), strict=True),
    "junction": Array(lambda at: (at.M, at.n_d), written=True, strict=True),
    "max_iter": Integer(),
    "vtol": Real(0),
    "rtol": Real(0),
    "single_after": Integer(),
    "n_threads": Integer(1),
}


def plan(at, name, value):
    """The part of a `HeadPlan` that substitution follows."""
    if not isinstance(value, HeadPlan):
        raise ValueError(f"{name} must be a HeadPlan, got {describe(value)}")
    at.dtype, at.plan = F64, value
    n = at.n = check_integer(f"{name}.n", value.n)
    at.h = check_integer(f"{name}.n_head", value.n_head, 0, n)
    _indices(at, f"{name}.row", value.row, None, 0, n - 1)
    _pointers(at, f"{name}.ptr", value.ptr, at.h, "row", value.row, I64)
    at.length = value.row.size + (n - at.h) ** 2
    return value


def factored_plan(at, name, value):
    """And the places where the products of the elimination go."""
    plan(at, name, value)
    count = np.diff(value.ptr)
    if (value.row <= np.repeat(np.arange(at.h), count)).any():
        raise ValueError(f"{name}.row must lie strictly below the diagonal")
    _indices(
        at,
        f"{name}.target",
        value.target,
        (int((count * (count + 1) // 2).sum()),),
        -at.h,
        at.length - 1,
        I64,
    )
    return value


def right_sides(at, name, value):
    value = value if type(value) is np.ndarray else plain_array(name, value)
    if value.ndim != 2:
        raise ValueError(f"{name} must have shape ({at.n}, n_rows), got {value.shape}")
    return check_array(at, name, value, (at.n, value.shape[1]), F64, written=True, strict=True)


HEAD_FACTOR = {
    "plan": factored_plan,
    "value": Array(lambda at: (at.length,), written=True, strict=True),
    "pivot": Array(lambda at: (at.h,), written=True, strict=True),
}
HEAD_SOLVE = {
    "plan": plan,
    "value": Array(lambda at: (at.length,), strict=True),
    "pivot": Array(lambda at: (at.h,), strict=True),
    "b": right_sides,
}


def difference(at, name, value):
    """Gives the call its dtype; n_nodes rows, one column a sample."""
    value = check_dtype(at, name, value)
    if value.ndim != 2:
        raise ValueError(f"{name} must have shape (n_nodes, n_samples), got {value.shape}")
    at.shape = value.shape
    return Array(lambda at: at.shape, strict=True)(at, name, value)


def pairs(at, name, value):
    value = value if type(value) is np.ndarray else plain_array(name, value)
    at.P = len(value) if value.ndim else 0
    _indices(at, name, value, (at.P, 2), 0, at.shape[0] - 1)
    return value


def high(at, name, value):
    BOUND(at, name, value)
    if not (at.low <= value).all():
        raise ValueError(f"{name}: low and high must be numbers, low at most high")
    return value


def low(at, name, value):
    at.low = BOUND(at, name, value)
    return value


def number(at, name, value):
    """Any number: of a step that is not finite the kernel says so, and takes it back."""
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return check_real(name, value)


BOUND = Array(lambda at: (at.P,), strict=True)
MOVED = Array(lambda at: (at.P,), written=True, strict=True)

CONDUCTANCES = {
    "pairs": pairs,
    "scale": BOUND,
    "velocity": MOVED,
    "conductance": MOVED,
    "low": low,
    "high": high,
}

UPDATE = {
    "difference": difference,
    "total": Array(lambda at: at.shape, strict=True),
    "conductances": Fields(Conductances, CONDUCTANCES),
    "gradient": MOVED,
    "learning_rate": number,
    "momentum": number,
    "n_threads": Integer(1),
}
