"""Equilibrium propagation's step of the conductances in Numba (twin: kernels/reference/nodal_update.py)."""

import math

import numpy as np

from ..reference.nodal_update import check_update
from .compile import kernel
from .threads import barrier, run_threads, usable


@kernel
def update_range(
    thread,
    n_threads,
    control,
    difference,
    total,
    pairs,
    scale,
    velocity,
    conductance,
    low,
    high,
    gradient,
    learning_rate,
    momentum,
    zero,
    bad,
):
    """A share of the conductances; nothing changes before all threads know their gradients to be finite."""
    n, m = len(pairs), difference.shape[1]
    first, end = n * thread // n_threads, n * (thread + 1) // n_threads
    for k in range(first, end):
        da, db = difference[pairs[k, 0]], difference[pairs[k, 1]]
        ta, tb = total[pairs[k, 0]], total[pairs[k, 1]]
        contrast = zero
        for s in range(m):
            contrast += (da[s] - db[s]) * (ta[s] - tb[s])
        gradient[k] = scale[k] * contrast
        if not math.isfinite(gradient[k]):
            bad[thread] = 1
    if not barrier(control, n_threads):
        return
    for t in range(n_threads):
        if bad[t] != 0:
            return
    for k in range(first, end):
        velocity[k] = momentum * velocity[k] - learning_rate * gradient[k]
        conductance[k] = min(max(conductance[k] + velocity[k], low[k]), high[k])


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
    arrays = (difference, total, pairs, scale, velocity, conductance, low, high, gradient)
    check_update(*arrays)
    n_threads, real = usable(n_threads, max(1, len(pairs))), difference.dtype.type
    bad = np.zeros(n_threads, np.int64)
    run_threads(update_range, n_threads, *arrays, real(learning_rate), real(momentum), real(0), bad)
    return not bad.any()
