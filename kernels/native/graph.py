"""C callers of csrc/graph/graph.c and csrc/graph/train.c; signatures as in kernels/reference/graph.py
and kernels/reference/train.py.
"""

import numpy as np

from ..graph_gradients import train_exactly
from ..graph_spec import check_graph_plan
from ..prepare.graph import relax_job, train_job
from ..reference import graph, train
from ..spec import CONTINUAL_RULES, GRADIENT_RULES, DivergenceError, TrainStats
from .call import DIVERGED, run, status_text
from .divergence import copies_of, go_back, name_divergence


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
    """As kernels.reference.train.graph_train."""
    check_graph_plan(spec, plan, particles is not None)
    network, more = (spec, weights, back, biases), (row_weight, particles, optimizer_state)
    if plan.rule in GRADIENT_RULES:
        return train_exactly(graph_relax, n_threads, network, x, y, order, plan, *more)
    learned = [*weights, *biases, *(back or []), *(particles or [])]
    # the continual rules move weights within a batch: kept to return to the last finite batch
    before = None
    if plan.rule in CONTINUAL_RULES:
        before = copies_of(learned)
    loss, counts = np.array([plan.loss_so_far, 0.0]), np.zeros(4, np.int64)
    job = train_job(*network, x, y, order, plan, *more, loss, counts)
    status = run("graph_train", job, n_threads) if len(order) else 0
    stats = TrainStats(float(loss[0]), int(loss[1]), *map(int, counts))
    if status == DIVERGED:
        if before is not None:
            go_back(learned, before)
            done = order[: stats.n_batches * plan.batch_size]
            graph_train(*network, x, y, done, plan, *more, n_threads)
        name_divergence(
            train.graph_train, network, x, y, order, plan, row_weight, particles, stats.n_batches
        )
    if status:
        raise ValueError(f"graph_train: {status_text(status)}")
    return stats
