"""C kernels of circuits (csrc/nodal/nodal.c): fill the job, run it on Python threads."""

import numpy as np

from ..prepare.nodal import BACKWARD, FACTOR, FORWARD, head_job, newton_job, update_job
from ..reference.nodal import CONVERGED, NOT_CONVERGED, SINGULAR, NewtonReport
from .call import DIVERGED, kernel, pointer, run, status_text
from .call import SINGULAR as NOT_POSITIVE

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


def nodal_newton(
    system,
    rhs,
    offset,
    x,
    junction,
    *,
    max_iter=100,
    vtol=1e-10,
    rtol=1e-9,
    single_after=40,
    n_threads=1,
):
    """As kernels.reference.nodal.nodal_newton; float64 or float32 by the type of `x`, VL samples at
    a time.

    The pivots are fixed (system.lu, or the diagonal when dense): a sample that they do not suit
    comes back as SINGULAR or NOT_CONVERGED, never wrong, because Newton's own step is the test.
    """
    m = len(x)
    report = NewtonReport(
        np.zeros(m, np.int32),
        np.full(m, NOT_CONVERGED, np.int32),
        np.full(m, np.inf),
        np.zeros(m, np.int32),
    )
    if m == 0:
        return report
    job = newton_job(
        system,
        rhs,
        offset,
        x,
        junction,
        report,
        max_iter=max_iter,
        vtol=vtol,
        rtol=rtol,
        single_after=single_after,
    )
    status = run("nodal_newton", job, n_threads, m)
    if status:
        raise ValueError(f"nodal_newton: {status_text(status)}")
    return report


def _head(task, plan, value, pivot, b=None):
    job = head_job(task, plan, value, pivot, b)
    with job:
        status = kernel("nodal_head", job.dtype)(pointer(job), 0, 1)
    if status not in (0, NOT_POSITIVE):
        raise ValueError(f"nodal_head: {status_text(status)}")
    return status


def head_factor(plan, value, pivot):
    """As kernels.reference.nodal_head.head_factor."""
    return _head(FACTOR, plan, value, pivot) == 0


def head_forward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_forward."""
    _head(FORWARD, plan, value, pivot, b)


def head_backward(plan, value, pivot, b):
    """As kernels.reference.nodal_head.head_backward."""
    _head(BACKWARD, plan, value, pivot, b)


def nodal_update(
    conductances, difference, total, gradient, learning_rate, momentum=0.0, n_threads=1
):
    """As kernels.reference.nodal_update.nodal_update."""
    job = update_job(conductances, difference, total, gradient, learning_rate, momentum)
    status = run("nodal_update", job, n_threads, len(conductances.pairs))
    if status and status != DIVERGED:
        raise ValueError(f"nodal_update: {status_text(status)}")
    return status == 0
