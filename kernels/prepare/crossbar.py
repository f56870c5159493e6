"""Jobs of layered crossbars (csrc/core/jobs.h: eqp_crossbar_job)."""

import numpy as np
from scipy import sparse

from ..jobs import Job
from ..reference.crossbar import NUDGINGS, OPTIMIZERS, SCHEDULES


def _network_job(weights, biases, lower, upper, x, y, states, input_gain, schedule, pairs, trains):
    """A job with network and data, checked by `kernels.checks`: kernels trust what they are handed.
    """
    sizes = [x.shape[1], *(w.shape[1] for w in weights)]
    job = Job("eqp_crossbar_job", weights[0].dtype)
    (job.writes if trains else job.reads)(weight=weights, bias=biases)
    job.reads(size=sizes, lower=lower, upper=upper)
    job.writes(state=states)
    job.numbers(n_weights=len(weights), pairs=pairs, schedule=SCHEDULES.index(schedule))
    job.numbers(input_gain=input_gain)
    if sparse.issparse(x):
        job.reads(indptr=x.indptr, indices=x.indices, data=x.data)
    else:
        job.reads(x=x)
    job.reads(y=y)
    return job


def relax_job(
    weights, biases, lower, upper, x, states, steps, residual, *, input_gain, schedule, n_steps, tol, beta, y,
    pairs,
):
    """The job of `kernels.reference.crossbar.relax`; `steps` and `residual` are what it returns."""
    n = x.shape[0]
    job = _network_job(weights, biases, lower, upper, x, y, states, input_gain, schedule, pairs, trains=False)
    job.numbers(n_rows=n, beta=0.0 if y is None else beta, n_free_steps=n_steps, tol_free=tol)
    job.writes(steps=steps, residual=residual)
    return job


def train_job(
    weights, biases, lower, upper, x, y, states, loss, *, order, sample_weight, batch_size, input_gain,
    schedule, n_free_steps, n_nudged_steps, tol_free, tol_nudged, beta, nudging, rates, bias_rates, g_min,
    g_max, pairs, carry, optimizer, momentum, velocity,
):
    """The job of `kernels.reference.crossbar.train`; `loss` (2) takes the loss and the number of
    hits.
    """
    job = _network_job(weights, biases, lower, upper, x, y, states, input_gain, schedule, pairs, trains=True)
    order = np.arange(x.shape[0]) if order is None else order
    job.reads(order=order, row_weight=sample_weight, rate=rates, bias_rate=bias_rates)
    job.numbers(
        n_rows=len(order), batch_size=batch_size, nudging=NUDGINGS.index(nudging), beta=beta, carry=carry,
        n_free_steps=n_free_steps, n_nudged_steps=n_nudged_steps, tol_free=tol_free, tol_nudged=tol_nudged,
        g_min=g_min, g_max=g_max, optimizer=OPTIMIZERS.index(optimizer), momentum=momentum,
    )
    if optimizer != "sgd":
        job.writes(velocity=velocity)
    job.writes(loss=loss)
    return job
