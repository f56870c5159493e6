"""C callers of csrc/layered/layered.c and of csrc/layered/train.c with its rules (continual.c,
gradients.c); signatures as in kernels/reference/layered.py.
"""

import numpy as np

from ..prepare.layered import relax_job, train_job
from ..reference import layered, train
from ..spec import DivergenceError, TrainStats
from .call import DIVERGED, SINGULAR, Prepared, run, status_text
from .divergence import copies_of, go_back, name_divergence


def layered_relax(
    spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1
):
    """As kernels.reference.layered.layered_relax."""
    rows = x.shape[0]
    steps, residual = np.zeros(rows, np.int32), np.zeros(rows, weights[0].dtype)
    job = relax_job(spec, weights, back, biases, x, states, y, beta, n_steps, tol, steps, residual)
    before = [s.copy() for s in states] if n_steps else None
    status = run("layered_relax", job, n_threads, rows)
    if status:
        raise ValueError(f"layered_relax: {status_text(status)}")
    if not all(np.isfinite(s).all() for s in states):
        # the twin walks the same steps and names the layer and the step
        layered.layered_relax(spec, weights, back, biases, x, before, y, beta, n_steps, tol)
        raise DivergenceError("a state became non-finite", phase="nudged" if beta else "free")
    return steps, residual


class OneRow:
    """The free phase of one dense row at a time: `layered_relax` over arrays that stay.

    For networks that a call of `layered_relax` has accepted; in float32 and for few units a call
    costs less than the checks of its arguments.
    """

    def __init__(self, spec, weights, back, biases, n_steps, tol):
        dtype = weights[0].dtype
        self.x = np.zeros((1, spec.sizes[0]), dtype)
        self.states = [np.zeros((1, n), dtype) for n in spec.sizes[1:]]
        self.steps, self.residual = np.zeros(1, np.int32), np.zeros(1, dtype)
        job = relax_job(
            spec,
            weights,
            back,
            biases,
            self.x,
            self.states,
            None,
            0.0,
            n_steps,
            tol,
            self.steps,
            self.residual,
        )
        kept = [*job.arrays("weight"), *job.arrays("bias")]
        if any(a is not b for a, b in zip(kept, [*weights, *biases])):
            raise ValueError("weights and biases are not as C takes them")
        self.job = Prepared("layered_relax", job)

    def __call__(self, x):
        """Outputs (1, n_outputs) and residual (1,) of the row x (1, n_features); None: diverged."""
        self.x[...] = x
        for s in self.states:
            s[...] = 0
        if self.job.run() or not all(np.isfinite(s).all() for s in self.states):
            return None
        return self.states[-1].copy(), self.residual.copy()


def layered_train(
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
    """As kernels.reference.train.layered_train."""
    loss, counts = np.array([plan.loss_so_far, 0.0]), np.zeros(4, np.int64)
    network, more = (spec, weights, back, biases), (row_weight, particles, optimizer_state)
    job = train_job(*network, x, y, order, plan, *more, loss, counts)
    learned = [*weights, *biases, *(back or []), *(particles or [])]
    # the continual vector field moves weights within a batch: kept to return to the last finite
    # batch
    before = None
    if plan.rule == "continual_vector_field":
        before = copies_of(learned)
    status = run("layered_train", job, n_threads) if len(order) else 0
    stats = TrainStats(float(loss[0]), int(loss[1]), *map(int, counts))
    if status == DIVERGED:
        if before is not None:
            go_back(learned, before)
            done = order[: stats.n_batches * plan.batch_size]
            layered_train(*network, x, y, done, plan, *more, n_threads)
        name_divergence(
            train.layered_train, network, x, y, order, plan, row_weight, particles, stats.n_batches
        )
    if status == SINGULAR:  # as the twin's solver says it
        number = stats.n_batches
        raise np.linalg.LinAlgError(
            f"Singular matrix: the equilibrium is degenerate in batch {number}"
        )
    if status:
        raise ValueError(f"layered_train: {status_text(status)}")
    return stats
