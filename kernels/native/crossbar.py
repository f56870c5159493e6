"""Layered-crossbar kernels in C; same signatures and meaning as `kernels.reference.crossbar`."""

import numpy as np

from ..prepare.crossbar import relax_job, train_job
from ..reference.crossbar import diverged
from ..spec import NudgeError
from .call import DIVERGED, SINGULAR, run, status_text


def relax(network, x, states, y=None, beta=0.0, n_steps=4, tol=-1.0, n_threads=1):
    """See `kernels.reference.crossbar.relax`."""
    n = x.shape[0]
    steps, residual = np.zeros(n, np.int32), np.zeros(n, network.weights[0].dtype)
    if n:
        job = relax_job(network, x, states, y, beta, n_steps, tol, steps, residual)
        _check(run("crossbar_relax", job, n_threads))
    return steps, residual


def train(network, x, y, order, plan, states, row_weight=None, velocity=None, n_threads=1):
    """See `kernels.reference.crossbar.train`."""
    loss = np.array([plan.loss_so_far, 0.0])
    job = train_job(network, x, y, order, plan, states, row_weight, velocity, loss)
    _check(run("crossbar_train", job, n_threads))
    return float(loss[0]), int(loss[1])


def _check(status):
    if status == DIVERGED:
        raise diverged()
    if status == SINGULAR:
        raise NudgeError
    if status:
        raise ValueError("crossbar: " + status_text(status))
