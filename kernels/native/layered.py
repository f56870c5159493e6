"""C callers of csrc/layered/layered.c and of csrc/layered/train.c with its rules (csrc/layered/continual.c, csrc/layered/gradients.c);
signatures as in kernels/reference/layered.py.
"""

import numpy as np
import scipy.sparse as sp
from eqprop_fast._native import ffi

from ..reference import layered as reference
from ..spec import (
    ACTIVATIONS,
    COSTS,
    DYNAMICS,
    OPTIMIZERS,
    RULES,
    SCHEDULES,
    DivergenceError,
    TrainStats,
    check_plan,
)
from .call import DIVERGED, SINGULAR, Holder, run, status_text


def _job(spec, weights, back, biases, x, holder, learns):
    """A job with the network, the dynamics and the inputs filled in."""
    job = ffi.new("eqp_layered_job *")
    job.n_weights = spec.n_weights
    job.size = holder.cast("int32_t *", np.asarray(spec.sizes, np.int32), np.int32)
    job.weight = holder.table(weights, writable=learns)
    job.back = holder.table(back and [None, *back[1:]], writable=learns)
    job.bias = holder.table(biases, writable=learns)
    job.dynamics = DYNAMICS[spec.dynamics]
    job.schedule = SCHEDULES[spec.schedule]
    job.activation = ACTIVATIONS[spec.activation]
    job.out_activation = ACTIVATIONS[spec.out_activation]
    job.input_activation = ACTIVATIONS[spec.input_activation]
    for name in ("prime_hidden", "prime_output", "linear_output", "clamp", "nudge_inside"):
        setattr(job, name, bool(getattr(spec, name)))
    job.cost = COSTS[spec.cost]
    job.cost_factor, job.dt = spec.cost_factor, spec.dt
    if sp.issparse(x):
        job.indptr = holder.cast("int64_t *", x.indptr, np.int64)
        job.indices = holder.cast("int32_t *", x.indices, np.int32)
        job.data = holder.array(x.data)
    else:
        job.x = holder.array(x)
    return job


def _moments(arrays, spec, back, holder):
    """Pointers to the moments of weights, biases and, with independent feedback, of back[1:]."""
    if not arrays:
        return ffi.NULL
    n = spec.n_weights
    of_back = [] if back is None else [None, *arrays[2 * n + 1 : 3 * n]]
    missing = [None] * (0 if back is None else n - len(of_back))
    return holder.table([*arrays[: 2 * n], *of_back, *missing], writable=True)


def layered_relax(spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1):
    rows = x.shape[0]
    holder = Holder(weights[0].dtype)
    job = _job(spec, weights, back, biases, x, holder, learns=False)
    steps, residual = np.zeros(rows, np.int32), np.zeros(rows, holder.dtype)
    before = [s.copy() for s in states] if n_steps else None
    job.n_rows = rows
    job.y = holder.array(y)
    job.beta, job.n_free_steps, job.tol_free = beta, n_steps, tol
    job.state = holder.table(states, writable=True)
    job.steps = holder.cast("int32_t *", steps, np.int32)
    job.residual = holder.array(residual, writable=True)
    status = run("layered_relax", job, holder, n_threads, rows)
    if status:
        raise ValueError(f"layered_relax: {status_text(status)}")
    if not all(np.isfinite(s).all() for s in states):
        # the twin walks the same steps and names the layer and the step
        reference.layered_relax(spec, weights, back, biases, x, before, y, beta, n_steps, tol)
        raise DivergenceError("a state became non-finite", phase="nudged" if beta else "free")
    return steps, residual


def layered_train(
    spec, weights, back, biases, x, y, order, plan,
    row_weight=None, particles=None, optimizer_state=None, n_threads=1,
):
    check_plan(spec, plan, back is not None, particles is not None)
    holder = Holder(weights[0].dtype)
    job = _job(spec, weights, back, biases, x, holder, learns=True)
    job.order, job.n_rows = holder.cast("int64_t *", order, np.int64), len(order)
    job.y, job.row_weight = holder.array(y), holder.array(row_weight)
    job.state = holder.table(particles, writable=True)
    job.beta, job.n_free_steps, job.n_nudged_steps = plan.beta, plan.n_free_steps, plan.n_nudged_steps
    job.tol_free, job.tol_nudged = plan.tol_free, plan.tol_nudged
    job.over_relaxation = plan.over_relaxation
    job.rule, job.centered, job.batch_size = RULES[plan.rule], bool(plan.centered), plan.batch_size
    if plan.sign is not None:
        job.sign = holder.cast("int8_t *", plan.sign, np.int8)
    job.rate = holder.cast("double *", np.asarray(plan.rate, float), np.float64)
    job.bias_rate = holder.cast("double *", np.asarray(plan.bias_rate, float), np.float64)
    job.optimizer = OPTIMIZERS[plan.optimizer]
    for name in ("momentum", "weight_decay", "beta1", "beta2", "epsilon", "adam_step"):
        setattr(job, name, getattr(plan, name))
    if optimizer_state is not None:
        job.velocity = _moments(optimizer_state.velocity, spec, back, holder)
        job.second = _moments(optimizer_state.second, spec, back, holder)
    loss, counts = np.array([plan.loss_so_far, 0.0]), np.zeros(4, np.int64)
    job.loss = holder.cast("double *", loss, np.float64, writable=True)
    job.counts = holder.cast("int64_t *", counts, np.int64, writable=True)

    learned = [*weights, *biases, *(back or []), *(particles or [])]
    # the continual vector field moves weights within a batch: kept to return to the last finite batch
    before = None
    if plan.rule == "continual_vector_field":
        before = [None if p is None else p.copy() for p in learned]
    status = run("layered_train", job, holder, n_threads) if len(order) else 0
    stats = TrainStats(float(loss[0]), int(loss[1]), *map(int, counts))
    if status == DIVERGED:
        if before is not None:
            for p, old in zip(learned, before):
                if p is not None:
                    p[...] = old
            layered_train(spec, weights, back, biases, x, y, order[: stats.n_batches * plan.batch_size], plan,
                          row_weight, particles, optimizer_state, n_threads)
        _name_divergence(
            spec, weights, back, biases, x, y, order, plan, row_weight, particles, stats.n_batches
        )
    if status == SINGULAR:  # as the twin's solver says it
        number = stats.n_batches
        raise np.linalg.LinAlgError(f"Singular matrix: the equilibrium is degenerate in batch {number}")
    if status:
        raise ValueError(f"layered_train: {status_text(status)}")
    return stats


def _name_divergence(spec, weights, back, biases, x, y, order, plan, row_weight, particles, batch):
    """Raise the DivergenceError of `batch`; the twin repeats it on copies to find the layer and the step.

    C leaves the particles of a batch that diverged to the twin, which keeps those of a finite free phase.
    """
    start = batch * plan.batch_size
    rows = order[start : start + plan.batch_size]
    sign = None if plan.sign is None else plan.sign[batch : batch + 1]
    copies = [[a.copy() for a in group] for group in (weights, biases)]
    back = back and [None if a is None else a.copy() for a in back]
    plan = type(plan)(**{**plan.__dict__, "sign": sign, "optimizer": "sgd"})
    with np.errstate(all="ignore"):
        reference.layered_train(
            spec, copies[0], back, copies[1], x, y, rows, plan, row_weight, particles
        )
    raise DivergenceError(
        f"a state became non-finite in batch {batch} of the call, by rounding: the NumPy twin, which names "
        "layer and step, stays just within the range of the dtype there", phase="nudged",
    )
