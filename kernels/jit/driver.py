"""The two functions the other layers call: buffers, threads, errors; signatures of reference/layered.py."""

import numpy as np

from ..spec import GRADIENT_RULES, VECTOR_FIELD_RULES, TrainStats, check_plan, free_spec
from . import layered
from .compile import array_table
from .gradient_training import gradient_train
from .inputs import list_size
from .layout import (
    BETA,
    CLAMPED_SWEEP,
    CONTINUAL,
    CONTINUAL_VECTOR_FIELD,
    DT,
    FIELD_ROOM,
    HAS_BACK,
    N_FREE,
    NARROW,
    RULE,
    TILE,
    TOL_FREE,
    VECTOR_FIELD,
    aligned,
    make_layout,
    pad,
    progress,
    spec_options,
)  # fmt: skip
from .preparation import (
    InPlace,
    Training,
    backs,
    check_network,
    check_shapes,
    inputs,
    raise_divergence,
    read,
    targets,
)  # fmt: skip
from .threads import run_threads, usable
from .tiles import TILE_SAMPLES


def layered_relax(spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1):
    """Twin of `kernels.reference.layered.layered_relax`."""
    m = x.shape[0]
    _, _, dtype = check_network(spec, weights, back, biases)
    check_shapes("states", states, [(m, n) for n in spec.sizes[1:]])
    if beta != 0 and y is None:
        raise ValueError("y is needed when beta is not 0")
    y = np.zeros((1, spec.sizes[-1]), dtype) if y is None else targets(spec, x, y, dtype)
    steps, residual = np.zeros(m, np.int32), np.zeros(m, dtype)
    if m == 0:
        return steps, residual
    n_threads = usable(n_threads, m)
    ints, floats = spec_options(spec, dtype)
    ints[N_FREE], ints[HAS_BACK] = n_steps, back is not None
    floats[BETA], floats[TOL_FREE] = beta, tol
    layout, units, n_packed = make_layout(spec.sizes, back is not None, dtype.itemsize)
    dense, indptr, indices, data = inputs(spec, x, dtype, ints)
    in_place = InPlace(dtype)
    w, b = [np.require(a, dtype, "CA") for a in weights], [np.require(a, dtype, "CA") for a in biases]
    s, feedback = in_place(states), backs(spec, back, dtype)
    table = array_table([w, b, feedback, w, b, feedback, w, b, feedback, s])
    ints[TILE] = min(ints[TILE], -(-m // n_threads))
    rows, cap = n_threads * int(ints[TILE]), list_size(x, spec.sizes[0])
    worst = np.zeros(n_threads, np.int64)
    with in_place:
        run_threads(
            layered.relax_thread, n_threads, ints, floats, layout, table, dense, indptr, indices, data,
            y, steps, residual,
            aligned(n_packed, dtype), aligned(units, dtype), aligned((rows, pad(spec.sizes[1])), dtype),
            aligned((rows, units), dtype),
            aligned((rows if spec.dynamics == "continuous" else 1, units), dtype),
            aligned((rows, units + FIELD_ROOM), dtype), aligned((n_threads, pad(spec.sizes[1])), dtype),
            np.zeros(rows, np.int64), np.zeros((rows, cap), np.int32), aligned((rows, cap), dtype),
            np.zeros(rows, np.int64), *progress(n_threads, rows, dtype), worst,
        )  # fmt: skip
    if worst.any():
        raise_divergence(int(worst[worst > 0].min()))
    return steps, residual


def layered_train(
    spec, weights, back, biases, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None,
    n_threads=1,
):  # fmt: skip
    """Twin of `kernels.reference.layered.layered_train`."""
    if plan.rule in GRADIENT_RULES:
        return gradient_train(
            spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state, n_threads
        )
    check_plan(spec, plan, back is not None, particles is not None)
    n, stats = spec.n_weights, TrainStats(plan.loss_so_far)
    job = Training(
        spec, weights, back, biases, x, y, order, plan, row_weight, particles, optimizer_state, n_threads,
        learns_back=plan.rule in VECTOR_FIELD_RULES,
    )  # fmt: skip
    if job.order.size == 0:
        return stats
    if plan.sign is not None and len(plan.sign) * plan.batch_size < job.order.size:
        raise ValueError("sign must have one entry per batch")
    size, n_threads, dtype, units = job.size, job.n_threads, job.dtype, job.units
    free_floats = job.floats.copy()
    free_floats[DT] = free_spec(spec, plan.over_relaxation).dt
    n_1, cap = pad(spec.sizes[1]), list_size(x, spec.sizes[0])
    continuous, rule = spec.dynamics == "continuous", job.ints[RULE]
    # rows of recorded (activity, change); places of the states of all samples; products of all with all
    records = {VECTOR_FIELD: plan.n_nudged_steps * (2 if plan.centered else 1), CLAMPED_SWEEP: 1,
               CONTINUAL_VECTOR_FIELD: 1}.get(rule, 0) * size  # fmt: skip
    walks = {CONTINUAL: 2, CONTINUAL_VECTOR_FIELD: 1}.get(rule, 0)
    width = pad(size) if walks else 1
    widest, many = max(n_1, units), max(size * cap, size, units, records)
    ends = 3 if plan.centered else 2
    turns = [0] if records else [1, 2] if plan.centered else [1, 0]
    totals = np.zeros(7)
    totals[layered.LOSS] = plan.loss_so_far
    with job.in_place:
        run_threads(
            layered.train_thread, n_threads, job.ints, job.floats, free_floats, job.layout, job.table,
            job.rates, *job.data, job.y, job.order,
            np.zeros(1, np.int8) if plan.sign is None else read(plan.sign, np.int8), job.row_weight,
            aligned(job.n_packed, dtype), aligned(units, dtype), aligned((size, n_1), dtype),
            aligned((ends, size, units), dtype),
            aligned((ends, size, units) if continuous else (1, 1, 1), dtype),
            aligned((size, units + FIELD_ROOM), dtype), aligned((size, n_1), dtype), aligned((1, n_1), dtype),
            np.zeros((2, size), np.int64), np.zeros((2, size, cap), np.int32), aligned((2, size, cap), dtype),
            np.zeros((n_threads, spec.sizes[0] + 1), np.int64), np.zeros((n_threads, many), np.int32),
            aligned((n_threads, many), dtype), aligned((n_threads, NARROW, widest), dtype),
            aligned((n_threads, TILE_SAMPLES, max(size, records)), dtype), np.arange(TILE_SAMPLES),
            np.ones(max(size, records), dtype), np.array(turns),
            aligned((1, records, units) if records else (1, 1, 1), dtype),
            aligned((1, records, units) if records else (1, 1, 1), dtype),
            aligned((walks, size, units) if walks else (1, 1, 1), dtype),
            aligned((n + 1, 2, size, width) if walks else (1, 1, 1, 1), dtype),
            aligned((2, size, width) if walks else (1, 1, 1), dtype),
            aligned((n_threads, spec.sizes[0] if walks else 1), dtype),
            np.zeros(size, dtype), np.zeros(size), *np.zeros((3, size), np.int64),
            *progress(n_threads, size, dtype), totals,
        )  # fmt: skip
    if totals[layered.FAILURE]:
        raise_divergence(int(totals[layered.FAILURE]))
    stats.loss, (stats.n_correct, stats.free_steps, stats.nudged_steps, stats.n_samples, stats.n_batches) = (
        float(totals[layered.LOSS]), (int(v) for v in totals[layered.CORRECT : layered.FAILURE]),
    )  # fmt: skip
    return stats
