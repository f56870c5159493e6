"""C kernels of Boltzmann machines (csrc/boltzmann): fill the job, run it on Python threads."""

import numpy as np

from ..prepare.boltzmann import sweep_job, train_job
from ..reference.boltzmann import check_states, diverged
from .call import DIVERGED, run, status_text


def boltzmann_sweep(
    machine,
    states,
    sweeps,
    clamped,
    mask=None,
    means=None,
    base=None,
    betas=None,
    log_weight=None,
    n_threads=1,
):
    """As kernels.reference.boltzmann.boltzmann_sweep."""
    n_rows = len(states[0])
    steps, residual = np.zeros(n_rows, np.int32), np.zeros(n_rows, states[0].dtype)
    if n_rows:
        job = sweep_job(
            machine, states, sweeps, clamped, mask, means, base, betas, log_weight, steps, residual
        )
        status = run("boltzmann_sweep", job, n_threads, n_rows)
        if status:
            raise ValueError(f"boltzmann_sweep: {status_text(status)}")
        check_states(states)
    return steps, residual


def boltzmann_train(
    machine, x, y, order, plan, particles, offsets=None, velocity=None, n_threads=1
):
    """As kernels.reference.boltzmann.boltzmann_train."""
    counts = np.zeros(2, np.int64)
    job = train_job(machine, x, y, order, plan, particles, offsets, velocity, counts)
    status = run("boltzmann_train", job, n_threads)
    if status == DIVERGED:
        raise diverged()
    if status:
        raise ValueError(f"boltzmann_train: {status_text(status)}")
    return int(counts[0]), int(counts[1])
