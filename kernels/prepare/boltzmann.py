"""Jobs of Boltzmann machines (csrc/core/jobs.h: eqp_boltzmann_job, eqp_boltzmann_train_job)."""

import numpy as np

from ..jobs import Job


def sweep_job(
    machine, states, sweeps, clamped, mask, means, base, betas, log_weight, steps, residual
):
    """The job of `kernels.reference.boltzmann.boltzmann_sweep`; `steps` and `residual` are what it
    returns.
    """
    job = Job("eqp_boltzmann_job", states[0].dtype)
    job.numbers(
        n_weights=len(machine.weights),
        categorical_top=machine.categorical_top,
        n_rows=len(states[0]),
        n_sweeps=sweeps.n,
    )
    job.takes(sweeps, "draw", "even_first", "upward", "tol", "seed", "first_sweep")
    job.reads(
        size=[len(b) for b in machine.biases],
        weight=machine.weights,
        bias=machine.biases,
        clamped=np.asarray(clamped, np.int8),
        mask=mask,
        base=base,
        betas=betas,
    )
    job.writes(state=states, mean=means, steps=steps, residual=residual, log_weight=log_weight)
    return job


def train_job(machine, x, y, order, plan, particles, offsets, velocity, counts):
    """The job of `kernels.reference.boltzmann.boltzmann_train`; `counts` are what it returns."""
    job = Job("eqp_boltzmann_train_job", x.dtype)
    job.numbers(
        n_weights=len(machine.weights),
        categorical_top=machine.categorical_top,
        n_rows=len(order),
        n_chains=len(particles[0]),
    )
    job.takes(plan, *plan.__dataclass_fields__)
    job.reads(size=[len(b) for b in machine.biases], x=x, y=y, order=order)
    job.writes(
        weight=machine.weights,
        bias=machine.biases,
        particle=particles,
        offset=offsets,
        velocity=velocity,
        counts=counts,
    )
    return job
