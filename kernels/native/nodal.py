"""C kernel of nodal analysis (csrc/nodal.c): checks shapes, fills the job, runs it on Python threads."""

import numpy as np
from eqprop_fast._native import ffi

from ..reference.nodal import CONVERGED, NOT_CONVERGED, SINGULAR, NewtonReport
from ..reference.nodal_update import check_update
from .call import DIVERGED, Holder, kernel, run, status_text

__all__ = [
    "CONVERGED",
    "NOT_CONVERGED",
    "SINGULAR",
    "head_backward",
    "head_factor",
    "head_forward",
    "nodal_newton",
    "nodal_update",
]

_LU_FIELDS = ("row_of", "col_of", "a_ptr", "a_row", "a_src", "l_ptr", "l_row", "u_ptr", "u_row")


def nodal_newton(
    system, rhs, offset, x, junction, *, max_iter=100, vtol=1e-10, rtol=1e-9, single_after=40, n_threads=1
):
    """As kernels.reference.nodal.nodal_newton; float64 or float32 by the type of `x`, VL samples at a time.

    The pivots are fixed (system.lu, or the diagonal when dense): a sample that they do not suit comes back as
    SINGULAR or NOT_CONVERGED, never wrong, because Newton's own step is the test.
    """
    dtype = x.dtype
    if dtype not in (np.float64, np.float32):
        raise ValueError(f"x must be float64 or float32, got {dtype}")
    m, n, n_d = len(x), system.n, len(system.anode)
    shapes = {
        "x": (x, (m, n)),
        "rhs": (rhs, (m, n)),
        "offset": (offset, (m, n_d)),
        "junction": (junction, (m, n_d)),
    }
    for name, (array, shape) in shapes.items():
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {dtype} array of shape {shape}, got {array.shape}"
            )
    report = NewtonReport(
        np.zeros(m, np.int32), np.full(m, NOT_CONVERGED, np.int32), np.full(m, np.inf), np.zeros(m, np.int32)
    )
    if m == 0:
        return report
    hold = Holder(dtype)
    job = ffi.new("eqp_nodal_job *")
    job.n, job.n_diodes, job.n_samples = n, n_d, m
    job.base = hold.array(system.base)
    if system.indptr is not None:
        job.indptr = hold.cast("int32_t *", system.indptr, np.int32)
        job.indices = hold.cast("int32_t *", system.indices, np.int32)
        for name in _LU_FIELDS:
            setattr(job, name, hold.cast("int32_t *", getattr(system.lu, name), np.int32))
    for name in ("anode", "cathode", "branch", "stamp"):
        setattr(job, name, hold.cast("int32_t *", getattr(system, name), np.int32))
    job.parameters, job.rhs, job.offset = hold.array(system.parameters), hold.array(rhs), hold.array(offset)
    job.x, job.junction = hold.array(x, writable=True), hold.array(junction, writable=True)
    job.vtol, job.rtol, job.max_iter, job.single_after = vtol, rtol, max_iter, single_after
    job.iterations = hold.cast("int32_t *", report.iterations, np.int32, writable=True)
    job.sample_status = hold.cast("int32_t *", report.status, np.int32, writable=True)
    job.step = hold.cast("double *", report.step, np.float64, writable=True)
    job.worst = hold.cast("int32_t *", report.worst, np.int32, writable=True)
    status = run("nodal_newton", job, hold, max(1, min(int(n_threads), m)))
    if status:
        raise ValueError(f"nodal_newton: {status_text(status)}")
    return report


def _head(task, plan, value, pivot, b=None):
    hold = Holder(np.float64)
    job = ffi.new("eqp_nodal_head_job *")
    job.task, job.n_head, job.n = task, plan.n_head, plan.n
    job.ptr, job.row = hold.cast("int64_t *", plan.ptr, np.int64), hold.cast("int32_t *", plan.row, np.int32)
    job.target = hold.cast("int64_t *", plan.target, np.int64)
    job.value, job.pivot = hold.array(value, writable=True), hold.array(pivot, writable=True)
    if b is not None:
        job.b, job.n_rows = hold.array(b, writable=True), b.shape[1]
    return kernel("nodal_head", np.float64)(job, 0, 1)


def head_factor(plan, value, pivot):
    """As kernels.reference.nodal_head.head_factor."""
    return _head(0, plan, value, pivot) == 0


def head_forward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_forward."""
    _head(1, plan, value, pivot, b)


def head_backward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_backward."""
    _head(2, plan, value, pivot, b)


def nodal_update(
    difference,
    total,
    pairs,
    scale,
    velocity,
    conductance,
    low,
    high,
    gradient,
    *,
    learning_rate,
    momentum=0.0,
    n_threads=1,
):
    """As kernels.reference.nodal_update.nodal_update."""
    check_update(difference, total, pairs, scale, velocity, conductance, low, high, gradient)
    hold = Holder(difference.dtype)
    job = ffi.new("eqp_nodal_update_job *")
    job.n_pairs, job.n_samples = len(pairs), difference.shape[1]
    job.difference, job.total, job.scale = hold.array(difference), hold.array(total), hold.array(scale)
    job.low, job.high, job.pairs = hold.array(low), hold.array(high), hold.cast("int32_t *", pairs, np.int32)
    job.velocity = hold.array(velocity, writable=True)
    job.conductance = hold.array(conductance, writable=True)
    job.gradient = hold.array(gradient, writable=True)
    job.learning_rate, job.momentum = learning_rate, momentum
    status = run("nodal_update", job, hold, max(1, min(int(n_threads), len(pairs))))
    if status and status != DIVERGED:
        raise ValueError(f"nodal_update: {status_text(status)}")
    return status == 0
