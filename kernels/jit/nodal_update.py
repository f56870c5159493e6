"""Equilibrium propagation's step of conductances (twin: kernels/reference/nodal_update.py)."""

import numpy as np

from ..prepare.nodal import update_job
from .compile import is_finite, kernel
from .threads import barrier, run_threads, usable
from .views import Record, argument, array, matrix, vector


@kernel
def contrast(job, pairs, k, zero):
    """Sum over the M samples of (d_a - d_b) (t_a - t_b) across conductance k."""
    n_nodes = max(pairs[k, 0], pairs[k, 1]) + 1
    difference = matrix(job.real, job.difference, n_nodes, job.n_samples)
    total = matrix(job.real, job.total, n_nodes, job.n_samples)
    da, db = difference[pairs[k, 0]], difference[pairs[k, 1]]
    ta, tb = total[pairs[k, 0]], total[pairs[k, 1]]
    sum_of_products = zero
    for s in range(da.size):
        sum_of_products += (da[s] - db[s]) * (ta[s] - tb[s])
    return sum_of_products


@kernel
def update_range(thread, n_threads, control, job, work):
    """A share of the conductances; nothing changes before all steps are known to be finite."""
    n, bad = job.n_pairs, array(work.bad)
    pairs, scale = matrix(np.int32, job.pairs, n, 2), vector(job.real, job.scale, n)
    velocity, conductance = vector(job.real, job.velocity, n), vector(job.real, job.conductance, n)
    low, high = vector(job.real, job.low, n), vector(job.real, job.high, n)
    gradient, real = vector(job.real, job.gradient, n), scale.dtype.type
    learning_rate, momentum = real(job.learning_rate), real(job.momentum)
    first, end = n * thread // n_threads, n * (thread + 1) // n_threads
    for k in range(first, end):
        gradient[k] = scale[k] * contrast(job, pairs, k, real(0))
        if not is_finite(conductance[k] + (momentum * velocity[k] - learning_rate * gradient[k])):
            bad[thread] = 1
    if not barrier(control, n_threads):
        return
    for t in range(n_threads):
        if bad[t] != 0:
            return
    for k in range(first, end):
        velocity[k] = momentum * velocity[k] - learning_rate * gradient[k]
        conductance[k] = min(max(conductance[k] + velocity[k], low[k]), high[k])


def nodal_update(conductances, difference, total, gradient, learning_rate, momentum=0.0, n_threads=1):
    """As kernels.reference.nodal_update.nodal_update."""
    n_threads = usable(n_threads, len(conductances.pairs))
    job = update_job(conductances, difference, total, gradient, learning_rate, momentum)
    work = Record(bad=np.zeros(n_threads, np.int64))
    with job:
        run_threads(update_range, n_threads, argument(job), argument(work))
    return not work.kept["bad"].any()
