"""Layered-crossbar kernels in C; same signatures and meaning as `kernels.reference.crossbar`."""

import numpy as np
from eqprop_fast._native import ffi
from scipy import sparse

from ..reference.crossbar import NUDGINGS, OPTIMIZERS, SCHEDULES, NudgeError, check_optimizer
from ..spec import DivergenceError, check_order
from .call import DIVERGED, SINGULAR, Holder, run, status_text


def relax(
    weights,
    biases,
    lower,
    upper,
    x,
    states,
    *,
    input_gain=1.0,
    schedule="asynchronous",
    n_steps=4,
    tol=-1.0,
    beta=0.0,
    y=None,
    pairs=False,
    n_threads=1,
):
    """See `kernels.reference.crossbar.relax`."""
    dtype, n = weights[0].dtype, x.shape[0]
    steps, residual = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=dtype)
    if n == 0:
        return steps, residual
    hold = Holder(dtype)
    job = _job(hold, weights, biases, lower, upper, x, y, states, n, input_gain, schedule, pairs, False)
    job.n_rows, job.beta = n, 0.0 if y is None else beta
    job.n_free_steps, job.tol_free = n_steps, tol
    job.steps, job.residual = (
        hold.cast("int32_t *", steps, np.int32, True),
        hold.array(residual, writable=True),
    )
    _check(run("crossbar_relax", job, hold, n_threads))
    return steps, residual


def train(
    weights,
    biases,
    lower,
    upper,
    x,
    y,
    states,
    *,
    order=None,
    sample_weight=None,
    batch_size=4,
    input_gain=1.0,
    schedule="asynchronous",
    n_free_steps=4,
    n_nudged_steps=4,
    tol_free=-1.0,
    tol_nudged=-1.0,
    beta=1.0,
    nudging="centered",
    rates,
    bias_rates,
    g_min=0.0,
    g_max=np.inf,
    pairs=False,
    carry=True,
    optimizer="sgd",
    momentum=0.0,
    velocity=None,
    loss=0.0,
    n_threads=1,
):
    """See `kernels.reference.crossbar.train`."""
    check_optimizer(optimizer, velocity)
    n, n_rows = len(weights), x.shape[0]
    hold, loss = Holder(weights[0].dtype), np.array([loss, 0.0])
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    job = _job(
        hold, weights, biases, lower, upper, x, y, states, batch_size, input_gain, schedule, pairs, True
    )
    job.n_rows = n_rows if order is None else len(order)
    if order is not None:
        order = np.ascontiguousarray(order, dtype=np.int64)
        check_order(order, n_rows)
        job.order = hold.cast("int64_t *", order, np.int64)
    if sample_weight is not None:
        _shape("sample_weight", sample_weight, (n_rows,))
        job.row_weight = hold.array(sample_weight)
    rates, bias_rates = np.asarray(rates, dtype=np.float64), np.asarray(bias_rates, dtype=np.float64)
    _shape("rates", rates, (n,))
    _shape("bias_rates", bias_rates, (n,))
    job.batch_size, job.nudging, job.beta, job.carry = batch_size, NUDGINGS.index(nudging), beta, carry
    job.n_free_steps, job.n_nudged_steps = n_free_steps, n_nudged_steps
    job.tol_free, job.tol_nudged, job.g_min, job.g_max = tol_free, tol_nudged, g_min, g_max
    job.rate = hold.cast("double *", rates, np.float64)
    job.bias_rate = hold.cast("double *", bias_rates, np.float64)
    if optimizer != "sgd":
        _shape("velocity", np.empty(len(velocity)), (2 * n,))
        for k, (v, p) in enumerate(zip(velocity, [*weights, *biases], strict=True)):
            _shape(f"velocity[{k}]", v, p.shape)
        job.velocity, job.momentum = hold.table(velocity, True), momentum
        job.optimizer = OPTIMIZERS.index(optimizer)
    job.loss = hold.cast("double *", loss, np.float64, True)
    _check(run("crossbar_train", job, hold, n_threads))
    return float(loss[0]), int(loss[1])


def _shape(name, array, shape):
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _job(hold, weights, biases, lower, upper, x, y, states, n_states, input_gain, schedule, pairs, trains):
    """A job over the given arrays, all of them checked: C trusts what it is handed."""
    sizes = [x.shape[1], *(w.shape[1] for w in weights)]
    n_rows = [2 * sizes[0], *sizes[1:-1]]
    groups = {"bias": biases, "lower": lower, "upper": upper}
    for k, w in enumerate(weights):
        _shape(f"weights[{k}]", w, (n_rows[k], sizes[k + 1]))
        _shape(f"states[{k}]", states[k], (n_states, sizes[k + 1]))
        for name, vectors in groups.items():
            _shape(f"{name}[{k}]", vectors[k], (sizes[k + 1],))
    job = ffi.new("eqp_crossbar_job *")
    job.n_weights, job.size = len(weights), hold.cast("int32_t *", np.array(sizes, dtype=np.int32), np.int32)
    job.weight, job.state = hold.table(weights, trains), hold.table(states, True)
    for name, vectors in groups.items():
        setattr(job, name, hold.table(vectors, trains and name == "bias"))
    job.pairs, job.schedule, job.input_gain = pairs, SCHEDULES.index(schedule), input_gain
    if sparse.issparse(x):
        indices = x.indices
        if len(indices) and (indices.min() < 0 or indices.max() >= x.shape[1]):
            raise ValueError("x has a column index out of range")
        job.indptr = hold.cast("int64_t *", x.indptr, np.int64)
        job.indices = hold.cast("int32_t *", indices, np.int32)
        job.data = hold.array(x.data)
    else:
        job.x = hold.array(x)
    if y is not None:
        y = np.asarray(y)
        _shape("y", y, (x.shape[0], sizes[-1] // 2 if pairs else sizes[-1]))
        job.y = hold.array(y)
    return job


def _check(status):
    if status == DIVERGED:
        raise DivergenceError("crossbar: the state became non-finite")
    if status == SINGULAR:
        raise NudgeError
    if status:
        raise ValueError("crossbar: " + status_text(status))
