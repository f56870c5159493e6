"""Jobs of layered crossbars (csrc/core/jobs.h: eqp_crossbar_job)."""

import numpy as np
from scipy import sparse

from ..jobs import Job
from ..reference.crossbar import NUDGINGS, OPTIMIZERS, SCHEDULES

NUMBERS = (
    "beta",
    "n_free_steps",
    "n_nudged_steps",
    "tol_free",
    "tol_nudged",
    "batch_size",
    "carry",
    "g_min",
    "g_max",
    "momentum",
)  # of a plan, which the job has by the same names


def _network_job(network, x, y, states, trains):
    """A job with network and data, checked by `kernels.checks`: kernels trust what they get."""
    weights = network.weights
    job = Job("eqp_crossbar_job", weights[0].dtype)
    (job.writes if trains else job.reads)(weight=weights, bias=network.biases)
    job.reads(
        size=[x.shape[1], *(w.shape[1] for w in weights)],
        lower=network.lower,
        upper=network.upper,
        y=y,
    )
    job.writes(state=states)
    job.numbers(
        n_weights=len(weights),
        pairs=network.pairs,
        schedule=SCHEDULES.index(network.schedule),
        input_gain=network.input_gain,
    )
    if sparse.issparse(x):
        job.reads(indptr=x.indptr, indices=x.indices, data=x.data)
    else:
        job.reads(x=x)
    return job


def relax_job(network, x, states, y, beta, n_steps, tol, steps, residual):
    """The job of `kernels.reference.crossbar.relax`; `steps` and `residual` are what it returns."""
    job = _network_job(network, x, y, states, trains=False)
    job.numbers(
        n_rows=x.shape[0], beta=0.0 if y is None else beta, n_free_steps=n_steps, tol_free=tol
    )
    job.writes(steps=steps, residual=residual)
    return job


def train_job(network, x, y, order, plan, states, row_weight, velocity, loss):
    """The job of `kernels.reference.crossbar.train`; `loss` (2) takes the loss and the number of
    hits.
    """
    job = _network_job(network, x, y, states, trains=True)
    order = np.arange(x.shape[0]) if order is None else order
    job.reads(order=order, row_weight=row_weight, rate=plan.rate, bias_rate=plan.bias_rate)
    job.numbers(
        n_rows=len(order),
        nudging=NUDGINGS.index(plan.nudging),
        optimizer=OPTIMIZERS.index(plan.optimizer),
    )
    job.takes(plan, *NUMBERS)
    if plan.optimizer != "sgd":
        job.writes(velocity=velocity)
    job.writes(loss=loss)
    return job
