"""C callers of csrc/graph/graph.c and csrc/graph/train.c; signatures as in kernels/reference/graph.py
and kernels/reference/train.py.
"""

from dataclasses import replace

import numpy as np

from ..graph_spec import check_graph_plan
from ..prepare.graph import relax_job, train_job
from ..reference import graph, train
from ..spec import CONTINUAL_RULES, GRADIENT_RULES, DivergenceError, TrainStats
from .call import DIVERGED, run, status_text


def graph_relax(
    spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1
):
    """As kernels.reference.graph.graph_relax."""
    rows = x.shape[0]
    steps, residual = np.zeros(rows, np.int32), np.zeros(rows, weights[0].dtype)
    job = relax_job(spec, weights, back, biases, x, states, y, beta, n_steps, tol, steps, residual)
    before = [s.copy() for s in states]
    status = run("graph_relax", job, n_threads, rows)
    if status == DIVERGED:  # the twin walks the same steps and names the layer and the step
        with np.errstate(all="ignore"):
            graph.graph_relax(spec, weights, back, biases, x, before, y, beta, n_steps, tol)
        raise DivergenceError("a state became non-finite", phase="nudged" if beta else "free")
    if status:
        raise ValueError(f"graph_relax: {status_text(status)}")
    return steps, residual


def graph_train(
    spec,
    weights,
    back,
    biases,
    x,
    y,
    order,
    plan,
    row_weight=None,
    particles=None,
    optimizer_state=None,
    n_threads=1,
):
    """As kernels.reference.train.graph_train; the exact gradients are refused."""
    check_graph_plan(spec, plan, particles is not None)
    if plan.rule in GRADIENT_RULES:
        raise ValueError(
            f"the C backend does not serve learning_rule={plan.rule!r} on a graph yet; "
            "backend='numpy' does"
        )
    learned = [*weights, *biases, *(back or []), *(particles or [])]
    # the continual rules move weights within a batch: kept to return to the last finite batch
    before = None
    if plan.rule in CONTINUAL_RULES:
        before = [None if p is None else p.copy() for p in learned]
    loss, counts = np.array([plan.loss_so_far, 0.0]), np.zeros(4, np.int64)
    job = train_job(
        spec,
        weights,
        back,
        biases,
        x,
        y,
        order,
        plan,
        row_weight,
        particles,
        optimizer_state,
        loss,
        counts,
    )
    status = run("graph_train", job, n_threads) if len(order) else 0
    stats = TrainStats(float(loss[0]), int(loss[1]), *map(int, counts))
    if status == DIVERGED:
        if before is not None:
            for p, old in zip(learned, before):
                if p is not None:
                    p[...] = old
            done = order[: stats.n_batches * plan.batch_size]
            graph_train(
                spec,
                weights,
                back,
                biases,
                x,
                y,
                done,
                plan,
                row_weight,
                particles,
                None,
                n_threads,
            )
        _name_divergence(
            spec, weights, back, biases, x, y, order, plan, row_weight, particles, stats.n_batches
        )
    if status:
        raise ValueError(f"graph_train: {status_text(status)}")
    return stats


def _name_divergence(spec, weights, back, biases, x, y, order, plan, row_weight, particles, batch):
    """Raise the DivergenceError of `batch`; the twin repeats it on copies to find layer and step."""
    start = batch * plan.batch_size
    rows = order[start : start + plan.batch_size]
    sign = None if plan.sign is None else plan.sign[batch : batch + 1]
    copies = [[a.copy() for a in group] for group in (weights, biases)]
    back = back and [None if a is None else a.copy() for a in back]
    plan = replace(plan, sign=sign, optimizer="sgd")
    with np.errstate(all="ignore"):
        train.graph_train(spec, copies[0], back, copies[1], x, y, rows, plan, row_weight, particles)
    raise DivergenceError(
        f"a state became non-finite in batch {batch} of the call, by rounding: the NumPy twin, "
        "which names layer and step, stays just within the range of the dtype there",
        phase="nudged",
    )
