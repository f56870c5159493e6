"""Jobs of layered crossbars (csrc/core/jobs.h: eqp_crossbar_job)."""

import numpy as np
from scipy import sparse

from ..jobs import Job
from ..reference.crossbar import NUDGINGS, OPTIMIZERS, SCHEDULES, check_optimizer
from ..spec import check_order
from . import csr


def _check_shape(name, array, shape):
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _network_job(weights, biases, lower, upper, x, y, states, n_states, input_gain, schedule, pairs, trains):
    """A job with network and data, all of them checked: kernels trust what they are handed."""
    sizes = [x.shape[1], *(w.shape[1] for w in weights)]
    n_rows = [2 * sizes[0], *sizes[1:-1]]
    groups = {"biases": biases, "lower": lower, "upper": upper}
    for k, w in enumerate(weights):
        _check_shape(f"weights[{k}]", w, (n_rows[k], sizes[k + 1]))
        _check_shape(f"states[{k}]", states[k], (n_states, sizes[k + 1]))
        for name, vectors in groups.items():
            _check_shape(f"{name}[{k}]", vectors[k], (sizes[k + 1],))
    job = Job("eqp_crossbar_job", weights[0].dtype)
    (job.writes if trains else job.reads)(weight=weights, bias=biases)
    job.reads(size=sizes, lower=lower, upper=upper)
    job.writes(state=states)
    job.numbers(n_weights=len(weights), pairs=pairs, schedule=SCHEDULES.index(schedule), input_gain=input_gain)
    if sparse.issparse(x):
        x = csr(x)
        if len(x.indices) and (x.indices.min() < 0 or x.indices.max() >= x.shape[1]):
            raise ValueError("x has a column index out of range")
        job.reads(indptr=x.indptr, indices=x.indices, data=x.data)
    else:
        job.reads(x=x)
    if y is not None:
        y = np.asarray(y)
        _check_shape("y", y, (x.shape[0], sizes[-1] // 2 if pairs else sizes[-1]))
        job.reads(y=y)
    return job


def relax_job(
    weights, biases, lower, upper, x, states, steps, residual, *, input_gain, schedule, n_steps, tol, beta, y,
    pairs,
):
    """The job of `kernels.reference.crossbar.relax`; `steps` and `residual` are what it returns."""
    n = x.shape[0]
    job = _network_job(
        weights, biases, lower, upper, x, y, states, n, input_gain, schedule, pairs, trains=False
    )
    job.numbers(n_rows=n, beta=0.0 if y is None else beta, n_free_steps=n_steps, tol_free=tol)
    job.writes(steps=steps, residual=residual)
    return job


def train_job(
    weights, biases, lower, upper, x, y, states, loss, *, order, sample_weight, batch_size, input_gain,
    schedule, n_free_steps, n_nudged_steps, tol_free, tol_nudged, beta, nudging, rates, bias_rates, g_min,
    g_max, pairs, carry, optimizer, momentum, velocity,
):
    """The job of `kernels.reference.crossbar.train`; `loss` (2) takes the loss and the number of hits."""
    check_optimizer(optimizer, velocity)
    n, n_data = len(weights), x.shape[0]
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    job = _network_job(
        weights, biases, lower, upper, x, y, states, batch_size, input_gain, schedule, pairs, trains=True
    )
    order = np.arange(n_data) if order is None else np.ascontiguousarray(order, dtype=np.int64)
    check_order(order, n_data)
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight)
        _check_shape("sample_weight", sample_weight, (n_data,))
    for name, rate in (("rates", rates), ("bias_rates", bias_rates)):
        _check_shape(name, np.asarray(rate), (n,))
    job.reads(order=order, row_weight=sample_weight, rate=rates, bias_rate=bias_rates)
    job.numbers(
        n_rows=len(order), batch_size=batch_size, nudging=NUDGINGS.index(nudging), beta=beta, carry=carry,
        n_free_steps=n_free_steps, n_nudged_steps=n_nudged_steps, tol_free=tol_free, tol_nudged=tol_nudged,
        g_min=g_min, g_max=g_max, optimizer=OPTIMIZERS.index(optimizer), momentum=momentum,
    )
    if optimizer != "sgd":
        _check_shape("velocity", np.empty(len(velocity)), (2 * n,))
        for k, (v, p) in enumerate(zip(velocity, [*weights, *biases], strict=True)):
            _check_shape(f"velocity[{k}]", v, p.shape)
        job.writes(velocity=velocity)
    job.writes(loss=loss)
    return job
