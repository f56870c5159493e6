"""The crossbar kernels as the other layers call them; signatures of reference/crossbar.py."""

import numpy as np
from scipy import sparse

from ..prepare.crossbar import relax_job, train_job
from ..reference.crossbar import diverged, nudge_pair, stages, zero_after_an_error
from ..spec import NudgeError
from .crossbar import DIVERGED, SINGULAR, relax_all, train_all
from .threads import run_threads, usable
from .views import Record, argument, row_records


def _raise(net):
    status = net.kept["status"]
    if (status == SINGULAR).any():
        raise NudgeError
    if (status == DIVERGED).any() or net.kept["broken"].any():
        raise diverged()


def _scratch(network, n_threads):
    """What relaxation needs: layers side by side in rows, and every thread's own."""
    weights, schedule = network.weights, network.schedule
    dtype, widths = weights[0].dtype, [w.shape[1] for w in weights]
    offset = np.cumsum([0, *widths])
    own, kept = row_records(
        n_threads,
        **{name: np.zeros((n_threads, widths[0]), dtype) for name in ("drive", "shift", "change")},
        **{name: np.zeros((n_threads, offset[-1]), dtype) for name in ("new", "states", "idle")},
    )
    net = Record(
        offset=offset,
        sequence=np.array([k - 1 for layers in stages(schedule, len(weights)) for k in layers]),
        totals=np.zeros(offset[-1], dtype), own=own,
        status=np.zeros(n_threads, np.int64), broken=np.zeros(n_threads, np.int64),
    )
    net.kept["rows"] = kept
    return net


def relax(network, x, states, y=None, beta=0.0, n_steps=4, tol=-1.0, n_threads=1):
    """See `kernels.reference.crossbar.relax`."""
    n, dtype = x.shape[0], network.weights[0].dtype
    steps, residual = np.zeros(n, np.int32), np.zeros(n, dtype)
    if n == 0:
        return steps, residual
    job = relax_job(network, sparse.csr_matrix(x), states, y, beta, n_steps, tol, steps, residual)
    n_threads = usable(n_threads, n)
    net = _scratch(network, n_threads)
    with job:
        run_threads(relax_all, n_threads, argument(job), argument(net))
    _raise(net)
    if not all(np.isfinite(s).all() for s in states):
        raise diverged()
    return steps, residual


def train(network, x, y, order, plan, states, row_weight=None, velocity=None, n_threads=1):
    """See `kernels.reference.crossbar.train`."""
    x, loss, dtype = sparse.csr_matrix(x), np.array([plan.loss_so_far, 0.0]), states[0].dtype
    row_weight = np.ones(x.shape[0], dtype) if row_weight is None else row_weight
    job = train_job(network, x, y, order, plan, states, row_weight, velocity, loss)
    if job["n_rows"] == 0:
        return plan.loss_so_far, 0
    size = plan.batch_size
    n_threads, most = usable(n_threads, size), int(np.diff(x.indptr).max(initial=0)) * size
    last = np.concatenate(states, axis=1)
    net = _scratch(network, n_threads)
    work = Record(
        net=net, a=last, n_data=x.shape[0],
        **{name: np.zeros_like(last) for name in ("free", "b", "diff", "mean")},
        cost=np.zeros(size), correct=np.zeros(size),
        betas=np.array(nudge_pair(plan.nudging, plan.beta), dtype),
        start=np.zeros(x.shape[1] + 2, np.int64), sample=np.zeros(most, np.int64),
        value=np.zeros(most, dtype),
    )
    with job, zero_after_an_error(states):
        run_threads(train_all, n_threads, argument(job), argument(work))
        _raise(net)
    ends = np.split(last, net.kept["offset"][1:-1], axis=1)
    for s, end in zip(states, ends, strict=True):
        s[...] = 0 if job["n_rows"] % size else end
    return float(loss[0]), int(loss[1])
