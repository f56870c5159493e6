"""Layered-crossbar kernels in C; same signatures and meaning as `kernels.reference.crossbar`."""

import numpy as np

from ..prepare.crossbar import relax_job, train_job
from ..reference.crossbar import NudgeError
from ..spec import DivergenceError
from .call import DIVERGED, SINGULAR, run, status_text


def relax(
    weights, biases, lower, upper, x, states, *, input_gain=1.0, schedule="asynchronous", n_steps=4, tol=-1.0,
    beta=0.0, y=None, pairs=False, n_threads=1,
):
    """See `kernels.reference.crossbar.relax`."""
    n = x.shape[0]
    steps, residual = np.zeros(n, np.int32), np.zeros(n, weights[0].dtype)
    if n == 0:
        return steps, residual
    job = relax_job(
        weights, biases, lower, upper, x, states, steps, residual, input_gain=input_gain, schedule=schedule,
        n_steps=n_steps, tol=tol, beta=beta, y=y, pairs=pairs,
    )
    _check(run("crossbar_relax", job, n_threads))
    return steps, residual


def train(
    weights, biases, lower, upper, x, y, states, *, order=None, sample_weight=None, batch_size=4,
    input_gain=1.0, schedule="asynchronous", n_free_steps=4, n_nudged_steps=4, tol_free=-1.0, tol_nudged=-1.0,
    beta=1.0, nudging="centered", rates, bias_rates, g_min=0.0, g_max=np.inf, pairs=False, carry=True,
    optimizer="sgd", momentum=0.0, velocity=None, loss=0.0, n_threads=1,
):
    """See `kernels.reference.crossbar.train`."""
    loss = np.array([loss, 0.0])
    job = train_job(
        weights, biases, lower, upper, x, y, states, loss, order=order, sample_weight=sample_weight,
        batch_size=batch_size, input_gain=input_gain, schedule=schedule, n_free_steps=n_free_steps,
        n_nudged_steps=n_nudged_steps, tol_free=tol_free, tol_nudged=tol_nudged, beta=beta, nudging=nudging,
        rates=rates, bias_rates=bias_rates, g_min=g_min, g_max=g_max, pairs=pairs, carry=carry,
        optimizer=optimizer, momentum=momentum, velocity=velocity,
    )
    _check(run("crossbar_train", job, n_threads))
    return float(loss[0]), int(loss[1])


def _check(status):
    if status == DIVERGED:
        raise DivergenceError("crossbar: the state or the conductances became non-finite")
    if status == SINGULAR:
        raise NudgeError
    if status:
        raise ValueError("crossbar: " + status_text(status))
